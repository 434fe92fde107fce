/** Weights on disk: the same losses and gradients as in memory, to the bit; order of the sink; names of what is broken. */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TensorFileContentError, TensorFileMismatchError } from '../../kernels/checkpoint/errors.ts';
import { type TensorPart, type TensorStore, wholeTensor } from '../../kernels/checkpoint/tensor-store.ts';
import { EngineBusyError, EngineClosedError, InvalidTokensError, NonFiniteError } from '../../kernels/engine/engine.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { StreamedEngine } from '../../kernels/engine/streamed-engine.ts';
import type { GradientSink } from '../../kernels/engine/streamed-model.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import { storeOf, withFolder } from './streamed-store.ts';

const seed = new Uint8Array(32).fill(9);
const bytes = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => assert.unreachable('it did not reject'),
    (reason: unknown) => reason,
  );
}

/** A sink that puts parts together, and the parts' order. */
function collector(preset: Preset): { sink: GradientSink; gradient: Float32Array<ArrayBuffer>; parts: TensorPart[] } {
  const gradient = new Float32Array(parameterCount(preset)).fill(Number.NaN);
  const parts: TensorPart[] = [];
  const sink: GradientSink = async (part, values) => {
    parts.push(part);
    // Late, as a sink that writes to a disk would be.
    await new Promise((done) => setImmediate(done));
    assert.is(values.length, part.length);
    gradient.set(values, part.slot.offset + part.start);
  };
  return { sink, gradient, parts };
}

/** Weights that differ from tensor to tensor and are not as tame as those of a new model. */
function testWeights(preset: Preset): Float32Array<ArrayBuffer> {
  const weights = initialWeights(preset, seed);
  for (let i = 0; i < weights.length; i++) weights[i] = weights[i]! * (1 + (i % 7) / 3);
  return weights;
}

const shapes: readonly {
  name: string;
  preset?: Partial<Preset>;
  batch: number;
  sequences: number;
  headRows?: number;
  headTileBytes?: number;
}[] = [
  { name: 'one pass', batch: 2, sequences: 2 },
  { name: 'every query head its own', preset: { keyValueHeads: 4 }, batch: 2, sequences: 2 },
  { name: 'one key/value head for all', preset: { keyValueHeads: 1, layers: 3 }, batch: 1, sequences: 1 },
  { name: 'head by rows', batch: 2, sequences: 2, headRows: 8 },
  { name: 'several passes, the last one short', batch: 2, sequences: 5, headRows: 16 },
  { name: 'tied', preset: { tied: true }, batch: 2, sequences: 2 },
  { name: 'tied, several passes', preset: { tied: true }, batch: 2, sequences: 5, headRows: 16 },
  { name: 'head in tiles', preset: { vocabulary: 300 }, batch: 2, sequences: 2, headTileBytes: 128 * 32 * 4 },
  {
    name: 'head in tiles, by rows, several passes',
    preset: { vocabulary: 300 },
    batch: 2,
    sequences: 3,
    headRows: 8,
    headTileBytes: 70 * 32 * 4,
  },
  {
    name: 'tied head in tiles, several passes',
    preset: { vocabulary: 300, tied: true },
    batch: 1,
    sequences: 3,
    headTileBytes: 128 * 32 * 4,
  },
];

for (const { name, preset: changes, sequences, ...options } of shapes)
  for (const prefetch of [true, false])
    test(`streamed = resident: ${name}${prefetch ? '' : ', without reading ahead'}`, async () => {
      const preset = parsePreset({ ...smallPreset, ...changes });
      const weights = testWeights(preset);
      const tokens = seededTokens(3, sequences, preset.context, preset.vocabulary);
      const resident = createEngine({ preset, threads: 1, memory: 'blocks', ...options });
      resident.loadWeights(weights);
      const expectedLosses = await resident.losses(tokens);
      const expected = await resident.lossAndGradient(tokens);
      await withFolder(async (folder) => {
        const store = await storeOf(join(folder, 'weights'), preset, weights);
        const engine = new StreamedEngine(store, { preset, threads: 1, prefetch, ...options });
        assert.equal(await engine.losses(tokens), expectedLosses);
        for (let call = 0; call < 2; call++) {
          const { sink, gradient } = collector(preset);
          const { loss, gradientNorm } = await engine.gradient(tokens, sink);
          assert.is(loss, expected.loss);
          for (const slot of tensorLayout(preset)) {
            const [from, to] = [slot.offset, slot.offset + slot.length];
            const same = bytes(gradient.subarray(from, to)).equals(bytes(expected.gradient.subarray(from, to)));
            assert.ok(same, slot.name);
          }
          assert.is(gradientNorm, expected.gradientNorm);
        }
        await engine.close();
        await store.close();
      });
      await resident.close();
    });

test('a head in tiles is the head', async () => {
  const preset = parsePreset({ ...smallPreset, vocabulary: 300 });
  const tokens = seededTokens(3, 2, preset.context, preset.vocabulary);
  const results = [];
  for (const headTileBytes of [2 ** 28, 64 * 32 * 4]) {
    const engine = createEngine({ preset, threads: 1, batch: 2, memory: 'blocks', headTileBytes });
    engine.loadWeights(testWeights(preset));
    const { loss, gradient } = await engine.lossAndGradient(tokens);
    results.push({ loss, gradient: gradient.slice(), losses: await engine.losses(tokens) });
    await engine.close();
  }
  const [whole, tiled] = results as [(typeof results)[number], (typeof results)[number]];
  assert.ok(Math.abs(whole.loss - tiled.loss) < 1e-6 * whole.loss);
  assert.ok(whole.losses.every((loss, i) => Math.abs(loss - tiled.losses[i]!) < 1e-6 * loss));
  const largest = whole.gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (const [i, value] of whole.gradient.entries())
    assert.ok(Math.abs(value - tiled.gradient[i]!) < 1e-5 * largest, `element ${i}`);
});

/** A streamed engine over a store of the small preset, changed beforehand. */
async function withEngine(
  change: (weights: Float32Array<ArrayBuffer>) => void,
  body: (engine: StreamedEngine, store: TensorStore) => Promise<void>,
): Promise<void> {
  const weights = testWeights(smallPreset);
  change(weights);
  await withFolder(async (folder) => {
    const store = await storeOf(join(folder, 'weights'), smallPreset, weights);
    const engine = new StreamedEngine(store, { preset: smallPreset, threads: 1, batch: 2, headTileBytes: 16 * 32 * 4 });
    await body(engine, store);
    await engine.close();
    await store.close();
  });
}

const tokens = seededTokens(3, 2, smallPreset.context, smallPreset.vocabulary);
const nothing = () => {};

test('the sink gets every element once: head, norm, blocks downwards, embedding', async () => {
  await withEngine(nothing, async (engine) => {
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
    assert.is(parts.filter(({ slot }) => slot.name === 'head').length, 1);
  });
});

test('a broken weight is named, and the sink gets nothing', async () => {
  const slot = tensorLayout(smallPreset).find(({ name }) => name === 'layers.1.ffn.up')!;
  await withEngine(
    (weights) => {
      weights[slot.offset + 5] = Number.NaN;
    },
    async (engine) => {
      for (const call of [engine.gradient(tokens, () => assert.unreachable('called'))]) {
        const error = await rejection(call);
        assert.instance(error, NonFiniteError);
        assert.is((error as NonFiniteError).tensor, 'layers.1.ffn.up');
      }
      const error = await rejection(engine.losses(tokens));
      assert.is((error as NonFiniteError).tensor, 'layers.1.ffn.up');
    },
  );
});

test('a gradient that leaves float32 is named', async () => {
  // The loss stays finite: a zero norm makes all logits zero. Its gradient overflows.
  const layout = tensorLayout(smallPreset);
  const norm = layout.find(({ name }) => name === 'norm')!;
  const head = layout.find(({ name }) => name === 'head')!;
  await withEngine(
    (weights) => {
      weights.fill(0, norm.offset, norm.offset + norm.length);
      const target = head.offset + tokens[1]! * smallPreset.hidden;
      weights.fill(3.3e38, head.offset, head.offset + head.length);
      weights.fill(-3.3e38, target, target + smallPreset.hidden);
    },
    async (engine) => {
      const got: string[] = [];
      const error = await rejection(
        engine.gradient(tokens, ({ slot }) => {
          got.push(slot.name);
        }),
      );
      assert.instance(error, NonFiniteError);
      assert.is((error as NonFiniteError).tensor, 'norm');
      assert.equal([...new Set(got)], ['head']);
    },
  );
});

test('a failing sink, an abort and a damaged tensor end the call; the engine goes on', async () => {
  await withEngine(nothing, async (engine, store) => {
    const reason = new Error('disk full');
    const failing = engine.gradient(tokens, ({ slot }) => {
      if (slot.name === 'norm') throw reason;
    });
    assert.instance(await rejection(engine.losses(tokens)), EngineBusyError);
    assert.is(await rejection(failing), reason);
    const abort = new AbortController();
    const aborted = engine.gradient(tokens, ({ slot }) => void (slot.name === 'norm' && abort.abort(reason)), {
      signal: abort.signal,
    });
    assert.is(await rejection(aborted), reason);
    assert.instance(await rejection(engine.losses(tokens.subarray(1))), InvalidTokensError);
    const losses = await engine.losses(tokens);
    // Another process changes a tensor under the engine's feet.
    const slot = store.slot('layers.1.attention.output');
    const { open } = await import('node:fs/promises');
    const file = await open(store.path, 'r+');
    await file.write(Uint8Array.of(77), 0, 1, 4096 + slot.offset * 4 + 9);
    const error = await rejection(engine.losses(tokens));
    assert.instance(error, TensorFileContentError);
    assert.match((error as Error).message, /layers\.1\.attention\.output.*weights/);
    await file.close();
    // The owner may change it, and the next call sees that.
    const values = testWeights(smallPreset).subarray(slot.offset, slot.offset + slot.length);
    await store.write(wholeTensor(slot), values);
    assert.equal(await engine.losses(tokens), losses);
  });
});

test('a store of another model, or of something else, is refused; a closed engine stays closed', async () => {
  await withEngine(nothing, async (engine, store) => {
    const other = parsePreset({ ...smallPreset, layers: 3 });
    assert.throws(
      () => new StreamedEngine(store, { preset: other, threads: 1, batch: 1 }),
      (error: unknown) => error instanceof TensorFileMismatchError,
    );
    await engine.close();
    assert.instance(await rejection(engine.losses(tokens)), EngineClosedError);
  });
});

test.run();
