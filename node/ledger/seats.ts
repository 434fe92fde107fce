/**
 * Module seats, the choice: who may submit in a round, decided when its training phase opens.
 *
 * - There are as many seats as `seatLimit` says. While nobody is proven, newcomers have them all.
 * - Else newcomers have at most `newcomerSeats`, or `newcomerSeatsPpm` of the proven accounts that could sit if that is
 *   more, and never more than half of all; so what strangers make validators score is bounded. Proven accounts have the rest,
 *   those whose last seat is the longest ago first: of n proven accounts and s seats for them, each has one in every
 *   `ceil(n / s)` openings.
 * - Of the newcomers' k seats, half (rounded up) go to those who have waited for longest, the others by lottery to those who
 *   were never seated. With Q newcomers in line before it, a newcomer is seated at the latest at the `ceil((Q + 1) / ceil(k / 2))`th
 *   opening after its registration, whoever registers later; with luck in the lottery long before.
 * - Who is out of turn (`standing.ts`) is left out, unless there is nobody else at all.
 *
 * An account that registers in the block that opens the phase is not among them (`admitArrivals`).
 */
import { type CodecType, Struct, u8 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec } from '../chain/codec.ts';
import { domainHash, type Hash, hashBytes } from '../chain/hash.ts';
import { type Parameters, seatLimit } from '../chain/parameters.ts';
import { compareSeats, FIRST_SLOT } from '../chain/seat.ts';
import type { AccountQueue } from './account-queue.ts';
import { type Draft, flagCodec, listCodec, type StateReader, type StateRecord } from './draft.ts';
import { below, wordStream } from './draw.ts';
import { callBack, leaveLine, NEWCOMERS, PROVEN, standingRecord } from './standing.ts';

const seatRecordCodec = Struct({
  account: accountCodec,
  slot: u8,
  /** It has accepted work in recent rounds: the phases wait for it. */
  proven: flagCodec,
});
/** A seat of the open round. */
export type SeatRecord = Readonly<CodecType<typeof seatRecordCodec>>;

/** Seats of the open round, ascending by account and slot. */
export const SEATS: StateRecord<readonly SeatRecord[]> = { key: 'round/seats', codec: listCodec(seatRecordCodec) };

/** True when the account may submit in the open round. */
export function isSeated(reader: StateReader, account: AccountId): boolean {
  return (reader.get(SEATS) ?? []).some((seat) => seat.account === account);
}

/** Draws made for one seat of the lottery before it goes to who has waited for longest. */
const DRAWS_PER_SEAT = 32;

/** Gives out the seats of an opening, and takes those who have them out of line. */
export function chooseSeats(
  draft: Draft,
  {
    opening,
    beacon,
    trainingShards,
  }: { readonly opening: number; readonly beacon: Hash; readonly trainingShards: number },
  { rounds }: Parameters,
): SeatRecord[] {
  callBack(draft, opening);
  const limit = seatLimit(rounds, trainingShards);
  const proven = Math.min(PROVEN.bounds(draft).length, limit);
  const share = Math.floor((proven * rounds.newcomerSeatsPpm) / 1_000_000);
  const forNewcomers = proven === 0 ? limit : Math.min(Math.floor(limit / 2), Math.max(rounds.newcomerSeats, share));
  const newcomers = takeNewcomers(draft, forNewcomers, beacon);
  const veterans = takeFirst(draft, PROVEN, limit - newcomers.length);
  return [
    ...newcomers.map((account) => ({ account, slot: FIRST_SLOT, proven: false })),
    ...veterans.map((account) => ({ account, slot: FIRST_SLOT, proven: true })),
  ].sort(compareSeats);
}

/** Takes the first `count` accounts out of a line, or as many as there are. */
function takeFirst(draft: Draft, line: AccountQueue, count: number): AccountId[] {
  const taken: AccountId[] = [];
  while (taken.length < count) {
    const account = line.at(draft, line.bounds(draft).first);
    if (account === undefined) break;
    leaveLine(draft, account);
    taken.push(account);
  }
  return taken;
}

function takeNewcomers(draft: Draft, count: number, beacon: Hash): AccountId[] {
  const waited = takeFirst(draft, NEWCOMERS, Math.ceil(count / 2));
  const drawn: AccountId[] = [];
  const next = wordStream(domainHash('alice/seat-lottery/1', hashBytes(beacon)));
  for (let draws = DRAWS_PER_SEAT * (count - waited.length); draws > 0; draws--) {
    const { first, end, length } = NEWCOMERS.bounds(draft);
    if (length === 0 || waited.length + drawn.length === count) break;
    const account = NEWCOMERS.at(draft, first + below(next, end - first));
    if (account === undefined || draft.get(standingRecord(account))?.misses !== 0) continue;
    leaveLine(draft, account);
    drawn.push(account);
  }
  return [...waited, ...drawn, ...takeFirst(draft, NEWCOMERS, count - waited.length - drawn.length)];
}

/** Accounts in an order that the beacon decides, so that who comes back into line together gains nothing by its key. */
export function shuffled<T extends { readonly account: AccountId }>(items: readonly T[], beacon: Hash): T[] {
  const order = new Map(
    items.map((item) => [item, domainHash('alice/seat-order/1', hashBytes(beacon), Buffer.from(item.account, 'hex'))]),
  );
  return [...items].sort((a, b) => ((order.get(a) ?? '') < (order.get(b) ?? '') ? -1 : 1));
}
