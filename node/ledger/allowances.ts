/**
 * Module allowances: letting another account move part of one's balance (the ERC-20 surface of MISSION 2).
 */
import { u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { type Amount, amount } from '../chain/amount.ts';
import { readAccount, transfer } from './accounts.ts';
import type { Draft, StateReader, StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';

/** Units that `owner` allows `spender` to move; no record means none. */
export function allowanceRecord(owner: AccountId, spender: AccountId): StateRecord<bigint> {
  return { key: `allowance/${owner}/${spender}`, codec: u128 };
}

/** Units that `owner` allows `spender` to move. */
export function allowance(reader: StateReader, owner: AccountId, spender: AccountId): Amount {
  return amount(reader.get(allowanceRecord(owner, spender)) ?? 0n);
}

function setAllowance(draft: Draft, owner: AccountId, spender: AccountId, units: bigint): void {
  const record = allowanceRecord(owner, spender);
  if (units === 0n) draft.delete(record);
  else draft.set(record, units);
}

/**
 * Call `approve`: replaces the allowance. The owner must hold the existential deposit, and something: who has nothing
 * may not fill the state with promises. Throws {@link CallRefusedError}.
 */
export function approve(
  draft: Draft,
  owner: AccountId,
  call: { readonly spender: AccountId; readonly amount: bigint },
  existentialDeposit: number,
): LedgerEvent[] {
  const { balance } = readAccount(draft, owner);
  const takesBack = call.amount === 0n;
  if (!takesBack && (balance === 0n || balance < BigInt(existentialDeposit))) {
    throw new CallRefusedError('ERR_BELOW_EXISTENTIAL_DEPOSIT');
  }
  setAllowance(draft, owner, call.spender, call.amount);
  return [{ type: 'approval', owner, spender: call.spender, amount: amount(call.amount) }];
}

/** Call `transferFrom`: a transfer that uses up allowance. Throws {@link CallRefusedError}. */
export function transferFrom(
  draft: Draft,
  spender: AccountId,
  call: { readonly from: AccountId; readonly to: AccountId; readonly amount: bigint },
  existentialDeposit: number,
): LedgerEvent[] {
  const allowed = allowance(draft, call.from, spender);
  if (allowed < call.amount) throw new CallRefusedError('ERR_INSUFFICIENT_ALLOWANCE');
  const events = transfer(draft, call.from, call.to, call.amount, existentialDeposit);
  const left = allowed - call.amount;
  setAllowance(draft, call.from, spender, left);
  return [...events, { type: 'approval', owner: call.from, spender, amount: amount(left) }];
}
