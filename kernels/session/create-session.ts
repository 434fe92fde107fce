/** Chooses how a session keeps its model: in memory where it fits, on disk where it may. */
import { type MemoryPlan, planMemory } from '../engine/memory-plan.ts';
import type { ModelSession, ModelSessionInit } from './model-session.ts';
import { RESIDENT_MODES, ResidentModelSession } from './resident-session.ts';
import { streamedWorkBytes } from './streamed-budget.ts';
import { StreamedModelSession } from './streamed-session.ts';

/** How a session of this kind would run. Throws MemoryBudgetError where it fits in no way that is open to it. */
export function planSession(init: ModelSessionInit): MemoryPlan {
  const { preset, recipe, device = 'cpu', precision = 'fp32', memoryBytes, streamFolder } = init;
  const besideStreamedBytes = streamedWorkBytes(preset);
  const request = { preset, batch: recipe.batchSequences, context: preset.context, besideStreamedBytes };
  const streams = streamFolder !== undefined && device === 'cpu' && precision === 'fp32';
  return planMemory(request, memoryBytes, streams ? undefined : RESIDENT_MODES);
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
