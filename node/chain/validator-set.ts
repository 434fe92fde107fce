/**
 * Who votes, with how much power. Ordered by account, so that equal sets have equal hashes.
 */
import { Struct, u64 } from 'scale-ts';
import type { AccountId } from './account.ts';
import { accountCodec, hashCodec, Vector } from './codec.ts';
import { domainHash, type Hash } from './hash.ts';

/** ed25519 public key (32 bytes, hex) that signs votes for an account. */
export type SessionKey = Hash;

/** One voter. `power` is positive; the sum over a set stays below 2^63. */
export interface Validator {
  readonly account: AccountId;
  readonly sessionKey: SessionKey;
  readonly power: bigint;
}

/** Validators in ascending order of account, each account once. */
export type ValidatorSet = readonly Validator[];

const validatorSetCodec = Vector(Struct({ account: accountCodec, sessionKey: hashCodec, power: u64 }));

/** Hash that headers carry for a set. */
export function validatorSetHash(set: ValidatorSet): Hash {
  return domainHash('alice/validator-set/1', validatorSetCodec.enc([...set]));
}

/** Sum of the voting power of a set. */
export function totalPower(set: ValidatorSet): bigint {
  return set.reduce((sum, validator) => sum + validator.power, 0n);
}

/** True when `power` is strictly more than two thirds of `total`, in integers. */
export function isQuorum(power: bigint, total: bigint): boolean {
  return power * 3n > total * 2n;
}
