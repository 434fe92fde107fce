import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { publishedCorpusOf, seedCorpus } from '../../bootstrap/corpus-seeder.ts';
import { buildCorpus } from '../../corpus/build/build-corpus.ts';
import { readManifest } from '../../corpus/shard/manifest.ts';
import type { Announcer } from '../../node/blobs/announcer.ts';
import { openBlobStore } from '../../node/blobs/store.ts';
import { randomParagraphs } from '../corpus/seeded.ts';

let base = '';
test.before.each(async () => {
  base = await mkdtemp(join(tmpdir(), 'alice-seeder-'));
});
test.after.each(async () => {
  await rm(base, { recursive: true, force: true });
});

async function corpus() {
  const text = Array.from({ length: 60 }, (_, index) => JSON.stringify({ text: randomParagraphs(index, 600) }));
  await writeFile(join(base, 'text.jsonl'), text.join('\n'));
  const folder = join(base, 'corpus');
  const seed = new Uint8Array(32).fill(9);
  const sources = [join(base, 'text.jsonl')];
  const manifest = await buildCorpus({ sources, outDir: folder, vocabulary: 1024, seed, shardTokens: 512 });
  return { folder, published: await publishedCorpusOf(folder, manifest) };
}

async function seed(folder: string, expected: string, capacityBytes?: number) {
  const store = await openBlobStore({ dir: join(base, 'blobs'), ...(capacityBytes && { capacityBytes }) });
  const announced: string[] = [];
  const announcer = { announce: (cid: string) => announced.push(cid) } as unknown as Announcer;
  let code: unknown;
  try {
    await seedCorpus(folder, { store, announcer }, { expected, signal: new AbortController().signal });
  } catch (error) {
    code = (error as { code?: string }).code;
  }
  const stored = store.list();
  const pinned = store.pinned('corpus');
  await store.close();
  return { code, announced, stored, pinned };
}

test('everything is stored, pinned and announced, the manifest first; another corpus is refused before that', async () => {
  const { folder, published } = await corpus();
  const other = await seed(folder, 'bafyother');
  assert.equal(other, { code: 'ERR_OTHER_CORPUS', announced: [], stored: [], pinned: [] });
  const all = [published.cid, ...published.training, ...published.heldOut];
  for (const run of [await seed(folder, published.cid), await seed(folder, published.cid)]) {
    assert.is(run.code, undefined);
    assert.equal(run.announced, all);
    assert.equal([...run.stored].sort(), [...new Set(all)].sort());
    assert.equal([...run.pinned].sort(), [...new Set(all)].sort());
  }
});

test('seeding ends when it is told to', async () => {
  const { folder, published } = await corpus();
  const store = await openBlobStore({ dir: join(base, 'stopped') });
  const reason = new Error('stop');
  const abort = new AbortController();
  const announcer = { announce: () => assert.unreachable('nothing is announced') } as unknown as Announcer;
  const { put } = store;
  store.put = async (...call) => {
    // In the middle of the shards.
    if (store.list().length === 3) abort.abort(reason);
    return await put.apply(store, call);
  };
  const options = { expected: published.cid, signal: abort.signal };
  const failed = await seedCorpus(folder, { store, announcer }, options).catch((error: unknown) => error);
  assert.is(failed, reason);
  assert.is(store.list().length, 3);
  const manifest = await readManifest(folder);
  assert.is(await publishedCorpusOf(folder, manifest, options).catch((error: unknown) => error), reason);
  await store.close();
});

test('a corpus that does not fit is an error, not a corpus with holes', async () => {
  const { folder, published } = await corpus();
  const { code, announced } = await seed(folder, published.cid, published.bytes.length + 5000);
  assert.is(code, 'ERR_BLOB_STORE_FULL');
  assert.equal(announced, []);
});

test.run();
