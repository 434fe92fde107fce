/**
 * A model on disk as a variant pass wants it: layer by layer. The weights are read once a sweep, the next layer while the
 * present one is in use; what a pass changes, it changes in the memory that they were read into. The store is never written.
 */
import { type TensorPart, type TensorStore, wholeTensor } from '../checkpoint/tensor-store.ts';
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { RowLosses } from './row-losses.ts';
import { readEmbeddings } from './stored-weights.ts';
import type { TokenPass } from './token-passes.ts';
import { blockSlots, headSlots, type LayeredModel, type TensorMemory } from './variant-pass.ts';
import { readerOf, WeightStream } from './weight-stream.ts';

type Floats = Float32Array<ArrayBuffer>;

/** What computes with weights that were read. */
export interface LayerPrograms {
  /** Runs a block. The tensors lie one after the other in memory. */
  block(tensors: readonly TensorMemory[], x: Floats, y: Floats): Promise<void>;
  /** Rows of the vocabulary in which the head is read, in order. */
  readonly headTiles: readonly { readonly first: number; readonly rows: number }[];
  /** Takes a tile into the losses of a pass, which are known after the last one. */
  head(norm: TensorMemory, head: TensorMemory, x: Floats, pass: TokenPass, losses: RowLosses): Promise<void>;
}

/** {@link LayeredModel} over a store. Close it when the pass is over, however it ended. */
export class StreamedLayers implements LayeredModel {
  readonly preset: Preset;
  readonly layout: readonly TensorSlot[];
  readonly #store: TensorStore;
  readonly #programs: LayerPrograms;
  readonly #memories: readonly Floats[];
  /** Of the present sweep. */
  #stream: WeightStream<Floats, Floats[]> | undefined;

  /** @param memories - one or two as `WeightStream` takes them, as long as a block's weights and a tile of the head */
  constructor(preset: Preset, store: TensorStore, programs: LayerPrograms, memories: readonly Floats[]) {
    this.preset = preset;
    this.layout = store.layout;
    this.#store = store;
    this.#programs = programs;
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
    await this.#programs.block(tensors, x, y);
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
    await this.#programs.head(norm, head, x, pass, losses);
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
    return this.#programs.headTiles.map(({ first, rows }) => ({ slot, start: first * hidden, length: rows * hidden }));
  }
}
