/** How far a gradient is from a reference, tensor by tensor. */
import type { TensorSlot } from '../../kernels/model/layout.ts';

/** Of one tensor. */
export interface TensorError {
  readonly name: string;
  /** Norm of the difference over the norm of the reference's tensor; NaN where that is zero. */
  readonly error: number;
  /** Norm of the reference's tensor over that of the whole reference. */
  readonly share: number;
}

/** Errors of all tensors in canonical order. Vectors as long as the layout. */
export function tensorErrors(
  layout: readonly TensorSlot[],
  gradient: Float32Array,
  reference: Float32Array,
): TensorError[] {
  const squares = layout.map(({ name, offset, length }) => {
    let difference = 0;
    let norm = 0;
    for (let i = offset; i < offset + length; i++) {
      const expected = reference[i] as number;
      difference += ((gradient[i] as number) - expected) ** 2;
      norm += expected ** 2;
    }
    return { name, difference, norm };
  });
  const whole = squares.reduce((sum, { norm }) => sum + norm, 0);
  return squares.map(({ name, difference, norm }) => ({
    name,
    error: Math.sqrt(difference / norm),
    share: Math.sqrt(norm / whole),
  }));
}

/** The tensor with the largest error, which may be NaN. */
export function worstOf(errors: readonly TensorError[]): TensorError | undefined {
  return errors.reduce<TensorError | undefined>(
    (worst, next) => (worst === undefined || !(next.error <= worst.error) ? next : worst),
    undefined,
  );
}
