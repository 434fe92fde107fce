/** AdamW and inner steps on disk equal those in memory to the bit; schedules. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TensorStore } from '../../kernels/checkpoint/tensor-store.ts';
import { NonFiniteError } from '../../kernels/engine/engine.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { StreamedEngine } from '../../kernels/engine/streamed-engine.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { parsePreset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { AdamW } from '../../kernels/train/adamw.ts';
import { innerSteps } from '../../kernels/train/inner-steps.ts';
import { InvalidScheduleError, warmupCosineRate, warmupCosineRates } from '../../kernels/train/learning-rate.ts';
import { StreamedAdamW } from '../../kernels/train/streamed-adamw.ts';
import { streamedSteps } from '../../kernels/train/streamed-steps.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import { storeOf, withFolder } from './streamed-store.ts';

const seed = new Uint8Array(32).fill(5);
const bytes = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

for (const tied of [false, true])
  test(`inner steps on disk = in memory, moments kept from round to round${tied ? ', tied' : ''}`, async () => {
    const preset = parsePreset({ ...smallPreset, tied });
    const layout = tensorLayout(preset);
    const weights = initialWeights(preset, seed);
    const init = {
      tokens: seededTokens(2, 9, preset.context, preset.vocabulary),
      sequencesPerStep: 3,
      learningRate: warmupCosineRates({ peak: 1e-2, warmupSteps: 2, totalSteps: 4 }, 0, 3),
      // Low enough to clip, and not always.
      adamw: { clipNorm: 0.9 },
    };
    const options = { preset, threads: 1, batch: 2 };
    const engine = createEngine({ ...options, memory: 'blocks' });
    engine.loadWeights(weights);
    const resident = new AdamW(layout);
    await withFolder(async (folder) => {
      const start = await storeOf(join(folder, 'weights'), preset, weights);
      const optimizer = new StreamedAdamW(folder, start);
      for (let round = 0; round < 2; round++) {
        const norms: number[] = [];
        const expected = await innerSteps(engine, resident, init, {
          onStep: ({ gradientNorm }) => norms.push(gradientNorm),
        });
        const streamedNorms: number[] = [];
        const pseudoGradient = new Float32Array(parameterCount(preset)).fill(Number.NaN);
        const names: string[] = [];
        const taken = await streamedSteps(
          { ...init, start, engine: (weights) => new StreamedEngine(weights, options), folder },
          optimizer,
          ({ slot, start: from }, values) => {
            names.push(slot.name);
            pseudoGradient.set(values, slot.offset + from);
          },
          { onStep: ({ gradientNorm }) => streamedNorms.push(gradientNorm) },
        );
        assert.equal(taken.losses, expected.losses);
        assert.equal(streamedNorms, norms);
        assert.ok(
          norms.some((norm) => norm > 0.9),
          `${norms}`,
        );
        assert.ok(bytes(pseudoGradient).equals(bytes(expected.pseudoGradient)));
        assert.equal(
          names,
          layout.map(({ name }) => name),
        );
        // Moments stay, scratch is gone, the weights were not touched.
        assert.equal((await readdir(folder)).sort(), ['.mean.new', '.square.new', 'weights']);
      }
      assert.is(optimizer.steps, 6);
      await optimizer.reset();
      assert.equal(await readdir(folder), ['weights']);
      await start.close();
      const model = { kind: 'weights', presetHash: presetHash(preset), layout } as const;
      await (await TensorStore.open(join(folder, 'weights'), model)).close();
    });
    await engine.close();
  });

test('steps that fail or are aborted hand on nothing, and forget half a step', async () => {
  const weights = initialWeights(smallPreset, seed);
  await withFolder(async (folder) => {
    const start = await storeOf(join(folder, 'weights'), smallPreset, weights);
    const optimizer = new StreamedAdamW(folder, start);
    const init = {
      start,
      folder,
      engine: (weights: TensorStore) => new StreamedEngine(weights, { preset: smallPreset, threads: 1, batch: 2 }),
      tokens: seededTokens(2, 20, smallPreset.context, smallPreset.vocabulary),
      sequencesPerStep: 2,
      learningRate: 1e-2,
    };
    const sink = () => assert.unreachable('the sink was called');
    const reason = new Error('enough');
    const abort = new AbortController();
    const rejection = async (promise: Promise<unknown>) =>
      await promise.then(
        () => assert.unreachable('it did not reject'),
        (error: unknown) => error,
      );
    const options = { signal: abort.signal, onStep: () => abort.abort(reason) };
    assert.is(await rejection(streamedSteps(init, optimizer, sink, options)), reason);
    assert.is(optimizer.steps, 1);
    const error = await rejection(streamedSteps({ ...init, learningRate: 1e39 }, optimizer, sink));
    assert.instance(error, NonFiniteError);
    assert.is((error as NonFiniteError).tensor, 'embedding');
    assert.is(optimizer.steps, 0);
    assert.equal(await readdir(folder), ['weights']);
    await start.close();
  });
});

test('the learning rate rises in a line and falls by a cosine', () => {
  const schedule = { peak: 4e-3, warmupSteps: 4, totalSteps: 14, floor: 1e-3 };
  const rates = warmupCosineRates(schedule, 0, 16);
  assert.equal(rates.slice(0, 5), [1e-3, 2e-3, 3e-3, 4e-3, 4e-3]);
  assert.ok(Math.abs(rates[9]! - 2.5e-3) < 1e-12, 'half way down');
  assert.equal(rates.slice(14), [1e-3, 1e-3]);
  for (let step = 5; step <= 14; step++) assert.ok(rates[step]! < rates[step - 1]!);
  assert.equal(warmupCosineRates(schedule, 7, 3), rates.slice(7, 10));
  assert.is(warmupCosineRate({ peak: 1, warmupSteps: 0, totalSteps: 1 }, 0), 1);
  for (const bad of [
    { ...schedule, warmupSteps: 14 },
    { ...schedule, floor: 1 },
    { ...schedule, peak: Number.NaN },
    { ...schedule, warmupSteps: 1.5 },
  ])
    assert.throws(
      () => warmupCosineRate(bad, 0),
      (error: unknown) => error instanceof InvalidScheduleError,
    );
  assert.throws(() => warmupCosineRate(schedule, -1));
});

test.run();
