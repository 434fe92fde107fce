/**
 * Module vesting: rewards that unlock over time.
 *
 * A reward is cut into {@link VESTING_STEPS} equal parts, the units left over going one each to the earliest, and the
 * parts unlock at the next so many multiples of `vestingMs / VESTING_STEPS` (rounded up to a millisecond) of block time.
 * Unlock times being the same for all rewards, an account never has more than a few lots, whatever it earns.
 *
 * Locked units belong to the account but are not in its balance; they move there when the account next sends a
 * transaction, has its balance spent by `transferFrom`, or is rewarded.
 */
import { type CodecType, Struct, u64, u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { type Amount, amount } from '../chain/amount.ts';
import { credit } from './accounts.ts';
import { type Draft, listCodec, type StateReader, type StateRecord } from './draft.ts';
import type { LedgerEvent } from './events.ts';

/** Steps in which a reward unlocks: close to a straight line, and short to store. */
export const VESTING_STEPS = 16;

/** Most lots of an account: several times what one vesting time needs. Beyond, the earliest two become the later one. */
export const MAX_LOTS = 4 * VESTING_STEPS;

const lotCodec = Struct({ unlockTimeMs: u64, amount: u128 });

/** Units that unlock at a time. */
export type Lot = Readonly<CodecType<typeof lotCodec>>;

/** Keys of vesting records start with this. */
export const VESTING_PREFIX = 'vesting/';

/** Lots, ascending by time. */
export const lotsCodec = listCodec<Lot>(lotCodec);

/** Lots of an account, ascending by time. */
export function vestingRecord(account: AccountId): StateRecord<readonly Lot[]> {
  return { key: `${VESTING_PREFIX}${account}`, codec: lotsCodec };
}

/** Units of those lots. */
export function lockedUnits(lots: readonly Lot[]): Amount {
  return amount(lots.reduce((sum, lot) => sum + lot.amount, 0n));
}

/** What an account has locked at a time, and what waits to move to its balance. */
export function vestingOf(
  reader: StateReader,
  account: AccountId,
  timeMs: bigint,
): { readonly locked: Amount; readonly unlocked: Amount; readonly lots: readonly Lot[] } {
  const lots = reader.get(vestingRecord(account)) ?? [];
  const waiting = lots.filter(({ unlockTimeMs }) => unlockTimeMs > timeMs);
  const locked = lockedUnits(waiting);
  return { locked, unlocked: amount(lockedUnits(lots) - locked), lots: waiting };
}

/** The lots of a reward given at a time; their sum is the reward. */
export function lotsOf(units: bigint, timeMs: bigint, vestingMs: number): Lot[] {
  const steps = BigInt(VESTING_STEPS);
  const stepMs = (BigInt(vestingMs) + steps - 1n) / steps;
  const begun = timeMs / stepMs;
  const lots: Lot[] = [];
  for (let step = 0n; step < steps; step++) {
    const part = units / steps + (step < units % steps ? 1n : 0n);
    if (part > 0n) lots.push({ unlockTimeMs: (begun + step + 1n) * stepMs, amount: part });
  }
  return lots;
}

/** Lots of both, of equal times as one; at most {@link MAX_LOTS}, none earlier than it was. */
export function mergedLots(before: readonly Lot[], added: readonly Lot[]): Lot[] {
  const sums = new Map<bigint, bigint>();
  for (const lot of [...before, ...added]) sums.set(lot.unlockTimeMs, (sums.get(lot.unlockTimeMs) ?? 0n) + lot.amount);
  const lots = [...sums]
    .map(([unlockTimeMs, units]) => ({ unlockTimeMs, amount: units }))
    .sort((a, b) => (a.unlockTimeMs < b.unlockTimeMs ? -1 : 1));
  while (lots.length > MAX_LOTS) {
    const [first, second, ...rest] = lots;
    lots.splice(0, lots.length, { ...second, amount: first.amount + second.amount }, ...rest);
  }
  return lots;
}

/** Moves to the balance what has unlocked by `timeMs`. */
export function releaseVested(draft: Draft, account: AccountId, timeMs: bigint): LedgerEvent[] {
  const record = vestingRecord(account);
  const before = draft.get(record);
  if (before === undefined || before.length === 0 || before[0].unlockTimeMs > timeMs) return [];
  const { unlocked, lots } = vestingOf(draft, account, timeMs);
  if (lots.length === 0) draft.delete(record);
  else draft.set(record, lots);
  credit(draft, account, unlocked);
  return [{ type: 'vested', account, amount: unlocked }];
}

/**
 * Takes up to so many locked units from an account, those that unlock last first. The caller keeps the lots.
 */
export function takeLots(draft: Draft, account: AccountId, units: bigint): Lot[] {
  const record = vestingRecord(account);
  const left = [...(draft.get(record) ?? [])];
  const taken: Lot[] = [];
  for (let missing = units; missing > 0n; ) {
    const last = left.pop();
    if (last === undefined) break;
    const part = last.amount < missing ? last.amount : missing;
    if (part < last.amount) left.push({ ...last, amount: last.amount - part });
    taken.unshift({ ...last, amount: part });
    missing -= part;
  }
  if (taken.length === 0) return taken;
  if (left.length === 0) draft.delete(record);
  else draft.set(record, left);
  return taken;
}

/** Gives back lots that {@link takeLots} took; what has unlocked meanwhile waits to move to the balance. */
export function returnLots(draft: Draft, account: AccountId, lots: readonly Lot[]): void {
  if (lots.length === 0) return;
  const record = vestingRecord(account);
  draft.set(record, mergedLots(draft.get(record) ?? [], lots));
}

/** Gives an account a reward that unlocks over `vestingMs`. The caller raises the issuance. */
export function creditReward(
  draft: Draft,
  account: AccountId,
  units: bigint,
  at: { readonly timeMs: bigint; readonly vestingMs: number },
): LedgerEvent[] {
  if (units === 0n) return [];
  if (at.vestingMs === 0) {
    credit(draft, account, units);
    return [];
  }
  const events = releaseVested(draft, account, at.timeMs);
  const record = vestingRecord(account);
  draft.set(record, mergedLots(draft.get(record) ?? [], lotsOf(units, at.timeMs, at.vestingMs)));
  return events;
}
