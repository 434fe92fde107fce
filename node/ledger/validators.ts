/**
 * Module validators: who decides. A fixed set of founders until staking changes it; the records already keep the two
 * sets that changes need, because a change made by block H acts at H + 2.
 */
import { type Codec, Struct, u64 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec, hashCodec } from '../chain/codec.ts';
import { isQuorum, totalPower, type Validator, type ValidatorSet } from '../chain/validator-set.ts';
import { listCodec, need, type StateReader, type StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';

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
