/**
 * What a registration costs whom: the hash that is its price against plain SHA-256, what a check costs a node, and what a
 * person and a flood pay under the parameters of a network, from the price that the ledger asks.
 */
import { createHash } from 'node:crypto';
import type { AccountId } from '../node/chain/account.ts';
import type { Hash } from '../node/chain/hash.ts';
import { firstRegistration, type RegistrationRecord, registrationPrice } from '../node/ledger/registration-price.ts';
import { provenWork } from '../node/registration/work.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';

export const describe = 'hashes that a registration takes, what one costs, and what a person and a flood pay';

/** What we would found a public network with. */
const PUBLIC = {
  baseWork: 2048,
  bond: 0,
  perHour: 60,
  doubling: 16,
  maxPerBlock: 4,
  challengeMs: 600_000,
  expiryMs: 259_200_000,
};

const HASHES = 400;
const DAY_S = 86_400;

/** Hashes that `count` registrations take one after the other, beginning when it is quiet, `everyMs` apart. */
function burst(count: number, everyMs: number): number {
  const zero = '00'.repeat(32) as Hash;
  let record: RegistrationRecord = firstRegistration(zero, 0n);
  let hashes = 0n;
  for (let index = 0; index < count; index++) {
    const timeMs = BigInt(index * everyMs);
    hashes += registrationPrice(record, timeMs, PUBLIC);
    const leaked = (timeMs - record.updatedMs) * BigInt(PUBLIC.perHour) * 1_000_000_000n;
    const left = record.pressure - leaked / 3_600_000n;
    record = { ...record, pressure: (left > 0n ? left : 0n) + 1_000_000_000n, updatedMs: timeMs };
  }
  return Number(hashes);
}

/** Measures. */
export async function run({ signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  progress(`${HASHES} hashes`);
  const networkId = new Uint8Array(8);
  const account = '11'.repeat(32) as AccountId;
  const challenge = '22'.repeat(32) as Hash;
  const started = performance.now();
  for (let index = 0; index < HASHES; index++) {
    signal.throwIfAborted();
    await provenWork(networkId, account, challenge, BigInt(index));
  }
  const hashMs = (performance.now() - started) / HASHES;
  const plain = performance.now();
  for (let index = 0; index < 100_000; index++) createHash('sha256').update(`${index}`).digest();
  const sha256Us = ((performance.now() - plain) / 100_000) * 1000;
  const seconds = (hashes: number) => (hashes * hashMs) / 1000;
  return {
    figures: {
      hash_ms: hashMs,
      sha256_us: sha256Us,
      quiet_s: seconds(PUBLIC.baseWork),
      burst_16_s: seconds(burst(16, 0)),
      burst_64_hours: seconds(burst(64, 0)) / 3600,
      burst_200_machine_days: seconds(burst(200, 0)) / DAY_S,
      two_minutes_of_200_machine_days: seconds(burst(400, 300)) / DAY_S,
      steady_60_an_hour_s_each: seconds(burst(600, 60_000)) / 600,
    },
    notes: [
      `parameters: ${JSON.stringify(PUBLIC)}`,
      'machine-days of one core like this one; a card with thirty times its memory bandwidth takes a thirtieth',
      'two_minutes_of_200: 400 keys at 200 a minute; what comes after is dearer still',
    ],
  };
}
