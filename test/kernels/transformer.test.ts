/** How the engine on onnxruntime cuts its work; what every engine must do is in engine-compliance.ts. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createEngine, InvalidEngineOptionsError } from '../../kernels/engine/onnx-engine.ts';
import { headChunkRows } from '../../kernels/model/head.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset as small } from './small-preset.ts';

const seed = new Uint8Array(32).fill(7);

test('a head that works in several chunks gives the same', async () => {
  assert.is(headChunkRows(24, 10), 8);
  assert.is(headChunkRows(24, 100), 24);
  assert.is(headChunkRows(7, 6), 1);
  const tokens = seededTokens(1, 3, small.context, small.vocabulary);
  const engines = (['whole', 'blocks'] as const).flatMap((memory) =>
    [48, 20].map((headRows) => createEngine({ preset: small, threads: 1, batch: 3, memory, headRows })),
  );
  const results = [];
  for (const engine of engines) {
    engine.loadWeights(initialWeights(small, seed));
    const { loss, gradient } = await engine.lossAndGradient(tokens);
    results.push({ loss, gradient: gradient.slice(), losses: await engine.losses(tokens) });
    await engine.close();
  }
  const [first, ...others] = results;
  for (const other of others) {
    assert.ok(Math.abs(first!.loss - other.loss) < 1e-6);
    for (const [i, value] of first!.losses.entries()) assert.ok(Math.abs(value - other.losses[i]!) < 1e-6);
    for (const [i, value] of first!.gradient.entries()) assert.ok(Math.abs(value - other.gradient[i]!) < 1e-6);
  }
});

test('an untrained model is as good as guessing, and a shorter context is allowed', async () => {
  const engine = createEngine({ preset: small, threads: 1, batch: 2, context: 8 });
  engine.loadWeights(initialWeights(small, seed));
  for (const loss of await engine.losses(seededTokens(2, 5, 8, small.vocabulary)))
    assert.ok(Math.abs(loss - Math.log(small.vocabulary)) < 0.2, `${loss}`);
  await engine.close();
});

test('options that make no sense are refused', () => {
  for (const options of [{ batch: 0 }, { threads: 1.5 }, { context: 17 }])
    assert.throws(
      () => createEngine({ preset: small, threads: 1, batch: 1, ...options }),
      (error: Error) => error instanceof InvalidEngineOptionsError,
    );
});

test.run();
