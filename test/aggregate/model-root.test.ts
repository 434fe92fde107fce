import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { changedChunks } from '../../kernels/aggregate/changed-chunks.ts';
import { InvalidModelChunksError } from '../../kernels/aggregate/errors.ts';
import {
  chunkCount,
  MODEL_CHUNK_ELEMENTS,
  ModelTree,
  modelRoot,
  verifyChunk,
  weightChunk,
} from '../../kernels/aggregate/model-root.ts';
import { randomSource } from '../gradient/heavy-tailed.ts';
import { layoutOf } from '../gradient/layouts.ts';

function randomWeights(elements: number, seed: number): Float32Array {
  const random = randomSource(seed);
  return Float32Array.from({ length: elements }, () => random() - 0.5);
}

/** The root by its recursive definition: split at the largest power of two below the number of leaves. */
function rootByDefinition(weights: Float32Array): string {
  const tagged = (tag: string, ...parts: Uint8Array[]) =>
    createHash('sha256')
      .update(Buffer.concat([Buffer.from([tag.length]), Buffer.from(tag), ...parts]))
      .digest();
  const bytes = new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength);
  const leaves: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 1 << 20) {
    const digest = createHash('sha256')
      .update(bytes.subarray(at, at + (1 << 20)))
      .digest();
    leaves.push(tagged('alice/model-leaf/1', digest));
  }
  const top = (from: number, to: number): Uint8Array => {
    if (to - from === 1) return leaves[from];
    let half = 1;
    while (half * 2 < to - from) half *= 2;
    return tagged('alice/model-node/1', top(from, from + half), top(from + half, to));
  };
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(bytes.length));
  return tagged('alice/model-root/1', size, top(0, leaves.length)).toString('hex');
}

test('the root is the Merkle tree of its definition, for any number of chunks', () => {
  for (const chunks of [1, 2, 3, 4, 5, 7, 8]) {
    for (const extra of [0, 1, -1]) {
      const weights = randomWeights(chunks * MODEL_CHUNK_ELEMENTS + extra, chunks * 10 + extra);
      assert.is(modelRoot(weights), rootByDefinition(weights), `${chunks} chunks, ${extra}`);
    }
  }
});

test('incremental updates give the root of all weights', () => {
  const weights = randomWeights(5.5 * MODEL_CHUNK_ELEMENTS, 1);
  const tree = ModelTree.ofWeights(weights);
  const random = randomSource(2);
  for (let round = 0; round < 6; round++) {
    const changed = new Set<number>();
    for (let i = 0; i <= round; i++) {
      const at = Math.floor(random() * weights.length);
      weights[at] += 1;
      changed.add(Math.floor(at / MODEL_CHUNK_ELEMENTS));
    }
    tree.update(weights, changed);
    assert.is(tree.root, modelRoot(weights));
  }
  const stale = tree.root;
  weights[0] += 1;
  tree.update(weights, []);
  assert.is(tree.root, stale, 'chunks that are not named are not hashed');
});

test('changed chunks are those that an update touches', () => {
  const layout = layoutOf([[MODEL_CHUNK_ELEMENTS - 2], [5], [3 * MODEL_CHUNK_ELEMENTS]]);
  const of = (tensor: number, ...indices: number[]) => ({
    tensor,
    indices: Uint32Array.from(indices),
    values: new Float32Array(indices.length).fill(1),
  });
  assert.equal(changedChunks({ tensors: [] }, layout), []);
  assert.equal(changedChunks({ tensors: [of(0, 1, 2), of(1, 1), of(2, 5)] }, layout), [0, 1]);
  assert.equal(changedChunks({ tensors: [of(1, 2), of(2, 0, 3 * MODEL_CHUNK_ELEMENTS - 1)] }, layout), [1, 4]);
});

test('proofs verify for their chunk, root and place only', () => {
  for (const chunks of [1, 2, 3, 5, 6]) {
    const weights = randomWeights((chunks - 0.25) * MODEL_CHUNK_ELEMENTS, chunks);
    const tree = ModelTree.ofWeights(weights);
    assert.is(tree.chunks, chunks);
    for (let chunk = 0; chunk < chunks; chunk++) {
      const proof = tree.proof(chunk);
      const bytes = weightChunk(weights, chunk);
      assert.ok(verifyChunk(tree.root, proof, bytes));
      assert.not.ok(verifyChunk('00'.repeat(32), proof, bytes));
      const damaged = bytes.slice();
      damaged[damaged.length - 1] ^= 1;
      assert.not.ok(verifyChunk(tree.root, proof, damaged));
      assert.not.ok(verifyChunk(tree.root, proof, bytes.subarray(1)));
      assert.not.ok(verifyChunk(tree.root, { ...proof, totalBytes: proof.totalBytes + 4 }, bytes));
      assert.not.ok(verifyChunk(tree.root, { ...proof, siblings: [...proof.siblings, new Uint8Array(32)] }, bytes));
      assert.not.ok(verifyChunk(tree.root, { ...proof, siblings: proof.siblings.slice(1) }, bytes) && chunks > 1);
      for (const wrong of [chunk + 1, chunk - 1, chunk ^ 1, 1e9, -1, Number.NaN, 0.5]) {
        if (wrong !== chunk) assert.not.ok(verifyChunk(tree.root, { ...proof, chunk: wrong }, bytes), `${wrong}`);
      }
    }
    assert.throws(
      () => tree.proof(chunks),
      (error: unknown) => error instanceof InvalidModelChunksError,
    );
  }
});

test('a tree can be built from the digests of blobs alone', () => {
  const weights = randomWeights(2.5 * MODEL_CHUNK_ELEMENTS, 3);
  const digests = Buffer.concat(
    Array.from({ length: chunkCount(weights.length) }, (_, chunk) =>
      createHash('sha256').update(weightChunk(weights, chunk)).digest(),
    ),
  );
  assert.is(ModelTree.ofDigests(weights.byteLength, digests).root, modelRoot(weights));
  for (const [bytes, given] of [
    [weights.byteLength + 2 ** 20, digests],
    [0, new Uint8Array(0)],
    [weights.byteLength, digests.subarray(1)],
  ] as const) {
    assert.throws(
      () => ModelTree.ofDigests(bytes, given),
      (error: unknown) => error instanceof InvalidModelChunksError,
    );
  }
});

test.run();
