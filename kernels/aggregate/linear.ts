/**
 * The kernel of rules whose result is a fixed linear combination of the submissions, `fround(sum_i c_i * v_i)`: terms are
 * multiplied and added in fp64, in ascending order of account, and rounded once.
 *
 * Works block by block, so that the fp64 accumulator stays in the second-level cache whatever the tensor's size.
 */
import type { SparseTensor } from '../gradient/layout.ts';
import type { HotLoops } from '../wasm/hot-loops.ts';
import type { TensorRule } from './rule.ts';

/** Elements of a block: 128 KiB of fp64. */
const BLOCK_ELEMENTS = 16384;

/** An accumulator for one block at a time. */
interface Block {
  /** Adds `coefficient * value` for the elements `from` to `to` of a part; the block starts at element `start`. */
  add(part: SparseTensor, from: number, to: number, coefficient: number, start: number): void;
  /**
   * Rounds the sums of a block of `size` elements, writes those that are not zero to `indices` and `values` from `at` on,
   * and clears them. Returns where it ended.
   */
  take(size: number, start: number, indices: Uint32Array, values: Float32Array, at: number): number;
}

function plainBlock(): Block {
  const sums = new Float64Array(BLOCK_ELEMENTS);
  return {
    add({ indices, values }, from, to, coefficient, start) {
      for (let i = from; i < to; i++) sums[indices[i] - start] += coefficient * values[i];
    },
    take(size, start, indices, values, at) {
      for (let i = 0; i < size; i++) {
        if (sums[i] === 0) continue;
        const value = Math.fround(sums[i]);
        sums[i] = 0;
        if (value === 0) continue;
        indices[at] = start + i;
        values[at] = value;
        at++;
      }
      return at;
    },
  };
}

function wasmBlock(loops: HotLoops): Block {
  const sumsAt = 0;
  const indicesAt = BLOCK_ELEMENTS * 8;
  const valuesAt = indicesAt + BLOCK_ELEMENTS * 4;
  const memory = loops.reserve(valuesAt + BLOCK_ELEMENTS * 4);
  const somewhere = new Uint32Array(memory, indicesAt, BLOCK_ELEMENTS);
  const something = new Float32Array(memory, valuesAt, BLOCK_ELEMENTS);
  new Float64Array(memory, sumsAt, BLOCK_ELEMENTS).fill(0);
  return {
    add({ indices, values }, from, to, coefficient, start) {
      somewhere.set(indices.subarray(from, to));
      something.set(values.subarray(from, to));
      loops.run.scatterAdd(sumsAt, indicesAt, valuesAt, to - from, coefficient, start);
    },
    take(size, start, indices, values, at) {
      const found = loops.run.gather(sumsAt, size, start, indicesAt, valuesAt);
      indices.set(somewhere.subarray(0, found), at);
      values.set(something.subarray(0, found), at);
      return at + found;
    },
  };
}

/** First place from `from` on whose index reaches `end`; a block has at most as many indices as elements. */
function firstReaching(indices: Uint32Array, from: number, end: number): number {
  let low = from;
  let high = Math.min(indices.length, from + BLOCK_ELEMENTS);
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (indices[middle] < end) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Rule for coefficients that belong to the submissions in ascending order of account. In JavaScript unless `loops` is
 * given; the result is the same. JavaScript is the faster one here (`bench -- aggregate`): the work is scattered additions,
 * which SIMD does not help, and WebAssembly pays for copying elements in.
 */
export function linearCombination(coefficients: readonly number[], loops: HotLoops | null = null): TensorRule {
  return (length, parts) => {
    const present: { part: SparseTensor; coefficient: number; at: number }[] = [];
    let entries = 0;
    parts.forEach((part, i) => {
      if (part === undefined || coefficients[i] === 0) return;
      present.push({ part, coefficient: coefficients[i], at: 0 });
      entries += part.indices.length;
    });
    const capacity = Math.min(entries, length);
    const indices = new Uint32Array(capacity);
    const values = new Float32Array(capacity);
    const block = loops === null ? plainBlock() : wasmBlock(loops);
    let found = 0;
    for (let start = 0; start < length; start += BLOCK_ELEMENTS) {
      const end = Math.min(start + BLOCK_ELEMENTS, length);
      let touched = false;
      for (const contribution of present) {
        const { part, coefficient, at } = contribution;
        const to = firstReaching(part.indices, at, end);
        if (to === at) continue;
        touched = true;
        block.add(part, at, to, coefficient, start);
        contribution.at = to;
      }
      if (touched) found = block.take(end - start, start, indices, values, found);
    }
    return { indices: indices.slice(0, found), values: values.slice(0, found) };
  };
}
