/** The whole model, run both ways, against PyTorch (vectors/make_reference.py), and what calls promise. */
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Engine,
  EngineBusyError,
  EngineClosedError,
  InvalidTokensError,
  NonFiniteError,
  WeightsLengthError,
} from '../../kernels/engine/engine.ts';
import { createEngine, InvalidEngineOptionsError } from '../../kernels/engine/onnx-engine.ts';
import { headChunkRows } from '../../kernels/model/head.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { seededTokens, seededUniform } from './seeded.ts';
import { smallPreset as small } from './small-preset.ts';

interface ReferenceCase {
  readonly preset: Record<string, unknown>;
  readonly batch: number;
  readonly seed: number;
  readonly loss: number;
  readonly sequenceLosses: readonly number[];
  readonly gradientBase64: string;
}

const references = JSON.parse(
  readFileSync(new URL('./vectors/transformer.json', import.meta.url), 'utf8'),
) as ReferenceCase[];

/** Agreed relative difference to PyTorch in float64. */
const TOLERANCE = 1e-4;

/** Weights and tokens of a reference case, drawn as the Python script draws them. */
function materials(preset: Preset, batch: number, seed: number): { weights: Float32Array; tokens: Int32Array } {
  const uniform = seededUniform(seed);
  const weights = new Float32Array(parameterCount(preset));
  for (const slot of tensorLayout(preset))
    for (let i = 0; i < slot.length; i++)
      weights[slot.offset + i] = (slot.shape.length === 1 ? 1 : 0) + uniform() - 0.5;
  const tokens = Int32Array.from({ length: batch * (preset.context + 1) }, () =>
    Math.floor(uniform() * preset.vocabulary),
  );
  return { weights, tokens };
}

function close(actual: number, expected: number, scale: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= TOLERANCE * scale, `${what}: ${actual}, reference ${expected}`);
}

async function checkAgainst(reference: ReferenceCase, engine: Engine): Promise<void> {
  const { weights, tokens } = materials(engine.preset, reference.batch, reference.seed);
  engine.loadWeights(weights);
  const perSequence = await engine.losses(tokens);
  assert.is(perSequence.length, reference.sequenceLosses.length);
  for (const [i, loss] of perSequence.entries()) close(loss, reference.sequenceLosses[i]!, loss, `sequence ${i}`);
  const expected = new Float32Array(new Uint8Array(Buffer.from(reference.gradientBase64, 'base64')).buffer);
  // Twice: the second call finds every buffer used.
  for (let call = 0; call < 2; call++) {
    const { loss, gradient, gradientNorm } = await engine.lossAndGradient(tokens);
    close(loss, reference.loss, reference.loss, 'loss');
    assert.is(gradient.length, expected.length);
    for (const slot of engine.layout) {
      const slice = expected.subarray(slot.offset, slot.offset + slot.length);
      const largest = slice.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      for (let i = 0; i < slot.length; i++)
        close(gradient[slot.offset + i]!, slice[i]!, largest, `call ${call}, gradient of ${slot.name}[${i}]`);
    }
    close(gradientNorm, Math.hypot(...expected), gradientNorm, 'norm');
  }
}

// One pass, passes that divide the batch unevenly, and a pass larger than the batch.
for (const reference of references)
  for (const memory of ['whole', 'blocks'] as const)
    for (const batch of [reference.batch, 1 + (reference.batch % 2), reference.batch + 1])
      test(`${reference.preset.name} agrees with PyTorch: ${memory}, ${batch} of ${reference.batch} at a time`, async () => {
        const engine = createEngine({ preset: parsePreset(reference.preset), threads: 1, batch, memory });
        await checkAgainst(reference, engine);
        await engine.close();
      });

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

test('bad tokens, weights, options and overlapping calls are refused with their own errors', async () => {
  const engine = createEngine({ preset: small, threads: 1, batch: 2 });
  const good = seededTokens(3, 2, small.context, small.vocabulary);
  const rejects = async (call: Promise<unknown>, kind: new (...args: never[]) => Error) => {
    const error = await call.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.instance(error, kind);
  };
  await rejects(engine.losses(good.subarray(1)), InvalidTokensError);
  await rejects(engine.losses(new Int32Array(0)), InvalidTokensError);
  await rejects(engine.losses(good.with(3, small.vocabulary)), InvalidTokensError);
  await rejects(engine.lossAndGradient(good.with(3, -1)), InvalidTokensError);
  assert.throws(
    () => engine.loadWeights(new Float32Array(3)),
    (error: Error) => error instanceof WeightsLengthError,
  );
  const running = engine.losses(good);
  await rejects(engine.losses(good), EngineBusyError);
  await running;
  await rejects(engine.losses(good, { signal: AbortSignal.abort(new RangeError('stop')) }), RangeError);
  await engine.close();
  await rejects(engine.losses(good), EngineClosedError);
  for (const options of [{ batch: 0 }, { threads: 1.5 }, { context: 17 }])
    assert.throws(
      () => createEngine({ preset: small, threads: 1, batch: 1, ...options }),
      (error: Error) => error instanceof InvalidEngineOptionsError,
    );
});

test('NaN and infinity are refused, naming a tensor', async () => {
  const engine = createEngine({ preset: small, threads: 1, batch: 2 });
  const tokens = seededTokens(3, 2, small.context, small.vocabulary);
  for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const weights = initialWeights(small, seed);
    weights[tensorLayout(small).find((slot) => slot.name === 'layers.1.ffn.up')!.offset] = poison;
    engine.loadWeights(weights);
    for (const call of [() => engine.losses(tokens), () => engine.lossAndGradient(tokens)]) {
      const error = await call().then(
        () => undefined,
        (reason: unknown) => reason,
      );
      assert.instance(error, NonFiniteError);
      assert.is((error as NonFiniteError).tensor, 'layers.1.ffn.up');
    }
  }
  // Finite weights can overflow too: final norm and head together.
  const norm = tensorLayout(small).find((slot) => slot.name === 'norm')!.offset;
  engine.loadWeights(initialWeights(small, seed).map((weight, i) => (i < norm ? weight : weight * 1e30)));
  const error = await engine.losses(tokens).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.is((error as NonFiniteError).tensor, 'losses');
  await engine.close();
});

test.run();
