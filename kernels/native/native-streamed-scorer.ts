/**
 * Losses of a model whose weights stay on disk, and of sparse changes of it, on the native library: in fp32, to the bit those
 * of `NativeEngine` with `variants: 'exact'`. What lives at once is a layer's weights, or the head's, and one pass through it.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { TensorFileMismatchError } from '../checkpoint/errors.ts';
import type { TensorStore } from '../checkpoint/tensor-store.ts';
import type { VariantLosses, VariantLossesOptions } from '../engine/engine.ts';
import { ExclusiveUse } from '../engine/exclusive-use.ts';
import { checkOptions } from '../engine/onnx-engine.ts';
import type { DeltaByTensor } from '../engine/sparse-delta.ts';
import { storedNonFiniteLoss } from '../engine/stored-weights.ts';
import { type LayerPrograms, StreamedLayers } from '../engine/streamed-layers.ts';
import { blockElements } from '../engine/streamed-memory.ts';
import type { StoredScorer } from '../engine/streamed-scorer.ts';
import { type TensorMemory, tensorVariantLosses } from '../engine/variant-pass.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { loadNativeLibrary, type NativeHandle, type NativeLibrary } from './library.ts';
import type { NativeEngineOptions } from './native-engine.ts';
import { HEAD_BYTES } from './native-memory.ts';
import { nativeScoringWeights } from './native-streamed-memory.ts';

type Floats = Float32Array<ArrayBuffer>;

/** How a native scorer runs. A pass has `batch` sequences. */
export interface NativeStreamedScorerOptions
  extends Pick<NativeEngineOptions, 'preset' | 'threads' | 'batch' | 'context' | 'instructionSet'> {
  /** Whether the next layer's weights are read while the present one computes. Default true; costs a layer's weights. */
  readonly prefetch?: boolean;
}

/** {@link StoredScorer} on the native library. */
export class NativeStreamedScorer implements StoredScorer {
  readonly context: number;
  readonly #preset: Preset;
  readonly #store: TensorStore;
  readonly #batch: number;
  readonly #library: NativeLibrary;
  readonly #engine: NativeHandle;
  readonly #memories: readonly [Floats, ...Floats[]];
  readonly #use = new ExclusiveUse();

  /**
   * Throws InvalidEngineOptionsError, NativeUnavailableError, TensorFileMismatchError for a store of another model or of
   * something else.
   */
  constructor(store: TensorStore, options: NativeStreamedScorerOptions) {
    const { preset, threads, batch, prefetch = true } = options;
    checkOptions(options);
    if (store.kind !== 'weights' || store.presetHash !== presetHash(preset))
      throw new TensorFileMismatchError(`${store.path} holds ${store.kind} of another model than ${preset.name}`);
    this.context = options.context ?? preset.context;
    this.#preset = preset;
    this.#store = store;
    this.#batch = batch;
    this.#library = loadNativeLibrary(options.instructionSet);
    const { length, count } = nativeScoringWeights(preset, prefetch);
    const memory = () => new Float32Array(length);
    this.#memories = [memory(), ...(count > 1 ? [memory()] : [])];
    const { name: _forPeople, ...shape } = preset;
    this.#engine = this.#library.create({
      ...shape,
      ...{ context: this.context, batch, threads, tied: Number(preset.tied), recompute: 1 },
      ...{ headBytes: HEAD_BYTES, bf16: 0 },
    });
  }

  async variantLosses(
    tokens: Int32Array,
    variants: readonly DeltaByTensor[],
    options: VariantLossesOptions = {},
  ): Promise<VariantLosses> {
    return await this.#use.call(async () => {
      const layers = new StreamedLayers(this.#preset, this.#store, this.#programs(), this.#memories);
      try {
        const shape = { batch: this.#batch, context: this.context };
        const losses = await tensorVariantLosses(layers, shape, tokens, variants, options);
        if (!losses.base.every(Number.isFinite)) throw await storedNonFiniteLoss(this.#store, this.#memories[0]);
        return losses;
      } finally {
        await layers.close();
      }
    });
  }

  async close(): Promise<void> {
    if (this.#use.end()) this.#library.close(this.#engine);
  }

  /** The event loop runs before each part, so that others are served and aborts arrive. */
  #programs(): LayerPrograms {
    const [library, engine] = [this.#library, this.#engine];
    return {
      block: async (tensors, x, y) => {
        await nextTurn();
        library.block(engine, this.#blockWeights(tensors), x, y);
      },
      headTiles: [{ first: 0, rows: this.#preset.vocabulary }],
      head: async (norm, head, x, pass, losses) => {
        await nextTurn();
        library.headLosses(engine, norm.values, head.values, x, Int32Array.from(pass.targets, Number), losses.values);
      },
    };
  }

  #blockWeights([first]: readonly TensorMemory[]): Floats {
    if (first === undefined) throw new RangeError('a block without tensors');
    return new Float32Array(first.values.buffer, first.values.byteOffset, blockElements(this.#preset));
  }
}
