/** A course of learning: batches in an order that the seed decides, a schedule, losses along the way. */
import { initialWeights } from '../../kernels/model/initialize.ts';
import type { Preset } from '../../kernels/model/preset.ts';
import { warmupCosineRate } from '../../kernels/train/learning-rate.ts';
import { randomSource } from '../random.ts';
import type { Learner } from './learner.ts';
import { batchOf, type LearningText } from './text.ts';

/** Learning rate at its top, the share of steps that lead up to it, and what is left of it at the end. */
const PEAK_RATE = 1e-3;
const WARM_UP_SHARE = 0.1;
const FINAL_SHARE = 0.1;

/** How long and on what a learner learns. */
export interface Course {
  readonly text: LearningText;
  readonly steps: number;
  /** Sequences per step. */
  readonly batch: number;
  readonly context: number;
  /** Points of the curve behind the first: every so many steps, and the last. */
  readonly evaluations: number;
}

/** Held-out loss after a number of steps, nats. */
export interface CurvePoint {
  readonly step: number;
  readonly loss: number;
}

/** Weights that a seed stands for. */
export function seededWeights(preset: Preset, seed: number): Float32Array {
  return initialWeights(preset, new Uint8Array(32).fill(seed));
}

/** Takes all steps. The seed decides the batches; for the weights see {@link seededWeights}. */
export async function learn(
  course: Course,
  learner: Pick<Learner, 'step' | 'meanLoss'>,
  seed: number,
  signal: AbortSignal,
): Promise<CurvePoint[]> {
  const { text, steps, evaluations } = course;
  const random = randomSource(seed);
  const schedule = {
    peak: PEAK_RATE,
    warmupSteps: Math.max(1, Math.round(steps * WARM_UP_SHARE)),
    totalSteps: steps,
    floor: PEAK_RATE * FINAL_SHARE,
  };
  const every = Math.ceil(steps / Math.max(1, evaluations));
  const points: CurvePoint[] = [];
  const evaluate = async (step: number) => {
    if (evaluations > 0) points.push({ step, loss: await learner.meanLoss(text.heldOut) });
  };
  await evaluate(0);
  for (let step = 0; step < steps; step++) {
    signal.throwIfAborted();
    await learner.step(batchOf(text, course, random), warmupCosineRate(schedule, step));
    if ((step + 1) % every === 0 || step + 1 === steps) await evaluate(step + 1);
  }
  return points;
}
