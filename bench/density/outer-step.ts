/** The shared side of a round: aggregation and the outer step, sparse or dense, with the kernels of the network. */
import { applyUpdate, MAX_WEIGHT } from '../../kernels/aggregate/apply.ts';
import { clipScale, medianNorm, normOf } from '../../kernels/aggregate/norm.ts';
import { type AggregationRule, aggregate, type Submission } from '../../kernels/aggregate/rule.ts';
import { weightedMean } from '../../kernels/aggregate/weighted-mean.ts';
import { sumOfSquares } from '../../kernels/engine/engine.ts';
import type { SparseTensor, TensorLayout } from '../../kernels/gradient/layout.ts';
import type { TensorSlot } from '../../kernels/model/layout.ts';
import { AdamW, defaultAdamWOptions } from '../../kernels/train/adamw.ts';

/**
 * The rule of SparseLoCo as deployed: after the median-norm clip, the mean over those that have a coordinate. Only for
 * comparison: one submission owns every coordinate that nobody else sent.
 */
export function contributorsMean(): AggregationRule {
  return {
    name: 'contributors-mean',
    prepare(submissions) {
      const norms = submissions.map(({ update }) => normOf(update));
      const limit = medianNorm(norms);
      const scales = norms.map((norm) => clipScale(norm, limit));
      return (length, parts) => {
        const sums = new Float64Array(length);
        const contributors = new Uint16Array(length);
        parts.forEach((part, i) => {
          if (part === undefined) return;
          for (let entry = 0; entry < part.indices.length; entry++) {
            sums[part.indices[entry]] += scales[i] * part.values[entry];
            contributors[part.indices[entry]]++;
          }
        });
        const indices = new Uint32Array(contributors.reduce((count, own) => count + (own > 0 ? 1 : 0), 0));
        const values = new Float32Array(indices.length);
        for (let element = 0, found = 0; element < length; element++) {
          if (contributors[element] === 0) continue;
          indices[found] = element;
          values[found++] = sums[element] / contributors[element];
        }
        return { indices, values };
      };
    },
  };
}

/** Thrown when the outer step took a weight to where the network cuts it off: the run has diverged. */
export class WeightAtBoundError extends Error {
  static readonly code = 'ERR_WEIGHT_AT_BOUND';
  readonly code = WeightAtBoundError.code;
  override readonly name = 'WeightAtBoundError';
}

/** Throws {@link WeightAtBoundError}. */
function requireWithin(weights: Float32Array): void {
  for (let i = 0; i < weights.length; i++) {
    if (Math.abs(weights[i]) >= MAX_WEIGHT)
      throw new WeightAtBoundError(`weight ${i} is no finite number of use any more`);
  }
}

/** A sparse update as a vector of all parameters. */
function toVector(layout: TensorLayout, tensors: readonly SparseTensor[], elements: number): Float32Array {
  const vector = new Float32Array(elements);
  for (const { tensor, indices, values } of tensors) {
    const { offset } = layout[tensor];
    for (let i = 0; i < indices.length; i++) vector[offset + indices[i]] = values[i];
  }
  return vector;
}

/** A dense vector as the sparse tensors that the kernels take: every element is there. */
export function denseTensors(layout: TensorLayout, values: Float32Array): SparseTensor[] {
  return layout.map(({ offset, length }, tensor) => ({
    tensor,
    indices: Uint32Array.from({ length }, (_, i) => i),
    values: values.subarray(offset, offset + length),
  }));
}

/** Outer optimizer of a run; holds the momentum, where there is one. */
export class OuterStep {
  readonly #layout: TensorLayout;
  readonly #rule: AggregationRule;
  readonly #momentum: number;
  readonly #velocity: Float32Array | undefined;

  constructor(layout: TensorLayout, options: { divideBy: 'present' | 'contributors'; momentum: number }) {
    this.#layout = layout;
    this.#rule = options.divideBy === 'present' ? weightedMean() : contributorsMean();
    this.#momentum = options.momentum;
    const last = layout[layout.length - 1];
    this.#velocity = options.momentum === 0 ? undefined : new Float32Array(last.offset + last.length);
  }

  /** Moves the weights by a round's submissions. Throws errors of the aggregation, {@link WeightAtBoundError}. */
  take(weights: Float32Array, submissions: readonly Submission[], step: number): void {
    const update = aggregate(this.#rule, this.#layout, submissions);
    const velocity = this.#velocity;
    if (velocity === undefined) {
      applyUpdate(weights, this.#layout, update, step);
      requireWithin(weights);
      return;
    }
    // Nesterov as in DiLoCo: v <- momentum v + a, then along a + momentum v.
    const direction = toVector(this.#layout, update.tensors, velocity.length);
    for (let i = 0; i < velocity.length; i++) {
      velocity[i] = this.#momentum * velocity[i] + direction[i];
      direction[i] += this.#momentum * velocity[i];
    }
    applyUpdate(weights, this.#layout, { tensors: denseTensors(this.#layout, direction) }, step);
    requireWithin(weights);
  }
}

/** AdamW on the aggregated gradients: the outer optimizer of data parallel training over compressed gradients. */
export class OuterAdamW {
  readonly #layout: TensorLayout;
  readonly #optimizer: AdamW;
  readonly #beta2: number;

  /** @param modelLayout - of the model, which decides what is decayed; `layout` is that of the submissions. */
  constructor(layout: TensorLayout, modelLayout: readonly TensorSlot[], beta2: number) {
    this.#layout = layout;
    this.#optimizer = new AdamW(modelLayout);
    this.#beta2 = beta2;
  }

  /** Moves the weights by a round's submitted gradients. Throws errors of the aggregation. */
  take(weights: Float32Array, submissions: readonly Submission[], learningRate: number): void {
    const { tensors } = aggregate(weightedMean(), this.#layout, submissions);
    const gradient = toVector(this.#layout, tensors, weights.length);
    const options = { ...defaultAdamWOptions, beta2: this.#beta2 };
    this.#optimizer.step(weights, gradient, Math.sqrt(sumOfSquares(gradient)), learningRate, options);
  }
}
