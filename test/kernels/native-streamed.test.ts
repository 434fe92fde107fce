/** Weights on disk for the native engine: the same bits as in memory, on every instruction set; what is broken is named. */
// time-limit: 90 s
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  TensorFileContentError,
  TensorFileMismatchError,
  TensorFileSizeError,
} from '../../kernels/checkpoint/errors.ts';
import { type TensorPart, type TensorStore, wholeTensor } from '../../kernels/checkpoint/tensor-store.ts';
import { EngineBusyError, EngineClosedError, InvalidTokensError, NonFiniteError } from '../../kernels/engine/engine.ts';
import { InvalidEngineOptionsError } from '../../kernels/engine/onnx-engine.ts';
import type { GradientSink } from '../../kernels/engine/streamed-model.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { loadNativeLibrary, usableInstructionSets } from '../../kernels/native/library.ts';
import { createNativeEngine } from '../../kernels/native/native-engine.ts';
import { NativeStreamedEngine, type NativeStreamedEngineOptions } from '../../kernels/native/native-streamed-engine.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import { storeOf, withFolder } from './streamed-store.ts';

const usable = usableInstructionSets();
const nativeTest = usable.length === 0 ? test.skip : test;
const precisionsOf = (instructionSet?: string) =>
  loadNativeLibrary(instructionSet).bf16 ? (['fp32', 'bf16'] as const) : (['fp32'] as const);

/** No size is a multiple of a tile; the vocabulary is three blocks of the head. */
const odd = parsePreset({
  ...smallPreset,
  ...{ name: 'odd', layers: 3, hidden: 36, queryHeads: 6, keyValueHeads: 2, ffn: 50, vocabulary: 4301, context: 37 },
});
const seed = new Uint8Array(32).fill(9);

/** Weights that differ from tensor to tensor and are not as tame as those of a new model. */
function testWeights(preset: Preset): Float32Array<ArrayBuffer> {
  const weights = initialWeights(preset, seed);
  for (let i = 0; i < weights.length; i++) weights[i] = weights[i]! * (1 + (i % 7) / 3);
  return weights;
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => assert.unreachable('it did not reject'),
    (reason: unknown) => reason,
  );
}

/** A sink that puts parts together, late, as one that writes to a disk would be. */
function collector(preset: Preset): { sink: GradientSink; gradient: Float32Array<ArrayBuffer>; parts: TensorPart[] } {
  const gradient = new Float32Array(parameterCount(preset)).fill(Number.NaN);
  const parts: TensorPart[] = [];
  const sink: GradientSink = async (part, values) => {
    parts.push(part);
    await new Promise((done) => setImmediate(done));
    assert.is(values.length, part.length);
    gradient.set(values, part.slot.offset + part.start);
  };
  return { sink, gradient, parts };
}

function sameBits(preset: Preset, actual: Float32Array, expected: Float32Array, what: string): void {
  const bytes = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  for (const { name, offset, length } of tensorLayout(preset)) {
    const [a, b] = [actual, expected].map((values) => bytes(values.subarray(offset, offset + length)));
    assert.ok(a!.equals(b!), `${what}: ${name}`);
  }
}

const near = (a: number, b: number) => Math.abs(a / b - 1) < 1e-12;

const shapes: readonly {
  name: string;
  preset?: Partial<Preset>;
  sequences: number;
  context?: number;
  options?: Partial<NativeStreamedEngineOptions>;
}[] = [
  { name: 'one pass', sequences: 2 },
  { name: 'one token', sequences: 1, context: 1 },
  { name: 'several passes, the last one short', sequences: 5 },
  { name: 'head by rows', sequences: 3, options: { headBytes: 4 * 4301 * 20 } },
  { name: 'head in parts', sequences: 2, options: { headTileBytes: 2048 * 36 * 4 } },
  {
    name: 'head by rows in parts, several passes',
    sequences: 5,
    options: { headTileBytes: 5000 * 36 * 4, headBytes: 4 * 4301 * 20 },
  },
  { name: 'tied', preset: { tied: true, keyValueHeads: 1 }, sequences: 2 },
  { name: 'tied head in parts', preset: { tied: true }, sequences: 2, options: { headTileBytes: 2048 * 36 * 4 } },
];

for (const { name, preset: changes, sequences, context = odd.context, options } of shapes)
  nativeTest(`streamed = resident: ${name}`, async () => {
    const preset = parsePreset({ ...odd, ...changes });
    const weights = testWeights(preset);
    const tokens = seededTokens(3, sequences, context, preset.vocabulary);
    await withFolder(async (folder) => {
      const store = await storeOf(join(folder, 'weights'), preset, weights);
      for (const instructionSet of usable)
        for (const precision of precisionsOf(instructionSet)) {
          const shape = { preset, threads: 2, batch: 2, context, precision, instructionSet };
          const { headBytes } = options ?? {};
          const resident = createNativeEngine({ ...shape, memory: 'blocks', ...(headBytes && { headBytes }) });
          resident.loadWeights(weights);
          const expectedLosses = await resident.losses(tokens);
          const expected = await resident.lossAndGradient(tokens);
          for (const files of [
            {},
            { prefetch: false },
            { scratchFolder: folder },
            { scratchFolder: folder, spill: true, prefetch: false },
          ]) {
            const engine = new NativeStreamedEngine(store, { ...shape, ...options, ...files });
            const what = `${instructionSet} ${precision} ${Object.keys(files)}`;
            for (let call = 0; call < 2; call++) {
              const { sink, gradient } = collector(preset);
              const { loss, gradientNorm } = await engine.gradient(tokens, sink);
              assert.is(loss, expected.loss, what);
              sameBits(preset, gradient, expected.gradient, `${what}, call ${call}`);
              assert.ok(near(gradientNorm, expected.gradientNorm), what);
              assert.equal(await engine.losses(tokens), expectedLosses, what);
            }
            await engine.close();
          }
          await resident.close();
        }
      assert.equal(await readdir(folder), ['weights'], 'scratch files stay');
      await store.close();
    });
  });

test.run();
