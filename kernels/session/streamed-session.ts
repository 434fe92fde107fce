/**
 * A model session with its weights on disk, for a peer whose memory does not hold them. Submissions, scores and roots are
 * those of `ResidentModelSession` in its `blocks` mode, to the bit on onnxruntime. On the native library roots are, and
 * scores and submissions differ in the last digits: losses of changes are exact there, and what passes add up differs.
 *
 * The weights are a sealed tensor store that is never written: an aggregation changes a copy, which takes the store's place
 * when it is whole. A copy lies in the session's folder until it is saved, when it is moved to its name. So what was saved
 * last is whole at any time; what is in the folder is of no use to a later session, which empties it.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInitialStore } from '../checkpoint/initial-store.ts';
import { weightBytes } from '../checkpoint/model-state.ts';
import { type TensorPart, TensorStore, type TensorStoreInit, tensorParts } from '../checkpoint/tensor-store.ts';
import { type EngineCallOptions, NonFiniteError, sumOfSquares } from '../engine/engine.ts';
import type { MemoryPlan } from '../engine/memory-plan.ts';
import { openUpdate, type UpdateLimits, type UpdateReader, updateLimits } from '../gradient/agf1.ts';
import { parameterCount, tensorLayout } from '../model/layout.ts';
import { presetHash } from '../model/preset-hash.ts';
import type { InnerStepProgress } from '../train/inner-steps.ts';
import { STEP_ELEMENTS, StreamedAdamW } from '../train/streamed-adamw.ts';
import { StreamedCompression } from '../train/streamed-compression.ts';
import { streamedSteps } from '../train/streamed-steps.ts';
import { requireDiskSpace } from './disk-space.ts';
import { SessionStateError, WeightsSizeError } from './errors.ts';
import type {
  AcceptedSubmission,
  EncodedSubmission,
  ModelSession,
  ModelSessionInit,
  OpenedWeights,
  RoundIdentity,
  ScoringOptions,
  ScoringWork,
  TrainingOutcome,
  TrainingWork,
} from './model-session.ts';
import { nativeScratchBytes } from './native-budget.ts';
import { noiseFrom } from './pretended-gradient.ts';
import { type ScoringOutcome, variantOptions } from './scoring.ts';
import { aggregateStored } from './streamed-aggregation.ts';
import { createStreamedModel, createStreamedScorer } from './streamed-model.ts';
import { scoreEncoded } from './streamed-scoring.ts';
import { innerLoop, trainedFor } from './training-work.ts';
import { isUnusableFile } from './unusable-file.ts';

type Floats = Float32Array<ArrayBuffer>;

/**
 * Files as long as the model at the worst time, while a pseudo-gradient is written: moving weights, gradient, two moments,
 * pseudo-gradient. Beside them are the weights and the error feedback.
 */
const WORKING_FILES = 5;

/** Files as long as the model beside the saved weights, at the worst time: those, a new copy or the error feedback. */
export const STREAMING_FILES = WORKING_FILES + 1;

/** See the file comment. Calls are described by `ModelSession`. */
export class StreamedModelSession implements ModelSession {
  readonly presetHash: string;
  readonly memory: MemoryPlan;
  readonly #init: ModelSessionInit & { readonly streamFolder: string };
  readonly #model: Omit<TensorStoreInit, 'kind'>;
  readonly #limits: UpdateLimits;
  readonly #optimizer: StreamedAdamW;
  /** The parts in which tensors are read and written. */
  readonly #parts: readonly TensorPart[];
  /** The weights; undefined until some were taken. */
  #weights: TensorStore | undefined;
  /** Whether the weights' file is in the session's folder and goes with them. */
  #ownsFile = false;
  /** Numbers the files in the session's folder. */
  #generation = 0;
  #roomChecked = false;
  /** What was not sent yet; undefined where that is nothing. */
  #errorFeedback: TensorStore | undefined;
  /** What waits for {@link compress}, and the weights it is for. */
  #trained: { readonly pseudoGradient: TensorStore; readonly modelRoot: string } | undefined;

  private constructor(
    init: ModelSessionInit & { readonly streamFolder: string },
    memory: MemoryPlan,
    partElements: number,
  ) {
    const { preset, recipe, streamFolder } = init;
    const layout = tensorLayout(preset);
    this.presetHash = presetHash(preset);
    this.memory = memory;
    this.#init = init;
    this.#model = { presetHash: this.presetHash, layout };
    this.#limits = updateLimits(layout, recipe);
    this.#optimizer = new StreamedAdamW(streamFolder, this.#model);
    this.#parts = layout.flatMap((slot) => tensorParts(slot, partElements));
  }

  /**
   * Empties the folder. Throws InvalidPresetError, errors of the file system.
   *
   * @param partElements - most elements of a tensor that are read at once, where not all of it is needed
   */
  static async create(
    init: ModelSessionInit & { readonly streamFolder: string },
    memory: MemoryPlan,
    partElements = STEP_ELEMENTS,
  ): Promise<StreamedModelSession> {
    const session = new StreamedModelSession(init, memory, partElements);
    await rm(init.streamFolder, { recursive: true, force: true });
    await mkdir(init.streamFolder, { recursive: true });
    return session;
  }

  async initialize(seed: Uint8Array, options: EngineCallOptions = {}): Promise<string> {
    await this.#requireRoom(WORKING_FILES + 2);
    return await this.#take(await createInitialStore(this.#nextPath(), this.#init.preset, seed, options), true);
  }

  async load(bytes: Uint8Array, { signal }: EngineCallOptions = {}): Promise<string> {
    const { preset } = this.#init;
    const expected = 4 * parameterCount(preset);
    if (bytes.length !== expected)
      throw new WeightsSizeError(`${preset.name} has ${expected} bytes of weights, got ${bytes.length}`);
    await this.#requireRoom(WORKING_FILES + 2);
    const store = await TensorStore.create(this.#nextPath(), { ...this.#model, kind: 'weights' });
    try {
      const memory = this.#memory();
      for (const part of this.#parts) {
        signal?.throwIfAborted();
        const values = memory.subarray(0, part.length);
        const from = 4 * (part.slot.offset + part.start);
        weightBytes(values).set(bytes.subarray(from, from + 4 * part.length));
        if (!Number.isFinite(sumOfSquares(values))) throw new NonFiniteError(part.slot.name);
        await store.write(part, values);
      }
      await store.seal(0, signal && { signal });
    } catch (error) {
      await store.close();
      throw error;
    }
    return await this.#take(store, true);
  }

  /** As long as the model: more than the memory that the session is planned for. */
  async weights({ signal }: EngineCallOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const store = this.#loaded();
    const weights = new Float32Array(parameterCount(this.#init.preset));
    for (const { slot, start, length } of this.#parts) {
      signal?.throwIfAborted();
      const from = slot.offset + start;
      await store.read({ slot, start, length }, weights.subarray(from, from + length));
    }
    return new Uint8Array(weights.buffer);
  }

  async open(path: string, options: EngineCallOptions = {}): Promise<OpenedWeights | undefined> {
    let store: TensorStore;
    try {
      store = await TensorStore.open(path, { ...this.#model, kind: 'weights' }, options);
    } catch (error) {
      if (isUnusableFile(error)) return undefined;
      throw error;
    }
    try {
      await this.#requireRoom(WORKING_FILES + 1);
    } catch (error) {
      await store.close();
      throw error;
    }
    return { round: store.round, modelRoot: await this.#take(store, false) };
  }

  async save(path: string, round: number, options: EngineCallOptions = {}): Promise<void> {
    const weights = this.#loaded();
    if (this.#ownsFile) {
      options.signal?.throwIfAborted();
      try {
        await weights.moveTo(path, round);
      } finally {
        this.#ownsFile = weights.path !== path;
      }
      return;
    }
    if (weights.path === path && weights.round === round) return;
    // They have a name already, which others may know.
    const copy = await weights.copy(path);
    try {
      await copy.seal(round, options);
    } catch (error) {
      await copy.close();
      throw error;
    }
    if (weights.path === path) await this.#take(copy, false);
    else await copy.close();
  }

  async aggregate(
    round: RoundIdentity,
    submissions: readonly AcceptedSubmission[],
    options: EngineCallOptions = {},
  ): Promise<string> {
    const weights = this.#loaded();
    const next = await aggregateStored(
      {
        weights,
        round,
        submissions,
        open: (submission) => this.#openUpdate(round, submission),
        outerStep: this.#init.recipe.outerStep,
        parts: this.#parts,
        path: () => this.#nextPath(),
      },
      options,
    );
    return next === undefined ? weights.root : await this.#take(next, true);
  }

  /** Throws a MalformedUpdateError for a bad beginning; the rest is checked when it is read. */
  #openUpdate({ round, modelRoot }: RoundIdentity, { account, bytes }: EncodedSubmission): UpdateReader {
    const expected = { round, modelRoot, author: account, presetHash: this.presetHash };
    return openUpdate(bytes, { layout: this.#model.layout, limits: this.#limits, expected });
  }

  async train(
    work: TrainingWork,
    options: EngineCallOptions & { readonly onStep?: (progress: InnerStepProgress) => void } = {},
  ): Promise<TrainingOutcome> {
    const start = this.#loaded();
    await this.#dropTrained();
    const { preset, recipe, threads, streamFolder } = this.#init;
    const init = {
      start,
      folder: streamFolder,
      engine: (store: TensorStore) =>
        createStreamedModel(store, {
          ...{ preset, threads, batchSequences: recipe.batchSequences },
          ...{ plan: this.memory, scratchFolder: streamFolder },
        }),
      ...innerLoop(recipe, work),
    };
    const pseudoGradient = await this.#createPseudoGradient();
    try {
      const write = (part: TensorPart, delta: Floats) => pseudoGradient.write(part, delta);
      const { losses, tokensPerSecond } = await streamedSteps(init, this.#optimizer, write, options);
      this.#trained = { pseudoGradient, modelRoot: start.root };
      return { losses: [...losses], tokensPerSecond };
    } catch (error) {
      await pseudoGradient.close();
      throw error;
    }
  }

  async pretend(seed: number): Promise<void> {
    const { root: modelRoot } = this.#loaded();
    await this.#dropTrained();
    const pseudoGradient = await this.#createPseudoGradient();
    const fill = noiseFrom(seed);
    const memory = this.#memory();
    for (const part of this.#parts) {
      const noise = memory.subarray(0, part.length);
      fill(noise);
      await pseudoGradient.write(part, noise);
    }
    this.#trained = { pseudoGradient, modelRoot };
  }

  async compress(
    round: RoundIdentity & { readonly author: string },
    feedbackPath: string,
    options: EngineCallOptions = {},
  ): Promise<Uint8Array> {
    const trained = trainedFor(round, this.#trained);
    const { topK, valueBits, errorFeedbackDecay: decay } = this.#init.recipe;
    const { bounds } = this.#limits;
    const previous = this.#errorFeedback;
    const compression = await StreamedCompression.begin(feedbackPath, this.#model, previous, {
      topK,
      valueBits,
      decay,
      ...(bounds && { bounds }),
    });
    let bytes: Uint8Array;
    try {
      const memory = this.#memory();
      for (const part of this.#parts) {
        options.signal?.throwIfAborted();
        const delta = memory.subarray(0, part.length);
        await trained.pseudoGradient.read(part, delta);
        await compression.add(part, delta);
      }
      bytes = await compression.finish({ ...round, presetHash: this.presetHash }, options);
    } catch (error) {
      await compression.close();
      throw error;
    }
    this.#errorFeedback = compression.feedback;
    await previous?.close();
    await this.#dropTrained();
    return bytes;
  }

  async openErrorFeedback(path: string, options: EngineCallOptions = {}): Promise<void> {
    let opened: TensorStore | undefined;
    try {
      opened = await TensorStore.open(path, { ...this.#model, kind: 'error-feedback' }, options);
    } catch (error) {
      if (!isUnusableFile(error)) throw error;
    }
    await this.#errorFeedback?.close();
    this.#errorFeedback = opened;
  }

  async score(round: RoundIdentity, work: ScoringWork, options: ScoringOptions = {}): Promise<ScoringOutcome> {
    const { recipe } = this.#init;
    const { tokens, heldOutSequences, submissions, proven } = work;
    const { scorer, maxBytes } = createStreamedScorer(this.#loaded(), this.#init, this.memory);
    try {
      return await scoreEncoded(
        scorer,
        this.#model.layout,
        submissions,
        (submission) => this.#openUpdate(round, submission),
        { tokens, heldOutSequences, step: recipe.outerStep * recipe.scoringStepShare, proven },
        { ...variantOptions(options), maxBytes },
      );
    } finally {
      await scorer.close();
    }
  }

  async close(): Promise<void> {
    await this.#dropTrained();
    await this.#optimizer.reset();
    await this.#errorFeedback?.close();
    await this.#weights?.close();
    await rm(this.#init.streamFolder, { recursive: true, force: true });
  }

  /** Replaces the weights by a sealed store; returns its root. */
  async #take(store: TensorStore, ownsFile: boolean): Promise<string> {
    const [previous, owned] = [this.#weights, this.#ownsFile];
    this.#weights = store;
    this.#ownsFile = ownsFile;
    await previous?.close();
    if (previous !== undefined && owned) await rm(previous.path, { force: true });
    return store.root;
  }

  /** The weights. Throws {@link SessionStateError} where there are none. */
  #loaded(): TensorStore {
    if (this.#weights === undefined) throw new SessionStateError('no weights are loaded');
    return this.#weights;
  }

  #createPseudoGradient(): Promise<TensorStore> {
    return TensorStore.create(join(this.#init.streamFolder, 'pseudo-gradient'), { ...this.#model, kind: 'gradient' });
  }

  async #dropTrained(): Promise<void> {
    const trained = this.#trained;
    this.#trained = undefined;
    await trained?.pseudoGradient.close();
  }

  /** A name that no file of the session has. */
  #nextPath(): string {
    this.#generation++;
    return join(this.#init.streamFolder, `weights-${this.#generation}`);
  }

  /** Room for the longest part. */
  #memory(): Floats {
    return new Float32Array(this.#parts.reduce((most, { length }) => Math.max(most, length), 0));
  }

  /** Before the first weights: throws DiskSpaceError where there is no room for `files` as long as the model. */
  async #requireRoom(files: number): Promise<void> {
    if (this.#roomChecked) return;
    const { preset, recipe, streamFolder } = this.#init;
    const { native } = this.memory;
    const scratch = native === undefined ? 0 : nativeScratchBytes({ preset, recipe, precision: native.precision });
    const what = `streaming ${preset.name} (${files} files of its size)`;
    await requireDiskSpace(streamFolder, files * 4 * parameterCount(preset) + scratch, what);
    this.#roomChecked = true;
  }
}
