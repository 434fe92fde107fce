/**
 * Runs a model block by block: one session serves every layer, backward recomputes each block from its input (gradient
 * checkpointing), and the head works on a bounded number of rows. What lives at once is one activation tensor per layer,
 * one block's intermediates, and one chunk of logits.
 */
import { blockTensorNames } from '../model/layout.ts';
import { type BlockArrays, BlockPrograms } from './block-programs.ts';
import { HeadPrograms, type HeadTile, type HeadWeights } from './head-programs.ts';
import { findSlot, headSlot, type ModelRunner, type RunnerInit, tensorView } from './model-runner.ts';

type Floats = Float32Array<ArrayBuffer>;

/** {@link ModelRunner} over block and head sessions. */
export class BlockRunner implements ModelRunner {
  readonly #init: RunnerInit;
  /** Input of each block, and after them the input of the head. The first is the embedding itself. */
  readonly #activations: readonly Floats[];
  readonly #blocks: BlockPrograms;
  readonly #head: HeadPrograms;
  /** Gradients of activations: a block reads one and writes the other. Only backward needs them. */
  #upstream: readonly [Floats, Floats] | undefined;

  constructor(init: RunnerInit) {
    this.#init = init;
    const { embedded } = init.buffers;
    const later = Array.from({ length: init.preset.layers }, () => new Float32Array(embedded.length));
    this.#activations = [embedded, ...later];
    this.#blocks = new BlockPrograms(init.preset, init.shape, init.session);
    this.#head = new HeadPrograms(init.preset, init.headRows, init.session, init.headTileBytes);
  }

  async forward(signal?: AbortSignal): Promise<void> {
    const x = await this.#blocksForward(signal);
    const { targets, losses } = this.#init.buffers;
    await this.#head.forward([{ x, targets, losses }], this.#headWeights(), signal);
  }

  async train(gradient: Floats, signal?: AbortSignal): Promise<void> {
    const { preset, buffers } = this.#init;
    const x = await this.#blocksForward(signal);
    this.#upstream ??= [new Float32Array(x.length), new Float32Array(x.length)];
    await this.#headBackward(x, this.#upstream[0], gradient, signal);
    let current = 0;
    for (let layer = preset.layers - 1; layer >= 0; layer--) {
      signal?.throwIfAborted();
      const dy = this.#upstream[current] as Floats;
      const dx = layer === 0 ? buffers.embeddedGradient : (this.#upstream[1 - current] as Floats);
      const weights = this.#blockArrays(buffers.weights, layer);
      await this.#blocks.backward(this.#activation(layer), dy, weights, dx, this.#blockArrays(gradient, layer));
      current = 1 - current;
    }
  }

  async close(): Promise<void> {
    await this.#blocks.close();
    await this.#head.close();
  }

  async #blocksForward(signal: AbortSignal | undefined): Promise<Floats> {
    const { preset, buffers } = this.#init;
    for (let layer = 0; layer < preset.layers; layer++) {
      signal?.throwIfAborted();
      const weights = this.#blockArrays(buffers.weights, layer);
      await this.#blocks.forward(this.#activation(layer), weights, this.#activation(layer + 1));
    }
    return this.#activation(preset.layers);
  }

  /** `dx` gets the gradient of the head's input. */
  async #headBackward(x: Floats, dx: Floats, gradient: Floats, signal: AbortSignal | undefined): Promise<void> {
    const { layout, buffers } = this.#init;
    const { targets, losses, rowWeights } = buffers;
    const gradients = {
      norms: [tensorView(gradient, findSlot(layout, 'norm'))],
      room: (tile: HeadTile) => this.#headRows(gradient, tile),
      losses: () => {},
      done: async () => {},
    };
    await this.#head.train([{ x, dx, targets, losses, rowWeights }], this.#headWeights(), gradients, signal);
  }

  #headWeights(): HeadWeights {
    const { layout, buffers } = this.#init;
    return {
      norm: tensorView(buffers.weights, findSlot(layout, 'norm')),
      tile: async (tile) => this.#headRows(buffers.weights, tile),
    };
  }

  #headRows(flat: Floats, { first, rows }: HeadTile): Floats {
    const { preset, layout } = this.#init;
    return tensorView(flat, headSlot(preset, layout)).subarray(first * preset.hidden, (first + rows) * preset.hidden);
  }

  #blockArrays(flat: Floats, layer: number): BlockArrays {
    const { layout } = this.#init;
    return blockTensorNames.map((name) => tensorView(flat, findSlot(layout, `layers.${layer}.${name}`)));
  }

  #activation(index: number): Floats {
    return this.#activations[index] as Floats;
  }
}
