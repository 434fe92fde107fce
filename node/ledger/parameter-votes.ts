/**
 * Module parameters, changes: until there is governance, validators change the economics.
 *
 * Each validator has one standing vote: the values to change, as canonical JSON, and a height. Votes for the same change
 * and height with more than two thirds of the power schedule it; it acts from the block after that height on. Only the
 * sections {@link GOVERNED_SECTIONS} can be changed: the others are read by programs that hold them fixed. A change has to
 * keep every bound, of the schema and of how far votes may go (`parameter-bounds.ts`), when it is voted for, and again when
 * it acts: else it is dropped.
 */
import { type CodecType, Struct, str, u32 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec } from '../chain/codec.ts';
import { canonicalJson } from '../chain/genesis.ts';
import { checkParameters, InvalidParametersError, type Parameters } from '../chain/parameters.ts';
import { type Draft, listCodec, need, type StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { keepsBounds } from './parameter-bounds.ts';
import { GENESIS_PARAMETERS, PARAMETERS } from './parameters.ts';
import { currentValidators, holdQuorum, requireValidator } from './validators.ts';

/** Sections of the parameters that votes can change. */
export const GOVERNED_SECTIONS = ['economics', 'staking'] as const;

/** Longest change in characters. */
export const MAX_CHANGE_LENGTH = 4096;

/** A change acts at most so many blocks after the vote. */
export const MAX_NOTICE_BLOCKS = 10_000_000;

/** Most changes that wait for their height. */
export const MAX_SCHEDULED = 16;

const voteCodec = Struct({ account: accountCodec, change: str, height: u32 });
type ParameterVote = Readonly<CodecType<typeof voteCodec>>;

/** Standing votes, one for each validator, ascending by account. */
export const PARAMETER_VOTES: StateRecord<readonly ParameterVote[]> = {
  key: 'parameters/votes',
  codec: listCodec<ParameterVote>(voteCodec),
};

const scheduledCodec = Struct({ change: str, height: u32 });
type ScheduledChange = Readonly<CodecType<typeof scheduledCodec>>;

/** Agreed changes that wait for their height, in the order of agreement. */
export const SCHEDULED_CHANGES: StateRecord<readonly ScheduledChange[]> = {
  key: 'parameters/scheduled',
  codec: listCodec<ScheduledChange>(scheduledCodec),
};

/**
 * Parameters after a change, or undefined when it is no change that these parameters can take on a network that began with
 * `genesis`.
 */
export function changedParameters(genesis: Parameters, before: Parameters, change: string): Parameters | undefined {
  if (change.length > MAX_CHANGE_LENGTH) return undefined;
  try {
    const value: unknown = JSON.parse(change);
    if (canonicalJson(value) !== change || value === null || typeof value !== 'object') return undefined;
    const after: Record<string, unknown> = { ...before };
    for (const [section, values] of Object.entries(value)) {
      const governed = GOVERNED_SECTIONS.find((name) => name === section);
      if (governed === undefined || values === null || typeof values !== 'object') return undefined;
      if (!Object.keys(values).every((name) => Object.hasOwn(before[governed], name))) return undefined;
      after[governed] = { ...before[governed], ...values };
    }
    const checked = checkParameters(after);
    if (canonicalJson(checked) === canonicalJson(before)) return undefined;
    return keepsBounds(genesis, before, checked) ? checked : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof InvalidParametersError || error instanceof RangeError) {
      return undefined;
    }
    throw error;
  }
}

/** Call `voteParameters`; replaces the signer's standing vote. Throws {@link CallRefusedError}. */
export function voteParameters(
  draft: Draft,
  account: AccountId,
  vote: { readonly change: string; readonly height: number },
  height: number,
): LedgerEvent[] {
  requireValidator(draft, account);
  if (vote.height <= height || vote.height > height + MAX_NOTICE_BLOCKS) {
    throw new CallRefusedError('ERR_CHANGE_HEIGHT');
  }
  const { change } = vote;
  if (changedParameters(need(draft, GENESIS_PARAMETERS), need(draft, PARAMETERS), change) === undefined) {
    throw new CallRefusedError('ERR_INVALID_CHANGE');
  }
  const validators = currentValidators(draft);
  const members = new Set(validators.map((validator) => validator.account));
  const others = (draft.get(PARAMETER_VOTES) ?? []).filter(
    (other) => other.account !== account && other.height > height && members.has(other.account),
  );
  const votes = [...others, { account, change, height: vote.height }].sort((a, b) => (a.account < b.account ? -1 : 1));
  const events: LedgerEvent[] = [{ type: 'parameterVote', account, change, height: vote.height }];
  const agrees = (other: ParameterVote) => other.change === change && other.height === vote.height;
  if (!holdQuorum(validators, new Set(votes.filter(agrees).map((other) => other.account)))) {
    draft.set(PARAMETER_VOTES, votes);
    return events;
  }
  const scheduled = draft.get(SCHEDULED_CHANGES) ?? [];
  if (scheduled.length >= MAX_SCHEDULED) throw new CallRefusedError('ERR_TOO_MANY_CHANGES');
  draft.set(SCHEDULED_CHANGES, [...scheduled, { change, height: vote.height }]);
  draft.set(
    PARAMETER_VOTES,
    votes.filter((other) => !agrees(other)),
  );
  return [...events, { type: 'parametersScheduled', change, height: vote.height }];
}

/** Makes the changes act that are due at the end of block `height`. */
export function applyScheduledChanges(draft: Draft, height: number): LedgerEvent[] {
  const scheduled = draft.get(SCHEDULED_CHANGES);
  if (scheduled === undefined || scheduled.every((item) => item.height > height)) return [];
  const events: LedgerEvent[] = [];
  for (const { change, height: dueHeight } of scheduled) {
    if (dueHeight > height) continue;
    const after = changedParameters(need(draft, GENESIS_PARAMETERS), need(draft, PARAMETERS), change);
    if (after !== undefined) draft.set(PARAMETERS, after);
    events.push({ type: after === undefined ? 'parametersRefused' : 'parametersChanged', change });
  }
  const waiting = scheduled.filter((item) => item.height > height);
  if (waiting.length === 0) draft.delete(SCHEDULED_CHANGES);
  else draft.set(SCHEDULED_CHANGES, waiting);
  return events;
}
