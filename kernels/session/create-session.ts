/** Chooses how a session keeps its model: in memory where it fits, on disk where it may. */
import {
  MemoryBudgetError,
  type MemoryMode,
  type MemoryPlan,
  planMemory,
  RESIDENT_MODES,
} from '../engine/memory-plan.ts';
import type { ModelSession, ModelSessionInit } from './model-session.ts';
import { planNativeSession } from './native-budget.ts';
import { ResidentModelSession } from './resident-session.ts';
import { streamedWorkBytes } from './streamed-budget.ts';
import { StreamedModelSession } from './streamed-session.ts';

const STREAMED_MODES: readonly MemoryMode[] = ['streamed', 'streamed-no-prefetch'];

/** How a session of this kind would run. Throws MemoryBudgetError where it fits in no way that is open to it. */
export function planSession(init: ModelSessionInit): MemoryPlan {
  const { preset, recipe, backend = 'onnx', device = 'cpu', precision = 'fp32', memoryBytes, streamFolder } = init;
  const request = { preset, batch: recipe.batchSequences, context: preset.context, backend };
  // Streaming has no fp16, and an explicit one is not turned into fp32.
  const streams = streamFolder !== undefined && device === 'cpu' && precision !== 'fp16';
  try {
    return planMemory(request, memoryBytes, RESIDENT_MODES);
  } catch (error) {
    if (!streams || !(error instanceof MemoryBudgetError)) throw error;
    if (backend === 'native') return planNativeSession({ ...init, precision });
    return planMemory({ ...request, besideStreamedBytes: streamedWorkBytes(preset) }, memoryBytes, STREAMED_MODES);
  }
}

/**
 * Makes a session without weights. Throws as {@link planSession}, InvalidPresetError, InvalidEngineOptionsError, errors of
 * the file system.
 */
export async function createSession(init: ModelSessionInit): Promise<ModelSession> {
  const plan = planSession(init);
  const streamed = plan.mode === 'streamed' || plan.mode === 'streamed-no-prefetch';
  if (!streamed || init.streamFolder === undefined) return new ResidentModelSession(init);
  return await StreamedModelSession.create({ ...init, streamFolder: init.streamFolder }, plan);
}
