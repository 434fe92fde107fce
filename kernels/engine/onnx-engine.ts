/** The {@link Engine} on onnxruntime: embedding lookup, batching and checks around a {@link ModelRunner}. */
import { headChunkRows } from '../model/head.ts';
import { parameterCount, type TensorSlot, tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { BlockRunner } from './block-runner.ts';
import type { Device, Precision } from './device/device.ts';
import {
  checkedNorm,
  type Engine,
  type EngineCallOptions,
  type LossAndGradient,
  NonFiniteError,
  nonFiniteLoss,
  takeWeights,
  type VariantLosses,
  type VariantLossesOptions,
} from './engine.ts';
import { ExclusiveUse } from './exclusive-use.ts';
import { addInto } from './head-programs.ts';
import { GradientOverflowError, LossScale } from './loss-scale.ts';
import { findSlot, type ModelRunner, type RunnerBuffers, tensorView } from './model-runner.ts';
import { ResidentLayers } from './resident-layers.ts';
import type { SparseDelta } from './sparse-delta.ts';
import { countSequences } from './token-passes.ts';
import { variantLosses } from './variant-pass.ts';
import { WholeRunner } from './whole-runner.ts';

/** How an engine runs a model. Structured-cloneable. */
export interface EngineOptions {
  readonly preset: Preset;
  /** Threads of the device. Several processes may share few cores: set it. */
  readonly threads: number;
  /** Sequences in one pass over the model; a call may have any number. */
  readonly batch: number;
  /** Tokens predicted per sequence, at most the preset's context. Default: the preset's. */
  readonly context?: number;
  /**
   * `whole` keeps all activations; `blocks` recomputes them and bounds memory. Default: `whole` while the activations
   * stay below {@link WHOLE_ACTIVATION_BYTES}.
   */
  readonly memory?: 'whole' | 'blocks';
  /** Most rows (tokens) whose logits exist at once. Default {@link MAX_HEAD_ROWS}. */
  readonly headRows?: number;
  /** Where graphs run. Default `cpu`. Ask for what `device/choose.ts` found to work. */
  readonly device?: Device;
  /**
   * Of {@link Engine.lossAndGradient}: `fp16` computes matrix products in float16 under a dynamic loss scale. Weights,
   * gradients and {@link Engine.losses} are float32 either way. Default `fp32`.
   */
  readonly precision?: Precision;
  /** The loss scale to begin with, a power of two. Default: that of {@link LossScale}. */
  readonly initialLossScale?: number;
  /**
   * Block by block, a head of more bytes is gone through in tiles of the vocabulary. Default `MAX_HEAD_TILE_BYTES`.
   * Engines are equal to the bit only with the same `headRows` and `headTileBytes`.
   */
  readonly headTileBytes?: number;
  /** Path prefix for onnxruntime's profiles. Default: none are written. */
  readonly profilePrefix?: string;
}

/**
 * Rows of one head pass: enough arithmetic per weight that adding up the passes' gradients costs little, few enough that
 * 50,257 logits each take 51 MB. For `alice-nano`, as fast as all rows at once, and 30 MB less.
 */
export const MAX_HEAD_ROWS = 256;

/** Above this estimate of what a training pass keeps, the engine works block by block. */
export const WHOLE_ACTIVATION_BYTES = 2 ** 30;

/** Estimate of the bytes that a training pass over the whole model keeps from forward for backward. */
export function activationBytes(preset: Preset, batch: number, context: number): number {
  // Per token and block: a dozen tensors of the residual width, six of the FFN's, four of attention scores.
  const perToken = preset.layers * (12 * preset.hidden + 6 * preset.ffn + 4 * preset.queryHeads * context);
  // The probabilities of all rows are kept for backward.
  return 4 * batch * context * (perToken + preset.vocabulary);
}

/** Thrown for engine options that make no sense. */
export class InvalidEngineOptionsError extends Error {
  static readonly code = 'ERR_INVALID_ENGINE_OPTIONS';
  readonly code = InvalidEngineOptionsError.code;
  override readonly name = 'InvalidEngineOptionsError';
}

/** The options of an engine, whatever computes for it, that are counts. */
type EngineCounts = Pick<EngineOptions, 'preset' | 'threads' | 'batch' | 'context' | 'headRows' | 'headTileBytes'> & {
  readonly headBytes?: number;
};

/** Throws {@link InvalidEngineOptionsError}. */
export function checkOptions(options: EngineCounts): void {
  const { threads, batch, context = 1, headRows = 1, headTileBytes = 1, headBytes = 1 } = options;
  const positive = { threads, batch, context, headRows, headTileBytes, headBytes };
  for (const [name, value] of Object.entries(positive))
    if (!Number.isInteger(value) || value < 1)
      throw new InvalidEngineOptionsError(`engine: ${name} must be a positive integer, not ${value}`);
  if (options.context !== undefined && options.context > options.preset.context)
    throw new InvalidEngineOptionsError(
      `engine: context ${options.context} is longer than the preset's ${options.preset.context}`,
    );
}

/**
 * Makes an engine with all weights zero. Sessions are compiled when first used.
 * Throws {@link InvalidEngineOptionsError}.
 */
export function createEngine(options: EngineOptions): Engine {
  checkOptions(options);
  return new OnnxEngine(options);
}

class OnnxEngine implements Engine {
  readonly preset: Preset;
  readonly context: number;
  readonly layout: readonly TensorSlot[];
  readonly weights: Float32Array<ArrayBuffer>;
  readonly #use = new ExclusiveUse();
  readonly #batch: number;
  readonly #buffers: RunnerBuffers;
  /** Trains. */
  readonly #runner: ModelRunner;
  readonly #layers: ResidentLayers;
  /** Scores: the same one, unless training is in another precision. */
  readonly #scorer: () => ModelRunner;
  /** Undefined in fp32, which needs none. */
  readonly #lossScale: LossScale | undefined;
  readonly #embedding: TensorSlot;
  /** Token ids of the rows of the current pass. */
  readonly #inputTokens: Int32Array;
  #fullPrecision: ModelRunner | undefined;
  #gradient: Float32Array<ArrayBuffer> | undefined;
  /** Gradient of a pass that is not the first of its call. */
  #passGradient: Float32Array<ArrayBuffer> | undefined;

  constructor(options: EngineOptions) {
    const { preset, batch } = options;
    this.preset = preset;
    this.context = options.context ?? preset.context;
    this.layout = tensorLayout(preset);
    this.weights = new Float32Array(parameterCount(preset));
    this.#batch = batch;
    this.#embedding = findSlot(this.layout, 'embedding');
    const rows = batch * this.context;
    this.#inputTokens = new Int32Array(rows);
    this.#buffers = {
      weights: this.weights,
      embedded: new Float32Array(rows * preset.hidden),
      targets: new BigInt64Array(rows),
      rowWeights: new Float32Array(rows),
      losses: new Float32Array(rows),
      embeddedGradient: new Float32Array(rows * preset.hidden),
    };
    const init = {
      preset,
      shape: { batch, positions: this.context },
      layout: this.layout,
      buffers: this.#buffers,
      headRows: headChunkRows(rows, options.headRows ?? MAX_HEAD_ROWS),
      ...(options.headTileBytes === undefined ? {} : { headTileBytes: options.headTileBytes }),
      session: {
        threads: options.threads,
        ...(options.device === undefined ? {} : { device: options.device }),
        ...(options.profilePrefix === undefined ? {} : { profilePrefix: options.profilePrefix }),
      },
    };
    const fits = activationBytes(preset, batch, this.context) <= WHOLE_ACTIVATION_BYTES;
    const memory = options.memory ?? (fits ? 'whole' : 'blocks');
    // Scores are in fp32, whatever training is in.
    this.#layers = new ResidentLayers({ ...init, session: { ...init.session, precision: 'fp32' } });
    const makeRunner = (precision: Precision): ModelRunner => {
      const precise = { ...init, session: { ...init.session, precision } };
      return memory === 'whole' ? new WholeRunner(precise) : new BlockRunner(precise);
    };
    const { precision = 'fp32', initialLossScale } = options;
    this.#runner = makeRunner(precision);
    if (precision === 'fp32') {
      this.#scorer = () => this.#runner;
    } else {
      this.#lossScale = new LossScale(initialLossScale === undefined ? {} : { initial: initialLossScale });
      this.#scorer = () => {
        this.#fullPrecision ??= makeRunner('fp32');
        return this.#fullPrecision;
      };
    }
  }

  loadWeights(weights: Float32Array): void {
    takeWeights(this, weights);
  }

  async lossAndGradient(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<LossAndGradient> {
    return await this.#use.call(async () => {
      const sequences = countSequences(this.preset, this.context, tokens);
      const rowWeight = 1 / (sequences * this.context);
      const scale = this.#lossScale?.value ?? 1;
      this.#gradient ??= new Float32Array(this.weights.length);
      const gradient = this.#gradient;
      let total = 0;
      for (let first = 0; first < sequences; first += this.#batch) {
        signal?.throwIfAborted();
        if (first > 0) this.#passGradient ??= new Float32Array(this.weights.length);
        const target = first === 0 ? gradient : (this.#passGradient ?? gradient);
        const count = this.#fill(tokens, first, sequences);
        this.#buffers.rowWeights.fill(scale * rowWeight, 0, count * this.context).fill(0, count * this.context);
        await this.#runner.train(target, signal);
        this.#embeddingGradient(target);
        if (first > 0) addInto(gradient, target);
        for (let row = 0; row < count * this.context; row++) total += this.#buffers.losses[row] as number;
      }
      const loss = total * rowWeight;
      if (!Number.isFinite(loss)) throw nonFiniteLoss(this);
      return { loss, gradient, gradientNorm: this.#unscaledNorm(gradient, scale) };
    });
  }

  async losses(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<Float64Array<ArrayBuffer>> {
    return await this.#use.call(async () => {
      const sequences = countSequences(this.preset, this.context, tokens);
      const means = new Float64Array(sequences);
      for (let first = 0; first < sequences; first += this.#batch) {
        signal?.throwIfAborted();
        const count = this.#fill(tokens, first, sequences);
        await this.#scorer().forward(signal);
        for (let sequence = 0; sequence < count; sequence++) {
          let sum = 0;
          for (let position = 0; position < this.context; position++)
            sum += this.#buffers.losses[sequence * this.context + position] as number;
          means[first + sequence] = sum / this.context;
        }
      }
      if (!means.every(Number.isFinite)) throw nonFiniteLoss(this);
      return means;
    });
  }

  async variantLosses(
    tokens: Int32Array,
    variants: readonly SparseDelta[],
    options: VariantLossesOptions = {},
  ): Promise<VariantLosses> {
    return await this.#use.call(async () => {
      const losses = await variantLosses(
        this.#layers,
        { batch: this.#batch, context: this.context },
        tokens,
        variants,
        options,
      );
      if (!losses.base.every(Number.isFinite)) throw nonFiniteLoss(this);
      return losses;
    });
  }

  async close(): Promise<void> {
    if (!this.#use.end()) return;
    await this.#runner.close();
    await this.#layers.close();
    await this.#fullPrecision?.close();
  }

  /** Takes the loss scale off a gradient, in place, and adapts it. Throws {@link GradientOverflowError}. */
  #unscaledNorm(gradient: Float32Array<ArrayBuffer>, scale: number): number {
    try {
      if (scale !== 1) for (let i = 0; i < gradient.length; i++) gradient[i] = (gradient[i] as number) / scale;
      const norm = checkedNorm(this.layout, gradient);
      this.#lossScale?.succeeded();
      return norm;
    } catch (error) {
      if (error instanceof NonFiniteError && this.#lossScale?.overflowed())
        throw new GradientOverflowError(error.tensor, this.#lossScale.value);
      throw error;
    }
  }

  /** Looks up one pass of sequences; a short last pass is filled up with the first one's. Returns how many are real. */
  #fill(tokens: Int32Array, first: number, sequences: number): number {
    const count = Math.min(this.#batch, sequences - first);
    const { hidden } = this.preset;
    const { embedded, targets } = this.#buffers;
    const { offset } = this.#embedding;
    for (let sequence = 0; sequence < this.#batch; sequence++) {
      const start = (first + (sequence < count ? sequence : 0)) * (this.context + 1);
      for (let position = 0; position < this.context; position++) {
        const row = sequence * this.context + position;
        const token = tokens[start + position] as number;
        this.#inputTokens[row] = token;
        targets[row] = BigInt(tokens[start + position + 1] as number);
        const at = offset + token * hidden;
        embedded.set(this.weights.subarray(at, at + hidden), row * hidden);
      }
    }
    return count;
  }

  /** Adds each row's gradient to its token's row of the embedding. */
  #embeddingGradient(gradient: Float32Array<ArrayBuffer>): void {
    const { hidden, tied } = this.preset;
    const table = tensorView(gradient, this.#embedding);
    if (!tied) table.fill(0);
    const rows = this.#buffers.embeddedGradient;
    for (let row = 0; row < this.#inputTokens.length; row++) {
      const to = (this.#inputTokens[row] as number) * hidden;
      const from = row * hidden;
      for (let i = 0; i < hidden; i++) table[to + i] = (table[to + i] as number) + (rows[from + i] as number);
    }
  }
}
