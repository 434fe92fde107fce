/** Weights on disk for the native engine: the same bits as in memory, on every instruction set; what is broken is named. */
// time-limit: 120 s
import { execFile } from 'node:child_process';
import { open, readdir } from 'node:fs/promises';
import { platform } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  TensorFileContentError,
  TensorFileMismatchError,
  TensorFileSizeError,
} from '../../kernels/checkpoint/errors.ts';
import { type TensorPart, type TensorStore, wholeTensor } from '../../kernels/checkpoint/tensor-store.ts';
import { EngineBusyError, EngineClosedError, InvalidTokensError, NonFiniteError } from '../../kernels/engine/engine.ts';
import { formatSize, MemoryBudgetError } from '../../kernels/engine/memory-plan.ts';
import { InvalidEngineOptionsError } from '../../kernels/engine/onnx-engine.ts';
import type { GradientSink } from '../../kernels/engine/streamed-model.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset, presets } from '../../kernels/model/preset.ts';
import { loadNativeLibrary, usableInstructionSets } from '../../kernels/native/library.ts';
import { createNativeEngine } from '../../kernels/native/native-engine.ts';
import { NativeStreamedEngine, type NativeStreamedEngineOptions } from '../../kernels/native/native-streamed-engine.ts';
import { planNativeStreamed } from '../../kernels/native/native-streamed-memory.ts';
import { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { StreamedModelSession } from '../../kernels/session/streamed-session.ts';
import { AdamW } from '../../kernels/train/adamw.ts';
import { innerSteps } from '../../kernels/train/inner-steps.ts';
import { StreamedAdamW } from '../../kernels/train/streamed-adamw.ts';
import { streamedSteps } from '../../kernels/train/streamed-steps.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import { sessionInit, tokensFor } from './small-session.ts';
import { storeOf, withFolder } from './streamed-store.ts';

const usable = usableInstructionSets();
const nativeTest = usable.length === 0 ? test.skip : test;
const precisionsOf = (instructionSet?: string) =>
  loadNativeLibrary(instructionSet).bf16 ? (['fp32', 'bf16'] as const) : (['fp32'] as const);

/** No size is a multiple of a tile; the vocabulary is two blocks of the head. */
const odd = parsePreset({
  ...smallPreset,
  ...{ name: 'odd', layers: 3, hidden: 36, queryHeads: 6, keyValueHeads: 2, ffn: 50, vocabulary: 2301, context: 37 },
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
  /** On every instruction set, not only on the best. */
  everywhere?: boolean;
}[] = [
  { name: 'one pass', sequences: 2 },
  { name: 'one token', sequences: 1, context: 1 },
  { name: 'several passes, the last one short', sequences: 5, everywhere: true },
  { name: 'head by rows', sequences: 3, options: { headBytes: 4 * 2301 * 20 } },
  { name: 'head in parts', sequences: 2, options: { headTileBytes: 2048 * 36 * 4 } },
  {
    name: 'head by rows in parts, several passes',
    everywhere: true,
    sequences: 5,
    options: { headTileBytes: 2048 * 36 * 4, headBytes: 4 * 2301 * 20 },
  },
  { name: 'tied', preset: { tied: true, keyValueHeads: 1 }, sequences: 2 },
  { name: 'tied head in parts', preset: { tied: true }, sequences: 2, options: { headTileBytes: 2048 * 36 * 4 } },
];

for (const { name, preset: changes, sequences, context = odd.context, options, everywhere } of shapes)
  nativeTest(`streamed = resident: ${name}`, async () => {
    const preset = parsePreset({ ...odd, ...changes });
    const weights = testWeights(preset);
    const tokens = seededTokens(3, sequences, context, preset.vocabulary);
    await withFolder(async (folder) => {
      const store = await storeOf(join(folder, 'weights'), preset, weights);
      for (const instructionSet of everywhere ? usable : usable.slice(-1))
        for (const precision of precisionsOf(instructionSet)) {
          const shape = { preset, threads: 2, batch: 2, context, precision, instructionSet };
          const { headBytes } = options ?? {};
          const resident = createNativeEngine({ ...shape, memory: 'blocks', ...(headBytes && { headBytes }) });
          resident.loadWeights(weights);
          const expectedLosses = await resident.losses(tokens);
          const expected = await resident.lossAndGradient(tokens);
          const ways = [
            { scratchFolder: folder },
            {},
            { prefetch: false },
            { scratchFolder: folder, spill: true, prefetch: false },
          ];
          // Files are the same for all.
          for (const files of instructionSet === usable.at(-1) ? ways : ways.slice(0, 1)) {
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

nativeTest(
  'with contexts of 1024 tokens, sums do not depend on how many sequences go through a layer together',
  async () => {
    const preset = parsePreset({ ...smallPreset, layers: 2, vocabulary: 300, context: 1024 });
    const tokens = seededTokens(4, 3, 1024, preset.vocabulary);
    await withFolder(async (folder) => {
      const store = await storeOf(join(folder, 'weights'), preset, testWeights(preset));
      for (const precision of precisionsOf()) {
        const results = [];
        for (const [batch, spill] of [
          [3, false],
          [1, false],
          [1, true],
        ] as const) {
          const options = { preset, threads: 2, batch, precision, spill, scratchFolder: folder };
          const engine = new NativeStreamedEngine(store, options);
          const { sink, gradient } = collector(preset);
          const { loss, gradientNorm } = await engine.gradient(tokens, sink);
          await engine.close();
          results.push({ loss, gradientNorm, gradient });
        }
        for (const { loss, gradientNorm, gradient } of results) {
          assert.is(loss, results[0]!.loss);
          assert.is(gradientNorm, results[0]!.gradientNorm);
          sameBits(preset, gradient, results[0]!.gradient, precision);
        }
      }
      await store.close();
    });
  },
);

nativeTest('inner steps on disk = in memory: a copy of rounded weights is never out of date', async () => {
  const weights = testWeights(smallPreset);
  const init = {
    tokens: seededTokens(2, 6, smallPreset.context, smallPreset.vocabulary),
    ...{ sequencesPerStep: 2, learningRate: 1e-2 },
  };
  for (const precision of precisionsOf()) {
    const shape = { preset: smallPreset, threads: 1, batch: 2, precision };
    const resident = createNativeEngine({ ...shape, memory: 'blocks' });
    resident.loadWeights(weights);
    const expected = await innerSteps(resident, new AdamW(resident.layout), init);
    await resident.close();
    await withFolder(async (folder) => {
      const start = await storeOf(join(folder, 'weights'), smallPreset, weights);
      const { sink, gradient } = collector(smallPreset);
      const engine = (moving: TensorStore) => new NativeStreamedEngine(moving, { ...shape, scratchFolder: folder });
      const optimizer = new StreamedAdamW(folder, start);
      const taken = await streamedSteps({ ...init, start, folder, engine }, optimizer, sink);
      assert.equal(taken.losses, expected.losses, precision);
      sameBits(smallPreset, gradient, expected.pseudoGradient, precision);
      await optimizer.reset();
      await start.close();
      assert.equal(await readdir(folder), ['weights']);
    });
  }
});

const tokens = seededTokens(3, 4, smallPreset.context, smallPreset.vocabulary);

/** Runs `body` with a streamed engine in the best precision over a store of the small preset, changed beforehand. */
async function withEngine(
  change: (weights: Float32Array<ArrayBuffer>) => void,
  body: (engine: NativeStreamedEngine, store: TensorStore, folder: string) => Promise<void>,
): Promise<void> {
  const weights = testWeights(smallPreset);
  change(weights);
  await withFolder(async (folder) => {
    const store = await storeOf(join(folder, 'weights'), smallPreset, weights);
    const precision = precisionsOf().at(-1) ?? 'fp32';
    const options = { preset: smallPreset, threads: 1, batch: 2, precision, scratchFolder: folder };
    const engine = new NativeStreamedEngine(store, options);
    await body(engine, store, folder);
    await engine.close();
    await store.close();
  });
}

nativeTest('the sink gets every element once: head, norm, blocks downwards, embedding', async () => {
  await withEngine(
    () => {},
    async (engine) => {
      const { sink, gradient, parts } = collector(smallPreset);
      await engine.gradient(tokens, sink);
      assert.ok(gradient.every(Number.isFinite));
      assert.is(
        parts.reduce((sum, { length }) => sum + length, 0),
        gradient.length,
      );
      const names = parts.map(({ slot }) => slot.name).filter((name, i, all) => name !== all[i - 1]);
      const block = tensorLayout(smallPreset).filter(({ name }) => name.startsWith('layers.1.'));
      const below = block.map(({ name }) => name.replace('layers.1.', 'layers.0.'));
      assert.equal(names, ['head', 'norm', ...block.map(({ name }) => name), ...below, 'embedding']);
    },
  );
});

nativeTest('a broken weight is named, and the sink gets nothing; a gradient that leaves float32 is named', async () => {
  const layout = tensorLayout(smallPreset);
  for (const name of ['layers.1.ffn.up', 'layers.0.ffn.norm', 'norm', 'head']) {
    const slot = layout.find((candidate) => candidate.name === name)!;
    await withEngine(
      (weights) => {
        weights[slot.offset + 5] = Number.NaN;
      },
      async (engine) => {
        for (const call of [
          () => engine.gradient(tokens, () => assert.unreachable('called')),
          () => engine.losses(tokens),
        ]) {
          const error = await rejection(call());
          assert.instance(error, NonFiniteError);
          assert.is((error as NonFiniteError).tensor, name);
        }
      },
    );
  }
  // The loss stays finite: a zero norm makes all logits zero. Its gradient overflows.
  const [norm, head] = ['norm', 'head'].map((name) => layout.find((slot) => slot.name === name)!);
  await withEngine(
    (weights) => {
      weights.fill(0, norm!.offset, norm!.offset + norm!.length);
      const target = head!.offset + tokens[1]! * smallPreset.hidden;
      weights.fill(3.3e38, head!.offset, head!.offset + head!.length);
      weights.fill(-3.3e38, target, target + smallPreset.hidden);
    },
    async (engine) => {
      const error = await rejection(
        engine.gradient(tokens.slice(0, smallPreset.context + 1).fill(tokens[1]!), () => {}),
      );
      assert.instance(error, NonFiniteError);
      assert.is((error as NonFiniteError).tensor, 'norm');
    },
  );
});

nativeTest('a failing sink, an abort, damaged and cut off tensors end the call; the engine goes on', async () => {
  await withEngine(
    () => {},
    async (engine, store, folder) => {
      const { gradient: expected, sink } = collector(smallPreset);
      await engine.gradient(tokens, sink);
      const reason = new Error('disk full');
      const failing = engine.gradient(tokens, ({ slot }) => {
        if (slot.name === 'norm') throw reason;
      });
      assert.instance(await rejection(engine.losses(tokens)), EngineBusyError);
      assert.is(await rejection(failing), reason);
      const abort = new AbortController();
      const got: string[] = [];
      const aborted = engine.gradient(
        tokens,
        ({ slot }) => {
          got.push(slot.name);
          if (slot.name === 'layers.1.ffn.down') abort.abort(reason);
        },
        { signal: abort.signal },
      );
      assert.is(await rejection(aborted), reason);
      assert.is(got.at(-1), 'layers.1.ffn.down', 'it ends between two layers');
      assert.instance(await rejection(engine.losses(tokens.subarray(1))), InvalidTokensError);

      // Another process changes a tensor under the engine's feet.
      const slot = store.slot('layers.1.attention.output');
      const values = testWeights(smallPreset).subarray(slot.offset, slot.offset + slot.length);
      await store.write(wholeTensor(slot), values);
      const file = await open(store.path, 'r+');
      await file.write(Uint8Array.of(77), 0, 1, 4096 + slot.offset * 4 + 9);
      for (const call of [() => engine.losses(tokens), () => engine.gradient(tokens, () => {})]) {
        const error = await rejection(call());
        assert.instance(error, TensorFileContentError);
        assert.match((error as Error).message, /layers\.1\.attention\.output in .*weights is damaged/);
      }
      // The owner may change it, and the next call sees that.
      await store.write(wholeTensor(slot), values);
      const again = collector(smallPreset);
      await engine.gradient(tokens, again.sink);
      sameBits(smallPreset, again.gradient, expected, 'after the repair');

      const copy = (await readdir(folder)).find((name) => name.startsWith('rounded-weights'));
      if (copy !== undefined) {
        const rounded = await open(join(folder, copy), 'r+');
        await rounded.write(Uint8Array.of(77), 0, 1, slot.offset * 2 + 9);
        await rounded.close();
        const error = await rejection(engine.gradient(tokens, () => {}));
        assert.instance(error, TensorFileContentError);
        assert.match((error as Error).message, /layers\.1\.attention\.output in the copy/);
      }
      await file.truncate(4096 + slot.offset * 4 + 100);
      await file.close();
      const error = await rejection(engine.losses(tokens));
      assert.instance(error, TensorFileSizeError);
      assert.match((error as Error).message, /layers\.1\.attention\.output is cut off/);
    },
  );
});

nativeTest(
  'stores of another model, and options that make no sense, are refused; a closed engine stays closed',
  async () => {
    await withEngine(
      () => {},
      async (engine, store) => {
        const other = parsePreset({ ...smallPreset, layers: 3 });
        const make = (options: Partial<NativeStreamedEngineOptions>) =>
          new NativeStreamedEngine(store, { preset: smallPreset, threads: 1, batch: 1, ...options });
        assert.throws(
          () => make({ preset: other }),
          (error: unknown) => error instanceof TensorFileMismatchError,
        );
        for (const wrong of [{ batch: 0 }, { threads: 1.5 }, { spill: true }, { context: 17 }])
          assert.throws(
            () => make(wrong),
            (error: unknown) => error instanceof InvalidEngineOptionsError,
          );
        await engine.close();
        assert.instance(await rejection(engine.losses(tokens)), EngineClosedError);
      },
    );
  },
);

nativeTest('the library refuses whatever does not fit the shape, and steps of a head out of order', async () => {
  const library = loadNativeLibrary();
  const { name: _forPeople, ...shape } = parsePreset({ ...smallPreset, vocabulary: 4200 });
  const engine = library.create({
    ...{ ...shape, batch: 2, tied: 0, recompute: 1, headBytes: 2 ** 20, threads: 1, bf16: 0 },
  });
  const refused = (call: () => unknown, what: string) =>
    assert.throws(call, (error: NodeJS.ErrnoException) => error.code === 'ERR_NATIVE_ARGUMENT', what);
  const block = tensorLayout(smallPreset).filter(({ name }) => name.startsWith('layers.0.'));
  const length = block.reduce((sum, slot) => sum + slot.length, 0);
  const [norms, weights, gradient] = [64, length, length].map((n) => new Float32Array(n)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const [x, y] = [new Float32Array(16 * 32), new Float32Array(16 * 32)];
  library.blockForward(engine, norms, weights, x, y);
  library.blockBackward(engine, norms, weights, x, y, gradient, 0);
  for (const bad of [new Float32Array(3), new Float32Array(0), new Float64Array(length), null] as never[]) {
    refused(() => library.blockForward(engine, bad, weights, x, y), 'norms');
    refused(() => library.blockForward(engine, norms, bad, x, y), 'weights');
    refused(() => library.blockForward(engine, norms, weights, bad, y), 'x');
    refused(() => library.blockForward(engine, norms, weights, x, bad), 'y');
    refused(() => library.blockBackward(engine, norms, weights, x, bad, gradient, 0), 'dStream');
    refused(() => library.blockBackward(engine, norms, weights, x, y, bad, 0), 'gradient');
    refused(
      () => library.read([{ file: 0, position: 0, pieceBytes: 4, sums: new Uint32Array(9), to: bad, rounds: 0 }]),
      'to',
    );
  }
  refused(() => library.blockForward(engine, norms, new Uint16Array(length), x, y), 'rounded for fp32');
  refused(() => library.blockForward(engine, norms, weights, new Float32Array(3 * 512), y), 'three sequences');

  const norm = norms.subarray(0, 32);
  const [first, rest] = [new Float32Array(2048 * 32), new Float32Array(2152 * 32)];
  const losses = new Float32Array(16);
  refused(() => library.headForward(engine, norm, first, 0, x, 0), 'not begun');
  refused(() => library.headBegin(engine, new Int32Array(16).fill(4200), 1), 'target');
  refused(() => library.headBegin(engine, new Int32Array(0), 1), 'no targets');
  library.headBegin(engine, new Int32Array(16), 1);
  refused(() => library.headForward(engine, norm, first, 1, x, 0), 'start');
  refused(() => library.headForward(engine, norm, first, 4096, x, 0), 'too long');
  refused(() => library.headForward(engine, norm, first.subarray(0, 64), 0, x, 0), 'part of a block');
  refused(() => library.headForward(engine, norm, first, 0, x, 1), 'rows');
  refused(() => library.headForward(engine, norm, first, 0, x, -1), 'before all rows');
  for (const [part, start] of [
    [first, 0],
    [rest, 2048],
  ] as const)
    library.headForward(engine, norm, part, start, x, 0);
  refused(() => library.headBackward(engine, norm, first, 0, x, 0, y, new Float32Array(2048 * 32), 0), 'not finished');
  refused(() => library.headFinish(engine, 1, losses.subarray(1)), 'losses');
  library.headFinish(engine, 1, losses);
  for (const loss of losses) assert.ok(Math.abs(loss - Math.log(4200)) < 1e-5);
  refused(() => library.headBackward(engine, norm, first, 0, x, 0, y, first.subarray(32), 0), 'gradient');
  library.losses(
    engine,
    new Float32Array(parameterCount(parsePreset({ ...smallPreset, vocabulary: 4200 }))),
    new Int32Array(17),
    losses,
  );
  library.headBackward(engine, norm, first, 0, x, 0, y, new Float32Array(2048 * 32), 0);

  const part = {
    file: 1 << 20,
    position: 0,
    pieceBytes: 4,
    sums: new Uint32Array(2),
    to: new Float32Array(2),
    rounds: 0,
  };
  for (const wrong of [{ file: -1 }, { pieceBytes: 6 }, { position: -4 }, { sums: new Uint32Array(1) }, { rounds: 2 }])
    refused(() => library.read([{ ...part, ...wrong }]), JSON.stringify(wrong));
  refused(() => library.read(null as never), 'no parts');
  assert.match(((await rejection(library.read([part]))) as Error).message, /file descriptor/i);
  library.close(engine);
});

for (const name of ['alice-tiny', 'alice-50m'] as const)
  nativeTest(`the plan is near the truth: ${name}`, async () => {
    if (platform() !== 'linux') return;
    const precision = precisionsOf().at(-1) ?? 'fp32';
    const request = { preset: presets[name], sequences: 1, context: 256, precision, threads: 2 };
    const { bytes } = planNativeStreamed(request, undefined);
    const child = fileURLToPath(new URL('peak-memory.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [child, name, 'native-streamed']);
    const said = `${formatSize(Number(stdout))} of ${formatSize(bytes)}`;
    assert.ok(Number(stdout) < 1.03 * bytes, said);
    assert.ok(Number(stdout) > 0.5 * bytes, said);
  });

nativeTest('a session streams natively as planned, with the rounds that it has in memory, to rounding', async () => {
  const precision = precisionsOf().at(-1) ?? 'fp32';
  await withFolder(async (folder) => {
    const init = { ...sessionInit(), streamFolder: join(folder, 'streaming') };
    const plan = {
      backend: 'native',
      mode: 'streamed',
      bytes: 0,
      native: { precision, batch: 1, spill: true },
    } as const;
    const session = await StreamedModelSession.create(init, plan);
    const resident = new ResidentModelSession(sessionInit());
    assert.is(await session.initialize(seed), resident.initialize(seed));
    const work = { tokens: tokensFor(8), learningRate: 1e-3 };
    const [streamed, expected] = [await session.train(work), await resident.train(work)];
    assert.is(streamed.losses.length, 2);
    for (const [i, loss] of streamed.losses.entries()) assert.ok(Math.abs(loss / expected.losses[i]! - 1) < 1e-3);
    assert.equal(
      (await readdir(init.streamFolder)).filter((file) => /rounded|activations/.test(file)),
      [],
    );
    await resident.close();
    await session.close();
  });
});

test('the plan of a model that does not fit: fewer sequences at a time, then activations in a file', () => {
  const request = { preset: presets['alice-7b'], context: 4096, precision: 'bf16', threads: 2 } as const;
  const one = planNativeStreamed({ ...request, sequences: 1, context: 256 }, undefined);
  assert.ok(one.bytes < 2.5 * 2 ** 30 && one.bytes > 1.9 * 2 ** 30, `${one.bytes}`);
  const eight = { ...request, sequences: 8 };
  assert.ok(planNativeStreamed(eight, undefined).bytes > 30 * 2 ** 30);
  for (const [gib, batch] of [
    [8, 2],
    [6, 1],
  ] as const)
    assert.equal(planNativeStreamed(eight, gib * 2 ** 30).native, { precision: 'bf16', batch, spill: true });
  const fitting = planNativeStreamed(eight, 6 * 2 ** 30);
  assert.is(fitting.mode, 'streamed');
  assert.throws(
    () => planNativeStreamed(eight, 2 ** 30),
    (error: unknown) =>
      error instanceof MemoryBudgetError && /streamed natively.*1\.00 GiB allowed/.test(error.message),
  );
});

test.run();
