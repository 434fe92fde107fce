/**
 * Norms and products of updates, deterministic: fp64, terms added in ascending order of (tensor, index).
 * `Math.sqrt` and division are correctly rounded IEEE operations in every engine in use.
 */
import type { UpdateElements } from './rule.ts';

/** Euclidean norm of an update. Finite for finite fp32 elements, as their squares stay far below the fp64 range. */
export function normOf(update: UpdateElements): number {
  let squares = 0;
  for (const { values } of update.tensors) {
    for (let i = 0; i < values.length; i++) squares += values[i] * values[i];
  }
  return Math.sqrt(squares);
}

/** Inner product of two updates. */
export function innerProduct(a: UpdateElements, b: UpdateElements): number {
  let sum = 0;
  const others = b.tensors[Symbol.iterator]();
  let other = others.next();
  for (const mine of a.tensors) {
    while (!other.done && other.value.tensor < mine.tensor) other = others.next();
    if (other.done) break;
    if (other.value.tensor !== mine.tensor) continue;
    const theirs = other.value;
    const { indices: left, values: leftValues } = mine;
    const { indices: right, values: rightValues } = theirs;
    for (let i = 0, j = 0; i < left.length && j < right.length; ) {
      if (left[i] < right[j]) i++;
      else if (left[i] > right[j]) j++;
      else sum += leftValues[i++] * rightValues[j++];
    }
  }
  return sum;
}

/**
 * The median of norms: the middle one, or the lower of the two middle ones, so that it is always the norm of some
 * submission and an even split errs to the small side. 0 for none.
 */
export function medianNorm(norms: readonly number[]): number {
  if (norms.length === 0) return 0;
  return Float64Array.from(norms).sort()[(norms.length - 1) >>> 1];
}

/** Factor, at most 1, that brings a norm down to the limit. 1 for a norm of zero. */
export function clipScale(norm: number, limit: number): number {
  return norm <= limit ? 1 : limit / norm;
}
