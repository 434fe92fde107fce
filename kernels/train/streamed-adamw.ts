/** AdamW whose moments lie on disk, for weights that do. Steps equal those of `adamw.ts` to the bit. */
import { join } from 'node:path';
import { TensorStore, type TensorStoreInit, tensorParts } from '../checkpoint/tensor-store.ts';
import { NonFiniteError, sumOfSquares } from '../engine/engine.ts';
import { type AdamWOptions, defaultAdamWOptions, updateConstants, updateWeights } from './adamw.ts';

/** Elements of each of the four vectors that are in memory at once: 64 MiB. */
export const STEP_ELEMENTS = 1 << 24;

/** Optimizer state on disk: two stores of moments. They live as long as the optimizer, as those in memory do. */
export class StreamedAdamW {
  readonly #folder: string;
  readonly #init: Omit<TensorStoreInit, 'kind'>;
  #moments: { readonly mean: TensorStore; readonly square: TensorStore } | undefined;
  #steps = 0;

  /** @param folder - for the stores; twice the size of the model. Made when the first step is taken. */
  constructor(folder: string, { presetHash, layout }: Omit<TensorStoreInit, 'kind'>) {
    this.#folder = folder;
    this.#init = { presetHash, layout };
  }

  /** Steps taken since the moments were zero. */
  get steps(): number {
    return this.#steps;
  }

  /**
   * Moves `weights` one step against `gradient`, a part of a tensor at a time. After a failure the weights are of no use
   * (start again from those that are whole), and the moments are forgotten.
   *
   * Throws NonFiniteError with the tensor's name when a weight leaves float32; what the stores throw.
   *
   * @param gradientNorm - Euclidean norm of the whole gradient, which must be finite.
   */
  async step(
    weights: TensorStore,
    gradient: TensorStore,
    gradientNorm: number,
    learningRate: number,
    options: AdamWOptions = defaultAdamWOptions,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    const moments = await this.#stores();
    this.#steps++;
    try {
      await this.#update({ weights, gradient, ...moments }, gradientNorm, learningRate, options, signal);
    } catch (error) {
      await this.reset();
      throw error;
    }
  }

  async #update(
    { weights, gradient, mean, square }: Record<'weights' | 'gradient' | 'mean' | 'square', TensorStore>,
    gradientNorm: number,
    learningRate: number,
    options: AdamWOptions,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { layout } = this.#init;
    const parts = layout.flatMap((slot) => tensorParts(slot, STEP_ELEMENTS));
    const longest = parts.reduce((most, { length }) => Math.max(most, length), 0);
    const memories = Array.from({ length: 4 }, () => new Float32Array(longest));
    for (const part of parts) {
      signal?.throwIfAborted();
      const views = memories.map((memory) => memory.subarray(0, part.length));
      const [w, g, m, v] = views as [(typeof views)[0], (typeof views)[0], (typeof views)[0], (typeof views)[0]];
      await Promise.all([weights.read(part, w), gradient.read(part, g), mean.read(part, m), square.read(part, v)]);
      const constants = updateConstants(part.slot.role, this.#steps, gradientNorm, learningRate, options);
      updateWeights(w, g, m, v, 0, part.length, constants);
      if (!Number.isFinite(sumOfSquares(w))) throw new NonFiniteError(part.slot.name);
      await Promise.all([weights.write(part, w), mean.write(part, m), square.write(part, v)]);
    }
  }

  /** Forgets the moments and deletes their files. */
  async reset(): Promise<void> {
    this.#steps = 0;
    const moments = this.#moments;
    this.#moments = undefined;
    await moments?.mean.close();
    await moments?.square.close();
  }

  async #stores(): Promise<{ readonly mean: TensorStore; readonly square: TensorStore }> {
    if (this.#moments === undefined) {
      const mean = await TensorStore.create(join(this.#folder, 'mean'), { ...this.#init, kind: 'first-moment' });
      try {
        const square = await TensorStore.create(join(this.#folder, 'square'), { ...this.#init, kind: 'second-moment' });
        this.#moments = { mean, square };
      } catch (error) {
        await mean.close();
        throw error;
      }
    }
    return this.#moments;
  }
}
