import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  chunkDepth,
  chunkOf,
  decodeChunk,
  encodeChunk,
  type StateChunk,
  verifyChunk,
} from '../../node/ledger/state-chunk.ts';
import { StateTree } from '../../node/ledger/tree.ts';

const treeOf = (count: number) =>
  StateTree.empty.with(
    Array.from({ length: count }, (_, index) => [`key/${index}`, Buffer.from(`value ${index}`)] as const),
  );

for (const count of [0, 1, 2, 3, 17, 500]) {
  for (const depth of [0, 1, 3, 7]) {
    test(`${count} entries in ${2 ** depth} chunks: each verifies, together they are the state`, () => {
      const tree = treeOf(count);
      const found: (readonly [string, Uint8Array])[] = [];
      for (let position = 0; position < 2 ** depth; position++) {
        const chunk = decodeChunk(encodeChunk(chunkOf(tree, depth, position)), 1 << 20);
        verifyChunk(tree.root, depth, position, chunk);
        for (const { key, value } of chunk.entries) found.push([key, value]);
      }
      assert.is(found.length, count);
      assert.is(StateTree.empty.with(found).root, tree.root);
    });
  }
}

test('a chunk with anything wrong is refused: changed, missing, added, moved, proof cut', () => {
  const tree = treeOf(40);
  const depth = 3;
  const refused = (position: number, chunk: StateChunk, what: string) =>
    assert.throws(() => verifyChunk(tree.root, depth, position, chunk), /ERR|chunk|entry|key|proof/, what);
  for (let position = 0; position < 8; position++) {
    const chunk = chunkOf(tree, depth, position);
    const [first, ...rest] = chunk.entries;
    refused(position, { ...chunk, entries: rest }, 'missing');
    refused(position, { ...chunk, entries: [{ ...first, value: Buffer.from('other') }, ...rest] }, 'changed');
    refused(position, { ...chunk, entries: [first, ...chunk.entries] }, 'twice');
    refused((position + 1) % 8, chunk, 'moved');
    refused(position, { ...chunk, siblings: chunk.siblings.slice(1) }, 'cut');
    const foreign = chunkOf(tree, depth, (position + 1) % 8).entries[0];
    refused(position, { ...chunk, entries: [...chunk.entries, foreign] }, 'added');
    refused(position, { ...chunk, entries: [], other: { path: tree.root, valueDigest: tree.root } }, 'other');
  }
});

test('an entry that stands in the way of an empty chunk cannot hide one that belongs there', () => {
  const tree = treeOf(1);
  for (let position = 0; position < 4; position++) {
    const chunk = chunkOf(tree, 2, position);
    if (chunk.other === undefined) continue;
    verifyChunk(tree.root, 2, position, chunk);
    for (let other = 0; other < 4; other++) {
      if (chunkOf(tree, 2, other).entries.length === 1)
        assert.throws(() => verifyChunk(tree.root, 2, other, chunk), /belongs here/);
    }
  }
});

test('depth follows the size', () => {
  assert.is(chunkDepth(100, 1000), 0);
  assert.is(chunkDepth(1001, 1000), 1);
  assert.is(chunkDepth(64_000, 1000), 6);
  assert.is(chunkDepth(1e12, 1000), 16);
});

test.run();
