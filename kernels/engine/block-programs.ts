/** One block of a model as two sessions that serve every layer: forward, and backward with recomputation. */
import type { BatchShape } from '../model/block.ts';
import { blockTensorNames } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { blockBackwardGraph, blockForwardGraph, gradientName } from '../model/programs.ts';
import { type BoundTensor, Session, type SessionOptions } from './session.ts';

/** A block's weights, or their gradients, in the order of {@link blockTensorNames}. */
export type BlockArrays = readonly Float32Array<ArrayBuffer>[];

/** Runs blocks. Sessions are compiled on first use. Activations are `[batch * positions, hidden]`. */
export class BlockPrograms {
  readonly #preset: Preset;
  readonly #shape: BatchShape;
  readonly #options: SessionOptions;
  #forward: Session | undefined;
  #backward: Session | undefined;

  constructor(preset: Preset, shape: BatchShape, options: SessionOptions) {
    this.#preset = preset;
    this.#shape = shape;
    this.#options = options;
  }

  /** Fills `y`. Throws SessionError. */
  async forward(x: Float32Array<ArrayBuffer>, weights: BlockArrays, y: Float32Array<ArrayBuffer>): Promise<void> {
    this.#forward ??= await Session.create(
      'block-forward',
      blockForwardGraph(this.#preset, this.#shape),
      this.#options,
    );
    const session = this.#forward;
    await session.run({ x: session.bind('x', x), ...bindAll(session, weights) }, { y: session.bind('y', y) });
  }

  /** Fills `dx` and `gradients` from the block's input and the gradient of its output. Throws SessionError. */
  async backward(
    x: Float32Array<ArrayBuffer>,
    dy: Float32Array<ArrayBuffer>,
    weights: BlockArrays,
    dx: Float32Array<ArrayBuffer>,
    gradients: BlockArrays,
  ): Promise<void> {
    this.#backward ??= await Session.create(
      'block-backward',
      blockBackwardGraph(this.#preset, this.#shape),
      this.#options,
    );
    const session = this.#backward;
    await session.run(
      { x: session.bind('x', x), 'd.y': session.bind('d.y', dy), ...bindAll(session, weights) },
      { 'd.x': session.bind('d.x', dx), ...bindAll(session, gradients, gradientName) },
    );
  }

  async close(): Promise<void> {
    await this.#forward?.close();
    await this.#backward?.close();
  }
}

function bindAll(
  session: Session,
  arrays: BlockArrays,
  rename: (name: string) => string = (name) => name,
): Record<string, BoundTensor> {
  return Object.fromEntries(
    blockTensorNames.map((name, index) => [
      rename(name),
      session.bind(rename(name), arrays[index] as Float32Array<ArrayBuffer>),
    ]),
  );
}
