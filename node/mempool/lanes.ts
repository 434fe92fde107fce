/**
 * Lanes of the mempool: kinds of transactions that have room of their own, so that a flood of one kind leaves the others
 * alone.
 */
import type { Call } from '../chain/transaction.ts';

/**
 * - `validator`: what validators send; they are at most 256.
 * - `miner`: commits and reveals of those whom the ledger asks for them.
 * - `registration`: accounts that want to become miners.
 * - `bonded`: registrations that hold a bond instead; apart, so that neither kind keeps out the other.
 * - `paying`: everything else; it pays fees as soon as there is ALICE.
 */
export type Lane = 'validator' | 'miner' | 'registration' | 'bonded' | 'paying';

/** Room of a lane. */
export interface LaneLimits {
  readonly maxTransactions: number;
  readonly maxBytes: number;
}

/**
 * Room of each lane. `validator`: three duties of two rounds for 256 validators are 1,536, a few KiB each. `miner`: two
 * calls of two rounds for a thousand seats. `registration`: many more than some blocks take; each
 * is looked at again after every block, a tenth of a millisecond. `bonded`: a block takes one. `paying`: several full blocks.
 */
export const DEFAULT_LANES: Readonly<Record<Lane, LaneLimits>> = {
  validator: { maxTransactions: 2048, maxBytes: 8 * 1024 * 1024 },
  miner: { maxTransactions: 4096, maxBytes: 2 * 1024 * 1024 },
  registration: { maxTransactions: 128, maxBytes: 64 * 1024 },
  bonded: { maxTransactions: 32, maxBytes: 16 * 1024 },
  paying: { maxTransactions: 4096, maxBytes: 6 * 1024 * 1024 },
};

/**
 * Which lane goes into a block first. Registrations are a handful in a block, so they may go before what pays and never
 * take its place.
 */
export const LANE_ORDER: Readonly<Record<Lane, number>> = {
  validator: 0,
  miner: 1,
  registration: 2,
  bonded: 3,
  paying: 4,
};

/** The lane of a call. */
export function laneOf(call: Call['tag'], isValidator: boolean): Lane {
  switch (call) {
    case 'registerMiner':
      return 'registration';
    case 'registerWithBond':
      return 'bonded';
    case 'commitSubmission':
    case 'revealSubmission':
      return 'miner';
    case 'commitScores':
    case 'revealScores':
    case 'attestModel':
      return 'validator';
    default:
      return isValidator ? 'validator' : 'paying';
  }
}
