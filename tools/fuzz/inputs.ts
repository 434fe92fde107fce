/**
 * Inputs for a target: mutated real ones and random ones. Input i of a seed is always the same, whatever came before it.
 */
import type { FuzzTarget } from './target.ts';

/** Values that sit at the edges of fields. */
const EDGES = [0, 1, 2, 3, 8, 24, 25, 31, 32, 63, 64, 127, 128, 192, 252, 253, 254, 255];

/** The same for fields of four bytes. */
const WIDE_EDGES = [0, 1, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/** Longest random input. */
const MAX_RANDOM_BYTES = 600;

/** Numbers in [0, 1) from 32 bits of state: mulberry32. */
function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A well-mixed 32-bit state for input `index` of `seed` (the finalizer of MurmurHash3). */
function stateOf(seed: number, index: number): number {
  let mixed = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(index, 0x85ebca77)) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16) ^ index) >>> 0;
}

/** `bytes` with `count` bytes from `at` on replaced by `insert`. */
function spliced(bytes: Uint8Array, at: number, count: number, insert: Uint8Array): Uint8Array {
  const end = Math.min(bytes.length, at + count);
  const out = new Uint8Array(bytes.length - (end - at) + insert.length);
  out.set(bytes.subarray(0, at));
  out.set(insert, at);
  out.set(bytes.subarray(end), at + insert.length);
  return out;
}

/** One change of some bytes. `others` lend parts of themselves. */
function mutateOnce(
  bytes: Uint8Array,
  random: () => number,
  headBytes: number,
  others: readonly Uint8Array[],
): Uint8Array {
  const pick = (bound: number) => Math.floor(random() * bound);
  const at = pick(random() < 0.5 ? Math.min(bytes.length, headBytes) : bytes.length);
  switch (pick(10)) {
    case 0:
      bytes[at] ^= 1 << pick(8);
      return bytes;
    case 1:
      bytes[at] = EDGES[pick(EDGES.length)];
      return bytes;
    case 2:
      bytes[at] = pick(256);
      return bytes;
    case 3:
      bytes[at] += random() < 0.5 ? 1 : -1;
      return bytes;
    case 4: {
      const value = WIDE_EDGES[pick(WIDE_EDGES.length)];
      for (let i = 0; i < 4 && at + i < bytes.length; i++) bytes[at + i] = value >>> (8 * i);
      return bytes;
    }
    case 5:
      return bytes.fill(random() < 0.5 ? 0 : 0xff, at, Math.min(bytes.length, at + pick(17)));
    case 6:
      return bytes.slice(0, at);
    case 7:
      return spliced(bytes, at, 1 + pick(8), new Uint8Array(0));
    case 8:
      return spliced(
        bytes,
        at,
        0,
        Uint8Array.from({ length: 1 + pick(8) }, () => pick(256)),
      );
    default: {
      const other = others[pick(others.length)];
      const from = pick(other.length + 1);
      return spliced(bytes, at, pick(33), other.subarray(from, from + pick(65)));
    }
  }
}

/** Makes the inputs of a target. */
export class InputSource {
  readonly #target: Pick<FuzzTarget, 'headBytes'>;
  readonly #seeds: readonly Uint8Array[];
  readonly #seed: number;

  constructor(target: FuzzTarget, seed: number) {
    this.#target = target;
    // Plain arrays: Buffers share memory where these copy.
    this.#seeds = target.seeds().map((bytes) => Uint8Array.from(bytes));
    this.#seed = seed;
  }

  /** Input number `index`, a new array. A tenth is random, a tenth random behind a real head, the rest mutated. */
  input(index: number): Uint8Array {
    const random = randomSource(stateOf(this.#seed, index));
    const real = this.#seeds[Math.floor(random() * this.#seeds.length)];
    const kind = random();
    if (kind < 0.2) {
      const kept = kind < 0.1 ? 0 : Math.min(this.#target.headBytes, real.length);
      const length = kept + Math.floor(random() ** 2 * MAX_RANDOM_BYTES);
      const bytes = Uint8Array.from({ length }, () => random() * 256);
      bytes.set(real.subarray(0, kept));
      return bytes;
    }
    let bytes: Uint8Array = real.slice();
    for (let changes = 1 + Math.floor(random() * 4); changes > 0 && bytes.length > 0; changes--) {
      bytes = mutateOnce(bytes, random, this.#target.headBytes, this.#seeds);
    }
    return bytes;
  }
}
