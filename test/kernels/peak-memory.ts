/** `node peak-memory.ts PRESET MODE [BACKEND]`: two gradients in that mode; prints the most bytes that this process ever had (Linux). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInitialStore } from '../../kernels/checkpoint/initial-store.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { StreamedEngine } from '../../kernels/engine/streamed-engine.ts';
import { initializeTensor } from '../../kernels/model/initialize.ts';
import { presetByName } from '../../kernels/model/preset.ts';
import { loadNativeLibrary } from '../../kernels/native/library.ts';
import { createNativeEngine } from '../../kernels/native/native-engine.ts';
import { NativeStreamedEngine } from '../../kernels/native/native-streamed-engine.ts';
import { seededTokens } from './seeded.ts';
import { withFolder } from './streamed-store.ts';

const [name = '', mode = '', backend = 'onnx'] = process.argv.slice(2);
const preset = presetByName(name);
const options = { preset, threads: 2, batch: 1, context: 256 };
const tokens = seededTokens(1, 1, options.context, preset.vocabulary);
const seed = new Uint8Array(32).fill(1);

if (mode === 'whole' || mode === 'blocks') {
  const shape = { ...options, memory: mode } as const;
  const engine = backend === 'native' ? createNativeEngine(shape) : createEngine(shape);
  for (const slot of engine.layout)
    initializeTensor(preset, seed, slot, engine.weights.subarray(slot.offset, slot.offset + slot.length));
  for (let call = 0; call < 2; call++) await engine.lossAndGradient(tokens);
} else if (mode === 'native-streamed') {
  await withFolder(async (folder) => {
    const store = await createInitialStore(join(folder, 'weights'), preset, seed);
    const precision = loadNativeLibrary().bf16 ? 'bf16' : 'fp32';
    const engine = new NativeStreamedEngine(store, { ...options, precision, scratchFolder: folder });
    for (let call = 0; call < 2; call++) await engine.gradient(tokens, () => {});
    await engine.close();
    await store.close();
  });
} else {
  await withFolder(async (folder) => {
    const store = await createInitialStore(join(folder, 'weights'), preset, seed);
    const engine = new StreamedEngine(store, { ...options, prefetch: mode === 'streamed' });
    for (let call = 0; call < 2; call++) await engine.gradient(tokens, () => {});
    await store.close();
  });
}
console.log(Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024);
