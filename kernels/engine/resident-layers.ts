/** A model in memory as a variant pass wants it: layer by layer. */
import { blockTensorNames, type TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { blockForwardGraph, headForwardGraph } from '../model/programs.ts';
import { findSlot, type RunnerInit, tensorView } from './model-runner.ts';
import { type BoundTensor, Session } from './session.ts';
import type { TokenPass } from './token-passes.ts';
import { blockSlots, headSlots, type LayeredModel, type TensorMemory } from './variant-pass.ts';

type Floats = Float32Array<ArrayBuffer>;

/** {@link LayeredModel} over an engine's weights. Sessions are compiled on first use. */
export class ResidentLayers implements LayeredModel {
  readonly preset: Preset;
  readonly layout: readonly TensorSlot[];
  readonly #init: RunnerInit;
  #blockSession: Session | undefined;
  #headSession: Session | undefined;

  constructor(init: RunnerInit) {
    this.#init = init;
    this.preset = init.preset;
    this.layout = init.layout;
  }

  async embed({ inputs }: TokenPass, x: Floats): Promise<void> {
    const { hidden } = this.preset;
    const table = tensorView(this.#init.buffers.weights, findSlot(this.layout, 'embedding'));
    for (const [row, token] of inputs.entries())
      x.set(table.subarray(token * hidden, (token + 1) * hidden), row * hidden);
  }

  async withBlock(layer: number, body: (tensors: readonly TensorMemory[]) => Promise<void>): Promise<void> {
    await body(blockSlots(this.layout, layer).map((slot) => this.#memory(slot)));
  }

  async block(tensors: readonly TensorMemory[], x: Floats, y: Floats): Promise<void> {
    const { preset, shape, session: options } = this.#init;
    this.#blockSession ??= await Session.create('block-forward', blockForwardGraph(preset, shape), options);
    const session = this.#blockSession;
    const feeds: Record<string, BoundTensor> = { x: session.bind('x', x) };
    for (const [i, name] of blockTensorNames.entries())
      feeds[name] = session.bind(name, (tensors[i] as TensorMemory).values);
    await session.run(feeds, { y: session.bind('y', y) });
  }

  async withHead(body: (norm: TensorMemory, head: TensorMemory) => Promise<void>): Promise<void> {
    const { norm, head } = headSlots(this.preset, this.layout);
    await body(this.#memory(norm), this.#memory(head));
  }

  async head(norm: TensorMemory, head: TensorMemory, x: Floats, pass: TokenPass, losses: Floats): Promise<void> {
    const { preset, headRows, session: options } = this.#init;
    this.#headSession ??= await Session.create('head-forward', headForwardGraph(preset, headRows), options);
    const session = this.#headSession;
    const { hidden } = preset;
    for (let start = 0; start < losses.length; start += headRows) {
      const end = start + headRows;
      await session.run(
        {
          x: session.bind('x', x.subarray(start * hidden, end * hidden)),
          norm: session.bind('norm', norm.values),
          head: session.bind('head', head.values),
          targets: session.bind('targets', pass.targets.subarray(start, end)),
        },
        { losses: session.bind('losses', losses.subarray(start, end)) },
      );
    }
  }

  async close(): Promise<void> {
    await this.#blockSession?.close();
    await this.#headSession?.close();
  }

  #memory(slot: TensorSlot): TensorMemory {
    return { slot, values: tensorView(this.#init.buffers.weights, slot) };
  }
}
