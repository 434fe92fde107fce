/** Stores for tests of streaming. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TensorStore, wholeTensor } from '../../kernels/checkpoint/tensor-store.ts';
import { tensorLayout } from '../../kernels/model/layout.ts';
import type { Preset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';

/** Runs `body` with a folder that is deleted afterwards. */
export async function withFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'alice-streamed-'));
  try {
    return await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** A sealed store that holds these weights. */
export async function storeOf(path: string, preset: Preset, weights: Float32Array<ArrayBuffer>): Promise<TensorStore> {
  const layout = tensorLayout(preset);
  const store = await TensorStore.create(path, { kind: 'weights', presetHash: presetHash(preset), layout });
  for (const slot of layout)
    await store.write(wholeTensor(slot), weights.subarray(slot.offset, slot.offset + slot.length));
  await store.seal(0);
  return store;
}
