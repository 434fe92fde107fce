/** Norm of a gradient that arrives in parts, equal to the bit to `checkedNorm` over all of it. */
import type { TensorSlot } from '../model/layout.ts';
import { addSquares, NonFiniteError, type SquareChains } from './engine.ts';

/** Sums of squares by tensor. Parts of a tensor come in order; all but its last have a multiple of 4 elements. */
export class SquareSums {
  /** By tensor. */
  readonly #chains = new Map<string, SquareChains>();

  /** Adds a part. Throws {@link NonFiniteError} when it holds a NaN or an infinity. */
  add({ name }: TensorSlot, values: Float32Array): void {
    const chains = addSquares(this.#chains.get(name) ?? [0, 0, 0, 0], values);
    if (!Number.isFinite(chains[0] + chains[1] + chains[2] + chains[3])) throw new NonFiniteError(name);
    this.#chains.set(name, chains);
  }

  /** Euclidean norm over all tensors of a layout; those without parts are zero. */
  norm(layout: readonly TensorSlot[]): number {
    let sum = 0;
    for (const { name } of layout) {
      const [a, b, c, d] = this.#chains.get(name) ?? [0, 0, 0, 0];
      sum += a + b + c + d;
    }
    return Math.sqrt(sum);
  }
}
