/**
 * One model at work in a role: the weights, what is trained from them, what was not sent yet, and how others' submissions
 * are scored and aggregated. Lives in a worker thread; one call at a time.
 */
import { createHash } from 'node:crypto';
import { applyUpdate, scoringVariant } from '../aggregate/apply.ts';
import { changedChunks } from '../aggregate/changed-chunks.ts';
import { ModelTree } from '../aggregate/model-root.ts';
import { clipScale, medianNorm, normOf } from '../aggregate/norm.ts';
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
import { checkedNorm, type Engine } from '../engine/engine.ts';
import { createEngine } from '../engine/onnx-engine.ts';
import { type DecodedUpdate, decodeUpdate, type UpdateLimits, updateLimits } from '../gradient/agf1.ts';
import { compressUpdate } from '../gradient/compress.ts';
import { MalformedUpdateError } from '../gradient/errors.ts';
import type { ValueBits } from '../gradient/quantize.ts';
import { initialWeights } from '../model/initialize.ts';
import { type Preset, presetRecord } from '../model/preset.ts';
import { AdamW } from '../train/adamw.ts';
import { evaluateVariants } from '../train/evaluate.ts';
import { type InnerStepProgress, innerSteps } from '../train/inner-steps.ts';

/** The network's recipe, as genesis fixes it. */
export interface TrainingRecipe {
  readonly batchSequences: number;
  readonly minInnerSteps: number;
  /** Time after which no further inner step begins. */
  readonly trainTargetMs: number;
  readonly weightDecay: number;
  readonly outerStep: number;
  readonly scoringStepShare: number;
  readonly errorFeedbackDecay: number;
  readonly topK: number;
  readonly valueBits: ValueBits;
}

/** What a session is made for. Structured-cloneable. */
export interface ModelSessionInit {
  readonly preset: Preset;
  readonly recipe: TrainingRecipe;
  readonly threads: number;
}

/** A submission as it came from its author. */
export interface EncodedSubmission {
  /** 64 lower-case hex characters. */
  readonly account: string;
  /** AGF1 bytes, not yet checked. */
  readonly bytes: Uint8Array;
}

/** The round that submissions must be for. */
export interface RoundIdentity {
  readonly round: number;
  /** Root of the weights from which the round started. */
  readonly modelRoot: string;
}

/** What a validator says of a submission: what it gained in nats, or that it is none. */
export type SubmissionScore = { readonly kind: 'scored'; readonly gain: number } | { readonly kind: 'malformed' };

/** Thrown when a call needs something that was not done before it. */
export class SessionStateError extends Error {
  static readonly code = 'ERR_SESSION_STATE';
  readonly code = SessionStateError.code;
  override readonly name = 'SessionStateError';
}

/** Thrown when downloaded weights do not have the length of the model. */
export class WeightsSizeError extends Error {
  static readonly code = 'ERR_WEIGHTS_SIZE';
  readonly code = WeightsSizeError.code;
  override readonly name = 'WeightsSizeError';
}

/** Hash that submissions and files carry for a preset: of its fields in sorted order. */
export function presetHash(preset: Preset): string {
  const fields = Object.entries(presetRecord(preset)).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256')
    .update(`alice/preset/1${JSON.stringify(fields)}`)
    .digest('hex');
}

export class ModelSession {
  readonly #recipe: TrainingRecipe;
  readonly #preset: Preset;
  readonly #presetHash: string;
  readonly #engine: Engine;
  readonly #limits: UpdateLimits;
  readonly #optimizer: AdamW;
  readonly #errorFeedback: Float32Array;
  #tree: ModelTree | undefined;
  #pseudoGradient: Float32Array | undefined;

  constructor({ preset, recipe, threads }: ModelSessionInit) {
    this.#preset = preset;
    this.#recipe = recipe;
    this.#presetHash = presetHash(preset);
    this.#engine = createEngine({ preset, threads, batch: recipe.batchSequences });
    this.#limits = updateLimits(this.#engine.layout, recipe);
    this.#optimizer = new AdamW(this.#engine.layout);
    this.#errorFeedback = new Float32Array(this.#engine.weights.length);
  }

  /** Takes the random initialization of a 32-byte seed as weights; returns their root. */
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

  #take(weights: Float32Array): string {
    checkedNorm(this.#engine.layout, weights);
    this.#engine.loadWeights(weights);
    this.#tree = ModelTree.ofWeights(this.#engine.weights);
    return this.#tree.root;
  }

  /** Copy of the weights as little-endian float32 bytes. */
  weights(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(weightBytes(this.#engine.weights));
  }

  /**
   * Reads weights that {@link save} wrote. Undefined when there are none, or they are damaged or another model's; they
   * can be had from the network again.
   */
  async open(path: string): Promise<{ round: number; modelRoot: string } | undefined> {
    const identity = { presetHash: this.#presetHash, elements: this.#engine.weights.length };
    try {
      const { round, modelRoot, weights } = await readWeights(path, identity);
      return this.#take(weights) === modelRoot ? { round, modelRoot } : undefined;
    } catch (error) {
      if (error instanceof TensorFileError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Writes the weights durably, as those after `round`. */
  async save(path: string, round: number): Promise<void> {
    const { presetHash: hash } = this;
    await writeWeights(path, { round, modelRoot: this.#root(), presetHash: hash, weights: this.#engine.weights });
  }

  get presetHash(): string {
    return this.#presetHash;
  }

  #root(): string {
    if (this.#tree === undefined) throw new SessionStateError('no weights are loaded');
    return this.#tree.root;
  }

  /**
   * Applies a round's accepted submissions, weighted by score; returns the new root. Throws, with the weights
   * unchanged, when one of them is malformed or the result is not finite.
   */
  aggregate(round: RoundIdentity, submissions: readonly (EncodedSubmission & { readonly weight: bigint })[]): string {
    this.#root();
    const { layout, weights } = this.#engine;
    const decoded = submissions.map((submission) => ({
      account: submission.account,
      weight: submission.weight,
      update: this.#decode(round, submission),
    }));
    const update = aggregate(weightedMean(), layout, decoded);
    applyUpdate(weights, layout, update, this.#recipe.outerStep);
    this.#tree?.update(weights, changedChunks(update, layout));
    return this.#root();
  }

  #decode({ round, modelRoot }: RoundIdentity, { account, bytes }: EncodedSubmission): DecodedUpdate {
    const expected = { round, modelRoot, author: account, presetHash: this.#presetHash };
    return decodeUpdate(bytes, { layout: this.#engine.layout, limits: this.#limits, expected });
  }

  /**
   * Takes inner steps from the present weights, which stay as they are, until `tokens` ([steps * batchSequences,
   * context + 1]) are used up or the recipe's time is over. The pseudo-gradient waits for {@link compress}.
   */
  async train(
    work: { readonly tokens: Int32Array; readonly learningRate: number },
    options: { readonly signal?: AbortSignal; readonly onStep?: (progress: InnerStepProgress) => void } = {},
  ): Promise<{ losses: number[]; tokensPerSecond: number }> {
    this.#root();
    const result = await innerSteps(
      this.#engine,
      this.#optimizer,
      {
        tokens: work.tokens,
        sequencesPerStep: this.#recipe.batchSequences,
        learningRate: work.learningRate,
        timeLimitMs: this.#recipe.trainTargetMs,
        minSteps: this.#recipe.minInnerSteps,
        adamw: { weightDecay: this.#recipe.weightDecay },
      },
      options,
    );
    this.#pseudoGradient = result.pseudoGradient;
    return { losses: [...result.losses], tokensPerSecond: result.tokensPerSecond };
  }

  /** Takes random numbers of a plausible size for a pseudo-gradient: a test's cheat that did not train. */
  pretend(random: () => number): void {
    const noise = new Float32Array(this.#engine.weights.length);
    for (let i = 0; i < noise.length; i++) noise[i] = (random() - 0.5) * 0.02;
    this.#pseudoGradient = noise;
  }

  /**
   * Encodes the last pseudo-gradient plus error feedback as AGF1; what is not sent stays in the error feedback. Writes
   * the error feedback durably first, so that a crash later never sends the same twice.
   */
  async compress(round: RoundIdentity & { readonly author: string }, feedbackPath: string): Promise<Uint8Array> {
    const delta = this.#pseudoGradient;
    if (delta === undefined) throw new SessionStateError('nothing was trained');
    const { topK, valueBits, errorFeedbackDecay: decay } = this.#recipe;
    const bytes = compressUpdate({
      layout: this.#engine.layout,
      delta,
      errorFeedback: this.#errorFeedback,
      options: { topK, valueBits, decay },
      header: { ...round, presetHash: this.#presetHash },
    });
    this.#pseudoGradient = undefined;
    const state = { round: round.round, errorFeedback: this.#errorFeedback, presetHash: this.#presetHash };
    await writeErrorFeedback(feedbackPath, state);
    return bytes;
  }

  /** Reads error feedback that {@link compress} wrote; starts from zero where there is none that fits. */
  async openErrorFeedback(path: string): Promise<void> {
    const identity = { presetHash: this.#presetHash, elements: this.#engine.weights.length };
    try {
      const { errorFeedback } = await readErrorFeedback(path, identity);
      this.#errorFeedback.set(errorFeedback);
    } catch (error) {
      if (error instanceof TensorFileError || (error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
  }

  /**
   * Loss before minus loss after for each submission, in nats, in fp32, on `tokens` ([sequences, context + 1]). Each is
   * clipped to the median norm of those that decode and tried at the scoring step. Weights are put back bit for bit.
   */
  async score(
    round: RoundIdentity,
    work: {
      readonly tokens: Int32Array;
      readonly heldOutSequences: number;
      readonly submissions: readonly EncodedSubmission[];
    },
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<{ heldOutLoss: number; scores: SubmissionScore[]; tokensPerSecond: number }> {
    this.#root();
    const { layout, context } = this.#engine;
    const updates = work.submissions.map((submission) => {
      try {
        return this.#decode(round, submission);
      } catch (error) {
        if (error instanceof MalformedUpdateError) return undefined;
        throw error;
      }
    });
    const norms = updates.map((update) => (update === undefined ? 0 : normOf(update)));
    const limit = medianNorm(norms.filter((_, index) => updates[index] !== undefined));
    const step = this.#recipe.outerStep * this.#recipe.scoringStepShare;
    const variants = updates.flatMap((update, index) =>
      update === undefined ? [] : [scoringVariant(update, layout, { clipScale: clipScale(norms[index], limit), step })],
    );
    const startedMs = performance.now();
    const losses = await evaluateVariants(this.#engine, work.tokens, variants, options);
    const seconds = (performance.now() - startedMs) / 1000;
    const sequences = losses.base.length;
    const meanGain = (after: Float64Array) =>
      losses.base.reduce((sum, before, index) => sum + (before - after[index]), 0) / sequences;
    let next = 0;
    return {
      heldOutLoss:
        losses.base.subarray(0, work.heldOutSequences).reduce((sum, loss) => sum + loss, 0) / work.heldOutSequences,
      scores: updates.map((update): SubmissionScore => {
        if (update === undefined) return { kind: 'malformed' };
        const after = losses.variants[next++];
        // An update that breaks the model is worth what the worst one is worth: nothing.
        return { kind: 'scored', gain: after === undefined ? -1 : meanGain(after) };
      }),
      tokensPerSecond: ((1 + variants.length) * sequences * context) / seconds,
    };
  }

  async close(): Promise<void> {
    await this.#engine.close();
  }
}
