/** The {@link Engine} on the native CPU library: batching, checks and errors around it. docs/native.md tells more. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  type Engine,
  EngineBusyError,
  type EngineCallOptions,
  EngineClosedError,
  type LossAndGradient,
  NonFiniteError,
  type VariantLosses,
  type VariantLossesOptions,
  WeightsLengthError,
} from '../engine/engine.ts';
import { InvalidEngineOptionsError, WHOLE_ACTIVATION_BYTES } from '../engine/onnx-engine.ts';
import { checkDelta, type SparseDelta, splitDelta } from '../engine/sparse-delta.ts';
import { countSequences, tokenPasses } from '../engine/token-passes.ts';
import { sequenceMeans, variantPass } from '../engine/variant-pass.ts';
import { parameterCount, type TensorSlot, tensorLayout } from '../model/layout.ts';
import { headWidth, type Preset } from '../model/preset.ts';
import type { WeightUpdate } from '../train/adamw.ts';
import { loadNativeLibrary, type NativeHandle, type NativeLibrary } from './library.ts';
import { NativeLayers } from './native-layers.ts';

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
  /** Default: ALICE_NATIVE_ISA, else the best of this processor. */
  readonly instructionSet?: string;
}

/** Enough for 1,300 rows of 50,257 columns in bf16: the head's weights and gradients are gone through once a pass. */
export const HEAD_BYTES = 2 ** 27;

/** Bytes that a training pass keeps from forward for backward. */
export function nativeActivationBytes(preset: Preset, batch: number, context: number): number {
  const keyValueWidth = preset.keyValueHeads * headWidth(preset);
  // Stream, middle of the block, attention's result, its operands, gate and up.
  return 4 * batch * context * preset.layers * (4 * preset.hidden + 2 * keyValueWidth + 2 * preset.ffn);
}

/**
 * Makes an engine with all weights zero. A pass over the model blocks the calling thread; between passes its event loop
 * runs. Throws {@link InvalidEngineOptionsError} and NativeUnavailableError (library.ts).
 */
export function createNativeEngine(options: NativeEngineOptions): NativeEngine {
  const { preset, threads, batch, context = preset.context, headBytes = HEAD_BYTES } = options;
  for (const [name, value] of Object.entries({ threads, batch, context, headBytes }))
    if (!Number.isInteger(value) || value < 1)
      throw new InvalidEngineOptionsError(`engine: ${name} must be a positive integer, not ${value}`);
  if (context > preset.context)
    throw new InvalidEngineOptionsError(`engine: context ${context} is longer than the preset's ${preset.context}`);
  const library = loadNativeLibrary(options.instructionSet);
  if (options.precision === 'bf16' && !library.bf16)
    throw new InvalidEngineOptionsError(`engine: ${library.isa} has no bf16; use fp32`);
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
  readonly #library: NativeLibrary;
  readonly #batch: number;
  readonly #makeHandle: (bf16: boolean) => NativeHandle;
  readonly #bf16: boolean;
  /** Trains, and scores too unless it is in bf16. Made when first used, as is the scorer. */
  #trainer: NativeHandle | undefined;
  #scorer: NativeHandle | undefined;
  #gradient: Float32Array<ArrayBuffer> | undefined;
  #busy = false;
  #closed = false;

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
    if (weights.length !== this.weights.length)
      throw new WeightsLengthError(`${this.preset.name} has ${this.weights.length} parameters, not ${weights.length}`);
    this.weights.set(weights);
  }

  async lossAndGradient(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<LossAndGradient> {
    return await this.#exclusive(async () => {
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
      if (!Number.isFinite(loss)) throw this.#nonFiniteLoss();
      return { loss, gradient, gradientNorm: this.#checkedNorm(gradient) };
    });
  }

  async losses(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<Float64Array<ArrayBuffer>> {
    return await this.#exclusive(async () => {
      const means = new Float64Array(countSequences(this.preset, this.context, tokens));
      let sequence = 0;
      for await (const pass of this.#passes(tokens, signal)) {
        const rows = new Float32Array((pass.length / (this.context + 1)) * this.context);
        this.#library.losses(this.#scoring(), this.weights, pass, rows);
        for (let start = 0; start < rows.length; start += this.context)
          means[sequence++] = rows.subarray(start, start + this.context).reduce((a, b) => a + b, 0) / this.context;
      }
      if (!means.every(Number.isFinite)) throw this.#nonFiniteLoss();
      return means;
    });
  }

  async variantLosses(
    tokens: Int32Array,
    variants: readonly SparseDelta[],
    options: VariantLossesOptions = {},
  ): Promise<VariantLosses> {
    return await this.#exclusive(async () => {
      countSequences(this.preset, this.context, tokens);
      for (const delta of variants) checkDelta(delta, this.weights.length);
      const changes = variants.map((delta) => splitDelta(delta, this.layout));
      const passes = tokenPasses(tokens, this.#batch, this.context);
      const layers = new NativeLayers(this, this.#library, this.#scoring());
      const rowLosses = await variantPass(layers, passes, changes, options);
      const [base, ...others] = rowLosses.map((losses) => sequenceMeans(losses, passes, this.context));
      if (base === undefined || !base.every(Number.isFinite)) throw this.#nonFiniteLoss();
      return { base, variants: others.map((means) => (means.every(Number.isFinite) ? means : undefined)) };
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    if (this.#busy) throw new EngineBusyError('close() while a call is running');
    this.#closed = true;
    for (const handle of new Set([this.#trainer, this.#scorer])) if (handle !== undefined) this.#library.close(handle);
  }

  #training(): NativeHandle {
    if (this.#closed) throw new EngineClosedError('the engine is closed');
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

  async #exclusive<T>(call: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new EngineClosedError('the engine is closed');
    if (this.#busy) throw new EngineBusyError('the engine runs another call');
    this.#busy = true;
    try {
      return await call();
    } finally {
      this.#busy = false;
    }
  }

  /** Norm of a vector in canonical order. Throws {@link NonFiniteError} with the first tensor that is not finite. */
  #checkedNorm(values: Float32Array): number {
    let sum = 0;
    for (const { name, offset, length } of this.layout) {
      const part = this.#library.squares(this.#training(), values.subarray(offset, offset + length));
      if (!Number.isFinite(part)) throw new NonFiniteError(name);
      sum += part;
    }
    return Math.sqrt(sum);
  }

  /** Names the weight that spoils a loss, or the losses when all weights are finite. */
  #nonFiniteLoss(): NonFiniteError {
    try {
      this.#checkedNorm(this.weights);
    } catch (error) {
      if (error instanceof NonFiniteError) return error;
      throw error;
    }
    return new NonFiniteError('losses');
  }
}
