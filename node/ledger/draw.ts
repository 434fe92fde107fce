/**
 * Draws from the beacon: which shards a seat is given to train on, and on what a validator scores. Pure functions that every peer
 * computes alike.
 */
import { u32 } from 'scale-ts';
import { type AccountId, accountPublicKey } from '../chain/account.ts';
import { domainHash, type Hash, hashBytes } from '../chain/hash.ts';
import { type Seat, seatBytes } from '../chain/seat.ts';

/** Unbiased integers from a seed: SHA-256 in counter mode, eight 32-bit words a block. */
export function wordStream(seed: Hash): () => number {
  const seedBytes = hashBytes(seed);
  let counter = 0;
  let block: Buffer = Buffer.alloc(0);
  return () => {
    if (block.length === 0) {
      block = Buffer.from(domainHash('alice/draw-block/1', seedBytes, u32.enc(counter)), 'hex');
      counter += 1;
    }
    const word = block.readUInt32LE(0);
    block = block.subarray(4);
    return word;
  };
}

/** Next number in `[0, bound)`, by rejection, so that every number is equally likely. `bound` is 1 to 2^32. */
export function below(next: () => number, bound: number): number {
  const limit = 2 ** 32 - (2 ** 32 % bound);
  let word = next();
  while (word >= limit) word = next();
  return word % bound;
}

/**
 * Training shards of a seat for the round that opened with `beacon`: `shardsPerMiner` different indices in
 * `[0, trainingShards)`, in random order (a miner that stops early has still seen a fair sample), or all of them, in
 * random order, when there are fewer.
 */
export function assignedShards(beacon: Hash, seat: Seat, trainingShards: number, shardsPerMiner: number): number[] {
  const next = wordStream(domainHash('alice/shard-draw/1', hashBytes(beacon), seatBytes(seat)));
  const count = Math.min(trainingShards, shardsPerMiner);
  // Fisher-Yates over the virtual array 0..n-1, of which only the moved entries are held.
  const moved = new Map<number, number>();
  const drawn: number[] = [];
  for (let index = 0; index < count; index++) {
    const other = index + below(next, trainingShards - index);
    drawn.push(moved.get(other) ?? other);
    moved.set(other, moved.get(index) ?? index);
  }
  return drawn;
}

/** Training shards, ascending, that the beacon gave to none of the seats. */
export function unassignedShards(
  beacon: Hash,
  seats: readonly Seat[],
  trainingShards: number,
  shardsPerMiner: number,
): number[] {
  const taken = new Uint8Array(trainingShards);
  for (const seat of seats) {
    for (const shard of assignedShards(beacon, seat, trainingShards, shardsPerMiner)) taken[shard] = 1;
  }
  const free: number[] = [];
  for (let shard = 0; shard < trainingShards; shard++) if (taken[shard] === 0) free.push(shard);
  return free;
}

/** One sequence to score on. `offsetSeed` is a 32-bit number that the reader reduces to a position in the shard. */
export interface ScoringSequence {
  readonly source: 'heldOut' | 'training';
  /** Index within the shards of that source. */
  readonly shard: number;
  readonly offsetSeed: number;
}

/**
 * What one validator scores a round's submissions on: half of `sequences` (rounded up) from the held-out shards, the
 * rest from training shards that no seat was given; held-out only where every shard was given (a tiny corpus). Every submission of the
 * round is scored on the same sequences, so that their scores compare. `drawBeacon` becomes known after all reveals.
 */
export function scoringDraw(
  drawBeacon: Hash,
  validator: AccountId,
  pool: { readonly heldOutShards: number; readonly unassigned: readonly number[]; readonly sequences: number },
): ScoringSequence[] {
  const next = wordStream(domainHash('alice/scoring-draw/1', hashBytes(drawBeacon), accountPublicKey(validator)));
  const fromHeldOut = pool.unassigned.length === 0 ? pool.sequences : Math.ceil(pool.sequences / 2);
  return Array.from({ length: pool.sequences }, (_, index) => {
    const source = index < fromHeldOut ? 'heldOut' : 'training';
    const shard =
      source === 'heldOut' ? below(next, pool.heldOutShards) : pool.unassigned[below(next, pool.unassigned.length)];
    return { source, shard, offsetSeed: next() };
  });
}
