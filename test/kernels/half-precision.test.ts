/** fp16 on the CPU, which rounds operands and results to float16 and computes in float32: slow, but the same numbers. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Engine, NonFiniteError } from '../../kernels/engine/engine.ts';
import { GradientOverflowError } from '../../kernels/engine/loss-scale.ts';
import { createEngine, type EngineOptions } from '../../kernels/engine/onnx-engine.ts';
import { withHalfPrecisionProducts } from '../../kernels/graph/half-precision.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { wholeTrainingGraph } from '../../kernels/model/programs.ts';
import { AdamW } from '../../kernels/train/adamw.ts';
import { innerSteps } from '../../kernels/train/inner-steps.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset as preset } from './small-preset.ts';

const weights = initialWeights(preset, new Uint8Array(32).fill(3));
const tokens = seededTokens(4, 4, preset.context, preset.vocabulary);

async function withEngine<T>(options: Partial<EngineOptions>, body: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = createEngine({ preset, threads: 1, batch: 4, ...options });
  try {
    engine.loadWeights(weights);
    return await body(engine);
  } finally {
    await engine.close();
  }
}

const gradientOf = (options: Partial<EngineOptions>, work = tokens) =>
  withEngine(options, async (engine) => (await engine.lossAndGradient(work)).gradient.slice());

/** ||a - b|| / ||b|| over one tensor. */
function distance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (const [i, value] of b.entries()) {
    difference += (a[i]! - value) ** 2;
    norm += value ** 2;
  }
  return Math.sqrt(difference / norm);
}

for (const memory of ['whole', 'blocks'] as const)
  test(`gradients of each tensor are those of fp32 within float16, ${memory}`, async () => {
    const full = await gradientOf({ memory });
    const half = await gradientOf({ memory, precision: 'fp16' });
    await withEngine({}, async ({ layout }) => {
      for (const { name, offset, length } of layout) {
        const error = distance(half.subarray(offset, offset + length), full.subarray(offset, offset + length));
        // Float16 rounds at 4.9e-4; a tensor's gradient is a sum over several roundings in a row.
        assert.ok(error < 5e-3, `${name}: ${error}`);
        assert.ok(error > 1e-6, `${name}: nothing was rounded`);
      }
    });
  });

test('small gradients survive because of the loss scale', async () => {
  // Each of 4096 tokens has its small share: without a scale, what flows back is near the smallest float16, 6e-8.
  const many = seededTokens(6, 256, preset.context, preset.vocabulary);
  const full = await gradientOf({ batch: 64 }, many);
  const scaled = distance(await gradientOf({ batch: 64, precision: 'fp16' }, many), full);
  const unscaled = distance(await gradientOf({ batch: 64, precision: 'fp16', initialLossScale: 1 }, many), full);
  assert.ok(scaled < unscaled / 2, `${scaled} against ${unscaled}`);
});

test('scoring is fp32 to the bit', async () => {
  const full = await withEngine({}, (engine) => engine.losses(tokens));
  const half = await withEngine({ precision: 'fp16' }, async (engine) => {
    await engine.lossAndGradient(tokens);
    return await engine.losses(tokens);
  });
  assert.equal(half, full);
});

test('an overflow halves the scale until the gradient fits, and says which tensor it was', async () => {
  const full = await gradientOf({});
  await withEngine({ precision: 'fp16', initialLossScale: 2 ** 24 }, async (engine) => {
    let overflows = 0;
    for (;;) {
      try {
        const { gradient } = await engine.lossAndGradient(tokens);
        assert.ok(distance(gradient, full) < 5e-3);
        break;
      } catch (error) {
        if (!(error instanceof GradientOverflowError)) throw error;
        overflows++;
        assert.ok(engine.layout.some(({ name }) => name === error.tensor));
        assert.match(error.message, new RegExp(`the loss scale is ${2 ** (24 - overflows)} now`));
      }
    }
    assert.ok(overflows > 0 && overflows < 24, String(overflows));
  });
});

test('inner steps skip what overflows, and train on', async () => {
  await withEngine({ precision: 'fp16', initialLossScale: 2 ** 24, batch: 1 }, async (engine) => {
    const steps = 16;
    const work = seededTokens(5, steps, preset.context, preset.vocabulary);
    const result = await innerSteps(engine, new AdamW(engine.layout), {
      tokens: work,
      sequencesPerStep: 1,
      learningRate: 1e-3,
    });
    assert.ok(result.losses.length > 0 && result.losses.length < steps, String(result.losses.length));
    assert.ok(result.losses.every(Number.isFinite));
    assert.ok(result.pseudoGradient.some((value) => value !== 0));
    assert.equal(engine.weights, weights);
  });
});

test('a broken weight is still an error that names the tensor, not an overflow', async () => {
  await withEngine({ precision: 'fp16' }, async (engine) => {
    const slot = engine.layout.find(({ name }) => name === 'layers.1.ffn.up')!;
    engine.weights[slot.offset] = Number.NaN;
    try {
      await engine.lossAndGradient(tokens);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, NonFiniteError);
      assert.is((error as NonFiniteError).tensor, 'layers.1.ffn.up');
    }
  });
});

test('only matrix products leave float32', () => {
  const graph = withHalfPrecisionProducts(wholeTrainingGraph(preset, { batch: 2, positions: 16 }, 16));
  const moving = new Set(['Cast', 'Reshape', 'Transpose', 'Slice', 'Split', 'Concat', 'Expand']);
  let products = 0;
  for (const { operator, inputs, outputs } of graph.nodes) {
    const half = [...inputs, ...outputs].some(({ dtype }) => dtype === 'float16');
    const isProduct = operator === 'Gemm' || operator === 'MatMul';
    if (isProduct && outputs[0]!.shape.at(-1) !== 1) {
      products++;
      assert.ok(inputs.every(({ dtype }) => dtype === 'float16'));
    } else if (!moving.has(operator)) {
      assert.not(half, operator);
    }
  }
  assert.ok(products > 20);
  for (const { dtype } of [...graph.inputs, ...graph.outputs.map(({ value }) => value)])
    assert.is.not(dtype, 'float16');
});

test.run();
