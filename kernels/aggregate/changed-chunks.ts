/**
 * Which chunks of the model an update touches, so that only those are hashed and sent again.
 */
import type { SparseTensor, TensorLayout } from '../gradient/layout.ts';
import { MODEL_CHUNK_ELEMENTS } from './model-root.ts';

/** Chunks with at least one element of the update, ascending. */
export function changedChunks(update: { readonly tensors: Iterable<SparseTensor> }, layout: TensorLayout): number[] {
  const chunks: number[] = [];
  let last = -1;
  for (const { tensor, indices } of update.tensors) {
    const { offset } = layout[tensor];
    for (let i = 0; i < indices.length; i++) {
      const chunk = Math.floor((offset + indices[i]) / MODEL_CHUNK_ELEMENTS);
      if (chunk !== last) chunks.push(chunk);
      last = chunk;
    }
  }
  return chunks;
}
