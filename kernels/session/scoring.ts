/** How much each submission of a round improves the model on drawn sequences (DESIGN 6.6). */
import { scoringVariant, type Trial } from '../aggregate/apply.ts';
import { clipScale, medianNorm, normOf } from '../aggregate/norm.ts';
import {
  type Engine,
  InvalidTokensError,
  NonFiniteError,
  type VariantLosses,
  type VariantLossesOptions,
} from '../engine/engine.ts';
import type { SparseDelta } from '../engine/sparse-delta.ts';
import type { DecodedUpdate } from '../gradient/agf1.ts';
import type { ScoringOptions } from './model-session.ts';

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

/** The largest gain that is told, for the same reason: of a model whose loss is astronomical. */
export const BEST_GAIN = 100;

/**
 * The largest held-out loss that is told, in nats: that of a model that has no finite one. A uniform guess over any
 * vocabulary in use is below 12.
 */
export const WORST_LOSS = 1e6;

function mean(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** A submission that can be tried. */
export interface Candidate<Variant> {
  /** Its Euclidean norm. */
  readonly norm: number;
  /** What is tried of it; undefined where that takes a value out of float32. */
  variant(trial: Trial): Variant | undefined;
}

/** What candidates are tried on. */
export interface TrialWork {
  /** `[sequences, context + 1]` token ids. */
  readonly tokens: Int32Array;
  /** The first sequences that many are the held-out ones. At least 1. */
  readonly heldOutSequences: number;
  /** Share of an update that is applied. */
  readonly step: number;
  /** See `ScoringWork`. */
  readonly proven?: readonly boolean[] | undefined;
}

/**
 * Loss before minus loss after for each candidate, in fp32. Each is clipped to the median norm of those whose authors are
 * proven, where there are any, else of all (or newcomers, who may be half, could send next to nothing and have everybody
 * clipped to it), and tried at `step`. Has an answer for every model and every candidate, all of them numbers within the bounds above: where the model
 * as it is has no finite loss, nothing can be said of a candidate, and each gets the worst gain.
 *
 * @param candidates - undefined stands for a submission that could not be decoded.
 * @param losses - evaluates the weights as they are and each variant of them
 * Throws {@link InvalidTokensError} and what `losses` throws.
 */
export async function scoreCandidates<Variant>(
  candidates: readonly (Candidate<Variant> | undefined)[],
  { tokens, heldOutSequences, step, proven = [] }: TrialWork,
  context: number,
  losses: (variants: readonly Variant[]) => Promise<VariantLosses>,
): Promise<ScoringOutcome> {
  const sequences = tokens.length / (context + 1);
  if (!Number.isInteger(heldOutSequences) || heldOutSequences < 1 || heldOutSequences > sequences)
    throw new InvalidTokensError(`${heldOutSequences} of ${sequences} sequences cannot be the held-out ones`);
  const isProven = (_: unknown, i: number) => proven[i] === true;
  const measured = [candidates.filter(isProven), candidates].map((some) =>
    some.flatMap((candidate) => (candidate === undefined ? [] : [candidate.norm])),
  );
  const limit = medianNorm(measured.find((norms) => norms.length > 0) ?? []);
  // A step above 1 may take a value out of float32: such an update breaks the model without being tried.
  const variants = candidates.map((candidate) =>
    candidate?.variant({ clipScale: clipScale(candidate.norm, limit), step }),
  );
  const tried = variants.filter((variant) => variant !== undefined);
  const startedMs = performance.now();
  const { base, variants: after } = await losses(tried).catch((error: unknown) => {
    // A weight that is not finite is a fault of this machine; a loss that is not, though all weights are, is the model's.
    if (!(error instanceof NonFiniteError) || error.tensor !== 'losses') throw error;
    return { base: undefined, variants: [] };
  });
  const seconds = (performance.now() - startedMs) / 1000;
  const gainOf = new Map(
    tried.map((variant, i) => {
      const changed = after[i];
      if (base === undefined || changed === undefined) return [variant, WORST_GAIN];
      const gain = mean(base.map((before, sequence) => before - (changed[sequence] ?? 0)));
      return [variant, Math.min(BEST_GAIN, Math.max(WORST_GAIN, gain))];
    }),
  );
  return {
    heldOutLoss: base === undefined ? WORST_LOSS : Math.min(WORST_LOSS, mean(base.subarray(0, heldOutSequences))),
    scores: candidates.map((candidate, i): SubmissionScore => {
      const variant = variants[i];
      if (candidate === undefined) return { kind: 'malformed' };
      return { kind: 'scored', gain: (variant && gainOf.get(variant)) ?? WORST_GAIN };
    }),
    tokensPerSecond: ((1 + tried.length) * sequences * context) / seconds,
  };
}

/**
 * {@link scoreCandidates} for updates in memory. The engine's weights are put back bit for bit, however the call ends.
 *
 * @param updates - undefined stands for a submission that could not be decoded.
 */
export async function scoreUpdates(
  engine: Engine,
  updates: readonly (DecodedUpdate | undefined)[],
  work: TrialWork,
  options: VariantLossesOptions = {},
): Promise<ScoringOutcome> {
  const candidates = updates.map((update): Candidate<SparseDelta> | undefined => {
    if (update === undefined) return undefined;
    return {
      norm: normOf(update),
      variant(trial) {
        const variant = scoringVariant(update, engine.layout, trial);
        return variant.deltas.every(Number.isFinite) ? variant : undefined;
      },
    };
  });
  return await scoreCandidates(candidates, work, engine.context, (variants) =>
    engine.variantLosses(work.tokens, variants, options),
  );
}

/** Options of a session's call as an engine takes them. */
export function variantOptions({ signal, onPart }: ScoringOptions): VariantLossesOptions {
  return {
    ...(signal && { signal }),
    ...(onPart && { onPart: (done: number, parts: number) => onPart({ done, parts }) }),
  };
}
