/**
 * A model on disk as a variant pass wants it: layer by layer. The weights are read once a sweep, the next layer while the
 * present one is in use; what a pass changes, it changes in the memory that they were read into. The store is never written.
 */
import { type TensorPart, type TensorStore, wholeTensor } from '../checkpoint/tensor-store.ts';
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { BlockPrograms } from './block-programs.ts';
import type { HeadPrograms } from './head-programs.ts';
import type { RowLosses } from './row-losses.ts';
import { readEmbeddings } from './stored-weights.ts';
import type { TokenPass } from './token-passes.ts';
import { blockSlots, headSlots, type LayeredModel, type TensorMemory } from './variant-pass.ts';
import { readerOf, WeightStream } from './weight-stream.ts';

type Floats = Float32Array<ArrayBuffer>;

/** {@link LayeredModel} over a store. Close it when the pass is over, however it ended. */
export class StreamedLayers implements LayeredModel {
  readonly preset: Preset;
  readonly layout: readonly TensorSlot[];
  readonly #store: TensorStore;
  readonly #blocks: BlockPrograms;
  readonly #head: HeadPrograms;
  readonly #memories: readonly Floats[];
  /** Of the present sweep. */
  #stream: WeightStream<Floats, Floats[]> | undefined;

  /** @param memories - one or two as `WeightStream` takes them, as long as a block's weights and a tile of the head */
  constructor(
    preset: Preset,
    store: TensorStore,
    programs: { readonly blocks: BlockPrograms; readonly head: HeadPrograms },
    memories: readonly Floats[],
  ) {
    this.preset = preset;
    this.layout = store.layout;
    this.#store = store;
    this.#blocks = programs.blocks;
    this.#head = programs.head;
    this.#memories = memories;
  }

  async embed({ inputs }: TokenPass, x: Floats): Promise<void> {
    await readEmbeddings(this.#store, this.preset.hidden, [{ inputs, x }]);
  }

  async withBlock(layer: number, body: (tensors: readonly TensorMemory[]) => Promise<void>): Promise<void> {
    if (layer === 0) await this.#begin();
    const arrays = await this.#next();
    await body(blockSlots(this.layout, layer).map((slot, index) => ({ slot, values: arrays[index] as Floats })));
  }

  async block(tensors: readonly TensorMemory[], x: Floats, y: Floats): Promise<void> {
    await this.#blocks.forward(
      x,
      tensors.map(({ values }) => values),
      y,
    );
  }

  async withHead(body: (norm: TensorMemory, head: TensorMemory) => Promise<void>): Promise<void> {
    const slots = headSlots(this.preset, this.layout);
    const norm = { slot: slots.norm, values: new Float32Array(slots.norm.length) };
    await this.#store.read(wholeTensor(slots.norm), norm.values);
    for (const { start } of this.#tiles()) {
      const [values] = await this.#next();
      await body(norm, { slot: slots.head, start, values: values as Floats });
    }
    await this.close();
  }

  async head(norm: TensorMemory, head: TensorMemory, x: Floats, pass: TokenPass, losses: RowLosses): Promise<void> {
    const { targets } = pass;
    await this.#head.forwardTile(
      this.#head.tileAt((head.start ?? 0) / this.preset.hidden),
      { x, targets },
      { norm: norm.values, head: head.values },
      losses,
    );
  }

  /** Waits until nothing is being read. */
  async close(): Promise<void> {
    await this.#stream?.close();
    this.#stream = undefined;
  }

  async #begin(): Promise<void> {
    await this.close();
    const blocks = Array.from({ length: this.preset.layers }, (_, layer) =>
      blockSlots(this.layout, layer).map(wholeTensor),
    );
    this.#stream = new WeightStream(readerOf(this.#store), this.#memories, [
      ...blocks,
      ...this.#tiles().map((tile) => [tile]),
    ]);
  }

  async #next(): Promise<Floats[]> {
    if (this.#stream === undefined) throw new RangeError('layers come in order, from the first');
    return await this.#stream.next();
  }

  #tiles(): TensorPart[] {
    const { hidden } = this.preset;
    const { head: slot } = headSlots(this.preset, this.layout);
    return this.#head.tiles.map(({ first, rows }) => ({ slot, start: first * hidden, length: rows * hidden }));
  }
}
