/** The {@link Engine} on the native CPU library: batching, checks and errors around it. docs/native.md tells more. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  checkedNorm,
  type Engine,
  type EngineCallOptions,
  type LossAndGradient,
  nonFiniteLoss,
  takeWeights,
  type VariantLosses,
  type VariantLossesOptions,
} from '../engine/engine.ts';
import { ExclusiveUse } from '../engine/exclusive-use.ts';
import { checkOptions, InvalidEngineOptionsError, WHOLE_ACTIVATION_BYTES } from '../engine/onnx-engine.ts';
import type { SparseDelta } from '../engine/sparse-delta.ts';
import { countSequences } from '../engine/token-passes.ts';
import { variantLosses } from '../engine/variant-pass.ts';
import { parameterCount, type TensorSlot, tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { WeightUpdate } from '../train/adamw.ts';
import { differenceLosses } from './difference-pass.ts';
import {
  loadNativeLibrary,
  type NativeDifferences,
  type NativeHandle,
  type NativeLibrary,
  type NativeProfile,
} from './library.ts';
import { NativeLayers } from './native-layers.ts';
import { HEAD_BYTES, nativeActivationBytes } from './native-memory.ts';

/** How a native engine runs a model. */
export interface NativeEngineOptions {
  readonly preset: Preset;
  /** Threads, the calling one included. */
  readonly threads: number;
  /** Most sequences in one pass over the model; a call may have any number. */
  readonly batch: number;
  /** Tokens predicted per sequence, at most the preset's context. Default: the preset's. */
  readonly context?: number;
  /**
   * Of matrix products in {@link Engine.lossAndGradient}; sums, residual stream and weights are float32 either way, and
   * {@link Engine.losses} is float32 throughout. `bf16` needs a processor that has it. Default `fp32`.
   */
  readonly precision?: 'fp32' | 'bf16';
  /** `whole` keeps all activations; `blocks` recomputes them. Default: `whole` while they stay below a GiB. */
  readonly memory?: 'whole' | 'blocks';
  /** Most bytes of probabilities over the vocabulary at once. Default {@link HEAD_BYTES}. */
  readonly headBytes?: number;
  /**
   * How {@link Engine.variantLosses} evaluates changes. `exact`: in fp32, to the bit as if each were made by itself.
   * `differences` (difference-pass.ts): for less time, to about 1e-4 nats
   * (docs/native.md); needs a processor with bf16. Default: `differences` where the processor has bf16, else `exact`.
   */
  readonly variants?: 'exact' | 'differences';
  /** Default: ALICE_NATIVE_ISA, else the best of this processor. */
  readonly instructionSet?: string;
}

/**
 * Makes an engine with all weights zero. A pass over the model blocks the calling thread; between passes its event loop
 * runs. Throws {@link InvalidEngineOptionsError} and NativeUnavailableError (library.ts).
 */
export function createNativeEngine(options: NativeEngineOptions): NativeEngine {
  checkOptions(options);
  const library = loadNativeLibrary(options.instructionSet);
  if (options.precision === 'bf16' && !library.bf16)
    throw new InvalidEngineOptionsError(`engine: ${library.isa} has no bf16; use fp32`);
  if (options.variants === 'differences' && library.differences === undefined)
    throw new InvalidEngineOptionsError(`engine: ${library.isa} has no bf16; evaluate variants exactly`);
  return new NativeEngine(options, library);
}

type Quartet = [Float32Array, Float32Array, Float32Array, Float32Array];

/** See {@link createNativeEngine}. */
export class NativeEngine implements Engine {
  readonly preset: Preset;
  readonly context: number;
  readonly layout: readonly TensorSlot[];
  readonly weights: Float32Array<ArrayBuffer>;
  /** The instruction set in use. */
  readonly instructionSet: string;
  /** AdamW's step by this engine's threads, for `new AdamW(layout, update)`. */
  readonly updateWeights: WeightUpdate;
  readonly #use = new ExclusiveUse();
  readonly #library: NativeLibrary;
  readonly #batch: number;
  readonly #makeHandle: (bf16: boolean) => NativeHandle;
  readonly #bf16: boolean;
  /** Undefined where variants are evaluated exactly. */
  readonly #differences: NativeDifferences | undefined;
  /** Trains, and scores too unless it is in bf16. Made when first used, as is the scorer. */
  #trainer: NativeHandle | undefined;
  #scorer: NativeHandle | undefined;
  #gradient: Float32Array<ArrayBuffer> | undefined;

  constructor(options: NativeEngineOptions, library: NativeLibrary) {
    const { preset, batch, threads } = options;
    this.preset = preset;
    this.context = options.context ?? preset.context;
    this.layout = tensorLayout(preset);
    this.weights = new Float32Array(parameterCount(preset));
    this.instructionSet = library.isa;
    this.#library = library;
    this.#batch = batch;
    this.#bf16 = options.precision === 'bf16';
    if (options.variants !== 'exact') this.#differences = library.differences;
    const fits = nativeActivationBytes(preset, batch, this.context) <= WHOLE_ACTIVATION_BYTES;
    const recompute = (options.memory ?? (fits ? 'whole' : 'blocks')) === 'blocks';
    const { name: _forPeople, ...shape } = preset;
    this.#makeHandle = (bf16) =>
      library.create({
        ...shape,
        ...{ context: this.context, batch, threads },
        tied: Number(preset.tied),
        recompute: Number(recompute),
        headBytes: options.headBytes ?? HEAD_BYTES,
        bf16: Number(bf16),
      });
    this.updateWeights = (weights, gradient, mean, square, start, end, constants) => {
      const [w, g, m, v] = [weights, gradient, mean, square].map((vector) => vector.subarray(start, end)) as Quartet;
      library.step(this.#training(), w, g, m, v, constants);
    };
  }

  loadWeights(weights: Float32Array): void {
    takeWeights(this, weights);
  }

  async lossAndGradient(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<LossAndGradient> {
    return await this.#use.call(async () => {
      const rowWeight = 1 / (countSequences(this.preset, this.context, tokens) * this.context);
      this.#gradient ??= new Float32Array(this.weights.length);
      const gradient = this.#gradient;
      let total = 0;
      let accumulate = 0;
      for await (const pass of this.#passes(tokens, signal)) {
        const rows = new Float32Array((pass.length / (this.context + 1)) * this.context);
        this.#library.train(this.#training(), this.weights, pass, rows, rowWeight, gradient, accumulate);
        accumulate = 1;
        for (const loss of rows) total += loss;
      }
      const loss = total * rowWeight;
      if (!Number.isFinite(loss)) throw nonFiniteLoss(this);
      const squares = (values: Float32Array) => this.#library.squares(this.#training(), values);
      return { loss, gradient, gradientNorm: checkedNorm(this.layout, gradient, squares) };
    });
  }

  /** Where the time of training went since the last call; in fp32 that of scoring is in it. */
  profile(): NativeProfile {
    return this.#library.profile(this.#training());
  }

  /** GFLOP/s of packed products of 1024 x 1024 in the precision of training: the peak that its speed is a share of. */
  productPeak(): number {
    const [size, repeats] = [1024, 20];
    return (repeats * 2 * size ** 3) / this.#library.products(this.#training(), { size, repeats }) / 1e9;
  }

  async losses(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<Float64Array<ArrayBuffer>> {
    return await this.#use.call(async () => {
      const means = new Float64Array(countSequences(this.preset, this.context, tokens));
      let sequence = 0;
      for await (const pass of this.#passes(tokens, signal)) {
        const rows = new Float32Array((pass.length / (this.context + 1)) * this.context);
        this.#library.losses(this.#scoring(), this.weights, pass, rows);
        for (let start = 0; start < rows.length; start += this.context)
          means[sequence++] = rows.subarray(start, start + this.context).reduce((a, b) => a + b, 0) / this.context;
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
      const shape = { batch: this.#batch, context: this.context };
      const handle = this.#scoring();
      const losses =
        this.#differences === undefined
          ? await variantLosses(new NativeLayers(this, this.#library, handle), shape, tokens, variants, options)
          : await differenceLosses(this, { differences: this.#differences, handle }, shape, tokens, variants, options);
      if (!losses.base.every(Number.isFinite)) throw nonFiniteLoss(this);
      return losses;
    });
  }

  async close(): Promise<void> {
    if (!this.#use.end()) return;
    for (const handle of new Set([this.#trainer, this.#scorer])) if (handle !== undefined) this.#library.close(handle);
  }

  #training(): NativeHandle {
    this.#use.requireOpen();
    this.#trainer ??= this.#makeHandle(this.#bf16);
    return this.#trainer;
  }

  #scoring(): NativeHandle {
    if (!this.#bf16) return this.#training();
    this.#scorer ??= this.#makeHandle(false);
    return this.#scorer;
  }

  /** Cuts tokens into passes and lets the event loop run before each, so that others are served and aborts arrive. */
  async *#passes(tokens: Int32Array, signal: AbortSignal | undefined): AsyncGenerator<Int32Array> {
    const length = this.#batch * (this.context + 1);
    for (let start = 0; start < tokens.length; start += length) {
      signal?.throwIfAborted();
      await nextTurn();
      signal?.throwIfAborted();
      yield tokens.subarray(start, start + length);
    }
  }
}
