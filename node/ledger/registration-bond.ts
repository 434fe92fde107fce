/**
 * Module registry, the other price: who owns something may hold units instead of proving work.
 *
 * - *Price.* `bond` units when it is quiet, along the same curve as work (`registration-price.ts`), by a pressure of its own:
 *   neither kind of flood makes the other kind dearer. One a block.
 * - *Held.* From locked rewards first, those that unlock last before others, so that its owner can still pay fees; the rest
 *   from the balance. What was locked keeps its unlock times and comes back with them: nothing is unlocked early.
 * - *Back.* When the registration expires (`registration-expiry.ts`), so `expiryMs` after the last registration at the
 *   earliest. Who fell out before and registers again has another bond held beside it: the same units never buy twice
 *   within `expiryMs`, by however many names.
 */
import { type CodecType, Struct, u64, u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { type Amount, amount } from '../chain/amount.ts';
import type { Parameters } from '../chain/parameters.ts';
import { credit, debit } from './accounts.ts';
import type { Draft, StateReader, StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { pressureAt, priceUnder, raised } from './registration-price.ts';
import { lockedUnits, lotsCodec, mergedLots, returnLots, takeLots } from './vesting.ts';

const bondCodec = Struct({
  /** Units that were in the balance. */
  free: u128,
  /** Units that were locked, with their unlock times. */
  lots: lotsCodec,
});

/** What an account has held for its registrations. */
export type RegistrationBond = Readonly<CodecType<typeof bondCodec>>;

/** Keys of registration bonds start with this. */
export const REGISTRATION_BOND_PREFIX = 'registration-bond/';

/** Where an account's bond is; absent when it has none. */
export function registrationBondRecord(account: AccountId): StateRecord<RegistrationBond> {
  return { key: `${REGISTRATION_BOND_PREFIX}${account}`, codec: bondCodec };
}

const pressureCodec = Struct({
  /** Recent bonded registrations, times 10^9, as of `updatedMs`. */
  pressure: u64,
  /** Time of the block with the latest of them. */
  updatedMs: u64,
});

const BONDED: StateRecord<Readonly<CodecType<typeof pressureCodec>>> = {
  key: 'bonded-registrations',
  codec: pressureCodec,
};

const NONE_YET = { pressure: 0n, updatedMs: 0n };

/** Units that a registration in a block of that time holds; 0 where no bond is taken. */
export function registrationBondPrice(reader: StateReader, timeMs: bigint, { registration }: Parameters): Amount {
  const pressure = pressureAt(reader.get(BONDED) ?? NONE_YET, timeMs, registration.perHour);
  return amount(priceUnder(pressure, registration.bond, registration.doubling));
}

/** Units that an account has held for its registrations. */
export function registrationBondOf(reader: StateReader, account: AccountId): Amount {
  const held = reader.get(registrationBondRecord(account));
  return amount(held === undefined ? 0n : held.free + lockedUnits(held.lots));
}

/** Holds the bond of a registration. Throws {@link CallRefusedError}. */
export function holdRegistrationBond(
  draft: Draft,
  account: AccountId,
  { timeMs }: { readonly timeMs: bigint },
  parameters: Parameters,
): LedgerEvent[] {
  const { registration } = parameters;
  if (registration.bond === 0) throw new CallRefusedError('ERR_NO_BONDED_REGISTRATION');
  const before = draft.get(BONDED) ?? NONE_YET;
  // Block times rise: the latest one was in this block.
  if (before.updatedMs === timeMs) throw new CallRefusedError('ERR_TOO_MANY_REGISTRATIONS');
  const price = registrationBondPrice(draft, timeMs, parameters);
  const lots = takeLots(draft, account, price);
  const free = price - lockedUnits(lots);
  debit(draft, account, free);
  const held = draft.get(registrationBondRecord(account)) ?? { free: 0n, lots: [] };
  draft.set(registrationBondRecord(account), { free: held.free + free, lots: mergedLots(held.lots, lots) });
  const pressure = raised(pressureAt(before, timeMs, registration.perHour), 1);
  draft.set(BONDED, { pressure, updatedMs: timeMs });
  return [{ type: 'registrationBonded', account, amount: price }];
}

/** Gives back what an account has held, as free or locked as it was. */
export function returnRegistrationBond(draft: Draft, account: AccountId): LedgerEvent[] {
  const held = draft.get(registrationBondRecord(account));
  if (held === undefined) return [];
  const units = registrationBondOf(draft, account);
  draft.delete(registrationBondRecord(account));
  credit(draft, account, held.free);
  returnLots(draft, account, held.lots);
  return [{ type: 'registrationBondReturned', account, amount: units }];
}
