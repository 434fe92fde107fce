/**
 * Applying an update to the weights and taking it back, bit for bit.
 */
import type { DecodedUpdate, SparseVector } from '../gradient/agf1.ts';
import { flattenUpdate } from '../gradient/agf1.ts';
import type { SparseTensor, TensorLayout } from '../gradient/layout.ts';
import { NonFiniteWeightError } from './errors.ts';

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

/** `weights[offset + index] <- fround(weights[...] - step * value)` (product and difference in fp64). True when all finite. */
function subtract(
  weights: Float32Array,
  offset: number,
  { indices, values }: { readonly indices: Uint32Array; readonly values: Float32Array },
  step: number,
  before: Float32Array,
): boolean {
  let spoilt = 0;
  for (let i = 0; i < indices.length; i++) {
    const at = offset + indices[i];
    before[i] = weights[at];
    const after = Math.fround(weights[at] - step * values[i]);
    weights[at] = after;
    // 0 for finite numbers, NaN for others; NaN stays.
    spoilt += after - after;
  }
  return spoilt === 0;
}

/**
 * The outer step: `w <- fround(w - outerStep * aggregate)`, product and difference in fp64. `weights` holds all parameters
 * of the layout. Returns what {@link undoChange} needs. Throws {@link NonFiniteWeightError}; the weights are then as before.
 */
export function applyUpdate(
  weights: Float32Array,
  layout: TensorLayout,
  update: { readonly tensors: Iterable<SparseTensor> },
  outerStep: number,
): SavedWeights {
  const tensors: { offset: number; indices: Uint32Array; before: Float32Array }[] = [];
  for (const tensor of update.tensors) {
    const { offset, name } = layout[tensor.tensor];
    const before = new Float32Array(tensor.indices.length);
    tensors.push({ offset, indices: tensor.indices, before });
    if (!subtract(weights, offset, tensor, outerStep, before)) {
      undoChange(weights, { tensors });
      throw new NonFiniteWeightError(`the update makes a weight of ${name} infinite or NaN`);
    }
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

/** Adds deltas to the weights. Returns what {@link undoChange} needs. Throws {@link NonFiniteWeightError}, weights as before. */
export function applyDeltas(weights: Float32Array, { indices, deltas }: WeightDeltas): SavedWeights {
  const before = new Float32Array(indices.length);
  const saved = { tensors: [{ offset: 0, indices, before }] };
  if (!subtract(weights, 0, { indices, values: deltas }, -1, before)) {
    undoChange(weights, saved);
    throw new NonFiniteWeightError('the deltas make a weight infinite or NaN');
  }
  return saved;
}
