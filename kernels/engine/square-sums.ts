/** Norm of a gradient that arrives in parts, equal to the bit to `checkedNorm` over all of it. */
import type { TensorSlot } from '../model/layout.ts';
import { NonFiniteError } from './engine.ts';

/** Sums of squares by tensor. Parts of a tensor come in order; all but its last have a multiple of 4 elements. */
export class SquareSums {
  /** Four chains of additions by tensor, as in `sumOfSquares`. */
  readonly #chains = new Map<string, [number, number, number, number]>();

  /** Adds a part. Throws {@link NonFiniteError} when it holds a NaN or an infinity. */
  add({ name }: TensorSlot, values: Float32Array): void {
    let [a, b, c, d] = this.#chains.get(name) ?? [0, 0, 0, 0];
    const whole = values.length - (values.length % 4);
    for (let i = 0; i < whole; i += 4) {
      const w = values[i] as number;
      const x = values[i + 1] as number;
      const y = values[i + 2] as number;
      const z = values[i + 3] as number;
      a += w * w;
      b += x * x;
      c += y * y;
      d += z * z;
    }
    for (let i = whole; i < values.length; i++) a += (values[i] as number) ** 2;
    if (!Number.isFinite(a + b + c + d)) throw new NonFiniteError(name);
    this.#chains.set(name, [a, b, c, d]);
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
