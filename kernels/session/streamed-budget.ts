/** What a session with its weights on disk holds in memory beside its engine, and what that leaves for scoring. */
import { estimateMemory, estimateStreamedScoring, type MemoryMode } from '../engine/memory-plan.ts';
import { blockElements } from '../engine/streamed-memory.ts';
import { MAX_VARIANT_BYTES } from '../engine/variant-pass.ts';
import { CHUNK_ELEMENTS } from '../gradient/chunks.ts';
import { tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { STEP_ELEMENTS } from '../train/streamed-adamw.ts';
import type { ModelSessionInit, TrainingRecipe } from './model-session.ts';

/** Most bytes that a session holds beside its engine, over all it does. */
export function streamedWorkBytes(preset: Preset): number {
  const longest = tensorLayout(preset).reduce((most, { length }) => Math.max(most, length), 0);
  const part = Math.min(longest, STEP_ELEMENTS);
  // An optimizer step has four parts at once; compression two whole tensors and a part. What one stage had waits for the
  // collector while the next one runs: their sum was measured, not their maximum.
  return 4 * (4 * part + (2 * longest + part));
}

/** Estimated peak of a session in a mode, bytes: what its budget must be at least. */
export function sessionBytes(preset: Preset, batchSequences: number, mode: MemoryMode): number {
  const shape = { preset, batch: batchSequences, context: preset.context };
  return estimateMemory({ ...shape, besideStreamedBytes: streamedWorkBytes(preset) }, mode);
}

/** Bytes of a sent element while it is tried: index, value, change, what it overwrites, and what decoding needs. */
const TRIED_ELEMENT_BYTES = 24;

/** Most bytes of one submission that are decoded at a time: a block's, or those of the longest tensor. */
export function triedBytes({
  preset,
  recipe,
}: {
  readonly preset: Preset;
  readonly recipe: Pick<TrainingRecipe, 'topK'>;
}): number {
  const longest = tensorLayout(preset).reduce((most, { length }) => Math.max(most, length), 0);
  return Math.max(longest, blockElements(preset)) * Math.min(1, recipe.topK / CHUNK_ELEMENTS) * TRIED_ELEMENT_BYTES;
}

/**
 * Most bytes of activations side by side in scoring: what the budget leaves beside one layer's weights, its work and a
 * submission's part of it. Never so little that it could not go on, two activations, and no more than is of use.
 */
export function scoringActivationBytes(init: ModelSessionInit, mode: MemoryMode): number {
  const { preset, recipe, memoryBytes } = init;
  if (memoryBytes === undefined) return MAX_VARIANT_BYTES;
  const besideStreamedBytes = triedBytes(init);
  const request = { preset, batch: recipe.batchSequences, context: preset.context, besideStreamedBytes };
  const rest = estimateStreamedScoring(request, mode === 'streamed' ? mode : 'streamed-no-prefetch');
  return Math.max(1, Math.min(MAX_VARIANT_BYTES, memoryBytes - rest));
}
