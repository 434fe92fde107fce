/**
 * Where the tensors of a model lie in its flat parameter vector. `kernels/model` makes layouts; this folder depends on
 * their shape only, so that compression and aggregation work for every architecture.
 */

/** One tensor: `length` fp32 elements from element `offset` on, row-major, `length` = product of `shape`. */
export interface TensorSlot {
  readonly name: string;
  readonly shape: readonly number[];
  /** Elements before this tensor. */
  readonly offset: number;
  /** Elements of this tensor; at most 2^32 - 1. */
  readonly length: number;
}

/** All tensors of a model in canonical order, back to back from offset 0. */
export type TensorLayout = readonly TensorSlot[];

/** Largest tensor: an index within a tensor is an unsigned 32-bit number. */
export const MAX_TENSOR_ELEMENTS = 2 ** 32 - 1;

/** Thrown when a layout has gaps, overlaps, or a length that is not the product of its shape. */
export class InvalidLayoutError extends Error {
  static readonly code = 'ERR_INVALID_LAYOUT';
  readonly code = InvalidLayoutError.code;
  override readonly name = 'InvalidLayoutError';
}

/** Checks a layout and returns its total number of elements. Throws {@link InvalidLayoutError}. */
export function layoutElements(layout: TensorLayout): number {
  let elements = 0;
  for (const slot of layout) {
    const product = slot.shape.reduce((size, dimension) => size * dimension, 1);
    const whole = slot.shape.every((dimension) => Number.isSafeInteger(dimension) && dimension > 0);
    if (!whole || product !== slot.length || product > MAX_TENSOR_ELEMENTS) {
      throw new InvalidLayoutError(`tensor ${slot.name}: shape [${slot.shape}] does not fit length ${slot.length}`);
    }
    if (slot.offset !== elements) {
      throw new InvalidLayoutError(`tensor ${slot.name} starts at ${slot.offset}, expected ${elements}`);
    }
    elements += slot.length;
  }
  return elements;
}

/** Some elements of one tensor. */
export interface SparseTensor {
  /** Index of the tensor in its layout. */
  readonly tensor: number;
  /** Element indices within the tensor, strictly ascending. */
  readonly indices: Uint32Array;
  /** One finite fp32 value per index. */
  readonly values: Float32Array;
}
