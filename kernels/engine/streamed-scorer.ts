/**
 * Losses of a model whose weights stay on disk, and of sparse changes of it: each layer is read once, all changes go
 * through it, and nothing is written. Results are those of the resident engine in its `blocks` mode, to the bit.
 */
import { TensorFileMismatchError } from '../checkpoint/errors.ts';
import type { TensorStore } from '../checkpoint/tensor-store.ts';
import { headChunkRows } from '../model/head.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { BlockPrograms } from './block-programs.ts';
import type { VariantLosses, VariantLossesOptions } from './engine.ts';
import { HeadPrograms, MAX_HEAD_TILE_BYTES } from './head-programs.ts';
import { checkOptions, MAX_HEAD_ROWS } from './onnx-engine.ts';
import type { DeltaByTensor } from './sparse-delta.ts';
import { storedNonFiniteLoss } from './stored-weights.ts';
import type { StreamedEngineOptions } from './streamed-engine.ts';
import { type LayerPrograms, StreamedLayers } from './streamed-layers.ts';
import { streamedBuffers } from './streamed-memory.ts';
import { tensorVariantLosses } from './variant-pass.ts';

type Floats = Float32Array<ArrayBuffer>;

/** What evaluates a stored model, whatever computes it. One call at a time. */
export interface StoredScorer {
  /** Tokens predicted per sequence. */
  readonly context: number;
  /**
   * Mean loss of each sequence, for the weights as they are and for each change of them. A change's parts are asked for once
   * for each sweep over the layers, and again for each run of the head. Throws as `Engine.variantLosses` for tokens and for
   * the weights as they are, what the store and the changes throw, the signal's reason; a change that breaks the model has
   * no losses.
   */
  variantLosses(
    tokens: Int32Array,
    variants: readonly DeltaByTensor[],
    options?: VariantLossesOptions,
  ): Promise<VariantLosses>;
  /** Frees the device, not the store. */
  close(): Promise<void>;
}

/** {@link StoredScorer} on onnxruntime. */
export class StreamedScorer implements StoredScorer {
  readonly context: number;
  readonly #preset: Preset;
  readonly #store: TensorStore;
  readonly #batch: number;
  readonly #programs: { readonly blocks: BlockPrograms; readonly head: HeadPrograms };
  readonly #memories: readonly [Floats, ...Floats[]];

  /** Throws InvalidEngineOptionsError, TensorFileMismatchError for a store of another model or of something else. */
  constructor(store: TensorStore, options: StreamedEngineOptions) {
    checkOptions(options);
    const { preset, batch, threads, prefetch = true, headTileBytes = MAX_HEAD_TILE_BYTES } = options;
    if (store.kind !== 'weights' || store.presetHash !== presetHash(preset))
      throw new TensorFileMismatchError(`${store.path} holds ${store.kind} of another model than ${preset.name}`);
    this.context = options.context ?? preset.context;
    this.#preset = preset;
    this.#store = store;
    this.#batch = batch;
    const rows = batch * this.context;
    const headRows = headChunkRows(rows, options.headRows ?? MAX_HEAD_ROWS);
    // An arena would keep the largest graph's intermediates while another one runs.
    const session = { threads, arena: false };
    this.#programs = {
      blocks: new BlockPrograms(preset, { batch, positions: this.context }, session),
      head: new HeadPrograms(preset, headRows, session, headTileBytes),
    };
    const shape = { preset, batch, context: this.context, passes: 1, headRows, headTileBytes, prefetch };
    const { length, count } = streamedBuffers(shape).weights;
    const [first, ...others] = Array.from({ length: count }, () => new Float32Array(length));
    if (first === undefined) throw new RangeError('no memory for weights');
    this.#memories = [first, ...others];
  }

  async variantLosses(
    tokens: Int32Array,
    variants: readonly DeltaByTensor[],
    options: VariantLossesOptions = {},
  ): Promise<VariantLosses> {
    const layers = new StreamedLayers(this.#preset, this.#store, this.#layerPrograms(), this.#memories);
    try {
      const shape = { batch: this.#batch, context: this.context };
      const losses = await tensorVariantLosses(layers, shape, tokens, variants, options);
      if (!losses.base.every(Number.isFinite)) throw await storedNonFiniteLoss(this.#store, this.#memories[0]);
      return losses;
    } finally {
      await layers.close();
    }
  }

  #layerPrograms(): LayerPrograms {
    const { blocks, head: heads } = this.#programs;
    return {
      block: async (tensors, x, y) => {
        await blocks.forward(
          x,
          tensors.map(({ values }) => values),
          y,
        );
      },
      headTiles: heads.tiles,
      head: async (norm, head, x, { targets }, losses) => {
        const tile = heads.tileAt((head.start ?? 0) / this.#preset.hidden);
        await heads.forwardTile(tile, { x, targets }, { norm: norm.values, head: head.values }, losses);
      },
    };
  }

  async close(): Promise<void> {
    await this.#programs.blocks.close();
    await this.#programs.head.close();
  }
}
