/** How a session with its weights on disk runs on the native library within its budget. */
import { formatSize, MemoryBudgetError, type MemoryPlan } from '../engine/memory-plan.ts';
import { MAX_VARIANT_BYTES } from '../engine/variant-pass.ts';
import { parameterCount } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import {
  estimateNativeScoring,
  estimateNativeStreamed,
  type NativeStreamedRequest,
  planNativeStreamed,
} from '../native/native-streamed-memory.ts';
import type { ModelSessionInit, TrainingRecipe } from './model-session.ts';
import { streamedWorkBytes, triedBytes } from './streamed-budget.ts';

type ScoringRequest = Pick<ModelSessionInit, 'preset' | 'memoryBytes'> & {
  readonly recipe: Pick<TrainingRecipe, 'batchSequences' | 'topK'>;
};

/** What decides how a session streams natively. */
export type NativeSessionRequest = ScoringRequest &
  Pick<ModelSessionInit, 'threads'> & { readonly precision: 'fp32' | 'bf16' };

/**
 * How such a session trains: the fastest way that fits; without a budget, the fastest. Throws MemoryBudgetError that says how
 * much the smallest way takes to train and to score.
 */
export function planNativeSession(request: NativeSessionRequest): MemoryPlan {
  const { preset, recipe, memoryBytes } = request;
  const least = leastNativeSessionBytes(request);
  if (memoryBytes !== undefined && least > memoryBytes)
    throw new MemoryBudgetError(
      `${preset.name} with ${recipe.batchSequences} x ${preset.context} tokens needs ${formatSize(least)} streamed ` +
        `natively, more than the ${formatSize(memoryBytes)} allowed`,
      least,
    );
  const plan = planNativeStreamed(trainingOf(request), memoryBytes);
  return { backend: 'native', ...plan, bytes: Math.max(plan.bytes, leastScoringBytes(request)) };
}

/** Estimated peak of the smallest way to train and to score natively, bytes. */
export function leastNativeSessionBytes(request: NativeSessionRequest): number {
  const ways = [true, false].map((spill) =>
    estimateNativeStreamed(trainingOf(request), { batch: 1, spill, prefetch: false }),
  );
  return Math.ceil(Math.max(Math.min(...ways), leastScoringBytes(request)));
}

/** Most bytes of the engine's own files: the copy of rounded weights, and the inputs of the blocks of a step. */
export function nativeScratchBytes({ preset, recipe, precision }: Omit<NativeSessionRequest, 'threads'>): number {
  const { context, hidden, layers } = preset;
  const copy = precision === 'bf16' ? 2 * parameterCount(preset) : 0;
  return copy + 4 * recipe.batchSequences * context * hidden * (layers + 1);
}

function trainingOf({ preset, recipe, threads, precision }: NativeSessionRequest): NativeStreamedRequest {
  const besideStreamedBytes = streamedWorkBytes(preset);
  const { batchSequences: sequences } = recipe;
  return { preset, sequences, context: preset.context, precision, threads, besideStreamedBytes };
}

function leastScoringBytes(request: ScoringRequest): number {
  return scoringBytes(request, { batch: 1, prefetch: false }) + leastActivations(request.preset, 1);
}

/** How such a session scores. */
export interface NativeScoringPlan {
  /** Sequences of a pass. */
  readonly batch: number;
  readonly prefetch: boolean;
  /** Most bytes of activations side by side: the more, the fewer sweeps over the weights. */
  readonly maxBytes: number;
}

/**
 * The most sequences at a time that leave at least half as much for activations side by side as one at a time would;
 * weights are read ahead where that leaves enough to go on.
 */
export function planNativeScoring(request: ScoringRequest): NativeScoringPlan {
  const { preset, recipe, memoryBytes = Number.POSITIVE_INFINITY } = request;
  const left = (batch: number, prefetch: boolean) =>
    Math.min(MAX_VARIANT_BYTES, memoryBytes - scoringBytes(request, { batch, prefetch }));
  const prefetch = left(1, true) >= leastActivations(preset, 1);
  const half = left(1, prefetch) / 2;
  let batch = recipe.batchSequences;
  while (batch > 1 && left(batch, prefetch) < Math.max(half, leastActivations(preset, batch))) batch--;
  return { batch, prefetch, maxBytes: Math.max(1, Math.floor(left(batch, prefetch))) };
}

/** A pass goes from one stream to another. */
function leastActivations({ context, hidden }: Preset, batch: number): number {
  return 2 * 4 * batch * context * hidden;
}

function scoringBytes(request: ScoringRequest, run: { readonly batch: number; readonly prefetch: boolean }): number {
  const { preset } = request;
  return estimateNativeScoring({ preset, context: preset.context, besideStreamedBytes: triedBytes(request) }, run);
}
