/**
 * Module staking, the money: bonding, unbonding with delay, withdrawing.
 *
 * Unbonded stake stays within reach of evidence: it counted for validator sets up to the block after the one that took
 * it out (a set is decided two blocks ahead), and is free once `unbondingBlocks` have passed after that and `unbondingMs`
 * since. The queue of an account has {@link MAX_UNBONDING} entries.
 */
import type { AccountId } from '../chain/account.ts';
import { amount } from '../chain/amount.ts';
import type { Parameters } from '../chain/parameters.ts';
import { credit, debitAboveDust } from './accounts.ts';
import type { Draft } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { readStake, setStake, type Unbonding } from './stakes.ts';

/** Most entries of an account that unbond at a time; further ones wait for a withdrawal. */
export const MAX_UNBONDING = 32;

/** The block being executed, as far as staking needs it. */
export interface StakingMoment {
  readonly height: number;
  readonly timeMs: bigint;
}

/** Call `bond`, at first or in addition. Throws {@link CallRefusedError}. */
export function bond(draft: Draft, account: AccountId, units: bigint, parameters: Parameters): LedgerEvent[] {
  const stake = readStake(draft, account);
  if (stake.tombstoned) throw new CallRefusedError('ERR_TOMBSTONED');
  debitAboveDust(draft, account, units, parameters.economics.existentialDeposit);
  const bonded = stake.bonded + units;
  if (bonded < BigInt(parameters.staking.minimumBond)) throw new CallRefusedError('ERR_BELOW_MINIMUM_BOND');
  setStake(draft, account, { ...stake, bonded });
  return [{ type: 'bonded', account, amount: amount(units), bonded: amount(bonded) }];
}

/** Call `unbond`. What stays is nothing, or at least the minimum bond. Throws {@link CallRefusedError}. */
export function unbond(
  draft: Draft,
  account: AccountId,
  units: bigint,
  at: StakingMoment,
  parameters: Parameters,
): LedgerEvent[] {
  if (units <= 0n) throw new CallRefusedError('ERR_ZERO_AMOUNT');
  const { minimumBond, unbondingBlocks, unbondingMs } = parameters.staking;
  const stake = readStake(draft, account);
  const bonded = stake.bonded - units;
  if (bonded < 0n) throw new CallRefusedError('ERR_INSUFFICIENT_BOND');
  if (bonded > 0n && bonded < BigInt(minimumBond)) throw new CallRefusedError('ERR_BELOW_MINIMUM_BOND');
  if (stake.unbonding.length >= MAX_UNBONDING) throw new CallRefusedError('ERR_UNBONDING_QUEUE_FULL');
  const entry: Unbonding = {
    amount: units,
    sinceHeight: at.height,
    freeHeight: at.height + 1 + unbondingBlocks,
    freeTimeMs: at.timeMs + BigInt(unbondingMs),
  };
  setStake(draft, account, { ...stake, bonded, unbonding: [...stake.unbonding, entry] });
  const { freeHeight, freeTimeMs } = entry;
  return [{ type: 'unbonding', account, amount: amount(units), freeHeight, freeTimeMs }];
}

/** Call `withdraw`: everything that is free. Throws {@link CallRefusedError}. */
export function withdraw(draft: Draft, account: AccountId, at: StakingMoment): LedgerEvent[] {
  const stake = readStake(draft, account);
  const isFree = (entry: Unbonding) => entry.freeHeight <= at.height && entry.freeTimeMs <= at.timeMs;
  const free = stake.unbonding.filter(isFree);
  if (free.length === 0) throw new CallRefusedError('ERR_NOTHING_TO_WITHDRAW');
  const units = free.reduce((sum, entry) => sum + entry.amount, 0n);
  setStake(draft, account, { ...stake, unbonding: stake.unbonding.filter((entry) => !isFree(entry)) });
  credit(draft, account, units);
  return [{ type: 'withdrawn', account, amount: amount(units) }];
}
