/**
 * Applying an update to the weights and taking it back, bit for bit.
 */
import type { DecodedUpdate, SparseVector } from '../gradient/agf1.ts';
import { flattenUpdate } from '../gradient/agf1.ts';
import type { SparseTensor, TensorLayout } from '../gradient/layout.ts';

/** What a change overwrote. */
export interface SavedWeights {
  /** Changed places, by tensor: element indices over the flat vector start at `offset`. */
  readonly tensors: readonly {
    readonly offset: number;
    readonly indices: Uint32Array;
    readonly before: Float32Array;
  }[];
}

/** Puts the weights back as they were before the change. Undo changes in reverse order. */
export function undoChange(weights: Float32Array, saved: SavedWeights): void {
  for (const { offset, indices, before } of saved.tensors) {
    for (let i = 0; i < indices.length; i++) weights[offset + indices[i]] = before[i];
  }
}

/**
 * Where a weight that an update moves ends: the largest finite fp16, so that every form in which weights are kept and
 * computed with can hold it. Honest weights are far below (norm gains, the largest, grew from 1 to 1.3 in 12 rounds).
 */
export const MAX_WEIGHT = 65504;

/**
 * The outer step: `w <- fround(w - outerStep * aggregate)`, product and difference in fp64, then cut off at ±
 * {@link MAX_WEIGHT}. So it has a result, the same everywhere, for every aggregate of well-formed submissions: values that
 * overflow end at the bound, and nothing throws. `weights` holds all parameters of the layout, all finite. Returns what
 * {@link undoChange} needs.
 */
export function applyUpdate(
  weights: Float32Array,
  layout: TensorLayout,
  update: { readonly tensors: Iterable<SparseTensor> },
  outerStep: number,
): SavedWeights {
  const tensors: { offset: number; indices: Uint32Array; before: Float32Array }[] = [];
  for (const tensor of update.tensors) {
    const { offset } = layout[tensor.tensor];
    const { indices, values } = tensor;
    const before = new Float32Array(indices.length);
    for (let i = 0; i < indices.length; i++) {
      const at = offset + indices[i];
      before[i] = weights[at];
      const after = weights[at] - outerStep * values[i];
      weights[at] = after > MAX_WEIGHT ? MAX_WEIGHT : after < -MAX_WEIGHT ? -MAX_WEIGHT : after;
    }
    tensors.push({ offset, indices, before });
  }
  return { tensors };
}

/** A sparse change of the flat weights, to be tried by an evaluation: `w <- fround(w + delta)`. */
export interface WeightDeltas {
  /** Indices over the flat parameter vector, ascending. */
  readonly indices: Uint32Array;
  /** What to add. */
  readonly deltas: Float32Array;
}

/** How far a submission is tried. */
export interface Trial {
  /** From the median norm of the round. */
  readonly clipScale: number;
  /** A fifth or so of the outer step (DESIGN 6.5). */
  readonly step: number;
}

/** What a submission with these values is tried as when it is scored: `fround(-(clipScale * step) * value)`. */
export function trialDeltas(values: Float32Array, { clipScale, step }: Trial): Float32Array<ArrayBuffer> {
  const factor = -(clipScale * step);
  const deltas = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) deltas[i] = factor * values[i];
  return deltas;
}

/** How a submission is tried when it is scored: {@link trialDeltas} over the flat weights. Below 2^32 parameters. */
export function scoringVariant(
  update: Pick<DecodedUpdate, 'tensors'>,
  layout: TensorLayout,
  trial: Trial,
): WeightDeltas {
  const { indices, values }: SparseVector = flattenUpdate(update, layout);
  return { indices, deltas: trialDeltas(values, trial) };
}
