import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { MODEL_CHUNK_BYTES, modelRoot, verifyChunk } from '../../kernels/aggregate/model-root.ts';
import {
  TensorFileContentError,
  TensorFileError,
  TensorFileHeaderError,
  TensorFileMismatchError,
  TensorFileSizeError,
} from '../../kernels/checkpoint/errors.ts';
import {
  readErrorFeedback,
  readWeights,
  weightBytes,
  weightChunks,
  weightsFromBytes,
  writeErrorFeedback,
  writeWeights,
} from '../../kernels/checkpoint/model-state.ts';
import {
  readTensorFileChunk,
  readTensorFileHeader,
  TENSOR_FILE_HEADER_BYTES,
} from '../../kernels/checkpoint/tensor-file.ts';
import { randomSource } from '../gradient/heavy-tailed.ts';

const ELEMENTS = 600_000;
const PRESET = 'ab'.repeat(32);
const MODEL = { presetHash: PRESET, elements: ELEMENTS };

const test = suite<{ folder: string; path: string; weights: Float32Array; root: string }>('tensor files');

test.before.each(async (context) => {
  const random = randomSource(1);
  context.folder = await mkdtemp(join(tmpdir(), 'alice-tensor-file-'));
  context.path = join(context.folder, 'weights');
  context.weights = Float32Array.from({ length: ELEMENTS }, () => random() - 0.5);
  context.weights[7] = -0;
  context.root = modelRoot(context.weights);
  await writeWeights(context.path, {
    round: 12,
    presetHash: PRESET,
    modelRoot: context.root,
    weights: context.weights,
  });
});
test.after.each(async ({ folder }) => {
  await rm(folder, { recursive: true });
});

async function rejects(promise: Promise<unknown>, expected: abstract new (...args: never[]) => Error): Promise<void> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, expected);
    return;
  }
  assert.unreachable('expected a rejection');
}

test('weights come back bit for bit, with their root and tree', async ({ folder, path, weights, root }) => {
  const read = await readWeights(path, MODEL);
  assert.is(read.round, 12);
  assert.is(read.modelRoot, root);
  assert.is(read.tree.root, root);
  assert.is(Buffer.compare(weightBytes(read.weights), weightBytes(weights)), 0);
  assert.equal(await readTensorFileHeader(path), { kind: 'weights', round: 12, root, ...MODEL });
  assert.equal(await readdir(folder), ['weights'], 'no temporary file is left');
});

test('the file holds the chunks of the model root, one after another', async ({ path, weights, root }) => {
  const { tree } = await readWeights(path, MODEL);
  const chunks = weightChunks(weights);
  assert.is(chunks.length, 3);
  const raw = await readFile(path);
  for (const [chunk, bytes] of chunks.entries()) {
    const start = TENSOR_FILE_HEADER_BYTES + chunk * MODEL_CHUNK_BYTES;
    assert.is(Buffer.compare(raw.subarray(start, start + bytes.length), bytes), 0);
    const read = await readTensorFileChunk(path, chunk);
    assert.is(Buffer.compare(read, bytes), 0);
    assert.ok(verifyChunk(root, tree.proof(chunk), read));
  }
  await rejects(readTensorFileChunk(path, 3), RangeError);
});

test('a joiner puts the chunks together and checks them against the root', ({ weights, root }) => {
  const expected = { elements: ELEMENTS, modelRoot: root };
  const joined = weightsFromBytes(weightChunks(weights), expected).weights;
  assert.is(Buffer.compare(weightBytes(joined), weightBytes(weights)), 0);
  const oddPieces = [weightBytes(weights).subarray(0, 5), weightBytes(weights).subarray(5)];
  assert.is(weightsFromBytes(oddPieces, expected).tree.root, root);
  const chunks = weightChunks(weights.slice());
  assert.throws(
    () => weightsFromBytes(chunks.slice(1), expected),
    (e: unknown) => e instanceof TensorFileSizeError,
  );
  assert.throws(
    () => weightsFromBytes([...chunks, chunks[0]], expected),
    (e: unknown) => e instanceof TensorFileSizeError,
  );
  chunks[1][77] ^= 1;
  assert.throws(
    () => weightsFromBytes(chunks, expected),
    (e: unknown) => e instanceof TensorFileContentError,
  );
});

test('error feedback has its own file and is not mistaken for weights', async ({ folder, path, weights }) => {
  const other = join(folder, 'error-feedback');
  await writeErrorFeedback(other, { round: 3, presetHash: PRESET, errorFeedback: weights });
  const read = await readErrorFeedback(other, MODEL);
  assert.is(read.round, 3);
  assert.is(Buffer.compare(weightBytes(read.errorFeedback), weightBytes(weights)), 0);
  await rejects(readWeights(other, MODEL), TensorFileMismatchError);
  await rejects(readErrorFeedback(path, MODEL), TensorFileMismatchError);
});

test('another preset or size is refused', async ({ path }) => {
  await rejects(readWeights(path, { ...MODEL, presetHash: 'cd'.repeat(32) }), TensorFileMismatchError);
  await rejects(readWeights(path, { ...MODEL, elements: ELEMENTS - 1 }), TensorFileMismatchError);
});

test('a truncated or longer file is refused', async ({ path }) => {
  const { size } = await stat(path);
  for (const length of [size - 1, size - MODEL_CHUNK_BYTES, TENSOR_FILE_HEADER_BYTES, 4095, 10, 0]) {
    await truncate(path, length);
    await rejects(readWeights(path, MODEL), TensorFileSizeError);
  }
  await truncate(path, size + 1);
  await rejects(readWeights(path, MODEL), TensorFileError);
});

test('one changed bit anywhere is noticed', async ({ path }) => {
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  const random = randomSource(5);
  const places = Array.from({ length: 30 }, () => Math.floor(random() * size));
  try {
    for (const at of [0, 4, 8, 12, 16, 47, 48, 79, 80, 88, 119, 120, 4095, 4096, size - 1, ...places]) {
      const intact = Buffer.alloc(1);
      await file.read(intact, 0, 1, at);
      await file.write(Buffer.of(intact[0] ^ (1 << Math.floor(random() * 8))), 0, 1, at);
      const damage = at < TENSOR_FILE_HEADER_BYTES ? TensorFileHeaderError : TensorFileContentError;
      await rejects(readWeights(path, MODEL), damage);
      await file.write(intact, 0, 1, at);
    }
  } finally {
    await file.close();
  }
});

test('a header whose checksum was made to fit is still checked', async ({ path }) => {
  const bytes = await readFile(path);
  // A huge element count with a right checksum: refused by the file's size, before anything is allocated.
  bytes.writeBigUInt64LE(2n ** 40n, 80);
  createHash('sha256').update(bytes.subarray(0, 88)).digest().copy(bytes, 88);
  await writeFile(path, bytes);
  await rejects(readWeights(path, MODEL), TensorFileSizeError);
});

test('a new state replaces the old one; an aborted or failed write leaves the old one', async (context) => {
  const { folder, path, weights, root } = context;
  const newer = weights.map((w) => w + 1);
  const state = { round: 13, presetHash: PRESET, modelRoot: modelRoot(newer), weights: newer };
  await rejects(writeWeights(path, state, { signal: AbortSignal.abort() }), Error);
  assert.is((await readWeights(path, MODEL)).modelRoot, root);
  assert.equal(await readdir(folder), ['weights']);
  await rejects(writeWeights(join(folder, 'missing', 'weights'), state), Error);
  // What a crash in the middle of writing leaves behind does no harm.
  await writeFile(join(folder, '.weights.new'), 'half');
  assert.is((await readWeights(path, MODEL)).modelRoot, root);
  await writeWeights(path, state);
  assert.is((await readWeights(path, MODEL)).modelRoot, state.modelRoot);
  assert.equal(await readdir(folder), ['weights']);
  await rejects(readWeights(path, MODEL, { signal: AbortSignal.abort() }), Error);
});

test.run();
