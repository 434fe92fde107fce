/**
 * Runs a model block by block: one session serves every layer, backward recomputes each block from its input (gradient
 * checkpointing), and the head works on a bounded number of rows. What lives at once is one activation tensor per layer,
 * one block's intermediates, and one chunk of logits.
 */
import { type BlockTensorName, blockTensorNames } from '../model/layout.ts';
import {
  blockBackwardGraph,
  blockForwardGraph,
  gradientName,
  headForwardGraph,
  headTrainingGraph,
} from '../model/programs.ts';
import { findSlot, headSlot, type ModelRunner, type RunnerInit, tensorView } from './model-runner.ts';
import { type BoundTensor, Session } from './session.ts';

type Tensors = Record<string, BoundTensor>;

interface Sessions {
  readonly block: Session;
  readonly head: Session;
}

/** Scratch that only the backward pass needs. */
interface BackwardScratch {
  /** Gradients of activations: a block reads one and writes the other. */
  readonly upstream: readonly [Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>];
  /** Head gradients of a chunk that is not the first; undefined where there is only one. */
  readonly head: { readonly weight: Float32Array<ArrayBuffer>; readonly norm: Float32Array<ArrayBuffer> } | undefined;
}

/** {@link ModelRunner} over block and head sessions. */
export class BlockRunner implements ModelRunner {
  readonly #init: RunnerInit;
  /** Rows that the head takes at a time. */
  readonly #chunk: number;
  /** Input of each block, and after them the input of the head. The first is the embedding itself. */
  readonly #activations: readonly Float32Array<ArrayBuffer>[];
  #forward: Sessions | undefined;
  #backward: Sessions | undefined;
  #scratch: BackwardScratch | undefined;

  constructor(init: RunnerInit) {
    this.#init = init;
    const { embedded } = init.buffers;
    const later = Array.from({ length: init.preset.layers }, () => new Float32Array(embedded.length));
    this.#activations = [embedded, ...later];
    this.#chunk = init.headRows;
  }

  async forward(signal?: AbortSignal): Promise<void> {
    const { head } = await this.#forwardSessions();
    const x = await this.#blocksForward(signal);
    for (let start = 0; start < this.#init.buffers.targets.length; start += this.#chunk) {
      signal?.throwIfAborted();
      await head.run(this.#headFeeds(head, x, start), { losses: this.#losses(head, start) });
    }
  }

  async train(gradient: Float32Array<ArrayBuffer>, signal?: AbortSignal): Promise<void> {
    const { preset, buffers } = this.#init;
    const x = await this.#blocksForward(signal);
    const { block } = await this.#backwardSessions();
    const { upstream } = this.#backwardScratch();
    await this.#headBackward(x, upstream[0], gradient, signal);
    let current = 0;
    for (let layer = preset.layers - 1; layer >= 0; layer--) {
      signal?.throwIfAborted();
      const dy = upstream[current] as Float32Array;
      const dx = layer === 0 ? buffers.embeddedGradient : (upstream[1 - current] as Float32Array);
      const feeds: Tensors = {
        x: block.bind('x', this.#activation(layer)),
        'd.y': block.bind('d.y', dy),
        ...this.#blockFeeds(block, layer),
      };
      const fetches: Tensors = { 'd.x': block.bind('d.x', dx) };
      for (const name of blockTensorNames) {
        const output = gradientName(name);
        fetches[output] = block.bind(output, this.#blockTensor(gradient, layer, name));
      }
      await block.run(feeds, fetches);
      current = 1 - current;
    }
  }

  async close(): Promise<void> {
    for (const sessions of [this.#forward, this.#backward]) {
      await sessions?.block.close();
      await sessions?.head.close();
    }
  }

  async #blocksForward(signal: AbortSignal | undefined): Promise<Float32Array<ArrayBuffer>> {
    const { block } = await this.#forwardSessions();
    const { layers } = this.#init.preset;
    for (let layer = 0; layer < layers; layer++) {
      signal?.throwIfAborted();
      await block.run(
        { x: block.bind('x', this.#activation(layer)), ...this.#blockFeeds(block, layer) },
        { y: block.bind('y', this.#activation(layer + 1)) },
      );
    }
    return this.#activation(layers);
  }

  /** Head gradients over all chunks; `dx` gets the gradient of the head's input. */
  async #headBackward(
    x: Float32Array<ArrayBuffer>,
    dx: Float32Array<ArrayBuffer>,
    gradient: Float32Array<ArrayBuffer>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { preset, layout, buffers } = this.#init;
    const { head } = await this.#backwardSessions();
    const scratch = this.#backwardScratch().head;
    const weightGradient = tensorView(gradient, headSlot(preset, layout));
    const normGradient = tensorView(gradient, findSlot(layout, 'norm'));
    for (let start = 0; start < buffers.targets.length; start += this.#chunk) {
      signal?.throwIfAborted();
      const end = start + this.#chunk;
      const later = start === 0 ? undefined : scratch;
      await head.run(
        {
          ...this.#headFeeds(head, x, start),
          rowWeights: head.bind('rowWeights', buffers.rowWeights.subarray(start, end)),
        },
        {
          losses: this.#losses(head, start),
          'd.x': head.bind('d.x', this.#rows(dx, start)),
          'd.norm': head.bind('d.norm', later?.norm ?? normGradient),
          'd.head': head.bind('d.head', later?.weight ?? weightGradient),
        },
      );
      if (later === undefined) continue;
      addInto(normGradient, later.norm);
      addInto(weightGradient, later.weight);
    }
  }

  #headFeeds(head: Session, x: Float32Array<ArrayBuffer>, start: number): Tensors {
    const { preset, layout, buffers } = this.#init;
    return {
      x: head.bind('x', this.#rows(x, start)),
      norm: head.bind('norm', tensorView(buffers.weights, findSlot(layout, 'norm'))),
      head: head.bind('head', tensorView(buffers.weights, headSlot(preset, layout))),
      targets: head.bind('targets', buffers.targets.subarray(start, start + this.#chunk)),
    };
  }

  #blockFeeds(block: Session, layer: number): Tensors {
    const { weights } = this.#init.buffers;
    return Object.fromEntries(
      blockTensorNames.map((name) => [name, block.bind(name, this.#blockTensor(weights, layer, name))]),
    );
  }

  #blockTensor(flat: Float32Array<ArrayBuffer>, layer: number, name: BlockTensorName): Float32Array<ArrayBuffer> {
    return tensorView(flat, findSlot(this.#init.layout, `layers.${layer}.${name}`));
  }

  #losses(head: Session, start: number): BoundTensor {
    return head.bind('losses', this.#init.buffers.losses.subarray(start, start + this.#chunk));
  }

  /** One chunk of an activation. */
  #rows(activation: Float32Array<ArrayBuffer>, start: number): Float32Array<ArrayBuffer> {
    const { hidden } = this.#init.preset;
    return activation.subarray(start * hidden, (start + this.#chunk) * hidden);
  }

  #activation(index: number): Float32Array<ArrayBuffer> {
    return this.#activations[index] as Float32Array<ArrayBuffer>;
  }

  async #forwardSessions(): Promise<Sessions> {
    const { preset, shape, session } = this.#init;
    this.#forward ??= {
      block: await Session.create('block-forward', blockForwardGraph(preset, shape), session),
      head: await Session.create('head-forward', headForwardGraph(preset, this.#chunk), session),
    };
    return this.#forward;
  }

  async #backwardSessions(): Promise<Sessions> {
    const { preset, shape, session } = this.#init;
    this.#backward ??= {
      block: await Session.create('block-backward', blockBackwardGraph(preset, shape), session),
      head: await Session.create('head-training', headTrainingGraph(preset, this.#chunk), session),
    };
    return this.#backward;
  }

  #backwardScratch(): BackwardScratch {
    const { preset, shape, buffers, layout } = this.#init;
    const { length } = buffers.embedded;
    const severalChunks = this.#chunk < shape.batch * shape.positions;
    this.#scratch ??= {
      upstream: [new Float32Array(length), new Float32Array(length)],
      head: severalChunks
        ? { weight: new Float32Array(headSlot(preset, layout).length), norm: new Float32Array(preset.hidden) }
        : undefined,
    };
    return this.#scratch;
  }
}

/** target += values */
export function addInto(target: Float32Array, values: Float32Array): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) + (values[i] as number);
}
