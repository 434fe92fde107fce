/** The engine of a session that has its weights on disk. */
import type { TensorStore } from '../checkpoint/tensor-store.ts';
import type { MemoryPlan } from '../engine/memory-plan.ts';
import { StreamedEngine } from '../engine/streamed-engine.ts';
import type { StreamedModel } from '../engine/streamed-model.ts';
import type { Preset } from '../model/preset.ts';
import { NativeStreamedEngine } from '../native/native-streamed-engine.ts';

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
