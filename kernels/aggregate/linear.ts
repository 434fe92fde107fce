/**
 * The kernel of rules whose result is a fixed linear combination of the submissions, `fround(sum_i c_i * v_i)`: terms are
 * multiplied and added in fp64, in ascending order of account, and rounded once.
 *
 * Works block by block, so that the fp64 accumulator stays in the second-level cache whatever the tensor's size.
 */
import type { SparseTensor } from '../gradient/layout.ts';
import type { TensorRule } from './rule.ts';

/** Elements of a block: 128 KiB of fp64. */
const BLOCK_ELEMENTS = 16384;

/** Rule for coefficients that belong to the submissions in ascending order of account. */
export function linearCombination(coefficients: readonly number[]): TensorRule {
  const sums = new Float64Array(BLOCK_ELEMENTS);
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
    let found = 0;
    for (let start = 0; start < length; start += BLOCK_ELEMENTS) {
      const end = Math.min(start + BLOCK_ELEMENTS, length);
      let touched = false;
      for (const contribution of present) {
        const { part, coefficient } = contribution;
        const { indices: from, values: terms } = part;
        let at = contribution.at;
        if (at < from.length && from[at] < end) touched = true;
        for (; at < from.length && from[at] < end; at++) sums[from[at] - start] += coefficient * terms[at];
        contribution.at = at;
      }
      if (!touched) continue;
      const size = end - start;
      for (let i = 0; i < size; i++) {
        if (sums[i] === 0) continue;
        const value = Math.fround(sums[i]);
        sums[i] = 0;
        if (value === 0) continue;
        indices[found] = start + i;
        values[found] = value;
        found++;
      }
    }
    return { indices: indices.slice(0, found), values: values.slice(0, found) };
  };
}
