/**
 * The inner loop of a training round: some AdamW steps away from the shared weights, and what they amount to.
 * `streamed-steps.ts` is the same for weights on disk.
 */
import { performance } from 'node:perf_hooks';
import { checkedNorm, type Engine, InvalidTokensError } from '../engine/engine.ts';
import { GradientOverflowError } from '../engine/loss-scale.ts';
import { type AdamW, type AdamWOptions, defaultAdamWOptions } from './adamw.ts';

/** What an inner loop works on. */
export interface InnerStepsInit {
  /** Token ids of all steps: `steps x sequencesPerStep x (context + 1)`. */
  readonly tokens: Int32Array;
  /** Sequences whose mean gradient makes one step. */
  readonly sequencesPerStep: number;
  /** Learning rate of every step, or of each; the last one holds for steps beyond the list. */
  readonly learningRate: number | readonly number[];
  /** Constants of the optimizer that differ from {@link defaultAdamWOptions}. */
  readonly adamw?: Partial<AdamWOptions>;
  /** The loop ends after the step during which this time runs out. Default: no limit. */
  readonly timeLimitMs?: number;
  /** Steps that are taken even when the time has run out. Default 1. */
  readonly minSteps?: number;
}

/** Report after each step. */
export interface InnerStepProgress {
  /** Steps done. */
  readonly step: number;
  /** Steps that the tokens allow. */
  readonly steps: number;
  /** Mean loss of the step's sequences before it, nats. */
  readonly loss: number;
  readonly gradientNorm: number;
  /** Predicted tokens per second since the loop began. */
  readonly tokensPerSecond: number;
}

/** What the steps came to. */
export interface StepsTaken {
  /** Loss before each step that was taken, nats. Steps that fp16 skipped have none. */
  readonly losses: Float64Array<ArrayBuffer>;
  readonly tokensPerSecond: number;
  readonly milliseconds: number;
}

/** Result of {@link innerSteps}. */
export interface InnerStepsResult extends StepsTaken {
  /** `θ_start − θ_end` in canonical order: what the round's outer step subtracts. */
  readonly pseudoGradient: Float32Array<ArrayBuffer>;
}

/** How a loop is stopped and reports. */
export interface InnerStepsOptions {
  readonly signal?: AbortSignal;
  readonly onStep?: (progress: InnerStepProgress) => void;
}

/** Learning rate of a step (from 0). */
function rateAt(rate: number | readonly number[], step: number): number {
  return typeof rate === 'number' ? rate : (rate[Math.min(step, rate.length - 1)] ?? 0);
}

/**
 * The loop itself, wherever the weights are: calls `take` for each step until tokens or time run out.
 * Throws {@link InvalidTokensError}, and what `take` throws.
 *
 * @param take - one step from these tokens at this learning rate; undefined for a step that was skipped
 */
export async function takeSteps(
  context: number,
  init: InnerStepsInit,
  { onStep }: InnerStepsOptions,
  take: (
    tokens: Int32Array,
    learningRate: number,
  ) => Promise<{ readonly loss: number; readonly gradientNorm: number } | undefined>,
): Promise<StepsTaken> {
  const perStep = init.sequencesPerStep * (context + 1);
  const steps = init.tokens.length / perStep;
  if (!Number.isInteger(steps) || steps < 1)
    throw new InvalidTokensError(`${init.tokens.length} tokens are not steps of ${perStep}`);
  const losses: number[] = [];
  const began = performance.now();
  const tokensPerSecond = () => (1000 * losses.length * init.sequencesPerStep * context) / (performance.now() - began);
  for (let step = 0; step < steps; step++) {
    const spent = performance.now() - began;
    if (init.timeLimitMs !== undefined && losses.length >= (init.minSteps ?? 1) && spent >= init.timeLimitMs) break;
    const tokens = init.tokens.subarray(step * perStep, (step + 1) * perStep);
    const result = await take(tokens, rateAt(init.learningRate, step));
    if (result === undefined) continue;
    const { loss, gradientNorm } = result;
    losses.push(loss);
    onStep?.({ step: step + 1, steps, loss, gradientNorm, tokensPerSecond: tokensPerSecond() });
  }
  return {
    losses: Float64Array.from(losses),
    tokensPerSecond: tokensPerSecond(),
    milliseconds: performance.now() - began,
  };
}

/**
 * Takes inner steps from the engine's weights and puts those back, bit for bit, also when it fails or is aborted.
 * Throws what the engine throws, and `NonFiniteError` when a weight leaves float32.
 *
 * @param optimizer - its moments change; they may be kept from round to round.
 */
export async function innerSteps(
  engine: Engine,
  optimizer: AdamW,
  init: InnerStepsInit,
  options: InnerStepsOptions = {},
): Promise<InnerStepsResult> {
  const { signal } = options;
  const { weights } = engine;
  const adamw = { ...defaultAdamWOptions, ...init.adamw };
  const start = weights.slice();
  try {
    const taken = await takeSteps(engine.context, init, options, async (tokens, learningRate) => {
      try {
        const { loss, gradient, gradientNorm } = await engine.lossAndGradient(tokens, { ...(signal && { signal }) });
        optimizer.step(weights, gradient, gradientNorm, learningRate, adamw);
        return { loss, gradientNorm };
      } catch (error) {
        // The loss scale of fp16 was too large for this step, and has been halved.
        if (error instanceof GradientOverflowError) return undefined;
        throw error;
      }
    });
    // Exact zeros where nothing moved; the one rounding to float32 is the only one.
    const pseudoGradient = new Float32Array(weights.length);
    for (let i = 0; i < pseudoGradient.length; i++) pseudoGradient[i] = (start[i] as number) - (weights[i] as number);
    checkedNorm(engine.layout, pseudoGradient);
    return { pseudoGradient, ...taken };
  } finally {
    weights.set(start);
  }
}
