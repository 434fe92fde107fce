/** One run of the study: trains a model by a method and says how well it predicts what it never saw, and what that cost. */
import { createHash } from 'node:crypto';
import type { Submission } from '../../kernels/aggregate/rule.ts';
import type { Engine } from '../../kernels/engine/engine.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { decodeUpdate } from '../../kernels/gradient/agf1.ts';
import { compressUpdate } from '../../kernels/gradient/compress.ts';
import type { SparseTensor, TensorLayout } from '../../kernels/gradient/layout.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import type { Preset } from '../../kernels/model/preset.ts';
import { AdamW } from '../../kernels/train/adamw.ts';
import { innerSteps } from '../../kernels/train/inner-steps.ts';
import { randomSource } from '../random.ts';
import type { DataParallel, LocalSteps, Method, Phase } from './method.ts';
import { denseTensors, OuterAdamW, OuterStep } from './outer-step.ts';
import { dealText, heldOutTokens, type StudyText, type WindowStream } from './text.ts';

/** What all runs of a study have in common. */
export interface StudySettings {
  readonly preset: Preset;
  /** Sequences of `preset.context` tokens that a worker takes per step. */
  readonly sequencesPerStep: number;
  /** Tokens that all workers together train on. */
  readonly tokens: number;
  /** Held-out sequences of the last evaluation, and of those on the way. */
  readonly heldOutSequences: { readonly last: number; readonly onTheWay: number };
  /** Evaluations on the way. */
  readonly evaluations: number;
}

/** State of a run at one moment. */
export interface CurvePoint {
  /** Tokens trained on by all workers. */
  readonly tokens: number;
  /** Sent by each worker so far. */
  readonly bytesPerWorker: number;
  /** Mean held-out loss in nats per token. */
  readonly loss: number;
}

/** What a run found. */
export interface RunOutcome {
  /** Tokens trained on by all workers. */
  readonly tokens: number;
  /** Exchanges. */
  readonly rounds: number;
  /** Bytes that each worker sent, on average: AGF1 submissions, or 4 bytes per parameter and exchange when dense. */
  readonly bytesPerWorker: number;
  /** Mean held-out loss at the end, nats per token. */
  readonly loss: number;
  readonly curve: readonly CurvePoint[];
  /** Digest of the final weights: equal runs on equal machines have equal ones. */
  readonly weights: string;
}

/** Thrown for a method that cannot be carried out as written. */
export class InvalidMethodError extends Error {
  static readonly code = 'ERR_INVALID_METHOD';
  readonly code = InvalidMethodError.code;
  override readonly name = 'InvalidMethodError';
}

/** Share of the steps over which the learning rate rises. */
const WARM_UP_SHARE = 0.05;

/** Learning rate at the end over that at the peak. */
const FINAL_RATE_SHARE = 0.1;

const NOBODY = '0'.repeat(64);

/** Factor on the peak learning rate at a step (from 0) of `steps`. */
export function rateShare(step: number, steps: number): number {
  const warmUp = Math.max(1, Math.round(steps * WARM_UP_SHARE));
  if (step < warmUp) return (step + 1) / warmUp;
  const cosine = (1 + Math.cos((Math.PI * (step - warmUp)) / Math.max(1, steps - warmUp))) / 2;
  return FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine;
}

/** Steps of each worker: the same tokens whatever the number of workers. */
function stepsOf(settings: StudySettings, method: Method): number {
  const perStep = method.workers * settings.sequencesPerStep * settings.preset.context;
  return Math.round((settings.tokens * method.tokenShare) / perStep);
}

/** What the parts of one run share. */
interface Run {
  readonly settings: StudySettings;
  readonly seed: number;
  readonly engine: Engine;
  readonly streams: readonly WindowStream[];
  readonly steps: number;
  readonly signal: AbortSignal | undefined;
  /** To be called after every exchange. */
  readonly onExchange: (stepsDone: number, bytesPerWorker: number) => Promise<void>;
}

async function runDataParallel(run: Run, { learningRate }: DataParallel): Promise<void> {
  const { engine, streams, steps, settings, signal } = run;
  const optimizer = new AdamW(engine.layout);
  let bytes = 0;
  for (let step = 0; step < steps; step++) {
    const batches = streams.map((stream) => stream.take(settings.sequencesPerStep));
    const tokens = new Int32Array(batches.length * batches[0].length);
    batches.forEach((batch, i) => {
      tokens.set(batch, i * batch.length);
    });
    const { gradient, gradientNorm } = await engine.lossAndGradient(tokens, { ...(signal && { signal }) });
    optimizer.step(engine.weights, gradient, gradientNorm, learningRate * rateShare(step, steps));
    bytes += 4 * gradient.length;
    await run.onExchange(step + 1, bytes);
  }
}

/** What a worker keeps from round to round. */
interface Worker {
  readonly account: string;
  readonly stream: WindowStream;
  readonly optimizer: AdamW;
  readonly errorFeedback: Float32Array;
}

/** A phase that is under way at a step. Throws {@link InvalidMethodError} when the shares do not add up. */
function phaseAt(phases: readonly Phase[], step: number, steps: number): Phase {
  let end = 0;
  for (const phase of phases) {
    end += phase.share;
    if (step < Math.round(end * steps)) return phase;
  }
  throw new InvalidMethodError(`phases cover ${end} of the steps, not all`);
}

/** What a worker's steps of one round amount to: a pseudo-gradient, or the gradient. */
async function workRound(
  run: Run,
  method: LocalSteps,
  worker: Worker,
  firstStep: number,
  count: number,
): Promise<Float32Array> {
  const { engine, settings, steps, signal } = run;
  const options = { ...(signal && { signal }) };
  const tokens = worker.stream.take(settings.sequencesPerStep * count);
  if (method.submits === 'gradient') return (await engine.lossAndGradient(tokens, options)).gradient.slice();
  const learningRate = Array.from({ length: count }, (_, i) => method.learningRate * rateShare(firstStep + i, steps));
  const init = { tokens, sequencesPerStep: settings.sequencesPerStep, learningRate };
  return (await innerSteps(engine, worker.optimizer, init, options)).pseudoGradient;
}

/** Puts what was sent back into the error feedback. */
function takeBack(errorFeedback: Float32Array, layout: TensorLayout, tensors: readonly SparseTensor[]): void {
  for (const { tensor, indices, values } of tensors) {
    const { offset } = layout[tensor];
    for (let i = 0; i < indices.length; i++) errorFeedback[offset + indices[i]] += values[i];
  }
}

/** Sets the weights to where a worker stands that has not sent all it did. */
function moveOn(weights: Float32Array, shared: Float32Array, errorFeedback: Float32Array, share: number): void {
  for (let i = 0; i < weights.length; i++) weights[i] = shared[i] - share * errorFeedback[i];
}

/** Draws which submissions of a round arrive: all, or half of them, rounded up. */
function drawArrivals(workers: number, half: boolean, random: () => number): boolean[] {
  const arrives = Array<boolean>(workers).fill(true);
  for (let left = half ? Math.floor(workers / 2) : 0; left > 0; ) {
    const worker = Math.floor(random() * workers);
    if (!arrives[worker]) continue;
    arrives[worker] = false;
    left--;
  }
  return arrives;
}

async function runLocalSteps(run: Run, method: LocalSteps): Promise<void> {
  const { engine, steps, seed } = run;
  const { weights } = engine;
  // The published scheme selects over the whole model: one tensor, to the kernels.
  const whole = [{ name: 'model', shape: [weights.length], offset: 0, length: weights.length }];
  const layout: TensorLayout = method.chunking === 'model' ? whole : engine.layout;
  const chunking = method.chunking === 'model' ? 'tensor' : 'tiles';
  const workers: Worker[] = run.streams.map((stream, i) => ({
    account: (i + 1).toString(16).padStart(64, '0'),
    stream,
    optimizer: new AdamW(engine.layout),
    errorFeedback: new Float32Array(weights.length),
  }));
  const outer = new OuterStep(layout, { divideBy: method.divideBy, momentum: method.outerMomentum });
  const { outerAdamBeta2 } = method;
  const outerAdam = outerAdamBeta2 === undefined ? undefined : new OuterAdamW(layout, engine.layout, outerAdamBeta2);
  const random = randomSource(seed * 1000 + 500);
  let bytes = 0;
  for (let step = 0, round = 1; step < steps; round++) {
    const { innerSteps: planned, topK, valueBits, outerStep } = phaseAt(method.phases, step, steps);
    if (method.submits === 'gradient' && planned !== 1)
      throw new InvalidMethodError('a round that submits gradients has one step');
    const count = Math.min(planned, steps - step);
    const arrives = drawArrivals(workers.length, method.halfDropped !== 'no', random);
    const submissions: Submission[] = [];
    const shared = method.ownStart === undefined ? undefined : weights.slice();
    for (const [i, worker] of workers.entries()) {
      const { account, errorFeedback } = worker;
      if (shared !== undefined) moveOn(weights, shared, errorFeedback, method.ownStart ?? 0);
      const delta = await workRound(run, method, worker, step, count);
      if (shared !== undefined) weights.set(shared);
      let tensors: readonly SparseTensor[];
      if (topK === null) {
        tensors = denseTensors(layout, delta);
        bytes += delta.byteLength;
      } else {
        const header = { round, author: account, modelRoot: NOBODY, presetHash: NOBODY };
        const options = { topK, valueBits, decay: method.decay, chunking } as const;
        const encoded = compressUpdate({ layout, delta, errorFeedback, options, header });
        const limits = { maxBytes: encoded.length, maxEntries: weights.length };
        tensors = decodeUpdate(encoded, { layout, limits }).tensors;
        bytes += encoded.length;
      }
      if (arrives[i]) submissions.push({ account, weight: 1n, update: { tensors } });
      else if (method.halfDropped === 'returned') takeBack(errorFeedback, layout, tensors);
    }
    const scheduledRate = method.learningRate * rateShare(step, steps);
    const scheduled = method.submits === 'gradient' ? outerStep * rateShare(step, steps) : outerStep;
    if (outerAdam !== undefined) outerAdam.take(weights, submissions, scheduledRate);
    else outer.take(weights, submissions, scheduled);
    step += count;
    await run.onExchange(step, bytes / workers.length);
  }
}

/** Mean loss over sequences. */
async function meanLoss(engine: Engine, tokens: Int32Array, signal?: AbortSignal): Promise<number> {
  const losses = await engine.losses(tokens, { ...(signal && { signal }) });
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

/**
 * Carries out one run on one thread. The same arguments give the same outcome on the same machine. Throws
 * {@link InvalidMethodError}, TextTooShortError, and what the kernels throw when training diverges.
 */
export async function trainOnce(
  text: StudyText,
  settings: StudySettings,
  method: Method,
  seed: number,
  { signal, onPoint }: { signal?: AbortSignal; onPoint?: (point: CurvePoint) => void } = {},
): Promise<RunOutcome> {
  const { preset, sequencesPerStep, heldOutSequences, evaluations } = settings;
  const { context } = preset;
  const steps = stepsOf(settings, method);
  const engine = createEngine({ preset, threads: 1, batch: sequencesPerStep });
  try {
    engine.loadWeights(initialWeights(preset, createHash('sha256').update(`density/${seed}`).digest()));
    const onTheWay = heldOutTokens(text, context, heldOutSequences.onTheWay);
    const curve: CurvePoint[] = [];
    const streams = dealText(text, { context, workers: method.workers, parts: method.parts, seed });
    const tokensTaken = () => streams.reduce((sum, stream) => sum + stream.tokensTaken, 0);
    let rounds = 0;
    let bytesPerWorker = 0;
    const onExchange = async (stepsDone: number, bytes: number): Promise<void> => {
      rounds++;
      bytesPerWorker = bytes;
      const due = Math.floor((stepsDone * evaluations) / steps);
      if (due <= curve.length || stepsDone === steps) return;
      const point = { tokens: tokensTaken(), bytesPerWorker, loss: await meanLoss(engine, onTheWay, signal) };
      // A long round may pass several places: the curve has one point there.
      while (curve.length < due - 1) curve.push(point);
      curve.push(point);
      onPoint?.(point);
    };
    const run: Run = { settings, seed, engine, streams, steps, signal, onExchange };
    if (method.kind === 'data-parallel') await runDataParallel(run, method);
    else await runLocalSteps(run, method);
    const loss = await meanLoss(engine, heldOutTokens(text, context, heldOutSequences.last), signal);
    const last = { tokens: tokensTaken(), bytesPerWorker, loss };
    onPoint?.(last);
    const { buffer } = engine.weights;
    const digest = createHash('sha256').update(new Uint8Array(buffer)).digest('hex').slice(0, 16);
    return { ...last, rounds, curve: [...new Set([...curve, last])], weights: digest };
  } finally {
    await engine.close();
  }
}
