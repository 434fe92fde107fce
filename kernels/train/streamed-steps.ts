/** Inner steps of a model whose weights lie on disk. Same results as `inner-steps.ts`, to the bit. */
import { join } from 'node:path';
import { type TensorPart, TensorStore, tensorParts } from '../checkpoint/tensor-store.ts';
import { NonFiniteError, sumOfSquares } from '../engine/engine.ts';
import type { GradientSink, StreamedModel } from '../engine/streamed-model.ts';
import { defaultAdamWOptions } from './adamw.ts';
import { type InnerStepsInit, type InnerStepsOptions, type StepsTaken, takeSteps } from './inner-steps.ts';
import { STEP_ELEMENTS, type StreamedAdamW } from './streamed-adamw.ts';

/** What streamed steps work on. */
export interface StreamedStepsInit extends InnerStepsInit {
  /** The shared weights: read, never written. */
  readonly start: TensorStore;
  /** Makes the engine over the moving weights; it is closed at the end. */
  readonly engine: (weights: TensorStore) => StreamedModel;
  /** For the moving weights and the gradient: twice the size of the model, deleted at the end. */
  readonly folder: string;
}

/**
 * Takes inner steps from a copy of the weights and hands `θ_start − θ_end` to `sink`, a part of a tensor at a time in
 * canonical order. The weights themselves are never touched: whatever happens, they are whole.
 *
 * Throws what engine, optimizer, stores and sink throw, and `NonFiniteError` when a weight leaves float32. The sink gets
 * nothing unless all steps were taken.
 *
 * @param optimizer - its moments change; they may be kept from round to round.
 */
export async function streamedSteps(
  init: StreamedStepsInit,
  optimizer: StreamedAdamW,
  sink: GradientSink,
  options: InnerStepsOptions = {},
): Promise<StepsTaken> {
  const { start, folder } = init;
  const call = { ...(options.signal && { signal: options.signal }) };
  const adamw = { ...defaultAdamWOptions, ...init.adamw };
  await using cleanup = new AsyncDisposableStack();
  const moving = await start.copy(join(folder, 'moving-weights'));
  cleanup.defer(() => moving.close());
  const { presetHash, layout } = start;
  const gradient = await TensorStore.create(join(folder, 'gradient'), { kind: 'gradient', presetHash, layout });
  cleanup.defer(() => gradient.close());
  const engine = init.engine(moving);
  cleanup.defer(() => engine.close());
  const taken = await takeSteps(engine.context, init, options, async (tokens, learningRate) => {
    // The norm that clips is known only when the last part is: all of them wait on disk.
    const result = await engine.gradient(tokens, (part, values) => gradient.write(part, values), call);
    await optimizer.step(moving, gradient, result.gradientNorm, learningRate, adamw, call);
    return result;
  });
  for (const part of layout.flatMap((slot) => tensorParts(slot, STEP_ELEMENTS))) {
    options.signal?.throwIfAborted();
    await sink(part, await difference(start, moving, part));
  }
  return taken;
}

/** `a − b` of a part. Throws `NonFiniteError`. */
async function difference(a: TensorStore, b: TensorStore, part: TensorPart): Promise<Float32Array<ArrayBuffer>> {
  const [result, subtracted] = [new Float32Array(part.length), new Float32Array(part.length)];
  await Promise.all([a.read(part, result), b.read(part, subtracted)]);
  for (let i = 0; i < result.length; i++) result[i] = (result[i] as number) - (subtracted[i] as number);
  if (!Number.isFinite(sumOfSquares(result))) throw new NonFiniteError(part.slot.name);
  return result;
}
