/**
 * Module validators: who decides. The set is those with most voting power (`stakes.ts`): faded genesis weight and bonded
 * stake, ties to the lower account. A change made by block H acts at H + 2.
 *
 * The set is made anew when the height is a multiple of `validatorSetIntervalBlocks`, and at once when the stake record of
 * a member changed: who takes its stake out, is jailed or is thrown out does not vote on it. If nobody would be left,
 * the set stays as it is.
 */
import { type Codec, Struct, u64 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec, hashCodec } from '../chain/codec.ts';
import type { Parameters } from '../chain/parameters.ts';
import { isQuorum, totalPower, type Validator, type ValidatorSet } from '../chain/validator-set.ts';
import { type Draft, listCodec, need, type StateReader, type StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { CHAIN } from './parameters.ts';
import { rememberValidators } from './past-validators.ts';
import { readStake, STAKE_PREFIX, stakers, votingPower } from './stakes.ts';

/** SCALE form of a validator set. */
export const validatorSetCodec: Codec<ValidatorSet> = listCodec<Validator>(
  Struct({ account: accountCodec, sessionKey: hashCodec, power: u64 }),
);

/** In the state after block H: who decides H + 1, and who decides H + 2. */
export const VALIDATORS: StateRecord<{ next: ValidatorSet; afterNext: ValidatorSet }> = {
  key: 'validators',
  codec: Struct({ next: validatorSetCodec, afterNext: validatorSetCodec }),
};

/** Those who score and attest: the set that decides the block being executed. */
export function currentValidators(reader: StateReader): ValidatorSet {
  return need(reader, VALIDATORS).next;
}

/** Power of an account among the current validators. Throws {@link CallRefusedError} when it has none. */
export function requireValidator(reader: StateReader, account: AccountId): bigint {
  const validator = currentValidators(reader).find((candidate) => candidate.account === account);
  if (validator === undefined) throw new CallRefusedError('ERR_NOT_VALIDATOR');
  return validator.power;
}

/** Power that those accounts hold together. */
export function powerOf(set: ValidatorSet, accounts: ReadonlySet<AccountId>): bigint {
  return set.reduce((sum, { account, power }) => (accounts.has(account) ? sum + power : sum), 0n);
}

/** True when those accounts hold more than two thirds of the power of the set. */
export function holdQuorum(set: ValidatorSet, accounts: ReadonlySet<AccountId>): boolean {
  return isQuorum(powerOf(set, accounts), totalPower(set));
}

/** The set that stakes and genesis weights make at a time, before the rule that it is never empty. */
export function electedValidators(reader: StateReader, timeMs: bigint, parameters: Parameters): ValidatorSet {
  const elapsedMs = timeMs - need(reader, CHAIN).genesisTimeMs;
  const candidates: Validator[] = [];
  for (const account of stakers(reader)) {
    const stake = readStake(reader, account);
    const power = votingPower(stake, elapsedMs, parameters);
    if (power > 0n && stake.sessionKey !== undefined) candidates.push({ account, sessionKey: stake.sessionKey, power });
  }
  return candidates
    .sort((a, b) => (a.power === b.power ? (a.account < b.account ? -1 : 1) : a.power > b.power ? -1 : 1))
    .slice(0, parameters.staking.maxValidators)
    .sort((a, b) => (a.account < b.account ? -1 : 1));
}

function isSameSet(a: ValidatorSet, b: ValidatorSet): boolean {
  return (
    a.length === b.length &&
    a.every(
      ({ account, sessionKey, power }, index) =>
        account === b[index].account && sessionKey === b[index].sessionKey && power === b[index].power,
    )
  );
}

/** Moves the sets on by one block, at its end. */
export function advanceValidators(
  draft: Draft,
  at: { readonly height: number; readonly timeMs: bigint },
  parameters: Parameters,
): LedgerEvent[] {
  const { next, afterNext } = need(draft, VALIDATORS);
  rememberValidators(draft, at.height, { decided: next, next: afterNext }, parameters.staking.unbondingBlocks);
  let elected = afterNext;
  if (at.height % parameters.staking.validatorSetIntervalBlocks === 0 || memberChanged(draft, afterNext)) {
    elected = electedValidators(draft, at.timeMs, parameters);
    if (elected.length === 0 || isSameSet(elected, afterNext)) elected = afterNext;
  }
  if (elected === afterNext && isSameSet(next, afterNext)) return [];
  draft.set(VALIDATORS, { next: afterNext, afterNext: elected });
  return elected === afterNext ? [] : [{ type: 'validatorsChanged', actsAtHeight: at.height + 2, validators: elected }];
}

function memberChanged(draft: Draft, set: ValidatorSet): boolean {
  const members = new Set(set.map(({ account }) => `${STAKE_PREFIX}${account}`));
  for (const { record } of draft.touched()) if (members.has(record.key)) return true;
  return false;
}
