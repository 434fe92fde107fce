/** A model session with its weights in memory. */
import { applyUpdate } from '../aggregate/apply.ts';
import { changedChunks } from '../aggregate/changed-chunks.ts';
import { ModelTree } from '../aggregate/model-root.ts';
import { aggregate } from '../aggregate/rule.ts';
import { weightedMean } from '../aggregate/weighted-mean.ts';
import {
  readErrorFeedback,
  readWeights,
  weightBytes,
  writeErrorFeedback,
  writeWeights,
} from '../checkpoint/model-state.ts';
import { checkedNorm, type Engine, type EngineCallOptions } from '../engine/engine.ts';
import { type MemoryPlan, planMemory, RESIDENT_MODES } from '../engine/memory-plan.ts';
import { type DecodedUpdate, decodeUpdate, type UpdateLimits, updateLimits } from '../gradient/agf1.ts';
import { compressUpdate } from '../gradient/compress.ts';
import { MalformedUpdateError } from '../gradient/errors.ts';
import { initialWeights } from '../model/initialize.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { AdamW } from '../train/adamw.ts';
import { type InnerStepProgress, innerSteps } from '../train/inner-steps.ts';
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
  TrainingRecipe,
  TrainingWork,
} from './model-session.ts';
import { pretendedGradient } from './pretended-gradient.ts';
import { createResidentEngine } from './resident-engine.ts';
import { type ScoringOutcome, scoreUpdates, variantOptions } from './scoring.ts';
import { innerLoop, trainedFor } from './training-work.ts';
import { isUnusableFile } from './unusable-file.ts';

/** See the file comment. Calls are described by `ModelSession`. */
export class ResidentModelSession implements ModelSession {
  readonly #recipe: TrainingRecipe;
  readonly #preset: Preset;
  readonly #engine: Engine;
  readonly #limits: UpdateLimits;
  readonly #optimizer: AdamW;
  #errorFeedback: Float32Array;
  /** Chunk tree of the engine's weights; undefined until some were taken. */
  #tree: ModelTree | undefined;
  /** What waits for {@link compress}, and the weights it is for. */
  #trained: { readonly pseudoGradient: Float32Array; readonly modelRoot: string } | undefined;
  readonly presetHash: string;
  readonly memory: MemoryPlan;

  /**
   * Throws InvalidPresetError, InvalidEngineOptionsError, NativeUnavailableError, and MemoryBudgetError where the model
   * does not fit into its memory.
   */
  constructor(init: ModelSessionInit) {
    const { preset, recipe, backend = 'onnx', memoryBytes } = init;
    this.presetHash = presetHash(preset);
    this.#preset = preset;
    this.#recipe = recipe;
    const shape = { preset, batch: recipe.batchSequences, context: preset.context, backend };
    this.memory = planMemory(shape, memoryBytes, RESIDENT_MODES);
    this.#engine = createResidentEngine(init, this.memory.mode === 'blocks');
    this.#limits = updateLimits(this.#engine.layout, recipe);
    this.#optimizer = new AdamW(this.#engine.layout, this.#engine.updateWeights);
    this.#errorFeedback = new Float32Array(this.#engine.weights.length);
  }

  initialize(seed: Uint8Array): string {
    return this.#take(initialWeights(this.#preset, seed));
  }

  load(bytes: Uint8Array): string {
    const { weights } = this.#engine;
    if (bytes.length !== weights.byteLength) {
      throw new WeightsSizeError(
        `${this.#preset.name} has ${weights.byteLength} bytes of weights, got ${bytes.length}`,
      );
    }
    const given = new Float32Array(weights.length);
    weightBytes(given).set(bytes);
    return this.#take(given);
  }

  /** Takes weights, all or none. Throws NonFiniteError. */
  #take(weights: Float32Array, tree?: ModelTree): string {
    checkedNorm(this.#engine.layout, weights);
    this.#engine.loadWeights(weights);
    this.#tree = tree ?? ModelTree.ofWeights(weights);
    return this.#tree.root;
  }

  /** Tree of the weights. Throws {@link SessionStateError} where there are none. */
  #loaded(): ModelTree {
    if (this.#tree === undefined) throw new SessionStateError('no weights are loaded');
    return this.#tree;
  }

  weights(): Uint8Array<ArrayBuffer> {
    this.#loaded();
    return new Uint8Array(weightBytes(this.#engine.weights));
  }

  async open(path: string, options: EngineCallOptions = {}): Promise<OpenedWeights | undefined> {
    try {
      const { round, weights, tree } = await readWeights(path, this.#identity(), options);
      return { round, modelRoot: this.#take(weights, tree) };
    } catch (error) {
      if (isUnusableFile(error)) return undefined;
      throw error;
    }
  }

  async save(path: string, round: number, options: EngineCallOptions = {}): Promise<void> {
    const { weights } = this.#engine;
    const state = { round, modelRoot: this.#loaded().root, presetHash: this.presetHash, weights };
    await writeWeights(path, state, options);
  }

  #identity(): { presetHash: string; elements: number } {
    return { presetHash: this.presetHash, elements: this.#engine.weights.length };
  }

  aggregate(round: RoundIdentity, submissions: readonly AcceptedSubmission[]): string {
    const tree = this.#loaded();
    const { layout, weights } = this.#engine;
    const decoded = submissions.map((submission) => ({
      account: submission.account,
      weight: submission.weight,
      update: this.#decode(round, submission),
    }));
    const update = aggregate(weightedMean(), layout, decoded);
    applyUpdate(weights, layout, update, this.#recipe.outerStep);
    tree.update(weights, changedChunks(update, layout));
    return tree.root;
  }

  /** Throws a MalformedUpdateError. */
  #decode({ round, modelRoot }: RoundIdentity, { account, bytes }: EncodedSubmission): DecodedUpdate {
    const expected = { round, modelRoot, author: account, presetHash: this.presetHash };
    return decodeUpdate(bytes, { layout: this.#engine.layout, limits: this.#limits, expected });
  }

  async train(
    work: TrainingWork,
    options: EngineCallOptions & { readonly onStep?: (progress: InnerStepProgress) => void } = {},
  ): Promise<TrainingOutcome> {
    const { root: modelRoot } = this.#loaded();
    this.#trained = undefined;
    const init = innerLoop(this.#recipe, work);
    const { pseudoGradient, losses, tokensPerSecond } = await innerSteps(this.#engine, this.#optimizer, init, options);
    this.#trained = { pseudoGradient, modelRoot };
    return { losses: [...losses], tokensPerSecond };
  }

  pretend(seed: number): void {
    const { root: modelRoot } = this.#loaded();
    this.#trained = { pseudoGradient: pretendedGradient(this.#engine.weights.length, seed), modelRoot };
  }

  async compress(
    round: RoundIdentity & { readonly author: string },
    feedbackPath: string,
    options: EngineCallOptions = {},
  ): Promise<Uint8Array> {
    const trained = trainedFor(round, this.#trained);
    const { topK, valueBits, errorFeedbackDecay: decay } = this.#recipe;
    const { bounds } = this.#limits;
    const { presetHash: hash } = this;
    // A copy: memory takes it over once the disk has it.
    const errorFeedback = this.#errorFeedback.slice();
    const bytes = compressUpdate({
      layout: this.#engine.layout,
      delta: trained.pseudoGradient,
      errorFeedback,
      options: { topK, valueBits, decay, ...(bounds && { bounds }) },
      header: { ...round, presetHash: hash },
    });
    await writeErrorFeedback(feedbackPath, { round: round.round, errorFeedback, presetHash: hash }, options);
    this.#errorFeedback = errorFeedback;
    this.#trained = undefined;
    return bytes;
  }

  async openErrorFeedback(path: string, options: EngineCallOptions = {}): Promise<void> {
    try {
      this.#errorFeedback = (await readErrorFeedback(path, this.#identity(), options)).errorFeedback;
    } catch (error) {
      if (!isUnusableFile(error)) throw error;
      this.#errorFeedback = new Float32Array(this.#engine.weights.length);
    }
  }

  async score(round: RoundIdentity, work: ScoringWork, options: ScoringOptions = {}): Promise<ScoringOutcome> {
    this.#loaded();
    const updates = work.submissions.map((submission) => {
      try {
        return this.#decode(round, submission);
      } catch (error) {
        if (error instanceof MalformedUpdateError) return undefined;
        throw error;
      }
    });
    const { tokens, heldOutSequences, proven } = work;
    const step = this.#recipe.outerStep * this.#recipe.scoringStepShare;
    const trial = { tokens, heldOutSequences, step, proven };
    return await scoreUpdates(this.#engine, updates, trial, variantOptions(options));
  }

  async close(): Promise<void> {
    await this.#engine.close();
  }
}
