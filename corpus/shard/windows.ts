/**
 * Training and scoring windows, drawn from shards by a seed: everyone with the seed draws the same.
 */
import { createHash } from 'node:crypto';
import { InvalidCorpusOptionError } from '../errors.ts';
import type { Shard } from './shard.ts';

/** Bytes of a seed. */
export const SEED_BYTES = 32;

/** Most tokens that one call returns (256 MiB of int32): far above any batch, below what could hurt. */
const MAX_SAMPLE_TOKENS = 1 << 26;

/** What to draw. */
export interface WindowSample {
  /** {@link SEED_BYTES} bytes; equal seeds draw equal windows. */
  readonly seed: Uint8Array;
  /** Number of windows. */
  readonly count: number;
  /** Context of the model: a window has one token more, so that every position has a next token. */
  readonly context: number;
}

/**
 * Draws `count` windows, each uniformly and independently from all windows of `context + 1` consecutive tokens that lie
 * within one shard (so windows may overlap or repeat, and shards count by their length). Depends on the shards, their
 * order and the sample only. Returns int32 token ids, row-major [count, context + 1]. Throws
 * {@link InvalidCorpusOptionError} when the seed is not 32 bytes, a number is out of range, the vocabularies differ, or
 * no shard is long enough.
 */
export function sampleWindows(shards: readonly Shard[], sample: WindowSample): Int32Array {
  const { seed, count, context } = sample;
  if (seed.length !== SEED_BYTES) {
    throw new InvalidCorpusOptionError(`a sampling seed has ${SEED_BYTES} bytes, got ${seed.length}`);
  }
  const width = context + 1;
  if (!Number.isInteger(context) || context < 1) throw new InvalidCorpusOptionError(`context ${context} is below 1`);
  if (!Number.isInteger(count) || count < 1 || count * width > MAX_SAMPLE_TOKENS) {
    throw new InvalidCorpusOptionError(`cannot draw ${count} windows of ${width} tokens at once`);
  }
  if (shards.some((shard) => shard.vocabulary !== shards[0].vocabulary)) {
    throw new InvalidCorpusOptionError('shards of different vocabularies cannot be sampled together');
  }
  // Window starts over all shards are numbered through; ends[i] is the first number after shard i.
  const ends: number[] = [];
  let starts = 0;
  for (const { tokens } of shards) {
    starts += Math.max(0, tokens.length - context);
    ends.push(starts);
  }
  if (starts === 0) {
    throw new InvalidCorpusOptionError(`no shard has ${width} tokens; use longer shards or a shorter context`);
  }

  const windows = new Int32Array(count * width);
  const draw = uniformIntegers(seed, starts);
  for (let row = 0; row < count; row++) {
    const drawn = draw();
    const index = firstAbove(ends, drawn);
    const start = drawn - (index === 0 ? 0 : ends[index - 1]);
    windows.set(shards[index].tokens.subarray(start, start + width), row * width);
  }
  return windows;
}

/** Bytes of one drawn number: 48 bits are exact in a double and make rejection rare. */
const DRAW_BYTES = 6;
const DRAW_RANGE = 2 ** 48;

/**
 * Uniform integers in [0, bound), bound < 2^48: SHA-256 of purpose, seed and a counter, cut into 48-bit numbers; those
 * in the last, incomplete multiple of the bound are skipped, so that no integer is likelier than another.
 */
function uniformIntegers(seed: Uint8Array, bound: number): () => number {
  const limit = DRAW_RANGE - (DRAW_RANGE % bound);
  const counter = Buffer.alloc(4);
  let block = Buffer.alloc(0);
  let offset = 0;
  let blocks = 0;
  return () => {
    for (;;) {
      if (offset + DRAW_BYTES > block.length) {
        counter.writeUInt32LE(blocks++);
        block = createHash('sha256').update('alice/sample-windows/1').update(seed).update(counter).digest();
        offset = 0;
      }
      const value = block.readUIntLE(offset, DRAW_BYTES);
      offset += DRAW_BYTES;
      if (value < limit) return value % bound;
    }
  };
}

/** Index of the first element above `value` in an ascending list; the last element is above it. */
function firstAbove(ascending: readonly number[], value: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}
