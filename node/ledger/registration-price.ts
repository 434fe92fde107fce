/**
 * Module registry, the price: what a registration costs while newcomers have no ALICE. It is paid in work, an expected
 * number of hashes (`registration/work.ts`) over the account and a recent challenge.
 *
 * - *Challenge.* Every `challengeMs` the block's beacon becomes the challenge; work is good for it and the one before, so
 *   nothing can be worked for more than twice that ahead.
 * - *Price.* `baseWork` when it is quiet. Each registration adds one to a pressure that leaks by `perHour` an hour; the price
 *   doubles with each `doubling` of pressure, in straight lines between, and is the same for all of a block. So a steady
 *   `perHour` registrations an hour are all that stays cheap, and a burst of n more costs about
 *   `baseWork * doubling / ln 2 * 2^(n / doubling)` in all.
 * - *Cap.* `maxPerBlock` in a block.
 *
 * That the claimed work was done is checked by the caller, as signatures are; here it is compared with the price.
 */
import { type CodecType, Struct, u32, u64 } from 'scale-ts';
import { hashCodec } from '../chain/codec.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { Call } from '../chain/transaction.ts';
import { type Draft, listCodec, need, type StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';

const HOUR_MS = 3_600_000n;

/** Pressure of one registration: parts, so that little of it can leak in a millisecond. */
const ONE = 1_000_000_000n;

/** The price is doubled at most this often: beyond, nobody could tell the difference. */
const MAX_DOUBLINGS = 40n;

/** Challenges for which work is good. */
const CHALLENGES = 2;

const challengeCodec = Struct({ beacon: hashCodec, sinceMs: u64 });

const registrationCodec = Struct({
  /** The challenges that work may be for, the newest first. */
  challenges: listCodec<Readonly<CodecType<typeof challengeCodec>>>(challengeCodec),
  /** Recent registrations, times 10^9, as of `updatedMs`. */
  pressure: u64,
  updatedMs: u64,
  /** Registrations of the block being executed; 0 between blocks. */
  inBlock: u32,
});
/** What a registration costs and is worked for. */
export type RegistrationRecord = Readonly<CodecType<typeof registrationCodec>>;

/** Where it is. */
export const REGISTRATION: StateRecord<RegistrationRecord> = { key: 'registration', codec: registrationCodec };

/** The record of genesis. */
export function firstRegistration(beacon: Hash, timeMs: bigint): RegistrationRecord {
  return { challenges: [{ beacon, sinceMs: timeMs }], pressure: 0n, updatedMs: timeMs, inBlock: 0 };
}

/** Pressure at a time, of one that leaks `perHour` registrations an hour. */
export function pressureAt(
  { pressure, updatedMs }: Pick<RegistrationRecord, 'pressure' | 'updatedMs'>,
  timeMs: bigint,
  perHour: number,
): bigint {
  const leaked = timeMs <= updatedMs ? 0n : ((timeMs - updatedMs) * BigInt(perHour) * ONE) / HOUR_MS;
  return pressure > leaked ? pressure - leaked : 0n;
}

/** Hashes that a registration in a block of that time has to be worth; 0 where registrations are free. */
export function registrationPrice(
  record: RegistrationRecord,
  timeMs: bigint,
  { baseWork, perHour, doubling }: Parameters['registration'],
): bigint {
  return priceUnder(pressureAt(record, timeMs, perHour), baseWork, doubling);
}

/** What costs `base` when it is quiet, under a pressure. */
export function priceUnder(pressure: bigint, base: number, doubling: number): bigint {
  const step = BigInt(doubling) * ONE;
  const doublings = pressure / step;
  if (doublings >= MAX_DOUBLINGS) return BigInt(base) << MAX_DOUBLINGS;
  const floor = BigInt(base) << doublings;
  return floor + (floor * (pressure % step)) / step;
}

/** Takes the price of a registration. Throws {@link CallRefusedError}. */
export function payWork(
  draft: Draft,
  { challenge, work }: Extract<Call, { tag: 'registerMiner' }>['value'],
  at: { readonly timeMs: bigint },
  { registration }: Parameters,
): void {
  const record = need(draft, REGISTRATION);
  if (record.inBlock >= registration.maxPerBlock) throw new CallRefusedError('ERR_TOO_MANY_REGISTRATIONS');
  const price = registrationPrice(record, at.timeMs, registration);
  if (price > 0n) {
    if (!record.challenges.some(({ beacon }) => beacon === challenge)) throw new CallRefusedError('ERR_OLD_CHALLENGE');
    if (work < price) throw new CallRefusedError('ERR_TOO_LITTLE_WORK');
  }
  draft.set(REGISTRATION, { ...record, inBlock: record.inBlock + 1 });
}

/** At the end of a block: its registrations count, and the challenge changes when it is time. */
export function advanceRegistration(
  draft: Draft,
  at: { readonly timeMs: bigint; readonly beacon: Hash },
  { registration }: Parameters,
): void {
  const record = need(draft, REGISTRATION);
  const { challenges, inBlock } = record;
  const isOver = at.timeMs >= (challenges[0]?.sinceMs ?? 0n) + BigInt(registration.challengeMs);
  if (!isOver && inBlock === 0) return;
  const newest = { beacon: at.beacon, sinceMs: at.timeMs };
  draft.set(REGISTRATION, {
    challenges: isOver ? [newest, ...challenges].slice(0, CHALLENGES) : challenges,
    pressure: raised(pressureAt(record, at.timeMs, registration.perHour), inBlock),
    updatedMs: at.timeMs,
    inBlock: 0,
  });
}

/** Far more than the price can express; keeps the record within its bounds. */
const MAX_PRESSURE = ONE * 1_000_000_000n;

/** A pressure after so many more registrations. */
export function raised(pressure: bigint, registrations: number): bigint {
  const sum = pressure + BigInt(registrations) * ONE;
  return sum < MAX_PRESSURE ? sum : MAX_PRESSURE;
}
