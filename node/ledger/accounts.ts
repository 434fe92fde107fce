/**
 * Module accounts: balances, nonces, transfers, and the count of all ALICE there is.
 */
import { type CodecType, Struct, u32, u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import type { Amount } from '../chain/amount.ts';
import type { Draft, StateReader, StateRecord } from './draft.ts';
import { need } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';

const accountRecordCodec = Struct({ balance: u128, nonce: u32 });

/** Balance in units and the nonce that the account's next transaction must carry. */
export type AccountRecord = Readonly<CodecType<typeof accountRecordCodec>>;

/** Keys of account records start with this. */
export const ACCOUNT_PREFIX = 'account/';

/** Where an account's balance and nonce are. */
export function accountRecord(account: AccountId): StateRecord<AccountRecord> {
  return { key: `${ACCOUNT_PREFIX}${account}`, codec: accountRecordCodec };
}

const supplyCodec = Struct({
  /** Units ever minted; nothing burns yet. */
  totalIssuance: u128,
  /** Units minted for infrastructure and not yet paid out. */
  infrastructurePot: u128,
});

/** Total issuance and the pots, in units. */
export type Supply = Readonly<CodecType<typeof supplyCodec>>;

/** Where the totals are. */
export const SUPPLY: StateRecord<Supply> = { key: 'supply', codec: supplyCodec };

const NO_ACCOUNT: AccountRecord = { balance: 0n, nonce: 0 };

/** An account as the state has it; an account never heard of has nothing. */
export function readAccount(reader: StateReader, account: AccountId): AccountRecord {
  return reader.get(accountRecord(account)) ?? NO_ACCOUNT;
}

/** Counts one more transaction of an account. */
export function advanceNonce(draft: Draft, account: AccountId): void {
  const before = readAccount(draft, account);
  draft.set(accountRecord(account), { balance: before.balance, nonce: before.nonce + 1 });
}

/** Adds newly minted units to an account. The caller raises the issuance. */
export function credit(draft: Draft, account: AccountId, units: Amount): void {
  if (units === 0n) return;
  const before = readAccount(draft, account);
  draft.set(accountRecord(account), { balance: before.balance + units, nonce: before.nonce });
}

/** Raises total issuance and the infrastructure pot. The caller credits the rest of what was minted. */
export function recordIssuance(draft: Draft, minted: Amount, toInfrastructure: Amount): void {
  const supply = need(draft, SUPPLY);
  draft.set(SUPPLY, {
    totalIssuance: supply.totalIssuance + minted,
    infrastructurePot: supply.infrastructurePot + toInfrastructure,
  });
}

/** Call `transfer`. Throws {@link CallRefusedError}. */
export function transfer(draft: Draft, from: AccountId, to: AccountId, units: bigint): LedgerEvent[] {
  if (units <= 0n) throw new CallRefusedError('ERR_ZERO_AMOUNT');
  const sender = readAccount(draft, from);
  if (sender.balance < units) throw new CallRefusedError('ERR_INSUFFICIENT_BALANCE');
  draft.set(accountRecord(from), { balance: sender.balance - units, nonce: sender.nonce });
  const receiver = readAccount(draft, to);
  draft.set(accountRecord(to), { balance: receiver.balance + units, nonce: receiver.nonce });
  return [{ type: 'transfer', from, to, amount: units as Amount }];
}
