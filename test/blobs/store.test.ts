import { mkdtemp, open, readdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CHUNK_BYTES, hashChunk, makeManifest } from '../../node/blobs/manifest.ts';
import { type BlobStore, type BlobStoreOptions, openBlobStore } from '../../node/blobs/store.ts';
import { codeOf } from '../network/local-peers.ts';
import { sample } from './sample.ts';

type Reopen = (options?: Partial<BlobStoreOptions>) => Promise<BlobStore>;

/** Runs a test with a folder, and a function that opens (or reopens, as after a crash) a store in it. */
function withStore(body: (reopen: Reopen, dir: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const dir = await mkdtemp(join(tmpdir(), 'alice-blobs-'));
    let store: BlobStore | undefined;
    try {
      await body(async (options) => {
        await store?.close();
        store = await openBlobStore({ dir, ...options });
        return store;
      }, dir);
    } finally {
      await store?.close();
      await rm(dir, { recursive: true, force: true });
    }
  };
}

const equal = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

async function flip(path: string, offset: number): Promise<void> {
  const handle = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, offset);
  byte[0] = byte[0]! ^ 1;
  await handle.write(byte, 0, 1, offset);
  await handle.close();
}

test(
  'blobs of any size come back, also after a restart, whatever pieces they came in',
  withStore(async (reopen) => {
    const store = await reopen();
    const cids = new Map<string, Uint8Array>();
    for (const size of [0, 1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7]) {
      const bytes = sample(size, size + 1);
      const cid = await store.put(bytes);
      cids.set(cid, bytes);
      const pieces = async function* () {
        const buffer = new Uint8Array(70_001);
        for (let at = 0; at < size; at += buffer.length) {
          const part = bytes.subarray(at, at + buffer.length);
          buffer.set(part);
          yield buffer.subarray(0, part.length);
        }
      };
      assert.is(await store.put(pieces()), cid, 'the same bytes, the same name; the source may reuse its buffer');
    }
    assert.is(store.list().length, cids.size);
    const again = await reopen();
    for (const [cid, bytes] of cids) {
      assert.ok(again.has(cid));
      assert.ok(equal(await again.get(cid), bytes), `${bytes.length} bytes`);
    }
    assert.ok(
      equal(
        await again.readChunk([...cids.keys()][6]!, 3),
        sample(3 * CHUNK_BYTES + 7, 3 * CHUNK_BYTES + 8).subarray(3 * CHUNK_BYTES),
      ),
    );
  }),
);

test(
  'what is not there is an error',
  withStore(async (reopen) => {
    const store = await reopen();
    const cid = await store.put(sample(10, 1));
    assert.is(
      await codeOf(store.get('bafkreigenakpnw6gfhigz4amk4rjq6cocvcsszwuu3wtivgc3sybg2vcvi')),
      'ERR_BLOB_NOT_FOUND',
    );
    assert.is(await codeOf(store.readChunk(cid, 1)), 'ERR_BLOB_NOT_FOUND');
    assert.is(await codeOf(store.readChunk(cid, -1)), 'ERR_BLOB_NOT_FOUND');
    await store.delete(cid);
    await store.delete(cid);
    assert.is(await codeOf(store.get(cid)), 'ERR_BLOB_NOT_FOUND');
    assert.is(store.usedBytes, 0);
    assert.not.ok((await reopen()).has(cid));
  }),
);

test(
  'a source that fails, or a signal, leaves nothing behind',
  withStore(async (reopen, dir) => {
    const store = await reopen();
    const failing = async function* () {
      yield sample(CHUNK_BYTES, 1);
      throw new Error('source failed');
    };
    assert.is(await codeOf(store.put(failing())), 'Error: source failed');
    assert.ok((await codeOf(store.put(sample(9, 9), { signal: AbortSignal.abort() }))) !== 'resolved');
    assert.is(store.usedBytes, 0);
    assert.equal(await readdir(join(dir, 'tmp')), []);
    assert.equal(
      (await readdir(dir)).filter((name) => name !== 'tmp'),
      [],
    );
  }),
);

test(
  'a flipped bit is never read, and only the damaged chunk is lost',
  withStore(async (reopen, dir) => {
    const bytes = sample(2 * CHUNK_BYTES + 5, 7);
    const cid = await (await reopen()).put(bytes);
    await flip(join(dir, `${cid}.blob`), CHUNK_BYTES + 3);
    const store = await reopen();
    assert.ok(store.has(cid), 'nothing is hashed at the start');
    assert.ok(equal(await store.readChunk(cid, 0), bytes.subarray(0, CHUNK_BYTES)));
    assert.is(await codeOf(store.get(cid)), 'ERR_BLOB_CORRUPT');
    assert.not.ok(store.has(cid));
    assert.is(await codeOf(store.get(cid)), 'ERR_BLOB_NOT_FOUND');
    const manifest = store.manifest(cid)!;
    await store.beginDownload(manifest);
    assert.equal(
      [0, 1, 2].map((index) => store.chunks(cid)!.has(index)),
      [true, false, true],
    );
    assert.ok(await store.writeChunk(cid, 1, bytes.subarray(CHUNK_BYTES, 2 * CHUNK_BYTES)));
    await store.endDownload(cid);
    assert.ok(equal(await store.get(cid), bytes));
    assert.ok(equal(await (await reopen()).get(cid), bytes), 'the repair is on disk');
  }),
);

test(
  'files that are cut, emptied, or lost count as missing',
  withStore(async (reopen, dir) => {
    const first = await reopen();
    const [cut, noManifest, badManifest, gone] = await Promise.all(
      [1, 2, 3, 4].map((seed) => first.put(sample(5000, seed))),
    );
    await truncate(join(dir, `${cut}.blob`), 4000);
    await rm(join(dir, `${noManifest}.manifest`));
    await writeFile(join(dir, `${badManifest}.manifest`), 'rubbish');
    await writeFile(join(dir, 'stranger.txt'), 'not ours');
    const store = await reopen();
    assert.equal(store.list(), [gone]);
    await rm(join(dir, `${gone}.blob`));
    assert.is(await codeOf(store.get(gone!)), 'ERR_BLOB_CORRUPT');
    const left = await readdir(dir);
    assert.ok(left.includes('stranger.txt'), 'files of others are left alone');
    assert.not.ok(left.includes(`${noManifest}.blob`), 'and rubbish of ours is removed');
    for (const [index, cid] of [cut, noManifest, badManifest, gone].entries()) {
      assert.is(await store.put(sample(5000, index + 1)), cid);
      assert.ok(equal(await store.get(cid!), sample(5000, index + 1)), `put again: ${index}`);
    }
  }),
);

test(
  'a download that is cut off keeps its good chunks, and only these',
  withStore(async (reopen, dir) => {
    const bytes = sample(4 * CHUNK_BYTES, 11);
    const chunk = (index: number) => bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
    const manifest = makeManifest(
      bytes.length,
      [0, 1, 2, 3].map((index) => hashChunk(chunk(index))),
    );
    const { cid } = manifest;
    const store = await reopen();
    await store.beginDownload(manifest);
    assert.is(await codeOf(store.writeChunk(cid, 0, chunk(1))), 'ERR_BLOB_CORRUPT');
    assert.is(await codeOf(store.writeChunk(cid, 0, chunk(0).subarray(1))), 'ERR_BLOB_CORRUPT');
    assert.not.ok(await store.writeChunk(cid, 0, chunk(0)));
    assert.not.ok(await store.writeChunk(cid, 2, chunk(2)));
    assert.not.ok(store.has(cid));
    assert.is(await codeOf(store.get(cid)), 'ERR_BLOB_NOT_FOUND');
    assert.ok(equal(await store.readChunk(cid, 2), chunk(2)), 'a part can be served');
    // As a crash would leave it: a chunk half written.
    const handle = await open(join(dir, `${cid}.part`), 'r+');
    await handle.write(chunk(3), 0, 1000, 3 * CHUNK_BYTES);
    await handle.close();
    const again = await reopen();
    assert.is(again.chunks(cid)?.count, 0, 'unknown before it is looked at');
    await again.beginDownload(manifest);
    assert.equal(
      [0, 1, 2, 3].map((index) => again.chunks(cid)!.has(index)),
      [true, false, true, false],
    );
    await again.writeChunk(cid, 1, chunk(1));
    assert.ok(await again.writeChunk(cid, 3, chunk(3)));
    assert.ok(await again.writeChunk(cid, 3, chunk(3)), 'more of the same changes nothing');
    await again.endDownload(cid);
    assert.ok(equal(await again.get(cid), bytes));
    assert.not.ok((await readdir(dir)).includes(`${cid}.part`));
  }),
);

test(
  'a blob put while it is being downloaded completes the download',
  withStore(async (reopen) => {
    const bytes = sample(2 * CHUNK_BYTES, 12);
    const manifest = makeManifest(
      bytes.length,
      [0, 1].map((i) => hashChunk(bytes.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES))),
    );
    const store = await reopen();
    await store.beginDownload(manifest);
    assert.is(await store.put(bytes), manifest.cid);
    assert.ok(await store.writeChunk(manifest.cid, 0, bytes.subarray(0, CHUNK_BYTES)));
    await store.endDownload(manifest.cid);
    assert.ok(equal(await store.get(manifest.cid), bytes));
    assert.is(store.usedBytes, bytes.length);
  }),
);

test(
  'over capacity, the least recently used blob that is not pinned goes',
  withStore(async (reopen) => {
    const options = { capacityBytes: 3000 };
    const store = await reopen(options);
    const [a, b, c] = [
      await store.put(sample(1000, 1)),
      await store.put(sample(1000, 2)),
      await store.put(sample(1000, 3)),
    ];
    await store.get(a);
    await store.pin([b, c], 'weights');
    await store.pin([b], 'shards');
    const d = await store.put(sample(500, 4));
    assert.equal(new Set(store.list()), new Set([b, c, d]), 'a was used last but is the only one not pinned');
    await store.pin([], 'weights');
    await store.get(c);
    const e = await store.put(sample(1200, 5));
    assert.equal(new Set(store.list()), new Set([b, c, e].filter((cid) => store.has(cid))));
    assert.ok(store.has(b), 'still pinned by the other set');
    assert.ok(store.has(e));
    assert.is(await codeOf(store.put(sample(3001, 6))), 'ERR_BLOB_STORE_FULL');
    assert.is(await codeOf(store.put(sample(2500, 6))), 'ERR_BLOB_STORE_FULL');
    const again = await reopen(options);
    assert.equal(again.pinned('shards'), [b]);
    await again.put(sample(2000, 7));
    assert.ok(again.has(b), 'pins outlive a restart');
    assert.ok(again.usedBytes <= 3000);
  }),
);

test(
  'what is given up goes before what was used longer ago',
  withStore(async (reopen) => {
    const store = await reopen({ capacityBytes: 3000 });
    const [shard, garbage, other] = [
      await store.put(sample(1000, 1)),
      await store.put(sample(1000, 2)),
      await store.put(sample(1000, 3)),
    ];
    await store.get(garbage);
    store.evictFirst(garbage);
    await store.put(sample(1000, 4));
    assert.not.ok(store.has(garbage));
    assert.ok(store.has(shard) && store.has(other));
    store.evictFirst('not here');
  }),
);

test(
  'a smaller capacity after a restart is kept to, and the order of use too',
  withStore(async (reopen) => {
    const store = await reopen();
    const cids: string[] = [];
    for (let seed = 1; seed <= 4; seed++) cids.push(await store.put(sample(1000, seed)));
    const again = await reopen({ capacityBytes: 1500 });
    assert.is(again.list().length, 1);
    assert.is(again.usedBytes, 1000);
  }),
);

test('a folder that cannot be used is a clear error', async () => {
  assert.is(await codeOf(openBlobStore({ dir: '/dev/null/blobs' })), 'ERR_BLOB_STORE_UNUSABLE');
});

test(
  'damaged pins are no reason not to start',
  withStore(async (reopen, dir) => {
    const store = await reopen();
    await store.pin(['bafkreigenakpnw6gfhigz4amk4rjq6cocvcsszwuu3wtivgc3sybg2vcvi']);
    await writeFile(join(dir, 'pins.json'), '{"default": 3');
    assert.equal((await reopen()).pinned(), []);
    await rename(join(dir, 'pins.json'), join(dir, 'pins.json.old'));
  }),
);

test.run();
