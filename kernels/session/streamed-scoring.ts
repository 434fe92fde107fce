/** Scoring with the weights on disk: submissions are decoded a layer at a time, when the layer is there to be changed. */
import { setImmediate } from 'node:timers/promises';
import { type Trial, trialDeltas } from '../aggregate/apply.ts';
import { normOf } from '../aggregate/norm.ts';
import type { VariantLossesOptions } from '../engine/engine.ts';
import type { DeltaByTensor, TensorDelta } from '../engine/sparse-delta.ts';
import type { StoredScorer } from '../engine/streamed-scorer.ts';
import type { UpdateReader } from '../gradient/agf1.ts';
import { MalformedUpdateError } from '../gradient/errors.ts';
import type { SparseTensor, TensorLayout } from '../gradient/layout.ts';
import { type Candidate, type ScoringOutcome, scoreCandidates, type TrialWork } from './scoring.ts';

/** A submission as a change of the weights, made anew for each tensor that is asked for. */
class EncodedDelta implements DeltaByTensor {
  readonly #update: UpdateReader;
  /** Numbers of the tensors, by name. */
  readonly #tensors: ReadonlyMap<string, number>;
  readonly #layout: TensorLayout;
  readonly #trial: Trial;

  constructor(update: UpdateReader, tensors: ReadonlyMap<string, number>, layout: TensorLayout, trial: Trial) {
    this.#update = update;
    this.#tensors = tensors;
    this.#layout = layout;
    this.#trial = trial;
  }

  get(name: string): TensorDelta | undefined {
    const tensor = this.#tensors.get(name);
    const slot = tensor === undefined ? undefined : this.#layout[tensor];
    const part = tensor === undefined ? undefined : this.#update.tensor(tensor);
    if (slot === undefined || part === undefined) return undefined;
    return { indices: part.indices, deltas: trialDeltas(part.values, this.#trial), origin: slot.offset };
  }
}

/** What is known of an update that was decoded to the end, a tensor at a time. Throws a MalformedUpdateError. */
function measure(update: UpdateReader): { readonly norm: number; readonly largest: number } {
  let largest = 0;
  function* watched(): Generator<SparseTensor> {
    for (const tensor of update.tensors) {
      for (const value of tensor.values) largest = Math.max(largest, Math.abs(value));
      yield tensor;
    }
  }
  const norm = normOf({ tensors: { [Symbol.iterator]: watched } });
  return { norm, largest };
}

/**
 * `scoreUpdates` for submissions as they came.
 *
 * @param open - checks the beginning of a submission; throws a MalformedUpdateError
 */
export async function scoreEncoded<Submission>(
  scorer: StoredScorer,
  layout: TensorLayout,
  submissions: readonly Submission[],
  open: (submission: Submission) => UpdateReader,
  work: TrialWork,
  options: VariantLossesOptions = {},
): Promise<ScoringOutcome> {
  const tensors = new Map(layout.map(({ name }, tensor) => [name, tensor]));
  const candidates: (Candidate<DeltaByTensor> | undefined)[] = [];
  for (const submission of submissions) {
    candidates.push(candidateOf(submission));
    // An abort comes as a message to this thread.
    await setImmediate();
    options.signal?.throwIfAborted();
  }
  return await scoreCandidates(candidates, work, scorer.context, (variants) =>
    scorer.variantLosses(work.tokens, variants, options),
  );

  function candidateOf(submission: Submission): Candidate<DeltaByTensor> | undefined {
    try {
      const update = open(submission);
      const { norm, largest } = measure(update);
      return {
        norm,
        // Rounding never changes which of two values is larger.
        variant: (trial) =>
          Number.isFinite(trialDeltas(Float32Array.of(largest), trial)[0])
            ? new EncodedDelta(update, tensors, layout, trial)
            : undefined,
      };
    } catch (error) {
      if (error instanceof MalformedUpdateError) return undefined;
      throw error;
    }
  }
}
