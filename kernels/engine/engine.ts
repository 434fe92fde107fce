/** What training and scoring need of a device: the loss of token sequences, and its gradient. */
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { WeightUpdate } from '../train/adamw.ts';
import type { SparseDelta } from './sparse-delta.ts';

/** Options of everything that takes long. */
export interface EngineCallOptions {
  /** Looked at between passes over the model; the call then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Result of {@link Engine.lossAndGradient}. */
export interface LossAndGradient {
  /** Mean cross-entropy over all predicted tokens, nats. */
  readonly loss: number;
  /**
   * Gradient of `loss` in canonical order. The engine's own buffer: valid until the next call, and the caller may write
   * into it.
   */
  readonly gradient: Float32Array<ArrayBuffer>;
  /** Euclidean norm of `gradient`. */
  readonly gradientNorm: number;
}

/** Options of {@link Engine.variantLosses}. */
export interface VariantLossesOptions extends EngineCallOptions {
  /** Called after each layer and each head, with how many are done and will be. */
  readonly onPart?: (done: number, parts: number) => void;
  /**
   * Most bytes of activations side by side; where that is too little for all variants of all sequences, the layers are
   * gone through several times. Default 1 GiB.
   */
  readonly maxBytes?: number;
}

/** Result of {@link Engine.variantLosses}: mean loss of each sequence, nats. */
export interface VariantLosses {
  readonly base: Float64Array<ArrayBuffer>;
  /** In the order of the variants; undefined where the changed model has no finite loss. */
  readonly variants: readonly (Float64Array<ArrayBuffer> | undefined)[];
}

/**
 * A model on a device. One call at a time: a second one while the first runs throws {@link EngineBusyError}.
 *
 * Token arguments are `sequences x (context + 1)` ids, a sequence after the other: position i is the input that predicts
 * position i + 1. Any number of sequences is accepted. Calls throw {@link InvalidTokensError} for a bad count or an id
 * outside of the vocabulary, and {@link NonFiniteError} when a result is NaN or infinite.
 */
export interface Engine {
  readonly preset: Preset;
  /** Tokens predicted per sequence; at most the preset's context. */
  readonly context: number;
  /** Canonical tensor order: `tensorLayout(preset)`. */
  readonly layout: readonly TensorSlot[];
  /**
   * The parameters in canonical order, read at every call. Callers may change them in place between calls; that is how
   * an optimizer steps and how a candidate update is tried and taken back.
   */
  readonly weights: Float32Array<ArrayBuffer>;
  /** AdamW's step by the engine's own threads, for `new AdamW(layout, update)`, where there is a faster one than the default. */
  readonly updateWeights?: WeightUpdate;
  /** Copies parameters in. Throws {@link WeightsLengthError} for another model's. */
  loadWeights(weights: Float32Array): void;
  /**
   * Mean loss over all sequences and its gradient. In fp16, throws GradientOverflowError (loss-scale.ts) for a step that
   * is to be skipped.
   */
  lossAndGradient(tokens: Int32Array, options?: EngineCallOptions): Promise<LossAndGradient>;
  /** Mean loss of each sequence, nats. */
  losses(tokens: Int32Array, options?: EngineCallOptions): Promise<Float64Array<ArrayBuffer>>;
  /**
   * Mean loss of each sequence, for the weights as they are and for each change of them, in one pass over the layers. To
   * the bit what {@link losses} gives where `memory` is `blocks` and each change is made by itself. The weights are as
   * before when it ends, however it does. Throws {@link InvalidDeltaError} before anything is computed, and as `losses`
   * for the weights as they are; a change that breaks the model has no losses.
   */
  variantLosses(
    tokens: Int32Array,
    variants: readonly SparseDelta[],
    options?: VariantLossesOptions,
  ): Promise<VariantLosses>;
  /** Frees the device. Further calls throw {@link EngineClosedError}. */
  close(): Promise<void>;
}

/** Thrown when token ids do not fit the model. */
export class InvalidTokensError extends Error {
  static readonly code = 'ERR_INVALID_TOKENS';
  readonly code = InvalidTokensError.code;
  override readonly name = 'InvalidTokensError';
}

/** Thrown when parameters of the wrong length are loaded. */
export class WeightsLengthError extends Error {
  static readonly code = 'ERR_WEIGHTS_LENGTH';
  readonly code = WeightsLengthError.code;
  override readonly name = 'WeightsLengthError';
}

/** Thrown when a loss, a gradient or a weight is NaN or infinite. */
export class NonFiniteError extends Error {
  static readonly code = 'ERR_NON_FINITE';
  readonly code = NonFiniteError.code;
  override readonly name = 'NonFiniteError';
  /** The tensor, or 'losses'. */
  readonly tensor: string;

  constructor(tensor: string) {
    super(`NaN or infinity in ${tensor}`);
    this.tensor = tensor;
  }
}

/** Thrown when a call overlaps another. */
export class EngineBusyError extends Error {
  static readonly code = 'ERR_ENGINE_BUSY';
  readonly code = EngineBusyError.code;
  override readonly name = 'EngineBusyError';
}

/** Thrown by calls after `close()`. */
export class EngineClosedError extends Error {
  static readonly code = 'ERR_ENGINE_CLOSED';
  readonly code = EngineClosedError.code;
  override readonly name = 'EngineClosedError';
}

/** Four chains of additions that make up a sum of squares: they keep the processor busy. */
export type SquareChains = readonly [number, number, number, number];

/** Adds the squares of a vector's elements to chains, element i to chain i modulo 4; those left over at the end to the first. */
export function addSquares(chains: SquareChains, values: Float32Array): SquareChains {
  let [a, b, c, d] = chains;
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
  return [a, b, c, d];
}

/** Sum of squares of a vector, or NaN/infinity if it holds one. */
export function sumOfSquares(values: Float32Array): number {
  const [a, b, c, d] = addSquares([0, 0, 0, 0], values);
  return a + b + c + d;
}

/**
 * Euclidean norm of a vector in canonical order. Throws {@link NonFiniteError} with the name of the first tensor that
 * holds a NaN or an infinity. (float64 holds the square of every finite float32.)
 *
 * @param squares - sum of the squares of a tensor's values
 */
export function checkedNorm(
  layout: readonly TensorSlot[],
  values: Float32Array,
  squares: (values: Float32Array) => number = sumOfSquares,
): number {
  let sum = 0;
  for (const slot of layout) {
    const part = squares(values.subarray(slot.offset, slot.offset + slot.length));
    if (!Number.isFinite(part)) throw new NonFiniteError(slot.name);
    sum += part;
  }
  return Math.sqrt(sum);
}

/** What to throw for a loss that is not finite: it names the weight that spoils it, or the losses when all are finite. */
export function nonFiniteLoss({ layout, weights }: Pick<Engine, 'layout' | 'weights'>): NonFiniteError {
  try {
    checkedNorm(layout, weights);
  } catch (error) {
    if (error instanceof NonFiniteError) return error;
    throw error;
  }
  return new NonFiniteError('losses');
}

/** {@link Engine.loadWeights}. */
export function takeWeights({ preset, weights }: Pick<Engine, 'preset' | 'weights'>, given: Float32Array): void {
  if (given.length !== weights.length)
    throw new WeightsLengthError(`${preset.name} has ${weights.length} parameters, not ${given.length}`);
  weights.set(given);
}
