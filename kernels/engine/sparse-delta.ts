/** Sparse changes of a model's weights: checked, sorted by tensor, made and taken back bit for bit. */
import type { TensorSlot } from '../model/layout.ts';

/** A change of some weights: `weights[indices[i]] += deltas[i]`, in float32, in that order. */
export interface SparseDelta {
  /** Flat indices into the canonical vector; repeats add up. */
  readonly indices: Uint32Array;
  readonly deltas: Float32Array;
}

/** Thrown when a delta does not fit the model. */
export class InvalidDeltaError extends Error {
  static readonly code = 'ERR_INVALID_DELTA';
  readonly code = InvalidDeltaError.code;
  override readonly name = 'InvalidDeltaError';
}

/** Throws {@link InvalidDeltaError} for a change that a model of so many parameters cannot take. */
export function checkDelta({ indices, deltas }: SparseDelta, parameters: number): void {
  if (indices.length !== deltas.length)
    throw new InvalidDeltaError(`${indices.length} indices with ${deltas.length} deltas`);
  // Plain loops: there are millions.
  let largest = 0;
  let spoilt = 0;
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i] as number;
    const delta = deltas[i] as number;
    if (index > largest) largest = index;
    // 0 for finite numbers, NaN for others; NaN stays.
    spoilt += delta - delta;
  }
  if (indices.length > 0 && largest >= parameters)
    throw new InvalidDeltaError(`index ${largest} in a model of ${parameters} parameters`);
  if (spoilt !== 0) throw new InvalidDeltaError('a delta is NaN or infinite');
}

/** The part of a change that falls on one tensor, ascending. */
export interface TensorDelta extends SparseDelta {
  /** The weight from which the indices count: 0, or the tensor's first. */
  readonly origin: number;
}

/** A change by the names of tensors; undefined for those that it leaves alone. A part may be made anew each time. */
export interface DeltaByTensor {
  get(name: string): TensorDelta | undefined;
}

/**
 * Sorts a checked change by tensor; within a tensor the order stays. A change in ascending order, as submissions are, is
 * cut without being copied.
 */
export function splitDelta(delta: SparseDelta, layout: readonly TensorSlot[]): DeltaByTensor {
  const { indices, deltas } = ascending(delta);
  const byTensor = new Map<string, TensorDelta>();
  let start = 0;
  for (const { name, offset, length } of layout) {
    let end = start;
    while (end < indices.length && (indices[end] as number) < offset + length) end++;
    if (end > start)
      byTensor.set(name, { indices: indices.subarray(start, end), deltas: deltas.subarray(start, end), origin: 0 });
    start = end;
  }
  return byTensor;
}

/** A change in ascending order: itself if it is, else a copy in which repeats keep their order. */
export function ascending(delta: SparseDelta): SparseDelta {
  return isAscending(delta.indices) ? delta : sorted(delta);
}

/** The part of an ascending change that falls on weights [first, end), not copied. */
export function deltaBetween({ indices, deltas }: SparseDelta, first: number, end: number): SparseDelta {
  const [from, to] = [countBelow(indices, first), countBelow(indices, end)];
  return { indices: indices.subarray(from, to), deltas: deltas.subarray(from, to) };
}

/** How many ascending indices are below a bound. */
function countBelow(indices: Uint32Array, bound: number): number {
  let [low, high] = [0, indices.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((indices[middle] as number) < bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isAscending(indices: Uint32Array): boolean {
  for (let i = 1; i < indices.length; i++) if ((indices[i - 1] as number) > (indices[i] as number)) return false;
  return true;
}

/** A copy in ascending order; repeats keep theirs, in which float32 additions must happen. */
function sorted({ indices, deltas }: SparseDelta): SparseDelta {
  const order = Uint32Array.from(indices.keys()).sort(
    (a, b) => (indices[a] as number) - (indices[b] as number) || a - b,
  );
  return {
    indices: Uint32Array.from(order, (at) => indices[at] as number),
    deltas: Float32Array.from(order, (at) => deltas[at] as number),
  };
}

/** Adds a change to memory whose first element is weight number `offset`. Returns what takes it back, bit for bit. */
export function applyDelta(memory: Float32Array, { indices, deltas }: SparseDelta, offset: number): () => void {
  const saved = new Float32Array(indices.length);
  for (let i = 0; i < indices.length; i++) {
    const at = (indices[i] as number) - offset;
    saved[i] = memory[at] as number;
    memory[at] = (memory[at] as number) + (deltas[i] as number);
  }
  return () => {
    // Backwards: a repeated index gets its first, original value last.
    for (let i = indices.length - 1; i >= 0; i--) memory[(indices[i] as number) - offset] = saved[i] as number;
  };
}
