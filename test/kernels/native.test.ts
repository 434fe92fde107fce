/** The native CPU engine against onnxruntime's, on every instruction set that is built and that this processor has. */
// time-limit: 120 s
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
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
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { builtFolder, libraryName } from '../../kernels/native/instruction-sets.ts';
import {
  loadNativeLibrary,
  type NativeShape,
  NativeUnavailableError,
  usableInstructionSets,
} from '../../kernels/native/library.ts';
import { createNativeEngine } from '../../kernels/native/native-engine.ts';
import { AdamW } from '../../kernels/train/adamw.ts';
import { seededTokens, seededValues } from './seeded.ts';
import { smallPreset as small } from './small-preset.ts';

const seed = new Uint8Array(32).fill(7);
const usable = usableInstructionSets({ emulated: true });
/** Tests of the library itself are skipped where it is not built. */
const nativeTest = usable.length === 0 ? test.skip : test;
const best = usableInstructionSets().at(-1) ?? '';

/** No size is a multiple of a tile, and the vocabulary goes over a block of the head. */
const odd = parsePreset({ ...small, name: 'odd', hidden: 36, queryHeads: 6, ffn: 50, vocabulary: 2301, context: 133 });
const tied = parsePreset({ ...odd, name: 'odd-tied', keyValueHeads: 1, tied: true });

const precisions = (instructionSet: string) =>
  loadNativeLibrary(instructionSet).bf16 ? (['fp32', 'bf16'] as const) : (['fp32'] as const);

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => assert.unreachable('it did not reject'),
    (reason: unknown) => reason,
  );
}

/** Loss, sequence losses and gradient of an engine that is then closed. */
async function results(engine: Engine, tokens: Int32Array) {
  engine.loadWeights(initialWeights(engine.preset, seed));
  const { loss, gradient, gradientNorm } = await engine.lossAndGradient(tokens);
  const losses = await engine.losses(tokens);
  await engine.close();
  return { loss, gradient, gradientNorm, losses };
}

function close(actual: number, expected: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(actual / expected - 1) <= tolerance, `${what}: ${actual}, reference ${expected}`);
}

const normOf = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

/** Asserts that every tensor's gradient is near the reference's, relative to its norm. */
function gradientsClose(preset: Preset, actual: Float32Array, expected: Float32Array, tolerance: number): void {
  // What is zero but for rounding, as a query's gradient where there is one key, is compared with the whole.
  const least = 1e-4 * normOf(expected);
  for (const { name, offset, length } of tensorLayout(preset)) {
    let difference = 0;
    let norm = 0;
    for (let i = offset; i < offset + length; i++) {
      difference += (actual[i]! - expected[i]!) ** 2;
      norm += expected[i]! ** 2;
    }
    const error = Math.sqrt(difference) / Math.max(least, Math.sqrt(norm));
    assert.ok(error <= tolerance, `${preset.name}: gradient of ${name} is off by ${error}`);
  }
}

for (const preset of [odd, tied])
  for (const context of [1, 3, 32, preset.context])
    nativeTest(`${preset.name}, ${context} tokens: agrees with onnxruntime on every instruction set`, async () => {
      // Three sequences, two at a time: the second pass is short.
      const shape = { preset, threads: 1, batch: 2, context };
      const tokens = seededTokens(5, 3, context, preset.vocabulary);
      const expected = await results(createEngine(shape), tokens);
      for (const instructionSet of usable)
        for (const precision of precisions(instructionSet))
          for (const memory of ['whole', 'blocks'] as const) {
            // Of the head, a few rows at a time.
            const options = { ...shape, precision, memory, instructionSet, headBytes: 4 * 50 * preset.vocabulary };
            const actual = await results(createNativeEngine(options), tokens);
            const what = `${instructionSet} ${precision} ${memory}`;
            gradientsClose(preset, actual.gradient, expected.gradient, precision === 'bf16' ? 0.02 : 1e-5);
            close(actual.loss, expected.loss, precision === 'bf16' ? 1e-3 : 1e-6, `${what}: loss`);
            close(actual.gradientNorm, normOf(actual.gradient), 1e-6, `${what}: norm`);
            for (const [i, loss] of actual.losses.entries())
              close(loss, expected.losses[i]!, 1e-6, `${what}: sequence ${i}`);
          }
    });

for (const instructionSet of usable)
  nativeTest(`${instructionSet}: the same bits for any number of threads, activations kept or recomputed`, async () => {
    const tokens = seededTokens(5, 3, odd.context, odd.vocabulary);
    for (const precision of precisions(instructionSet)) {
      const all = [];
      for (const [threads, memory] of [
        [1, 'whole'],
        [3, 'whole'],
        [2, 'blocks'],
      ] as const) {
        const options = { preset: odd, threads, batch: 3, precision, memory, instructionSet };
        all.push(await results(createNativeEngine(options), tokens));
      }
      for (const other of all) assert.equal(other, all[0]);
    }
  });

const amxLibrary = join(builtFolder, libraryName('amx'));
const amxTest = existsSync(amxLibrary) ? test : test.skip;

amxTest('the library for AMX has the tile products that its emulation stands for', () => {
  const code = readFileSync(amxLibrary);
  // tdpbf16ps: tmm0 += tmm4 tmm6, tmm1 += tmm4 tmm7, tmm2 += tmm5 tmm6, tmm3 += tmm5 tmm7.
  for (const instruction of ['c4e24a5cc4', 'c4e2425ccc', 'c4e24a5cd5', 'c4e2425cdd'])
    assert.ok(code.includes(Buffer.from(instruction, 'hex')), instruction);
});

nativeTest('two engines at once have nothing in common', async () => {
  const tokens = seededTokens(5, 4, small.context, small.vocabulary);
  const make = () => createNativeEngine({ preset: small, threads: 2, batch: 1 });
  const alone = await results(make(), tokens);
  const both = await Promise.all([results(make(), tokens), results(make(), tokens)]);
  for (const result of both) assert.equal(result, alone);
});

nativeTest(
  'bad tokens and weights, overlapping, aborted and late calls are refused with their own errors',
  async () => {
    const engine = createNativeEngine({ preset: small, threads: 2, batch: 2 });
    engine.loadWeights(initialWeights(small, seed));
    const good = seededTokens(1, 5, small.context, small.vocabulary);
    const calls = [
      (tokens: Int32Array, signal?: AbortSignal) => engine.losses(tokens, { ...(signal && { signal }) }),
      (tokens: Int32Array, signal?: AbortSignal) => engine.lossAndGradient(tokens, { ...(signal && { signal }) }),
    ];
    for (const call of calls) {
      for (const bad of [good.subarray(1), new Int32Array(0), good.with(3, small.vocabulary), good.with(3, -1)])
        assert.instance(await rejection(call(bad)), InvalidTokensError);
      const running = call(good);
      for (const other of calls) assert.instance(await rejection(other(good)), EngineBusyError);
      assert.instance(await rejection(engine.close()), EngineBusyError);
      await running;
      const reason = new RangeError('stop');
      assert.is(await rejection(call(good, AbortSignal.abort(reason))), reason);
      const abort = new AbortController();
      const aborted = call(good, abort.signal);
      setImmediate(() => abort.abort(reason));
      assert.is(await rejection(aborted), reason);
      await call(good);
    }
    for (const length of [3, engine.weights.length + 1])
      assert.throws(
        () => engine.loadWeights(new Float32Array(length)),
        (error: Error) => error instanceof WeightsLengthError,
      );
    await engine.close();
    await engine.close();
    for (const call of calls) assert.instance(await rejection(call(good)), EngineClosedError);
  },
);

nativeTest('NaN and infinity are refused, naming a tensor', async () => {
  for (const precision of precisions(best)) {
    const engine = createNativeEngine({ preset: small, threads: 1, batch: 2, precision });
    const tokens = seededTokens(1, 2, small.context, small.vocabulary);
    const fails = async (tensor: string) => {
      for (const call of [() => engine.losses(tokens), () => engine.lossAndGradient(tokens)]) {
        const error = await rejection(call());
        assert.instance(error, NonFiniteError);
        assert.is((error as NonFiniteError).tensor, tensor);
      }
    };
    for (const poison of [Number.NaN, Number.POSITIVE_INFINITY])
      for (const { name, offset, length } of tensorLayout(small)) {
        if (name === 'embedding') continue;
        engine.loadWeights(initialWeights(small, seed));
        engine.weights[offset + length - 1] = poison;
        await fails(name);
      }
    const norm = tensorLayout(small).find(({ name }) => name === 'norm')!.offset;
    engine.loadWeights(initialWeights(small, seed).map((weight, i) => (i < norm ? weight : weight * 1e30)));
    await fails('losses');
    await engine.close();
  }
});

nativeTest('options that make no sense, and instruction sets that are not there', () => {
  for (const wrong of [{ threads: 0 }, { batch: 1.5 }, { context: small.context + 1 }, { headBytes: -1 }])
    assert.throws(
      () => createNativeEngine({ preset: small, threads: 1, batch: 1, ...wrong }),
      (error: Error) => error instanceof InvalidEngineOptionsError,
    );
  assert.throws(
    () => createNativeEngine({ preset: small, threads: 1, batch: 1, instructionSet: '../../evil' }),
    (error: Error) => error instanceof NativeUnavailableError && error.message.includes(best),
  );
  assert.throws(
    () => createNativeEngine({ preset: small, threads: 1, batch: 1, precision: 'bf16', instructionSet: 'portable' }),
    /has no bf16/,
  );
});

nativeTest('the library refuses whatever does not fit the shape, and goes on', () => {
  const library = loadNativeLibrary();
  const shape: NativeShape = {
    ...{ vocabulary: 64, hidden: 32, layers: 2, queryHeads: 4, keyValueHeads: 2, ffn: 48, context: 16, batch: 2 },
    ...{ ropeTheta: 10_000, normEpsilon: 1e-5, tied: 0, recompute: 0, headBytes: 2 ** 20, threads: 1, bf16: 0 },
  };
  const refused = (call: () => unknown, what: string) =>
    assert.throws(call, (error: NodeJS.ErrnoException) => error.code === 'ERR_NATIVE_ARGUMENT', what);
  for (const name of Object.keys(shape))
    for (const value of [-1, 2 ** 40, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, undefined, '4', {}])
      if (!((name === 'ropeTheta' || name === 'headBytes') && Number(value) > 1e9))
        refused(() => library.create({ ...shape, [name]: value }), `${name} ${value}`);
  for (const wrong of [{ hidden: 30 }, { queryHeads: 3 }, { keyValueHeads: 3 }, { hidden: 4 }, { layers: 2.5 }])
    refused(() => library.create({ ...shape, ...wrong }), JSON.stringify(wrong));
  refused(() => library.create({ ...shape, vocabulary: 2 ** 24, hidden: 2 ** 24, queryHeads: 2 }), 'huge');
  for (const notAnObject of [undefined, null, 7, 'engine'])
    refused(() => library.create(notAnObject as unknown as NativeShape), `${notAnObject}`);

  const engine = library.create(shape);
  const count = parameterCount(small);
  const [weights, gradient] = [new Float32Array(count), new Float32Array(count)];
  const [tokens, rows] = [new Int32Array(17), new Float32Array(16)];
  const train = (...[w, t, r, g]: unknown[]) =>
    library.train(engine, w as Float32Array, t as Int32Array, r as Float32Array, 1, g as Float32Array, 0);
  train(weights, tokens, rows, gradient);
  const detached = new Float32Array(count);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  for (const bad of [weights.subarray(1), new Float32Array(0), detached, new Float64Array(count), [...weights], null])
    for (const at of [0, 3])
      refused(() => train(...[weights, tokens, rows, gradient].with(at, bad as never)), 'weights');
  const badTokens = [
    tokens.subarray(1),
    new Int32Array(0),
    new Int32Array(51),
    tokens.with(3, 64),
    tokens.with(16, -1),
  ];
  for (const bad of [...badTokens, new Uint32Array(17), new Int32Array(2 ** 20), 17])
    refused(() => train(weights, bad, rows, gradient), 'tokens');
  for (const bad of [rows.subarray(1), new Float32Array(32)])
    refused(() => train(weights, tokens, bad, gradient), 'rows');
  for (const handle of [{}, null, 3, weights])
    refused(() => library.losses(handle as object, weights, tokens, rows), 'handle');
  refused(() => (library.losses as (...args: unknown[]) => void)(engine, weights), 'too few');
  const blockLength = (count - 2 * 64 * 32 - 32) / 2;
  const [block, x] = [new Float32Array(blockLength), new Float32Array(16 * 32)];
  for (const [w, from, to] of [
    [block.subarray(1), x, x],
    [block, x.subarray(1), x],
    [block, x, new Float32Array(32 * 32)],
    [block, new Float32Array(48 * 32), new Float32Array(48 * 32)],
  ] as const)
    refused(() => library.block(engine, w, from, to), 'block');
  const [norm, head, targets] = [new Float32Array(32), new Float32Array(64 * 32), new Int32Array(16)];
  for (const [n, h, from, to, losses] of [
    [head, head, x, targets, rows],
    [norm, norm, x, targets, rows],
    [norm, head, norm, targets, rows],
    [norm, head, x, targets.with(15, 64), rows],
    [norm, head, x, new Int32Array(33), rows],
    [norm, head, x, targets, rows.subarray(1)],
  ] as const)
    refused(() => library.headLosses(engine, n, h, from, to, losses), 'head');
  const constants = { beta1: 1, beta2: 1, epsilon: 1, clip: 1, meanCorrection: 1, squareCorrection: 1, keep: 1 };
  refused(() => library.step(engine, weights, gradient, rows, gradient, constants), 'moments');
  refused(() => library.step(engine, rows, rows, rows, rows, { ...constants, keep: undefined } as never), 'constants');
  library.losses(engine, weights, tokens, rows);
  for (const loss of rows) close(loss, Math.log(64), 1e-6, 'loss of zero weights');
  library.close(engine);
  refused(() => library.losses(engine, weights, tokens, rows), 'closed');
  refused(() => library.close(engine), 'closed twice');
});

nativeTest('AdamW moves weights as the one in JavaScript does', async () => {
  const engine = createNativeEngine({ preset: small, threads: 2, batch: 1 });
  const length = engine.weights.length;
  const [ours, theirs] = [new AdamW(engine.layout, engine.updateWeights), new AdamW(engine.layout)];
  const [a, b] = [seededValues(3, length), seededValues(3, length)];
  for (let step = 0; step < 5; step++) {
    const gradient = seededValues(step + 10, length, -0.01, 0.01);
    ours.step(a, gradient, Math.hypot(...gradient), 1e-3);
    theirs.step(b, gradient, Math.hypot(...gradient), 1e-3);
  }
  for (const [i, weight] of a.entries()) assert.ok(Math.abs(weight - b[i]!) < 2e-6, `${i}: ${weight} and ${b[i]}`);
  await engine.close();
});

test('where nothing is built or asked for, the message says what to do', () => {
  if (usable.length > 0) assert.ok(usable.includes('portable'));
  else assert.throws(() => loadNativeLibrary(), /npm run build:native/);
});

test.run();
