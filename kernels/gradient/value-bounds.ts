/**
 * How large the values of a submission may be, from the network's recipe: part of being well-formed, the same for every
 * validator.
 *
 * AdamW moves a weight by about the learning rate a step at most, so a round's pseudo-gradient stays below learning rate x
 * steps, the *reach*; error feedback that was never sent adds up to 1 / (1 - decay) of that, twenty times at 0.95. Measured
 * (alice-nano, Shakespeare, learning rate 0.003, 16 steps a round, 12 rounds; 64 steps, 4 rounds): single values up to 2.8
 * reaches, root mean squares of a tensor's values up to 2.5. The bounds lie an order of magnitude above that, for other
 * optimizers, and orders below what takes a weight anywhere near the end of float32.
 */
import { TensorNormError, ValueTooLargeError } from './errors.ts';

/** Largest magnitude of one value, in reaches. */
const MAX_REACHES = 32;

/** Largest root mean square of the values that a tensor has, in reaches. */
const MAX_RMS_REACHES = 16;

/**
 * Share of the norm bound up to which an encoder scales values down: quantization to 8 bits may raise a magnitude by half
 * its step, which is at most an octave.
 */
const ENCODED_RMS_SHARE = 0.5;

/** Bounds on the values of each tensor of a submission. */
export interface ValueBounds {
  /** Of one value; a float32, or infinity. */
  readonly maxMagnitude: number;
  /** Of the root of the mean square of the values that are sent of a tensor: its norm over the root of their number. */
  readonly maxRms: number;
}

/** What the bounds depend on. */
export interface ValueRecipe {
  /** Learning rate of inner steps. */
  readonly innerLearningRate: number;
  /** Most inner steps in a round. */
  readonly maxInnerSteps: number;
}

/** Bounds of a network with this recipe. */
export function valueBounds({ innerLearningRate, maxInnerSteps }: ValueRecipe): ValueBounds {
  const reach = innerLearningRate * maxInnerSteps;
  return { maxMagnitude: Math.fround(MAX_REACHES * reach), maxRms: MAX_RMS_REACHES * reach };
}

/** Sum of squares in fp64, in order of index. */
function squaresOf(values: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i] * values[i];
  return squares;
}

function largestOf(values: Float32Array): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]));
  return largest;
}

/**
 * Checks the values of a tensor, in ascending order of index. Exact: squares and their sum in fp64, no root and no
 * division. Throws {@link ValueTooLargeError} and {@link TensorNormError}.
 */
export function requireBounded(values: Float32Array, { maxMagnitude, maxRms }: ValueBounds): void {
  const largest = largestOf(values);
  if (largest > maxMagnitude) {
    throw new ValueTooLargeError(`a value of magnitude ${largest}, at most ${maxMagnitude} allowed`);
  }
  if (squaresOf(values) > maxRms * maxRms * values.length) {
    throw new TensorNormError(`the mean square of ${values.length} values exceeds ${maxRms} squared`);
  }
}

/**
 * What an encoder sends of finite values so that they are within the bounds when decoded: as they are, unless one is too
 * large or all together are; then cut off and scaled down. The rest stays in the error feedback.
 */
export function bounded(values: Float32Array, { maxMagnitude, maxRms }: ValueBounds): Float32Array {
  const room = ENCODED_RMS_SHARE * maxRms;
  const cut = largestOf(values) > maxMagnitude;
  const clipped = cut ? values.map((value) => Math.max(-maxMagnitude, Math.min(maxMagnitude, value))) : values;
  const squares = squaresOf(clipped);
  if (squares <= room * room * clipped.length) return clipped;
  const scale = (room * Math.sqrt(clipped.length)) / Math.sqrt(squares);
  return clipped.map((value) => value * scale);
}
