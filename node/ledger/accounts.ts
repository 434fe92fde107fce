/**
 * Module accounts: balances, nonces, transfers, and the count of all ALICE there is.
 *
 * Dust rule: a transfer neither makes nor leaves a balance between zero and the existential deposit; it is refused
 * instead, so nothing is ever swept away. Everything else may arrive at or leave any balance: rewards, withdrawn stake,
 * fees. A balance that a fee took below the deposit can be moved as a whole.
 */
import { type CodecType, Struct, u32, u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { type Amount, amount } from '../chain/amount.ts';
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
  /** Units there are: minted less burned. */
  totalIssuance: u128,
  /** Units ever burned. What was minted is `totalIssuance + burned`, so that burning never makes room to mint again. */
  burned: u128,
  /** Units for infrastructure, not yet paid out. */
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

/** Adds units to an account. The caller takes them from somewhere, or raises the issuance. */
export function credit(draft: Draft, account: AccountId, units: bigint): void {
  if (units === 0n) return;
  const before = readAccount(draft, account);
  draft.set(accountRecord(account), { balance: before.balance + units, nonce: before.nonce });
}

/** Takes units from an account. The caller puts them somewhere. Throws {@link CallRefusedError}. */
export function debit(draft: Draft, account: AccountId, units: bigint): void {
  const { balance, nonce } = readAccount(draft, account);
  if (balance < units) throw new CallRefusedError('ERR_INSUFFICIENT_BALANCE');
  draft.set(accountRecord(account), { balance: balance - units, nonce });
}

/** Raises total issuance and the infrastructure pot. The caller credits the rest of what was minted. */
export function recordIssuance(draft: Draft, minted: Amount, toInfrastructure: Amount): void {
  const supply = need(draft, SUPPLY);
  draft.set(SUPPLY, {
    ...supply,
    totalIssuance: supply.totalIssuance + minted,
    infrastructurePot: supply.infrastructurePot + toInfrastructure,
  });
}

/**
 * Burns a share of units that the caller took from somewhere, rounded down, and puts the rest into the infrastructure
 * pot. Returns what was burned.
 */
export function burnShare(draft: Draft, units: bigint, burnPpm: number): Amount {
  const burned = (units * BigInt(burnPpm)) / 1_000_000n;
  const supply = need(draft, SUPPLY);
  draft.set(SUPPLY, {
    totalIssuance: supply.totalIssuance - burned,
    burned: supply.burned + burned,
    infrastructurePot: supply.infrastructurePot + units - burned,
  });
  return amount(burned);
}

/** Takes units that their owner gives away, keeping the dust rule for what is left. Throws {@link CallRefusedError}. */
export function debitAboveDust(draft: Draft, account: AccountId, units: bigint, existentialDeposit: number): void {
  if (units <= 0n) throw new CallRefusedError('ERR_ZERO_AMOUNT');
  debit(draft, account, units);
  const left = readAccount(draft, account).balance;
  if (left > 0n && left < BigInt(existentialDeposit)) throw new CallRefusedError('ERR_WOULD_LEAVE_DUST');
}

/** Call `transfer`; a part of `transferFrom`. Throws {@link CallRefusedError}. */
export function transfer(
  draft: Draft,
  from: AccountId,
  to: AccountId,
  units: bigint,
  existentialDeposit: number,
): LedgerEvent[] {
  if (from === to) {
    if (units <= 0n) throw new CallRefusedError('ERR_ZERO_AMOUNT');
    if (readAccount(draft, from).balance < units) throw new CallRefusedError('ERR_INSUFFICIENT_BALANCE');
  } else {
    debitAboveDust(draft, from, units, existentialDeposit);
    credit(draft, to, units);
    if (readAccount(draft, to).balance < BigInt(existentialDeposit)) {
      throw new CallRefusedError('ERR_BELOW_EXISTENTIAL_DEPOSIT');
    }
  }
  return [{ type: 'transfer', from, to, amount: amount(units) }];
}
