/**
 * Dynamic loss scaling (arXiv 1710.03740): float16 gradients would vanish below 6e-8, so the loss is multiplied before
 * it is differentiated and the gradient divided afterwards. The factor follows what the gradients allow.
 */

/** Constants of {@link LossScale}. */
export interface LossScaleOptions {
  /** Power of two. */
  readonly initial: number;
  /** Good steps in a row after which the scale doubles. */
  readonly growthInterval: number;
  /** Power of two that the scale never exceeds: float32 holds a product of a gradient and 2^24 in comfort. */
  readonly largest: number;
}

/** A failed attempt to grow costs one step: with 200 steps between attempts, half a percent. */
export const defaultLossScaleOptions: LossScaleOptions = { initial: 2 ** 16, growthInterval: 200, largest: 2 ** 24 };

/** The scale: always a power of two from 1, so that scaling and unscaling round nothing. */
export class LossScale {
  readonly #options: LossScaleOptions;
  #value: number;
  #goodSteps = 0;

  constructor(options: Partial<LossScaleOptions> = {}) {
    this.#options = { ...defaultLossScaleOptions, ...options };
    for (const value of [this.#options.initial, this.#options.largest])
      if (!(value >= 1 && Number.isInteger(Math.log2(value))))
        throw new RangeError(`a loss scale is a power of two from 1, not ${value}`);
    this.#value = Math.min(this.#options.initial, this.#options.largest);
  }

  /** What the loss is multiplied by. */
  get value(): number {
    return this.#value;
  }

  /** The gradient was finite. */
  succeeded(): void {
    this.#goodSteps++;
    if (this.#goodSteps < this.#options.growthInterval) return;
    this.#goodSteps = 0;
    this.#value = Math.min(2 * this.#value, this.#options.largest);
  }

  /** The gradient held Inf or NaN. False when the scale is 1 already: then scaling is not what is wrong. */
  overflowed(): boolean {
    this.#goodSteps = 0;
    if (this.#value === 1) return false;
    this.#value /= 2;
    return true;
  }
}

/** Thrown when a float16 gradient overflowed. The scale has been halved: skip this step and go on. */
export class GradientOverflowError extends Error {
  static readonly code = 'ERR_GRADIENT_OVERFLOW';
  readonly code = GradientOverflowError.code;
  override readonly name = 'GradientOverflowError';
  /** The first tensor whose gradient was not finite. */
  readonly tensor: string;

  constructor(tensor: string, scale: number) {
    super(`the float16 gradient of ${tensor} overflowed; the loss scale is ${scale} now`);
    this.tensor = tensor;
  }
}
