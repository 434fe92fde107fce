/** Tensors on disk: what is read is what was written, or a clear error; a crash never leaves half a state for a whole. */
import { copyFile, open, readdir, readFile, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { modelRoot } from '../../kernels/aggregate/model-root.ts';
import {
  TensorFileContentError,
  TensorFileHeaderError,
  TensorFileIncompleteError,
  TensorFileMismatchError,
  TensorFileSizeError,
} from '../../kernels/checkpoint/errors.ts';
import { createInitialStore, initialRoot } from '../../kernels/checkpoint/initial-store.ts';
import { readWeights, writeWeights } from '../../kernels/checkpoint/model-state.ts';
import { TensorStore, TensorStoreUseError, tensorParts, wholeTensor } from '../../kernels/checkpoint/tensor-store.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { parsePreset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { smallPreset } from '../kernels/small-preset.ts';
import { storeOf, withFolder } from '../kernels/streamed-store.ts';

/** Large enough that tensors have several pieces and chunks cut through them. */
const preset = parsePreset({ ...smallPreset, hidden: 96, ffn: 6000, vocabulary: 1000 });
const layout = tensorLayout(preset);
const model = { kind: 'weights', presetHash: presetHash(preset), layout } as const;
const seed = new Uint8Array(32).fill(1);
const weights = initialWeights(preset, seed);
const numbersOf = (name: string) => {
  const slot = layout.find((candidate) => candidate.name === name)!;
  return weights.subarray(slot.offset, slot.offset + slot.length);
};

async function failure(promise: Promise<unknown>): Promise<Error> {
  return await promise.then(
    () => assert.unreachable('it did not reject') as never,
    (error: Error) => error,
  );
}

async function fails(
  promise: Promise<unknown>,
  expected: abstract new (...args: never[]) => Error,
  message: RegExp,
): Promise<void> {
  const error = await failure(promise);
  assert.instance(error, expected);
  assert.match(error.message, message);
}

/** Changes one byte of a file. */
async function damage(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, position);
  byte[0] = byte[0]! ^ 4;
  await file.write(byte, 0, 1, position);
  await file.close();
}

test('a seed fills a store with the weights that it makes in memory; both kinds of file are the same', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'weights');
    const store = await createInitialStore(path, preset, seed);
    assert.is(initialRoot(preset, seed), store.root);
    assert.is(store.root, modelRoot(weights));
    await store.close();
    const read = await readWeights(path, { presetHash: model.presetHash, elements: weights.length });
    assert.equal(read.weights, weights);
    const state = { round: 3, modelRoot: store.root, presetHash: model.presetHash, weights };
    await writeWeights(path, state);
    const opened = await TensorStore.open(path, model);
    assert.is(opened.round, 3);
    for (const slot of layout) {
      const values = new Float32Array(slot.length);
      await opened.read(wholeTensor(slot), values);
      assert.equal(values, numbersOf(slot.name));
    }
    await opened.close();
    assert.equal(await readdir(folder), ['weights']);
  });
});

test('parts cover a tensor once, at borders that can be read', async () => {
  await withFolder(async (folder) => {
    const store = await storeOf(join(folder, 'weights'), preset, weights);
    for (const slot of layout)
      for (const most of [1, 100, 6000, 64 * 96, 1 << 18, 1 << 30]) {
        const parts = tensorParts(slot, most);
        let at = 0;
        for (const part of parts) {
          assert.is(part.start, at);
          const values = new Float32Array(part.length);
          await store.read(part, values);
          assert.equal(values, numbersOf(slot.name).subarray(at, at + part.length));
          at += part.length;
        }
        assert.is(at, slot.length);
      }
    const up = store.slot('layers.0.ffn.up');
    assert.ok(tensorParts(up, 1).length > 1, 'a tensor of several pieces');
    await fails(store.read({ slot: up, start: 1, length: 96 }, new Float32Array(96)), TensorStoreUseError, /ffn\.up/);
    await fails(store.write(wholeTensor(up), new Float32Array(96)), TensorStoreUseError, /ffn\.up/);
    await store.close();
  });
});

test('a truncated, damaged or foreign file does not open', async () => {
  await withFolder(async (folder) => {
    const sound = join(folder, 'sound');
    await (await storeOf(sound, preset, weights)).close();
    const { size } = await stat(sound);
    const path = join(folder, 'weights');
    for (const [position, expected] of [
      [2, TensorFileHeaderError],
      [20, TensorFileHeaderError],
      [4096, TensorFileContentError],
      [size - 1, TensorFileContentError],
    ] as const) {
      await copyFile(sound, path);
      await damage(path, position);
      await fails(TensorStore.open(path, model), expected, /weights/);
    }
    await copyFile(sound, path);
    await truncate(path, size - 4);
    await fails(TensorStore.open(path, model), TensorFileSizeError, /weights has/);
    await fails(TensorStore.open(sound, { ...model, kind: 'gradient' }), TensorFileMismatchError, /kind is weights/);
    const other = parsePreset({ ...preset, ropeTheta: 5 });
    await fails(
      TensorStore.open(sound, { ...model, presetHash: presetHash(other) }),
      TensorFileMismatchError,
      /presetHash/,
    );
  });
});

test('a tensor that is damaged or cut off after opening is named when it is read', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'weights');
    const store = await storeOf(path, preset, weights);
    const slot = store.slot('layers.1.ffn.down');
    const values = new Float32Array(slot.length);
    await damage(path, 4096 + 4 * (slot.offset + slot.length) - 1);
    await fails(store.read(wholeTensor(slot), values), TensorFileContentError, /layers\.1\.ffn\.down in .*weights/);
    await fails(store.seal(1), TensorFileContentError, /layers\.1\.ffn\.down in .*weights/);
    await store.read(wholeTensor(store.slot('layers.1.ffn.up')), values);
    await truncate(path, 4096 + 4 * slot.offset + 100);
    await fails(store.read(wholeTensor(slot), values), TensorFileSizeError, /layers\.1\.ffn\.down/);
    await store.close();
  });
});

test('whenever the program stops, a file is the old state, the new one, or says that it is neither', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'weights');
    const snapshot = join(folder, 'snapshot');
    const isWhole = async () => {
      await copyFile(path, snapshot);
      return await TensorStore.open(snapshot, model).then(
        async (store) => {
          await store.close();
          return store.root;
        },
        (error: unknown) => {
          assert.instance(error, TensorFileIncompleteError);
          return undefined;
        },
      );
    };
    const missing = async () => ((await failure(stat(path))) as NodeJS.ErrnoException).code === 'ENOENT';
    const store = await TensorStore.create(path, model);
    for (const slot of layout) {
      assert.ok(await missing(), 'a new store has no name before it is sealed');
      if (slot.name === 'head') await fails(store.seal(0), TensorStoreUseError, /head was never written/);
      await store.write(wholeTensor(slot), numbersOf(slot.name));
    }
    const first = await store.seal(0);
    assert.is(await isWhole(), first);
    // In place: from the first number on it says that it is not whole, until it is sealed again.
    const changed = numbersOf('norm').map((value) => value * 2);
    await store.write(wholeTensor(store.slot('norm')), changed);
    assert.is(await isWhole(), undefined);
    const second = await store.seal(1);
    assert.is.not(second, first);
    assert.is(await isWhole(), second);
    await store.write(wholeTensor(store.slot('norm')), numbersOf('norm'));
    assert.is(await isWhole(), undefined);
    assert.is(await store.seal(2), first);
    await store.close();
    const again = await TensorStore.open(path, model);
    assert.is(again.round, 2);
    await again.write(wholeTensor(again.slot('norm')), changed);
    await again.close();
    await fails(TensorStore.open(path, model), TensorFileIncompleteError, /weights was being written/);
    await fails(
      readWeights(path, { presetHash: model.presetHash, elements: parameterCount(preset) }),
      TensorFileIncompleteError,
      /weights was being written/,
    );
  });
});

test('what was never sealed leaves nothing behind; a copy leaves the original alone', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'weights');
    const abandoned = await TensorStore.create(path, { ...model, kind: 'first-moment' });
    const zeros = new Float32Array(layout[1]!.length).fill(1);
    await abandoned.read(wholeTensor(layout[1]!), zeros);
    assert.ok(
      zeros.every((value) => value === 0),
      'a new store is zero',
    );
    await abandoned.close();
    assert.equal(await readdir(folder), []);
    const store = await storeOf(path, preset, weights);
    const before = await readFile(path);
    const copy = await store.copy(join(folder, 'moving'));
    const slot = layout[2]!;
    await copy.write(wholeTensor(slot), new Float32Array(slot.length));
    const values = new Float32Array(layout[3]!.length);
    await copy.read(wholeTensor(layout[3]!), values);
    assert.equal(values, numbersOf(layout[3]!.name));
    await copy.close();
    assert.ok(before.equals(await readFile(path)));
    await store.close();
    assert.equal(await readdir(folder), ['weights']);
    const abort = new AbortController();
    const stopped = createInitialStore(join(folder, 'other'), preset, seed, {
      signal: abort.signal,
      onTensor: (done) => {
        if (done === 3) abort.abort(new Error('enough'));
      },
    });
    assert.is((await failure(stopped)).message, 'enough');
    assert.equal(await readdir(folder), ['weights']);
  });
});

test.run();
