/**
 * What happened in a network, read from the chain that a validator kept: its blocks are executed again, so that every
 * figure is the ledger's own, at the block in which it came about, and none depends on when somebody looked.
 */

import { readEvidence } from '../../../node/blockchain/block-evidence.ts';
import type { AccountId } from '../../../node/chain/account.ts';
import { encodeBlock } from '../../../node/chain/block.ts';
import { type Genesis, genesisHash } from '../../../node/chain/genesis.ts';
import { type Call, decodeTransaction, transactionId } from '../../../node/chain/transaction.ts';
import type { SettledEpoch } from '../../../node/ledger/epochs.ts';
import { executeBlock } from '../../../node/ledger/execute.ts';
import type { Aggregation, RoundResult } from '../../../node/ledger/round-records.ts';
import { LedgerState } from '../../../node/ledger/state.ts';
import { Store } from '../../../node/store/store.ts';

/** One block. */
export interface BlockReading {
  readonly height: number;
  readonly timeMs: number;
  /** Round that was open after it. */
  readonly round: number;
  readonly bytes: number;
  readonly transactions: readonly { readonly signer: AccountId; readonly call: Call['tag']; readonly bytes: number }[];
}

/** Seats that were given when a training phase opened. */
export interface Opening {
  /** Number among all openings of the network. */
  readonly opening: number;
  readonly seats: readonly AccountId[];
  /** Training shards that no seat was given. */
  readonly unassigned: number;
}

/** One round. */
export interface RoundReading {
  readonly round: number;
  /** Block that opened it at first. */
  readonly openedHeight: number;
  readonly openedTimeMs: number;
  /** One, and one more for each time that nobody committed. */
  readonly openings: readonly Opening[];
  /** Bytes of keys and values of the state when it opened. */
  readonly stateBytes: number;
  readonly submissions: RoundResult['submissions'];
  readonly aggregation: Aggregation;
}

/** When an account registered, for the first time. */
export interface RegistrationReading {
  readonly height: number;
  readonly round: number;
  /** Number of the last opening in which it was not yet in line, and most accounts that are seated before it. */
  readonly opening: number;
  readonly ahead: number;
}

/** See the head of this file. */
export interface ChainReading {
  readonly blocks: readonly BlockReading[];
  /** Ascending, the open one last. */
  readonly rounds: readonly RoundReading[];
  readonly epochs: readonly SettledEpoch[];
  readonly registered: ReadonlyMap<AccountId, RegistrationReading>;
}

type OpenRound = { -readonly [K in keyof RoundReading]: RoundReading[K] } & { openings: Opening[] };

function stateBytes(state: LedgerState): number {
  let bytes = 0;
  for (const [key, value] of state.tree.entries()) bytes += key.length + value.length;
  return bytes;
}

function openingOf(state: LedgerState): Opening {
  const { opening, seats } = state.round;
  return { opening, seats: seats.map(({ account }) => account), unassigned: state.unassignedShards.length };
}

function opened(state: LedgerState, openedHeight: number): OpenRound {
  return {
    round: state.round.round,
    openedHeight,
    openedTimeMs: Number(state.timeMs),
    openings: [openingOf(state)],
    stateBytes: stateBytes(state),
    submissions: [],
    aggregation: 'open',
  };
}

/** Reads the database of a node that has ended. Throws what the store throws, and an error when its chain is not right. */
export function readChain(genesis: Genesis, path: string): ChainReading {
  const store = Store.open({ path, genesisHash: genesisHash(genesis) });
  try {
    const blocks: BlockReading[] = [];
    const epochs: SettledEpoch[] = [];
    const registered = new Map<AccountId, RegistrationReading>();
    let state = LedgerState.genesis(genesis);
    const rounds: OpenRound[] = [opened(state, 0)];
    for (let height = 1; height <= store.height; height++) {
      const block = store.block(height)?.block;
      if (block === undefined) throw new Error(`${path} lacks block ${height}`);
      const { timeMs, beacon, proposer, stateRoot } = block.header;
      const transactions = block.transactions.map((encoded) => {
        const transaction = decodeTransaction(encoded);
        return { id: transactionId(transaction), transaction };
      });
      const evidence = readEvidence(block.evidence);
      const executed = executeBlock(state, { height, timeMs, beacon, proposer, transactions, evidence });
      state = executed.state;
      if (state.root !== stateRoot) throw new Error(`block ${height} comes to another state than its header names`);
      blocks.push({
        height,
        timeMs: Number(timeMs),
        round: state.round.round,
        bytes: encodeBlock(block).length,
        transactions: transactions.map(({ transaction: { body } }, index) => ({
          signer: body.signer,
          call: body.call.tag,
          bytes: block.transactions[index]?.length ?? 0,
        })),
      });
      for (const event of executed.events) {
        const round = rounds.at(-1);
        if (event.type === 'roundOpened' && event.attempt === 1) {
          // What became of the weights is in the result, which is written anew when the round closes.
          const result = state.roundResult(event.round - 1);
          if (round !== undefined && result !== undefined) {
            round.submissions = result.submissions;
            round.aggregation = result.aggregation;
          }
          rounds.push(opened(state, height));
        } else if (event.type === 'roundOpened') {
          round?.openings.push(openingOf(state));
        } else if (event.type === 'roundSettled' && round !== undefined) {
          round.submissions = state.roundResult(event.round)?.submissions ?? [];
        } else if (event.type === 'epochSettled') {
          const epoch = state.settledEpoch(event.epoch);
          if (epoch !== undefined) epochs.push(epoch);
        } else if (event.type === 'minerRegistered' && !registered.has(event.account)) {
          const ahead = state.aheadInLine(event.account) ?? 0;
          const { round: open, opening } = state.round;
          registered.set(event.account, { height, round: open, opening, ahead });
        }
      }
    }
    return { blocks, rounds, epochs, registered };
  } finally {
    store.close();
  }
}
