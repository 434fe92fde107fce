/** AdamW (arXiv 1711.05101) over a flat parameter vector, with clipping of the global gradient norm. */
import type { TensorRole, TensorSlot } from '../model/layout.ts';

/** Constants of the optimizer. */
export interface AdamWOptions {
  /** Decay of the mean of gradients. */
  readonly beta1: number;
  /** Decay of the mean of squared gradients. */
  readonly beta2: number;
  /** Added to the root of the mean square. */
  readonly epsilon: number;
  /** Share of a weight that is taken off per unit of learning rate; norms are not decayed. */
  readonly weightDecay: number;
  /** Gradients with a larger Euclidean norm are scaled down to it. */
  readonly clipNorm: number;
}

/** The recipe of SparseLoCo (ANCHORS 3). */
export const defaultAdamWOptions: AdamWOptions = {
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};

/** One step of elements `start` to `end` of vectors of equal length. */
export type WeightUpdate = typeof updateWeights;

/** Optimizer state: two moments per parameter, in float32. */
export class AdamW {
  readonly #layout: readonly TensorSlot[];
  readonly #update: WeightUpdate;
  readonly #mean: Float32Array;
  readonly #square: Float32Array;
  #steps = 0;

  /**
   * @param layout - of the parameter vector; decides its length and which tensors decay
   * @param update - an engine may have a faster one than the default
   */
  constructor(layout: readonly TensorSlot[], update: WeightUpdate = updateWeights) {
    this.#layout = layout;
    this.#update = update;
    const last = layout.at(-1);
    const length = last === undefined ? 0 : last.offset + last.length;
    this.#mean = new Float32Array(length);
    this.#square = new Float32Array(length);
  }

  /** Steps taken since the moments were zero. */
  get steps(): number {
    return this.#steps;
  }

  /** Forgets the moments. */
  reset(): void {
    this.#mean.fill(0);
    this.#square.fill(0);
    this.#steps = 0;
  }

  /**
   * Moves `weights` one step against `gradient`.
   *
   * @param gradientNorm - Euclidean norm of `gradient`, which must be finite.
   */
  step(
    weights: Float32Array,
    gradient: Float32Array,
    gradientNorm: number,
    learningRate: number,
    options: AdamWOptions = defaultAdamWOptions,
  ): void {
    this.#steps++;
    for (const { role, offset, length } of this.#layout) {
      const constants = updateConstants(role, this.#steps, gradientNorm, learningRate, options);
      this.#update(weights, gradient, this.#mean, this.#square, offset, offset + length, constants);
    }
  }
}

/** What one step does to every element of a tensor. */
export interface UpdateConstants extends AdamWOptions {
  /** Factor on the gradient. */
  readonly clip: number;
  readonly meanCorrection: number;
  readonly squareCorrection: number;
  /** Factor on the weight: decoupled decay. */
  readonly keep: number;
}

/** Constants of step `step` (from 1) for a tensor. */
export function updateConstants(
  role: TensorRole,
  step: number,
  gradientNorm: number,
  learningRate: number,
  options: AdamWOptions,
): UpdateConstants {
  const { beta1, beta2, clipNorm, weightDecay } = options;
  return {
    ...options,
    clip: gradientNorm > clipNorm ? clipNorm / gradientNorm : 1,
    meanCorrection: learningRate / (1 - beta1 ** step),
    squareCorrection: 1 / (1 - beta2 ** step),
    keep: role === 'norm' ? 1 : 1 - learningRate * weightDecay,
  };
}

/** One step of elements `start` to `end`. A plain loop over float32 arrays with float64 temporaries is what V8 runs fastest. */
export function updateWeights(
  weights: Float32Array,
  gradient: Float32Array,
  mean: Float32Array,
  square: Float32Array,
  start: number,
  end: number,
  constants: UpdateConstants,
): void {
  const { beta1, beta2, epsilon, clip, meanCorrection, squareCorrection, keep } = constants;
  const alpha1 = 1 - beta1;
  const alpha2 = 1 - beta2;
  for (let i = start; i < end; i++) {
    const g = (gradient[i] as number) * clip;
    const m = beta1 * (mean[i] as number) + alpha1 * g;
    const v = beta2 * (square[i] as number) + alpha2 * g * g;
    mean[i] = m;
    square[i] = v;
    weights[i] = (weights[i] as number) * keep - (meanCorrection * m) / (Math.sqrt(v * squareCorrection) + epsilon);
  }
}
