/** Losses of a model and of sparse variations of it, with the weights put back bit for bit. */
import { type Engine, NonFiniteError } from '../engine/engine.ts';

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

/** Result of {@link evaluateVariants}: mean loss of each sequence, nats. */
export interface VariantLosses {
  readonly base: Float64Array<ArrayBuffer>;
  /** In the order of the variants; undefined where the changed model has no finite loss. */
  readonly variants: readonly (Float64Array<ArrayBuffer> | undefined)[];
}

function checkDelta({ indices, deltas }: SparseDelta, parameters: number): void {
  if (indices.length !== deltas.length)
    throw new InvalidDeltaError(`${indices.length} indices with ${deltas.length} deltas`);
  for (const index of indices)
    if (index >= parameters) throw new InvalidDeltaError(`index ${index} in a model of ${parameters} parameters`);
  if (!deltas.every(Number.isFinite)) throw new InvalidDeltaError('a delta is NaN or infinite');
}

/**
 * Runs `body` with a change applied and puts the touched weights back, bit for bit, whatever happens.
 * Throws {@link InvalidDeltaError} before anything is touched.
 */
export async function withDelta<T>(weights: Float32Array, delta: SparseDelta, body: () => Promise<T>): Promise<T> {
  checkDelta(delta, weights.length);
  const { indices, deltas } = delta;
  const saved = new Float32Array(indices.length);
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i] as number;
    saved[i] = weights[index] as number;
    weights[index] = (weights[index] as number) + (deltas[i] as number);
  }
  try {
    return await body();
  } finally {
    // Backwards: a repeated index gets its first, original value last.
    for (let i = indices.length - 1; i >= 0; i--) weights[indices[i] as number] = saved[i] as number;
  }
}

/**
 * Evaluates the engine's weights and each variant on the same tokens. A variant that breaks the model has no losses; a
 * base model that is broken throws what the engine throws. All deltas are checked before the first run.
 */
export async function evaluateVariants(
  engine: Engine,
  tokens: Int32Array,
  variants: readonly SparseDelta[],
  options: {
    readonly signal?: AbortSignal;
    /** Called after the base (with 0) and after each variant (counted from 1). */
    readonly onVariant?: (done: number) => void;
  } = {},
): Promise<VariantLosses> {
  const { signal, onVariant } = options;
  const call = { ...(signal && { signal }) };
  for (const delta of variants) checkDelta(delta, engine.weights.length);
  const base = await engine.losses(tokens, call);
  onVariant?.(0);
  const losses: (Float64Array<ArrayBuffer> | undefined)[] = [];
  for (const [index, delta] of variants.entries()) {
    signal?.throwIfAborted();
    losses.push(
      await withDelta(engine.weights, delta, async () => {
        try {
          return await engine.losses(tokens, call);
        } catch (error) {
          if (error instanceof NonFiniteError) return undefined;
          throw error;
        }
      }),
    );
    onVariant?.(index + 1);
  }
  return { base, variants: losses };
}
