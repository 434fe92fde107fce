/** Brings the core back to where the write-ahead log ends. */
import type { AccountId } from '../chain/account.ts';
import { decodeProposal, decodeVote, type Proposal, VOTE_TYPES, type Vote } from '../chain/block.ts';
import { advance, type DriverEffect, type DriverInput, type DriverState } from './core/driver.ts';
import { comparePositions, type SignedPosition, votePosition } from './signer-guard.ts';
import { WAL_TIMEOUTS, type WalRecord } from './write-ahead-log.ts';

/** What a replay leads to. */
export interface Replay {
  readonly core: DriverState;
  /** What the core asked for and the log does not show to have been done: still to do. */
  readonly open: readonly DriverEffect[];
  /** This node's own messages, in the order in which they were signed. */
  readonly own: readonly ({ readonly vote: Vote } | { readonly proposal: Proposal; readonly encoded: Uint8Array })[];
  /** Valid proposals of anyone. */
  readonly proposals: readonly Proposal[];
}

/** True when the records hold a message of this account at the position or after it. */
export function logCovers(
  records: readonly WalRecord[],
  account: AccountId | undefined,
  last: SignedPosition,
): boolean {
  return records.some(({ input }) => {
    if (input.tag === 'vote') {
      const { body, validator } = decodeVote(input.value);
      return validator === account && comparePositions(votePosition(body), last) >= 0;
    }
    if (input.tag !== 'proposal') return false;
    const { body, proposer } = decodeProposal(input.value.bytes);
    return proposer === account && comparePositions({ ...body, step: 0 }, last) >= 0;
  });
}

/** Applies the records of one height to the state in which the height begins. */
export function replayLog(start: DriverState, records: readonly WalRecord[], account: AccountId | undefined): Replay {
  let core = start;
  let open: DriverEffect[] = [];
  const own: Replay['own'][number][] = [];
  const proposals: Proposal[] = [];
  const apply = (input: DriverInput) => {
    const { state, effects } = advance(core, input);
    core = state;
    open.push(...effects);
  };
  for (const { input } of records) {
    switch (input.tag) {
      case 'start':
        apply({ type: 'start' });
        break;
      case 'vote': {
        const vote = decodeVote(input.value);
        if (vote.validator === account) {
          own.push({ vote });
          const { round, type } = vote.body;
          open = open.filter(
            (effect) => effect.type !== 'vote' || effect.round !== round || effect.vote !== VOTE_TYPES[type],
          );
        }
        apply({ type: 'vote', vote });
        break;
      }
      case 'timeout': {
        const kind = WAL_TIMEOUTS[input.value.kind];
        if (kind !== undefined) apply({ type: 'timeout', kind, round: input.value.round });
        break;
      }
      case 'proposal': {
        const { bytes, valid, timely } = input.value;
        const proposal = decodeProposal(bytes);
        const { round, blockId: value, validRound } = proposal.body;
        if (valid) proposals.push(proposal);
        if (proposal.proposer === account) {
          own.push({ proposal, encoded: bytes });
          open = open.filter(
            (effect) => (effect.type !== 'getValue' && effect.type !== 'propose') || effect.round !== round,
          );
        }
        apply({ type: 'proposal', proposal: { round, value, validRound, valid, timely } });
        break;
      }
    }
  }
  const { round, step } = core.machine;
  // Timeouts of the present round run again from the start; older ones and older turns are over.
  const due = open.filter((effect) => {
    if (effect.type === 'decide' || effect.type === 'vote' || effect.type === 'evidence') return true;
    if (effect.type === 'getValue' || effect.type === 'propose') return effect.round === round && step === 'propose';
    return effect.type === 'scheduleTimeout' && effect.round === round;
  });
  return { core, open: due, own, proposals };
}
