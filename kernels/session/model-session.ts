/**
 * One model at work in a role: the weights, what is trained from them, what was not sent yet, and how others' submissions
 * are scored and aggregated. One call at a time; `model-client.ts` hosts it in a thread of its own.
 */
import { applyUpdate } from '../aggregate/apply.ts';
import { changedChunks } from '../aggregate/changed-chunks.ts';
import { ModelTree } from '../aggregate/model-root.ts';
import { aggregate } from '../aggregate/rule.ts';
import { weightedMean } from '../aggregate/weighted-mean.ts';
import { TensorFileError } from '../checkpoint/errors.ts';
import {
  readErrorFeedback,
  readWeights,
  weightBytes,
  writeErrorFeedback,
  writeWeights,
} from '../checkpoint/model-state.ts';
import type { Device, Precision } from '../engine/device/device.ts';
import { checkedNorm, type Engine, type EngineCallOptions, NonFiniteError } from '../engine/engine.ts';
import { planMemory } from '../engine/memory-plan.ts';
import { createEngine } from '../engine/onnx-engine.ts';
import { type DecodedUpdate, decodeUpdate, type UpdateLimits, updateLimits } from '../gradient/agf1.ts';
import { compressUpdate } from '../gradient/compress.ts';
import { MalformedUpdateError } from '../gradient/errors.ts';
import type { ValueBits } from '../gradient/quantize.ts';
import { initialWeights } from '../model/initialize.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { AdamW } from '../train/adamw.ts';
import { type InnerStepProgress, innerSteps } from '../train/inner-steps.ts';
import { SessionStateError, WeightsSizeError } from './errors.ts';
import { pretendedGradient } from './pretended-gradient.ts';
import { type ScoringOutcome, scoreUpdates } from './scoring.ts';

/** The network's recipe, as genesis fixes it. */
export interface TrainingRecipe {
  /** Sequences whose mean gradient makes one inner step. */
  readonly batchSequences: number;
  /** Inner steps that are taken even when the time is over. */
  readonly minInnerSteps: number;
  /** Time after which no further inner step begins. */
  readonly trainTargetMs: number;
  /** Of AdamW. */
  readonly weightDecay: number;
  /** Factor on the aggregate when it is subtracted from the weights. */
  readonly outerStep: number;
  /** Share of the outer step at which a submission is tried when it is scored. */
  readonly scoringStepShare: number;
  /** Factor on the error feedback of earlier rounds. */
  readonly errorFeedbackDecay: number;
  /** Elements sent of each chunk of 4096. */
  readonly topK: number;
  /** Bits of a sent value. */
  readonly valueBits: ValueBits;
}

/** What a session is made for. Structured-cloneable. */
export interface ModelSessionInit {
  readonly preset: Preset;
  readonly recipe: TrainingRecipe;
  /** Threads for computing, at least 1. */
  readonly threads: number;
  /** Where graphs run. Default `cpu`. */
  readonly device?: Device;
  /** Of training; scoring is always fp32. Default `fp32`. */
  readonly precision?: Precision;
  /** Most memory for the model's process. Default: no limit, what is fastest. */
  readonly memoryBytes?: number;
}

/** A submission as it came from its author. */
export interface EncodedSubmission {
  /** 64 lower-case hex characters. */
  readonly account: string;
  /** AGF1 bytes, not yet checked. */
  readonly bytes: Uint8Array;
}

/** A submission that was accepted. */
export interface AcceptedSubmission extends EncodedSubmission {
  /** Its score, in the ledger's unit; not negative. */
  readonly weight: bigint;
}

/** The round that submissions must be for. */
export interface RoundIdentity {
  readonly round: number;
  /** Root of the weights from which the round started. */
  readonly modelRoot: string;
}

/** Which weights a file held. */
export interface OpenedWeights {
  /** Training round after which they are the weights. */
  readonly round: number;
  readonly modelRoot: string;
}

/** What {@link ModelSession.train} works on. */
export interface TrainingWork {
  /** `[steps * batchSequences, context + 1]` token ids. */
  readonly tokens: Int32Array;
  /** Learning rate of every step. */
  readonly learningRate: number;
}

/** Result of {@link ModelSession.train}. */
export interface TrainingOutcome {
  /** Loss before each step that was taken, nats. */
  readonly losses: readonly number[];
  readonly tokensPerSecond: number;
}

/** What {@link ModelSession.score} works on. */
export interface ScoringWork {
  /** `[sequences, context + 1]` token ids. */
  readonly tokens: Int32Array;
  /** How many of the sequences, from the first, come from the held-out set. At least 1. */
  readonly heldOutSequences: number;
  readonly submissions: readonly EncodedSubmission[];
}

/** True when a file cannot give what it should: it is not there, damaged, or another model's. */
function isUnusableFile(error: unknown): boolean {
  if (error instanceof TensorFileError || error instanceof NonFiniteError) return true;
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

/** See the file comment. */
export class ModelSession {
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
  /** Hash that this session's submissions and files carry. */
  readonly presetHash: string;

  /**
   * Throws InvalidPresetError, InvalidEngineOptionsError, and MemoryBudgetError where the model does not fit into its
   * memory: a session's weights are resident.
   */
  constructor({ preset, recipe, threads, device = 'cpu', precision = 'fp32', memoryBytes }: ModelSessionInit) {
    this.presetHash = presetHash(preset);
    this.#preset = preset;
    this.#recipe = recipe;
    const batch = recipe.batchSequences;
    const shape = { preset, batch, context: preset.context };
    const memory = memoryBytes === undefined ? undefined : planMemory(shape, memoryBytes, ['whole', 'blocks']).mode;
    const bounded = memory === 'blocks' ? { memory } : {};
    this.#engine = createEngine({ preset, threads, batch, device, precision, ...bounded });
    this.#limits = updateLimits(this.#engine.layout, recipe);
    this.#optimizer = new AdamW(this.#engine.layout);
    this.#errorFeedback = new Float32Array(this.#engine.weights.length);
  }

  /** Takes the random initialization of a 32-byte seed as weights; returns their root. Throws InvalidSeedError. */
  initialize(seed: Uint8Array): string {
    return this.#take(initialWeights(this.#preset, seed));
  }

  /** Takes weights as little-endian float32 bytes; returns their root. Throws {@link WeightsSizeError}, NonFiniteError. */
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

  /** Copy of the weights as little-endian float32 bytes. Throws {@link SessionStateError}. */
  weights(): Uint8Array<ArrayBuffer> {
    this.#loaded();
    return new Uint8Array(weightBytes(this.#engine.weights));
  }

  /**
   * Reads weights that {@link save} wrote. Undefined, with the weights as they were, when there are none, or they are
   * damaged or another model's: they can be had from the network again.
   */
  async open(path: string, options: EngineCallOptions = {}): Promise<OpenedWeights | undefined> {
    try {
      const { round, weights, tree } = await readWeights(path, this.#identity(), options);
      return { round, modelRoot: this.#take(weights, tree) };
    } catch (error) {
      if (isUnusableFile(error)) return undefined;
      throw error;
    }
  }

  /** Writes the weights durably, as those after `round`. Throws {@link SessionStateError}, errors of the file system. */
  async save(path: string, round: number, options: EngineCallOptions = {}): Promise<void> {
    const { weights } = this.#engine;
    const state = { round, modelRoot: this.#loaded().root, presetHash: this.presetHash, weights };
    await writeWeights(path, state, options);
  }

  #identity(): { presetHash: string; elements: number } {
    return { presetHash: this.presetHash, elements: this.#engine.weights.length };
  }

  /**
   * Applies a round's accepted submissions, weighted by score; returns the new root. Throws, with the weights
   * unchanged, when one of them is malformed, two are of one account, or the result is not finite.
   */
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

  /**
   * Takes inner steps from the present weights, which stay as they are, until the tokens are used up or the recipe's
   * time is over. The pseudo-gradient waits for {@link compress}; one of before is dropped, also when this call fails
   * or is aborted.
   */
  async train(
    work: TrainingWork,
    options: EngineCallOptions & { readonly onStep?: (progress: InnerStepProgress) => void } = {},
  ): Promise<TrainingOutcome> {
    const { root: modelRoot } = this.#loaded();
    this.#trained = undefined;
    const init = {
      tokens: work.tokens,
      sequencesPerStep: this.#recipe.batchSequences,
      learningRate: work.learningRate,
      timeLimitMs: this.#recipe.trainTargetMs,
      minSteps: this.#recipe.minInnerSteps,
      adamw: { weightDecay: this.#recipe.weightDecay },
    };
    const { pseudoGradient, losses, tokensPerSecond } = await innerSteps(this.#engine, this.#optimizer, init, options);
    this.#trained = { pseudoGradient, modelRoot };
    return { losses: [...losses], tokensPerSecond };
  }

  /** Tests only: takes noise from a seed for the pseudo-gradient, as a cheat that did not train would. */
  pretend(seed: number): void {
    const { root: modelRoot } = this.#loaded();
    this.#trained = { pseudoGradient: pretendedGradient(this.#engine.weights.length, seed), modelRoot };
  }

  /**
   * Encodes the last pseudo-gradient plus error feedback as AGF1; what is not sent stays in the error feedback. Writes
   * the error feedback durably first, so that a crash later never sends the same twice. When that fails, nothing has
   * changed and the call can be repeated.
   *
   * Throws {@link SessionStateError} when nothing was trained, or it was from other weights than the round's; what
   * `compressUpdate` throws; errors of the file system.
   */
  async compress(
    round: RoundIdentity & { readonly author: string },
    feedbackPath: string,
    options: EngineCallOptions = {},
  ): Promise<Uint8Array> {
    const trained = this.#trained;
    if (trained === undefined) throw new SessionStateError('nothing was trained');
    if (trained.modelRoot !== round.modelRoot)
      throw new SessionStateError(`trained from ${trained.modelRoot}, but round ${round.round} is for others`);
    const { topK, valueBits, errorFeedbackDecay: decay } = this.#recipe;
    const { presetHash: hash } = this;
    // A copy: memory takes it over once the disk has it.
    const errorFeedback = this.#errorFeedback.slice();
    const bytes = compressUpdate({
      layout: this.#engine.layout,
      delta: trained.pseudoGradient,
      errorFeedback,
      options: { topK, valueBits, decay },
      header: { ...round, presetHash: hash },
    });
    await writeErrorFeedback(feedbackPath, { round: round.round, errorFeedback, presetHash: hash }, options);
    this.#errorFeedback = errorFeedback;
    this.#trained = undefined;
    return bytes;
  }

  /** Reads error feedback that {@link compress} wrote; starts from zero where there is none that fits. */
  async openErrorFeedback(path: string, options: EngineCallOptions = {}): Promise<void> {
    try {
      this.#errorFeedback = (await readErrorFeedback(path, this.#identity(), options)).errorFeedback;
    } catch (error) {
      if (!isUnusableFile(error)) throw error;
      this.#errorFeedback = new Float32Array(this.#engine.weights.length);
    }
  }

  /**
   * What each submission gains, tried one by one from the present weights, which are put back bit for bit: see
   * {@link scoreUpdates}. A submission that does not decode, or is not for this round, is malformed.
   */
  async score(round: RoundIdentity, work: ScoringWork, options: EngineCallOptions = {}): Promise<ScoringOutcome> {
    this.#loaded();
    const updates = work.submissions.map((submission) => {
      try {
        return this.#decode(round, submission);
      } catch (error) {
        if (error instanceof MalformedUpdateError) return undefined;
        throw error;
      }
    });
    const { tokens, heldOutSequences } = work;
    const step = this.#recipe.outerStep * this.#recipe.scoringStepShare;
    return await scoreUpdates(this.#engine, updates, { tokens, heldOutSequences, step }, options);
  }

  /** Frees the engine. */
  async close(): Promise<void> {
    await this.#engine.close();
  }
}
