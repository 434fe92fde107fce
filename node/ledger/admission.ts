/**
 * Who may have a free call waiting: what keeps pools small while calls cost nothing.
 *
 * A free call is in a block only when it succeeds (`fees.ts`), so a pool takes one only when it would succeed in the
 * next block, or will once the open round has come to its phase: nodes are a block apart, and gossip passes a message on
 * only once, so a call that is early by a phase or a round must not be lost. Early calls are taken of those alone whom
 * the ledger names already: validators, and miners with a seat, or for the next round with accepted work. With at most one waiting of an account, a kind and a round
 * ({@link waitingKey}), what waits for nothing is bounded by their numbers.
 */
import type { AccountId } from '../chain/account.ts';
import type { Call, Transaction } from '../chain/transaction.ts';
import type { StateReader } from './draft.ts';
import { need } from './draft.ts';
import type { CallErrorCode } from './errors.ts';
import { callError } from './execute.ts';
import { isOncePerBlock } from './fees.ts';
import { PARAMETERS } from './parameters.ts';
import { PHASES, type Phase, ROUND } from './round-records.ts';
import { isSeated } from './seats.ts';
import { standingRecord } from './standing.ts';
import type { LedgerState } from './state.ts';
import { currentValidators } from './validators.ts';

/**
 * Whether a free transaction may wait: `now` when it would succeed in the next block, `later` when it is early, else the
 * code by which the ledger refuses it.
 */
export type Admission = 'now' | 'later' | CallErrorCode;

/** See {@link Admission}. Looks at the call alone: nonce, fee and signature are for others. */
export function admissionOf(state: LedgerState, transaction: Transaction): Admission {
  const error = callError(state, transaction);
  if (error === undefined) return 'now';
  const { signer, call } = transaction.body;
  return isEarly(state, signer, call) ? 'later' : error;
}

/** Phase in which a duty is done; undefined for calls that belong to no round. */
function phaseOf(call: Call): Phase | undefined {
  switch (call.tag) {
    case 'commitSubmission':
      return 'train';
    case 'revealSubmission':
      return 'reveal';
    case 'commitScores':
      return 'score';
    case 'revealScores':
      return 'scoreReveal';
    case 'attestModel':
      return 'aggregate';
    default:
      return undefined;
  }
}

/** Round that a duty names; undefined for calls that belong to no round. */
function roundOf(call: Call): number | undefined {
  const { value } = call;
  return value !== undefined && 'round' in value ? value.round : undefined;
}

/** True when a duty is of the open round and an earlier phase, or of the next round, and its signer will be asked for it. */
function isEarly(reader: StateReader, signer: AccountId, call: Call): boolean {
  const phase = phaseOf(call);
  const round = roundOf(call);
  if (phase === undefined || round === undefined) return false;
  const open = need(reader, ROUND);
  const isReopened = call.tag === 'commitSubmission' && round === open.round && call.value.attempt === open.attempt + 1;
  const isNext = round === open.round + 1 || isReopened;
  if (!isNext && (round !== open.round || PHASES.indexOf(open.phase) >= PHASES.indexOf(phase))) return false;
  const isMiners = call.tag === 'commitSubmission' || call.tag === 'revealSubmission';
  if (isMiners) {
    // Nobody reveals what the block before did not even open.
    if (isNext && phase === 'reveal') return false;
    return isSeated(reader, signer) || (isNext && reader.get(standingRecord(signer))?.proven === true);
  }
  // What scores may be about is not known yet, but never more than a round takes.
  if (call.tag === 'revealScores' && call.value.scores.length > need(reader, PARAMETERS).rounds.maxSeats) return false;
  return currentValidators(reader).some(({ account }) => account === signer);
}

/**
 * What at most one waiting transaction has: account, kind and round of a call that an account makes once. Undefined for
 * calls of which several may wait, because each costs something, or moves something that its signer has.
 */
export function waitingKey(signer: AccountId, call: Call): string | undefined {
  return isOncePerBlock(call.tag) ? `${signer} ${call.tag} ${roundOf(call) ?? ''}` : undefined;
}
