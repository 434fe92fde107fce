/**
 * The work of a registration: hashes that take a mebibyte of memory each (scrypt, N = 1024, r = 8, p = 1), over network,
 * challenge, account and a number that is tried. A claim of `w` holds when the first eight bytes of the hash, as a number,
 * are at most `(2^64 - 1) / w`: finding one takes `w` tries on average, checking it one.
 *
 * One hash takes about 2 ms of one core here; `npm run bench -- registration` measures. It runs in the thread pool of the
 * runtime, never on the event loop. Memory bounds what graphics cards gain: a mebibyte for each hash in flight is read and
 * written through, so that bandwidth decides, of which they have ten to thirty times as much as a desktop, not thousands.
 */
import { scrypt } from 'node:crypto';
import { u64 } from 'scale-ts';
import { type AccountId, accountPublicKey } from '../chain/account.ts';
import { type Hash, hashBytes } from '../chain/hash.ts';
import type { RegistrationWork } from '../chain/registration-work.ts';

const DOMAIN = new TextEncoder().encode('alice/registration-work/1');
const LARGEST = 2n ** 64n - 1n;

/** Rounds and block size of scrypt: 128 * N * r bytes are a mebibyte. */
const COST = { N: 1024, r: 8, p: 1, maxmem: 4 * 1024 * 1024 };

/** Work that the hash of a solution proves, at most: `LARGEST` for the smallest hash. */
export function provenWork(
  networkId: Uint8Array,
  account: AccountId,
  challenge: Hash,
  solution: bigint,
): Promise<bigint> {
  const salt = Buffer.concat([DOMAIN, networkId, hashBytes(challenge), accountPublicKey(account)]);
  return new Promise((resolve, reject) => {
    scrypt(u64.enc(solution), salt, 8, COST, (error, hash) => {
      if (error !== null) reject(error);
      else resolve(LARGEST / (hash.readBigUInt64BE(0) + 1n));
    });
  });
}

/** True when a claim holds. One hash; none for a claim of nothing. */
export async function workHolds(
  networkId: Uint8Array,
  account: AccountId,
  { challenge, solution, work }: RegistrationWork,
): Promise<boolean> {
  return work === 0n || (await provenWork(networkId, account, challenge, solution)) >= work;
}
