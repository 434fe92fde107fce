/** A model in memory as a variant pass wants it: layer by layer. */
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { BlockPrograms } from './block-programs.ts';
import { HeadPrograms } from './head-programs.ts';
import { findSlot, type RunnerInit, tensorView } from './model-runner.ts';
import type { RowLosses } from './row-losses.ts';
import type { TokenPass } from './token-passes.ts';
import { blockSlots, headSlots, type LayeredModel, type TensorMemory } from './variant-pass.ts';

type Floats = Float32Array<ArrayBuffer>;

/** {@link LayeredModel} over an engine's weights. */
export class ResidentLayers implements LayeredModel {
  readonly preset: Preset;
  readonly layout: readonly TensorSlot[];
  readonly #weights: Floats;
  readonly #blocks: BlockPrograms;
  readonly #head: HeadPrograms;

  constructor({ preset, layout, shape, buffers, session, headRows, headTileBytes }: RunnerInit) {
    this.preset = preset;
    this.layout = layout;
    this.#weights = buffers.weights;
    this.#blocks = new BlockPrograms(preset, shape, session);
    this.#head = new HeadPrograms(preset, headRows, session, headTileBytes);
  }

  async embed({ inputs }: TokenPass, x: Floats): Promise<void> {
    const { hidden } = this.preset;
    const table = tensorView(this.#weights, findSlot(this.layout, 'embedding'));
    for (const [row, token] of inputs.entries())
      x.set(table.subarray(token * hidden, (token + 1) * hidden), row * hidden);
  }

  async withBlock(layer: number, body: (tensors: readonly TensorMemory[]) => Promise<void>): Promise<void> {
    await body(blockSlots(this.layout, layer).map((slot) => this.#memory(slot)));
  }

  async block(tensors: readonly TensorMemory[], x: Floats, y: Floats): Promise<void> {
    await this.#blocks.forward(
      x,
      tensors.map(({ values }) => values),
      y,
    );
  }

  async withHead(body: (norm: TensorMemory, head: TensorMemory) => Promise<void>): Promise<void> {
    const { hidden } = this.preset;
    const { norm, head } = headSlots(this.preset, this.layout);
    const { values } = this.#memory(head);
    for (const { first, rows } of this.#head.tiles) {
      const start = first * hidden;
      await body(this.#memory(norm), { slot: head, start, values: values.subarray(start, start + rows * hidden) });
    }
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

  async close(): Promise<void> {
    await this.#blocks.close();
    await this.#head.close();
  }

  #memory(slot: TensorSlot): TensorMemory {
    return { slot, values: tensorView(this.#weights, slot) };
  }
}
