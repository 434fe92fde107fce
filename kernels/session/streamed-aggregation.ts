/** The outer step on weights on disk: a tensor at a time, into a copy that becomes the weights when it is whole. */
import { setImmediate } from 'node:timers/promises';
import { applyUpdate } from '../aggregate/apply.ts';
import { normOf } from '../aggregate/norm.ts';
import { aggregateTensors } from '../aggregate/rule.ts';
import { weightedMean } from '../aggregate/weighted-mean.ts';
import type { TensorPart, TensorStore } from '../checkpoint/tensor-store.ts';
import type { EngineCallOptions } from '../engine/engine.ts';
import type { UpdateReader } from '../gradient/agf1.ts';
import type { SparseTensor } from '../gradient/layout.ts';
import type { AcceptedSubmission, RoundIdentity } from './model-session.ts';

type Floats = Float32Array<ArrayBuffer>;

/** What an aggregation works on. */
export interface StreamedAggregation<Submission> {
  /** Stays as it is. */
  readonly weights: TensorStore;
  readonly round: RoundIdentity;
  readonly submissions: readonly Submission[];
  /** Checks the beginning of a submission; throws a MalformedUpdateError. */
  readonly open: (submission: Submission) => UpdateReader;
  readonly outerStep: number;
  /** The parts in which tensors are read and written. */
  readonly parts: readonly TensorPart[];
  /** Where the new weights go. */
  readonly path: () => string;
}

/**
 * The weights after the accepted submissions, weighted by score, as a sealed store; undefined where they change nothing.
 * Throws, with nothing left behind, what `aggregateTensors` and the store throw, a MalformedUpdateError, the
 * signal's reason.
 */
export async function aggregateStored<Submission extends Pick<AcceptedSubmission, 'account' | 'weight'>>(
  { weights, round, submissions, open, outerStep, parts, path }: StreamedAggregation<Submission>,
  options: EngineCallOptions = {},
): Promise<TensorStore | undefined> {
  const norms = new Map<string, number>();
  const updates: Parameters<typeof aggregateTensors>[2][number][] = [];
  for (const submission of submissions) {
    const { account, weight } = submission;
    const update = open(submission);
    // Decodes all of it: what is malformed is found before anything is copied.
    norms.set(account, normOf(update));
    updates.push({ account, weight, update });
    // An abort comes as a message to this thread.
    await setImmediate();
    options.signal?.throwIfAborted();
  }
  const memory = new Float32Array(parts.reduce((most, { length }) => Math.max(most, length), 0));
  let next: TensorStore | undefined;
  try {
    for (const tensor of aggregateTensors(weightedMean({ norms }), weights.layout, updates)) {
      options.signal?.throwIfAborted();
      next ??= await weights.copy(path());
      await apply(next, tensor, outerStep, parts, memory);
    }
    await next?.seal(round.round, options);
    return next;
  } catch (error) {
    await next?.close();
    throw error;
  }
}

/** Takes the outer step of one tensor, in memory for the longest part. */
async function apply(
  store: TensorStore,
  { tensor, indices, values }: SparseTensor,
  outerStep: number,
  parts: readonly TensorPart[],
  memory: Floats,
): Promise<void> {
  const slot = store.layout[tensor];
  if (slot === undefined) throw new RangeError(`no tensor ${tensor}`);
  let from = 0;
  for (const part of parts) {
    if (part.slot.name !== slot.name) continue;
    const end = part.start + part.length;
    let to = from;
    while (to < indices.length && (indices[to] as number) < end) to++;
    if (to === from) continue;
    const weights = memory.subarray(0, part.length);
    await store.read(part, weights);
    const own = indices.subarray(from, to).map((index) => index - part.start);
    const update = { tensors: [{ tensor: 0, indices: own, values: values.subarray(from, to) }] };
    applyUpdate(weights, [{ ...slot, offset: 0 }], update, outerStep);
    await store.write(part, weights);
    from = to;
  }
}
