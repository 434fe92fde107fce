/** How exact the native engine's gradients are where they are needed: at trained weights too, not only at random ones. */
// time-limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { tensorErrors, worstOf } from '../../bench/learning/gradient-error.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { tensorLayout } from '../../kernels/model/layout.ts';
import { parsePreset } from '../../kernels/model/preset.ts';
import { loadNativeLibrary, usableInstructionSets } from '../../kernels/native/library.ts';
import { createNativeEngine, type NativeEngineOptions } from '../../kernels/native/native-engine.ts';
import { AdamW } from '../../kernels/train/adamw.ts';
import { seededUniform } from './seeded.ts';

const usable = usableInstructionSets();
const nativeTest = usable.length === 0 ? test.skip : test;

const shape = {
  ...{ layers: 4, hidden: 64, queryHeads: 4, keyValueHeads: 2, ffn: 176, vocabulary: 500, context: 96 },
  ...{ ropeTheta: 10_000, normEpsilon: 1e-5 },
};
const presets = [false, true].map((tied) => parsePreset({ ...shape, name: tied ? 'learner-tied' : 'learner', tied }));
const batch = 4;

/** Sequences that can be learned: each token follows from the one before, but for one in five; later halves repeat. */
function learnable(seed: number): Int32Array {
  const uniform = seededUniform(seed);
  const length = shape.context + 1;
  const tokens = new Int32Array(batch * length);
  for (let i = 0; i < tokens.length; i++) {
    const position = i % length;
    const half = Math.floor(length / 2);
    if (position >= half) tokens[i] = tokens[i - half]!;
    else if (position === 0 || uniform() < 0.2) tokens[i] = Math.floor(uniform() * shape.vocabulary);
    else tokens[i] = (tokens[i - 1]! * 7 + 3) % shape.vocabulary;
  }
  return tokens;
}

const optionsOf = (preset: NativeEngineOptions['preset'], precision: 'fp32' | 'bf16') => ({
  ...{ preset, precision, batch, threads: 1 },
});

for (const preset of presets)
  nativeTest(
    `${preset.name}: fp32 within 1e-5 of onnxruntime, bf16 within 2 %, before and after training`,
    async () => {
      const precisions = loadNativeLibrary().bf16 ? (['fp32', 'bf16'] as const) : (['fp32'] as const);
      const trainer = createNativeEngine(optionsOf(preset, precisions.at(-1)!));
      trainer.loadWeights(initialWeights(preset, new Uint8Array(32).fill(3)));
      const optimizer = new AdamW(trainer.layout, trainer.updateWeights);
      const tokens = learnable(1_000_000);
      const losses: number[] = [];
      for (const steps of [0, 250]) {
        for (let step = 0; step < steps; step++) {
          const { gradient, gradientNorm } = await trainer.lossAndGradient(learnable(step));
          optimizer.step(trainer.weights, gradient, gradientNorm, 3e-3);
        }
        const reference = createEngine({ preset, batch, threads: 1 });
        reference.loadWeights(trainer.weights);
        const expected = await reference.lossAndGradient(tokens);
        losses.push(expected.loss);
        for (const precision of precisions) {
          const engine = createNativeEngine(optionsOf(preset, precision));
          engine.loadWeights(trainer.weights);
          const { gradient } = await engine.lossAndGradient(tokens);
          const worst = worstOf(tensorErrors(tensorLayout(preset), gradient, expected.gradient))!;
          const bound = precision === 'bf16' ? 0.02 : 1e-5;
          assert.ok(worst.error < bound, `${precision} after ${steps} steps: ${worst.name} is off by ${worst.error}`);
          await engine.close();
        }
        await reference.close();
      }
      assert.ok(losses[1]! < losses[0]! / 2, `it did not learn: ${losses}`);
      await trainer.close();
    },
  );

nativeTest('the profile has the time of every phase, once', async () => {
  const preset = presets[0]!;
  const engine = createNativeEngine(optionsOf(preset, 'fp32'));
  engine.loadWeights(initialWeights(preset, new Uint8Array(32)));
  const optimizer = new AdamW(engine.layout, engine.updateWeights);
  const start = performance.now();
  const { gradient, gradientNorm } = await engine.lossAndGradient(learnable(1));
  optimizer.step(engine.weights, gradient, gradientNorm, 1e-3);
  const elapsed = (performance.now() - start) / 1000;
  const seconds = Object.entries(engine.profile());
  assert.is(seconds.length, 8);
  for (const [phase, value] of seconds) assert.ok(value > 0, `${phase}: ${value}`);
  const total = seconds.reduce((sum, [, value]) => sum + value, 0);
  assert.ok(total <= elapsed, `${total} s of ${elapsed}`);
  assert.equal(new Set(Object.values(engine.profile())), new Set([0]));
  assert.ok(engine.productPeak() > 0);
  await engine.close();
});

nativeTest('the library refuses products of sizes and counts that make no sense', () => {
  const library = loadNativeLibrary();
  const engine = library.create({
    ...{ ...shape, batch, tied: 0, recompute: 0, headBytes: 2 ** 20, threads: 1, bf16: 0 },
  });
  for (const wrong of [{ size: 0 }, { size: 2 ** 20 }, { size: 1.5 }, { repeats: -1 }, { repeats: 2 ** 30 }])
    assert.throws(
      () => library.products(engine, { size: 16, repeats: 1, ...wrong }),
      (error: NodeJS.ErrnoException) => error.code === 'ERR_NATIVE_ARGUMENT',
    );
  library.close(engine);
  assert.throws(
    () => library.profile(engine),
    (error: NodeJS.ErrnoException) => error.code === 'ERR_NATIVE_ARGUMENT',
  );
});

test.run();
