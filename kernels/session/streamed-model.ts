/** What computes in a session that has its weights on disk. */
import type { TensorStore } from '../checkpoint/tensor-store.ts';
import type { MemoryPlan } from '../engine/memory-plan.ts';
import { StreamedEngine } from '../engine/streamed-engine.ts';
import type { StreamedModel } from '../engine/streamed-model.ts';
import { type StoredScorer, StreamedScorer } from '../engine/streamed-scorer.ts';
import type { Preset } from '../model/preset.ts';
import { NativeStreamedEngine } from '../native/native-streamed-engine.ts';
import { NativeStreamedScorer } from '../native/native-streamed-scorer.ts';
import type { ModelSessionInit } from './model-session.ts';
import { planNativeScoring } from './native-budget.ts';
import { scoringActivationBytes } from './streamed-budget.ts';

/** What an engine is made for. */
export interface StreamedModelInit {
  readonly preset: Preset;
  readonly threads: number;
  /** Sequences of an inner step. */
  readonly batchSequences: number;
  readonly plan: MemoryPlan;
  /** For files of the engine's own. */
  readonly scratchFolder: string;
}

/** Makes the engine that was planned, over a store. Throws InvalidEngineOptionsError, NativeUnavailableError. */
export function createStreamedModel(store: TensorStore, init: StreamedModelInit): StreamedModel {
  const { preset, threads, batchSequences, plan, scratchFolder } = init;
  const prefetch = plan.mode === 'streamed';
  if (plan.native === undefined) return new StreamedEngine(store, { preset, threads, batch: batchSequences, prefetch });
  return new NativeStreamedEngine(store, { preset, threads, prefetch, scratchFolder, ...plan.native });
}

/** A scorer, and how many bytes of activations it may have side by side. */
export interface PlannedScorer {
  readonly scorer: StoredScorer;
  readonly maxBytes: number;
}

/** Makes the scorer of a session that runs as planned. Throws as {@link createStreamedModel}. */
export function createStreamedScorer(store: TensorStore, init: ModelSessionInit, plan: MemoryPlan): PlannedScorer {
  const { preset, recipe, threads } = init;
  if (plan.native !== undefined) {
    const { batch, prefetch, maxBytes } = planNativeScoring(init);
    return { scorer: new NativeStreamedScorer(store, { preset, threads, batch, prefetch }), maxBytes };
  }
  const options = { preset, threads, batch: recipe.batchSequences, prefetch: plan.mode === 'streamed' };
  return { scorer: new StreamedScorer(store, options), maxBytes: scoringActivationBytes(init, plan.mode) };
}
