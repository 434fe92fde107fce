/** How much each submission of a round improves the model on drawn sequences (DESIGN 6.6). */
import { scoringVariant } from '../aggregate/apply.ts';
import { clipScale, medianNorm, normOf } from '../aggregate/norm.ts';
import { type Engine, type EngineCallOptions, InvalidTokensError } from '../engine/engine.ts';
import type { DecodedUpdate } from '../gradient/agf1.ts';

/** What a validator says of a submission: what it gained in nats, or that it is none. */
export type SubmissionScore = { readonly kind: 'scored'; readonly gain: number } | { readonly kind: 'malformed' };

/** Result of scoring a round. */
export interface ScoringOutcome {
  /** Loss of the weights as they are on the held-out sequences, nats. */
  readonly heldOutLoss: number;
  /** In the order of the submissions. */
  readonly scores: readonly SubmissionScore[];
  /** Evaluated tokens per second, over all variants. */
  readonly tokensPerSecond: number;
}

/**
 * The lowest gain that is told, in nats: that of an update after which the model has no finite loss. Anything below is
 * raised to it, since a loss may be as large as a float32 and scores travel as 64-bit integers of nano-nats.
 */
export const WORST_GAIN = -100;

function mean(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Loss before minus loss after for each update, in fp32. Each is clipped to the median norm of those given and tried at
 * `step`. The engine's weights are put back bit for bit, however the call ends.
 *
 * @param updates - undefined stands for a submission that could not be decoded.
 * @param work - `tokens` is `[sequences, context + 1]`; the first `heldOutSequences` of them are the held-out ones.
 * Throws {@link InvalidTokensError} and what the engine throws for the weights as they are.
 */
export async function scoreUpdates(
  engine: Engine,
  updates: readonly (DecodedUpdate | undefined)[],
  work: { readonly tokens: Int32Array; readonly heldOutSequences: number; readonly step: number },
  options: EngineCallOptions = {},
): Promise<ScoringOutcome> {
  const { tokens, heldOutSequences, step } = work;
  const sequences = tokens.length / (engine.context + 1);
  if (!Number.isInteger(heldOutSequences) || heldOutSequences < 1 || heldOutSequences > sequences)
    throw new InvalidTokensError(`${heldOutSequences} of ${sequences} sequences cannot be the held-out ones`);
  const limit = medianNorm(updates.filter((update) => update !== undefined).map(normOf));
  // A step above 1 may take a value out of float32: such an update breaks the model without being tried.
  const variants = updates.map((update) => {
    if (update === undefined) return undefined;
    const variant = scoringVariant(update, engine.layout, { clipScale: clipScale(normOf(update), limit), step });
    return variant.deltas.every(Number.isFinite) ? variant : undefined;
  });
  const tried = variants.filter((variant) => variant !== undefined);
  const startedMs = performance.now();
  const losses = await engine.variantLosses(tokens, tried, options);
  const seconds = (performance.now() - startedMs) / 1000;
  const gainOf = new Map(
    tried.map((variant, i) => {
      const after = losses.variants[i];
      const gain = after && mean(losses.base.map((before, sequence) => before - (after[sequence] ?? 0)));
      return [variant, Math.max(WORST_GAIN, gain ?? WORST_GAIN)];
    }),
  );
  return {
    heldOutLoss: mean(losses.base.subarray(0, heldOutSequences)),
    scores: updates.map((update, i): SubmissionScore => {
      const variant = variants[i];
      if (update === undefined) return { kind: 'malformed' };
      return { kind: 'scored', gain: (variant && gainOf.get(variant)) ?? WORST_GAIN };
    }),
    tokensPerSecond: ((1 + tried.length) * sequences * engine.context) / seconds,
  };
}
