/** Optimizer, inner steps and evaluation of variants. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Engine, InvalidTokensError, NonFiniteError } from '../../kernels/engine/engine.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import type { TensorSlot } from '../../kernels/model/layout.ts';
import { AdamW, defaultAdamWOptions } from '../../kernels/train/adamw.ts';
import { evaluateVariants, InvalidDeltaError, type SparseDelta } from '../../kernels/train/evaluate.ts';
import { innerSteps } from '../../kernels/train/inner-steps.ts';
import { seededTokens, seededUniform, seededValues } from './seeded.ts';
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

/** Random changes of random weights, some of them twice. */
function randomDelta(randomSeed: number, count: number, parameters: number, size: number): SparseDelta {
  const uniform = seededUniform(randomSeed);
  const indices = Uint32Array.from({ length: count }, () => Math.floor(uniform() * parameters));
  indices.set(indices.subarray(0, count >> 2), count >> 1);
  return { indices, deltas: seededValues(randomSeed, count, -size, size) };
}

test('variants are evaluated as if their changes were made, and leave no trace', async () => {
  const engine = newEngine();
  const before = bytes(engine.weights);
  const tokens = seededTokens(4, 6, smallPreset.context, smallPreset.vocabulary);
  const { length } = engine.weights;
  const deltas = [randomDelta(1, 400, length, 0.3), randomDelta(2, 400, length, 0.3)];
  const none: SparseDelta = { indices: new Uint32Array(0), deltas: new Float32Array(0) };
  const done: number[] = [];
  const { base, variants } = await evaluateVariants(engine, tokens, [...deltas, none], {
    onVariant: (count) => done.push(count),
  });
  assert.equal(bytes(engine.weights), before);
  assert.equal(done, [0, 1, 2, 3]);
  assert.equal(base, await engine.losses(tokens));
  assert.equal(variants[2], base);
  for (const [i, delta] of deltas.entries()) {
    const changed = initialWeights(smallPreset, seed);
    for (const [at, index] of delta.indices.entries()) changed[index] = changed[index]! + delta.deltas[at]!;
    engine.loadWeights(changed);
    assert.equal(variants[i], await engine.losses(tokens));
    assert.not.equal(variants[i], base);
  }
  await engine.close();
});

test('a variant that breaks the model has no losses and harms no other', async () => {
  const engine = newEngine();
  const before = bytes(engine.weights);
  const tokens = seededTokens(4, 2, smallPreset.context, smallPreset.vocabulary);
  const huge: SparseDelta = {
    indices: Uint32Array.from({ length: 2000 }, (_, i) => 2048 + i),
    deltas: new Float32Array(2000).fill(3e38),
  };
  const small = randomDelta(3, 10, engine.weights.length, 0.1);
  const { variants } = await evaluateVariants(engine, tokens, [huge, small]);
  assert.is(variants[0], undefined);
  assert.ok(variants[1]?.every(Number.isFinite));
  assert.equal(bytes(engine.weights), before);
  await engine.close();
});

test('a delta that does not fit is refused before anything changes; an abort leaves no trace', async () => {
  const engine = newEngine();
  const before = bytes(engine.weights);
  const tokens = seededTokens(4, 6, smallPreset.context, smallPreset.vocabulary);
  const good = randomDelta(3, 10, engine.weights.length, 0.1);
  const bad: SparseDelta[] = [
    { indices: Uint32Array.of(engine.weights.length), deltas: Float32Array.of(1) },
    { indices: Uint32Array.of(1, 2), deltas: Float32Array.of(1) },
    { indices: Uint32Array.of(1), deltas: Float32Array.of(Number.NaN) },
  ];
  for (const delta of bad)
    assert.instance(await rejection(evaluateVariants(engine, tokens, [good, delta])), InvalidDeltaError);
  const abort = new AbortController();
  await rejection(
    evaluateVariants(engine, tokens, [good, good, good], {
      signal: abort.signal,
      onVariant: (count) => count === 1 && abort.abort(),
    }),
  );
  assert.equal(bytes(engine.weights), before);
  await engine.close();
});

test.run();
