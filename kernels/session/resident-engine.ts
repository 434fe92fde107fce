/** The engine of a session that has its weights in memory. */
import { BackendUnavailableError } from '../engine/backend.ts';
import type { Engine } from '../engine/engine.ts';
import { createEngine } from '../engine/onnx-engine.ts';
import { createNativeEngine } from '../native/native-engine.ts';
import type { ModelSessionInit } from './model-session.ts';

/**
 * Makes the engine that was chosen. Throws InvalidEngineOptionsError, NativeUnavailableError, and
 * {@link BackendUnavailableError} for a choice that no engine is (`choose-engine.ts` makes none such).
 *
 * @param recompute - keep a block's activations instead of all
 */
export function createResidentEngine(init: ModelSessionInit, recompute: boolean): Engine {
  const { preset, recipe, threads, backend = 'onnx', device = 'cpu', precision = 'fp32' } = init;
  const shape = { preset, threads, batch: recipe.batchSequences, ...(recompute ? { memory: 'blocks' as const } : {}) };
  if (backend === 'onnx') {
    if (precision === 'bf16') throw new BackendUnavailableError('onnxruntime has no bf16');
    return createEngine({ ...shape, device, precision });
  }
  if (device !== 'cpu' || precision === 'fp16')
    throw new BackendUnavailableError(`the native backend does not compute on ${device} in ${precision}`);
  return createNativeEngine({ ...shape, precision });
}
