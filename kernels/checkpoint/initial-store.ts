/** A model's random initialization at the memory of one tensor: in a tensor store, or its root alone. */
import { initializeTensor } from '../model/initialize.ts';
import { tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { ChunkDigests } from './chunk-digests.ts';
import { weightBytes } from './model-state.ts';
import { TensorStore, wholeTensor } from './tensor-store.ts';

/**
 * Writes the weights that `initialWeights` makes of the same 32-byte seed to a store at `path` and seals it as round 0.
 * Throws InvalidSeedError, errors of the file system, the signal's reason; then nothing is left behind.
 */
export async function createInitialStore(
  path: string,
  preset: Preset,
  seed: Uint8Array,
  options: { readonly signal?: AbortSignal; readonly onTensor?: (done: number, count: number) => void } = {},
): Promise<TensorStore> {
  const layout = tensorLayout(preset);
  const store = await TensorStore.create(path, { kind: 'weights', presetHash: presetHash(preset), layout });
  try {
    const memory = new Float32Array(layout.reduce((most, { length }) => Math.max(most, length), 0));
    for (const [index, slot] of layout.entries()) {
      options.signal?.throwIfAborted();
      const values = memory.subarray(0, slot.length);
      initializeTensor(preset, seed, slot, values);
      await store.write(wholeTensor(slot), values);
      options.onTensor?.(index + 1, layout.length);
    }
    await store.seal(0, options);
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Model root of the weights that `initialWeights` makes of the same 32-byte seed. Throws InvalidSeedError. */
export function initialRoot(preset: Preset, seed: Uint8Array): string {
  const layout = tensorLayout(preset);
  const memory = new Float32Array(layout.reduce((most, { length }) => Math.max(most, length), 0));
  const digests = new ChunkDigests();
  for (const slot of layout) {
    const values = memory.subarray(0, slot.length);
    initializeTensor(preset, seed, slot, values);
    digests.update(weightBytes(values));
  }
  return digests.root();
}
