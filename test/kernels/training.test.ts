/** Optimizer and inner steps. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Engine, InvalidTokensError, NonFiniteError } from '../../kernels/engine/engine.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import type { TensorSlot } from '../../kernels/model/layout.ts';
import { AdamW, defaultAdamWOptions } from '../../kernels/train/adamw.ts';
import { innerSteps } from '../../kernels/train/inner-steps.ts';
import { seededTokens, seededValues } from './seeded.ts';
import { smallPreset } from './small-preset.ts';

const seed = new Uint8Array(32).fill(5);

function newEngine(memory: 'whole' | 'blocks' = 'whole'): Engine {
  const engine = createEngine({ preset: smallPreset, threads: 1, batch: 4, memory });
  engine.loadWeights(initialWeights(smallPreset, seed));
  return engine;
}

const bytes = (values: Float32Array) => Buffer.from(values.buffer.slice(0), values.byteOffset, values.byteLength);

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => assert.unreachable('it did not reject'),
    (reason: unknown) => reason,
  );
}

test('AdamW takes the steps of the published algorithm', () => {
  const layout: TensorSlot[] = [
    { name: 'matrix', role: 'projection', shape: [2, 2], offset: 0, length: 4 },
    { name: 'norm', role: 'norm', shape: [2], offset: 4, length: 2 },
  ];
  const options = { ...defaultAdamWOptions, clipNorm: 0.5 };
  const optimizer = new AdamW(layout);
  const weights = seededValues(1, 6);
  const expected = Float64Array.from(weights);
  const mean = new Float64Array(6);
  const square = new Float64Array(6);
  for (let step = 1; step <= 30; step++) {
    const rate = 0.01 / step;
    const gradient = seededValues(100 + step, 6, -0.4, 0.4);
    const norm = Math.hypot(...gradient);
    optimizer.step(weights, gradient, norm, rate, options);
    for (let i = 0; i < 6; i++) {
      const g = gradient[i]! * Math.min(1, 0.5 / norm);
      mean[i] = 0.9 * mean[i]! + 0.1 * g;
      square[i] = 0.95 * square[i]! + 0.05 * g * g;
      const decay = i < 4 ? 0.1 : 0;
      const direction = mean[i]! / (1 - 0.9 ** step) / (Math.sqrt(square[i]! / (1 - 0.95 ** step)) + 1e-8);
      expected[i] = expected[i]! - rate * decay * expected[i]! - rate * direction;
      assert.ok(Math.abs(weights[i]! - expected[i]!) < 2e-6, `step ${step}, weight ${i}`);
    }
  }
  assert.is(optimizer.steps, 30);
});

test('a forgotten optimizer starts like a new one', () => {
  const layout: TensorSlot[] = [{ name: 'matrix', role: 'projection', shape: [8, 1], offset: 0, length: 8 }];
  const used = new AdamW(layout);
  used.step(seededValues(1, 8), seededValues(2, 8), 1, 0.1);
  used.reset();
  const [a, b] = [seededValues(3, 8), seededValues(3, 8)];
  used.step(a, seededValues(4, 8), 1, 0.1);
  new AdamW(layout).step(b, seededValues(4, 8), 1, 0.1);
  assert.equal(a, b);
});

for (const memory of ['whole', 'blocks'] as const)
  test(`one batch is learnt by heart: ${memory}`, async () => {
    const engine = newEngine(memory);
    const batch = seededTokens(1, 4, smallPreset.context, smallPreset.vocabulary);
    const steps = 150;
    const tokens = new Int32Array(steps * batch.length);
    for (let step = 0; step < steps; step++) tokens.set(batch, step * batch.length);
    const reports: number[] = [];
    const { losses, pseudoGradient } = await innerSteps(
      engine,
      new AdamW(engine.layout),
      { tokens, sequencesPerStep: 4, learningRate: 1e-2 },
      { onStep: ({ step, loss }) => reports.push(step, loss) },
    );
    assert.is(losses.length, steps);
    assert.ok(losses[0]! > 3.9, `${losses[0]}`);
    assert.ok(losses.at(-1)! < 0.1, `${losses.at(-1)}`);
    assert.equal(reports.slice(0, 4), [1, losses[0], 2, losses[1]]);
    assert.is(reports.length, 2 * steps);
    // The engine stands where it stood; start minus pseudo-gradient is the trained model.
    assert.equal(bytes(engine.weights), bytes(initialWeights(smallPreset, seed)));
    for (const [i, delta] of pseudoGradient.entries()) engine.weights[i] = engine.weights[i]! - delta;
    const trained = await engine.losses(batch);
    assert.ok(
      trained.every((loss) => loss < 0.15),
      `${trained}`,
    );
    await engine.close();
  });

test('moments that are kept change the next steps, and the same inputs give the same steps', async () => {
  const engine = newEngine();
  const init = {
    tokens: seededTokens(2, 8, smallPreset.context, smallPreset.vocabulary),
    sequencesPerStep: 4,
    learningRate: [1e-3, 5e-4],
  };
  const optimizer = new AdamW(engine.layout);
  const first = await innerSteps(engine, optimizer, init);
  const kept = await innerSteps(engine, optimizer, init);
  optimizer.reset();
  const again = await innerSteps(engine, optimizer, init);
  assert.equal(bytes(first.pseudoGradient), bytes(again.pseudoGradient));
  assert.not.equal(bytes(first.pseudoGradient), bytes(kept.pseudoGradient));
  assert.is(first.losses.length, 2);
  await engine.close();
});

test('steps end with the time limit, not before the least number of steps', async () => {
  const engine = newEngine();
  const tokens = seededTokens(2, 40, smallPreset.context, smallPreset.vocabulary);
  const { losses } = await innerSteps(engine, new AdamW(engine.layout), {
    tokens,
    sequencesPerStep: 4,
    learningRate: 1e-3,
    timeLimitMs: 0,
    minSteps: 3,
  });
  assert.is(losses.length, 3);
  await engine.close();
});

test('weights are back after an abort or an error in the middle', async () => {
  const engine = newEngine();
  const before = bytes(engine.weights);
  const tokens = seededTokens(2, 40, smallPreset.context, smallPreset.vocabulary);
  const init = { tokens, sequencesPerStep: 4, learningRate: 1e-2 };
  const abort = new AbortController();
  const reason = new Error('enough');
  const aborted = await rejection(
    innerSteps(engine, new AdamW(engine.layout), init, {
      signal: abort.signal,
      onStep: ({ step }) => step === 3 && abort.abort(reason),
    }),
  );
  assert.is(aborted, reason);
  assert.equal(bytes(engine.weights), before);
  // A learning rate that blows the weights up.
  const diverged = await rejection(innerSteps(engine, new AdamW(engine.layout), { ...init, learningRate: 1e38 }));
  assert.instance(diverged, NonFiniteError);
  assert.equal(bytes(engine.weights), before);
  assert.instance(
    await rejection(innerSteps(engine, new AdamW(engine.layout), { ...init, sequencesPerStep: 7 })),
    InvalidTokensError,
  );
  await engine.close();
});

test.run();
