import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { base58btc } from 'multiformats/bases/base58';
import { CID } from 'multiformats/cid';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlobExchange, type FetchProgress } from '../../node/blobs/exchange.ts';
import { CHUNK_BYTES, cidText, type Manifest, makeManifest } from '../../node/blobs/manifest.ts';
import { openBlobStore } from '../../node/blobs/store.ts';
import {
  ABSENT,
  BLOB_LIMITS,
  BLOB_PROTOCOL,
  decodeRequest,
  encodeOpened,
  encodePresent,
  KIND,
} from '../../node/blobs/wire.ts';
import type { Network, NetworkOptions } from '../../node/network/network.ts';
import { type Cleanup, codeOf, until, withPeers } from '../network/local-peers.ts';
import { sample } from './sample.ts';

const equal = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

/** A peer with a store and an exchange. The first one is the bootstrap of the others. */
class Node {
  readonly network: Network;
  readonly blobs: BlobExchange;

  private constructor(network: Network, blobs: BlobExchange) {
    this.network = network;
    this.blobs = blobs;
  }

  static async start(
    peers: Cleanup,
    name: string,
    bootstrap?: Node,
    dir?: string,
    options: Partial<NetworkOptions> = {},
  ): Promise<Node> {
    const network = await peers.started(name, { bootstrap: bootstrap?.network.multiaddrs() ?? [], ...options });
    const folder = dir ?? (await temporaryFolder(peers));
    const store = await openBlobStore({ dir: folder });
    const blobs = new BlobExchange(network, store);
    await blobs.start();
    peers.add(async () => {
      await blobs.stop();
      await store.close();
    });
    return new Node(network, blobs);
  }
}

async function temporaryFolder(peers: Cleanup): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'alice-exchange-'));
  peers.add(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** A peer that answers blob requests as the test wants. Counts the requests for chunks. */
async function impostor(
  peers: Cleanup,
  name: string,
  bootstrap: Node,
  answers: {
    open: () => Uint8Array;
    have?: () => Uint8Array;
    chunk: (index: number) => Uint8Array | Promise<Uint8Array>;
  },
): Promise<{ network: Network; asked: number[] }> {
  const network = await peers.started(name, { bootstrap: bootstrap.network.multiaddrs() });
  const asked: number[] = [];
  await network.handle(BLOB_PROTOCOL, BLOB_LIMITS, async (request) => {
    const { kind, index } = decodeRequest(request);
    if (kind === KIND.open) return answers.open();
    if (kind === KIND.have && answers.have !== undefined) return answers.have();
    asked.push(index);
    return answers.chunk(index);
  });
  return { network, asked };
}

const opened = (manifest: Manifest) => encodeOpened({ manifest: manifest.encoded, have: undefined, chunk: undefined });
const never = () => new Promise<Uint8Array>(() => {});

test(
  'a blob is found through the DHT and fetched from several providers',
  withPeers(async (peers) => {
    const bootstrap = await Node.start(peers, 'bootstrap');
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => Node.start(peers, name, bootstrap)));
    const bytes = sample(12 * CHUNK_BYTES + 1, 1);
    const cid = await a!.blobs.publish(bytes);
    assert.ok(equal(await b!.blobs.fetch(cid), bytes));
    await b!.blobs.provide(cid);
    const progress: FetchProgress[] = [];
    assert.ok(equal(await c!.blobs.fetch(cid, { onProgress: (step) => progress.push(step) }), bytes));
    assert.ok(a!.blobs.stats().chunksServed > 13, 'a served b and some of c');
    assert.ok(b!.blobs.stats().chunksServed > 0, 'b served some of c');
    assert.is(a!.blobs.stats().chunksServed + b!.blobs.stats().chunksServed, 26, 'no chunk was sent twice');
    assert.equal(
      progress.map((step) => step.chunks),
      Array.from({ length: 14 }, (_, index) => index),
    );
    assert.is(progress.at(-1)!.bytes, bytes.length);
    assert.ok(c!.blobs.store.has(cid));
    assert.ok(equal(await c!.blobs.fetch(cid), bytes), 'from the store now');
    assert.is(c!.blobs.stats().fetches, 1);
  }),
);

test(
  'small and empty blobs take one request of the blob protocol; hints need no lookup',
  withPeers(async (peers) => {
    const a = await Node.start(peers, 'a');
    const b = await Node.start(peers, 'b', a);
    await until(() => b.network.peers().length === 1, 'connected');
    for (const size of [0, 1, CHUNK_BYTES]) {
      const cid = await a.blobs.store.put(sample(size, 2));
      const before = b.network.status().protocols.get(BLOB_PROTOCOL)?.requested ?? 0;
      assert.is((await b.blobs.fetch(cid, { hints: [a.network.peerId], timeoutMs: 5_000 })).length, size);
      assert.is((b.network.status().protocols.get(BLOB_PROTOCOL)?.requested ?? 0) - before, 1, `${size} bytes`);
    }
  }),
);

test(
  'a liar is dropped and remembered; the blob comes from others, whole',
  withPeers(async (peers) => {
    const honest = await Node.start(peers, 'honest');
    const fetcher = await Node.start(peers, 'fetcher', honest);
    const bytes = sample(8 * CHUNK_BYTES, 3);
    const cid = await honest.blobs.store.put(bytes);
    const manifest = honest.blobs.store.manifest(cid)!;
    const wrongChunks = await impostor(peers, 'wrong chunks', honest, {
      open: () => opened(manifest),
      chunk: () => encodePresent(sample(CHUNK_BYTES, 99)),
    });
    const wrongManifest = await impostor(peers, 'wrong manifest', honest, {
      open: () => opened(makeManifest(0, [])),
      chunk: () => new Uint8Array(1),
    });
    const rubbish = await impostor(peers, 'rubbish', honest, {
      open: () => sample(500, 4),
      chunk: () => new Uint8Array(0),
    });
    const liars = [wrongChunks, wrongManifest, rubbish].map(({ network }) => network.peerId);
    await until(() => fetcher.network.peers().length === 4, 'all connected');
    const download = fetcher.blobs.fetch(cid, { hints: liars, timeoutMs: 10_000 });
    await until(() => fetcher.blobs.liars().length === 3, 'all three are caught');
    await honest.blobs.provide(cid);
    assert.ok(equal(await download, bytes));
    assert.equal([...fetcher.blobs.liars()].sort(), [...liars].sort());
    const asked = wrongChunks.asked.length;
    assert.ok(asked >= 1 && asked <= 3, `asked at most once per request in flight: ${asked}`);
    const other = await honest.blobs.publish(sample(100, 5));
    assert.is((await fetcher.blobs.fetch(other, { hints: liars })).length, 100);
    assert.is(wrongChunks.asked.length, asked, 'never asked again, not for other blobs either');
  }),
);

test(
  'a CID in another base names the same blob, and makes nobody a liar',
  withPeers(async (peers) => {
    const honest = await Node.start(peers, 'honest');
    const fetcher = await Node.start(peers, 'fetcher', honest);
    const bytes = sample(2 * CHUNK_BYTES, 31);
    const cid = await honest.blobs.publish(bytes);
    const spelling = CID.parse(cid).toString(base58btc);
    assert.is.not(spelling, cid);
    await until(() => fetcher.network.peers().length === 1, 'connected');
    const fetched = await fetcher.blobs.fetch(spelling, { hints: [honest.network.peerId], timeoutMs: 10_000 });
    assert.ok(equal(fetched, bytes));
    assert.equal(fetcher.blobs.liars(), []);
    assert.ok(fetcher.blobs.store.has(cid), 'it is stored under its one name');
    assert.is((await fetcher.blobs.fetch(spelling)).length, bytes.length, 'and found there by any spelling');
    assert.is(fetcher.blobs.stats().fetches, 1);
  }),
);

test(
  'who delivers exactly what a name stands for is no liar, whatever that is',
  withPeers(async (peers) => {
    // The author of the name wrote something that is no manifest; the provider gives just these bytes.
    const bad = sample(200, 32);
    const cid = cidText(createHash('sha256').update(bad).digest());
    const honest = await Node.start(peers, 'honest');
    const fetcher = await Node.start(peers, 'fetcher', honest);
    const deliverer = await impostor(peers, 'deliverer', honest, {
      open: () => encodeOpened({ manifest: bad, have: undefined, chunk: undefined }),
      chunk: () => new Uint8Array(1),
    });
    await until(() => fetcher.network.peers().includes(deliverer.network.peerId), 'connected');
    const fetching = fetcher.blobs.fetch(cid, { hints: [deliverer.network.peerId], timeoutMs: 5_000 });
    assert.is(await codeOf(fetching), 'ERR_NOT_A_BLOB', 'nobody can deliver this, so nobody is asked for longer');
    assert.equal(fetcher.blobs.liars(), []);
  }),
);

test(
  'a provider that stalls costs little time',
  withPeers(async (peers) => {
    const honest = await Node.start(peers, 'honest');
    const fetcher = await Node.start(peers, 'fetcher', honest);
    const bytes = sample(6 * CHUNK_BYTES, 6);
    const cid = await honest.blobs.publish(bytes);
    const manifest = honest.blobs.store.manifest(cid)!;
    const staller = await impostor(peers, 'staller', honest, { open: () => opened(manifest), chunk: never });
    await until(() => fetcher.network.peers().includes(staller.network.peerId), 'connected to the staller');
    const start = performance.now();
    assert.ok(equal(await fetcher.blobs.fetch(cid, { hints: [staller.network.peerId] }), bytes));
    assert.ok(staller.asked.length > 0, 'it was asked');
    assert.ok(performance.now() - start < 8_000, 'its chunks were asked of another before its time limit');
    assert.equal(fetcher.blobs.liars(), [], 'slow is not a lie');
  }),
);

test(
  'a hint is found by its id alone, without a record of the content or a connection',
  withPeers(async (peers) => {
    const hub = await Node.start(peers, 'hub');
    // Neither looks for more than the one peer that it begins with.
    const one = { targetPeers: 1 };
    const author = await Node.start(peers, 'author', hub, undefined, one);
    const fetcher = await Node.start(peers, 'fetcher', hub, undefined, one);
    await until(() => hub.network.peers().length === 2, 'both know the hub');
    const bytes = sample(50_000, 41);
    const cid = await author.blobs.store.put(bytes);
    // As the ledger gives it: the peer's id, and nothing of its address.
    const fetched = await fetcher.blobs.fetch(cid, { hints: [author.network.peerId], timeoutMs: 20_000 });
    assert.ok(equal(fetched, bytes));
  }),
);

test(
  'a provider that says that it has everything and gives nothing is not asked over and over',
  withPeers(async (peers) => {
    const honest = await Node.start(peers, 'honest');
    const fetcher = await Node.start(peers, 'fetcher', honest);
    const bytes = sample(3 * CHUNK_BYTES, 42);
    const cid = await honest.blobs.store.put(bytes);
    const manifest = honest.blobs.store.manifest(cid)!;
    const empty = await impostor(peers, 'empty', honest, {
      open: () => opened(manifest),
      have: () => encodePresent(Uint8Array.of(0b111)),
      chunk: () => ABSENT,
    });
    await honest.blobs.store.delete(cid);
    await until(() => fetcher.network.peers().includes(empty.network.peerId), 'connected');
    const download = fetcher.blobs.fetch(cid, { hints: [empty.network.peerId], timeoutMs: 30_000 });
    await until(() => empty.asked.length >= 3, 'it was asked for each chunk');
    // The honest one is found meanwhile, and reads each chunk in its own time.
    const readChunk = honest.blobs.store.readChunk.bind(honest.blobs.store);
    honest.blobs.store.readChunk = async (...given) => {
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      return readChunk(...given);
    };
    await honest.blobs.publish(bytes);
    assert.ok(equal(await download, bytes));
    assert.ok(empty.asked.length < 30, `asked ${empty.asked.length} times`);
    assert.equal(fetcher.blobs.liars(), [], 'it may have lost them');
  }),
);

test(
  'an aborted download goes on where it was, also in a new process',
  withPeers(async (peers) => {
    const honest = await Node.start(peers, 'honest');
    const dir = await temporaryFolder(peers);
    const first = await Node.start(peers, 'fetcher', honest, dir);
    const bytes = sample(10 * CHUNK_BYTES, 7);
    const cid = await honest.blobs.publish(bytes);
    const abort = new AbortController();
    const reason = await codeOf(
      first.blobs.fetch(cid, {
        signal: abort.signal,
        onProgress: ({ chunks }) => {
          if (chunks >= 4) abort.abort();
        },
      }),
    );
    assert.is(reason, 'ERR_FETCH_ABORTED');
    assert.not.ok(first.blobs.store.has(cid));
    await first.blobs.stop();
    await first.blobs.store.close();
    await first.network.stop();
    const second = await Node.start(peers, 'fetcher', honest, dir);
    let firstReport: FetchProgress | undefined;
    const onProgress = (step: FetchProgress) => {
      firstReport ??= step;
    };
    assert.ok(equal(await second.blobs.fetch(cid, { onProgress }), bytes));
    assert.ok(firstReport!.chunks >= 4, 'starts with what was kept');
    assert.ok(firstReport!.chunks < 10, 'the abort came before the end');
    const pulled = second.network.traffic().bytesReceived / CHUNK_BYTES;
    assert.ok(
      pulled < 10 - firstReport!.chunks + 0.9,
      `${pulled} chunks' worth of bytes came, ${firstReport!.chunks} were kept`,
    );
  }),
);

test(
  'a download waits for a provider to appear, and ends with its time limit',
  withPeers(async (peers) => {
    const a = await Node.start(peers, 'a');
    const b = await Node.start(peers, 'b', a);
    const bytes = sample(3000, 8);
    const cid = await a.blobs.store.put(bytes);
    await a.blobs.store.delete(cid);
    assert.is(await codeOf(b.blobs.fetch(cid, { timeoutMs: 300 })), 'ERR_FETCH_TIMEOUT');
    const download = b.blobs.fetch(cid, { timeoutMs: 20_000 });
    const lookedUp = b.network.traffic().bytesSent;
    await until(() => b.network.traffic().bytesSent > lookedUp, 'b is asking');
    await a.blobs.publish(bytes);
    assert.ok(equal(await download, bytes));
    assert.is(await codeOf(b.blobs.fetch('not a cid')), 'ERR_INVALID_CID');
    assert.is(
      await codeOf(b.blobs.fetch(cid.replace(/.$/, 'a'), { signal: AbortSignal.abort() })),
      'ERR_FETCH_ABORTED',
    );
  }),
);

test(
  'providers of a related blob are asked too',
  withPeers(async (peers) => {
    const a = await Node.start(peers, 'a');
    const b = await Node.start(peers, 'b', a);
    const manifest = await a.blobs.publish(sample(50, 9));
    const shard = await a.blobs.store.put(sample(60, 10));
    assert.is((await b.blobs.fetch(shard, { providersOf: [manifest], timeoutMs: 10_000 })).length, 60);
  }),
);

test(
  'a blob over the limit is refused before a chunk is pulled',
  withPeers(async (peers) => {
    const a = await Node.start(peers, 'a');
    const b = await Node.start(peers, 'b', a);
    const cid = await a.blobs.publish(sample(2 * CHUNK_BYTES, 11));
    assert.is(await codeOf(b.blobs.fetch(cid, { maxBytes: 2 * CHUNK_BYTES - 1 })), 'ERR_BLOB_TOO_LARGE');
    assert.is(a.blobs.stats().chunksServed, 0);
    assert.is(b.blobs.store.usedBytes, 0);
    assert.is((await b.blobs.fetch(cid, { maxBytes: 2 * CHUNK_BYTES })).length, 2 * CHUNK_BYTES);
    assert.is(await codeOf(b.blobs.fetch(cid, { maxBytes: 1 })), 'ERR_BLOB_TOO_LARGE', 'also when it is here already');
  }),
);

test(
  'downloaders of the same blob help each other',
  withPeers(async (peers) => {
    const seeder = await Node.start(peers, 'seeder');
    const others = await Promise.all(['a', 'b', 'c'].map((name) => Node.start(peers, name, seeder)));
    await until(() => others.every(({ network }) => network.peers().length === 3), 'all connected');
    const bytes = sample(24 * CHUNK_BYTES, 12);
    const cid = await seeder.blobs.publish(bytes);
    // A seeder with a slow line: without it the download is over before anyone has something to give.
    const readChunk = seeder.blobs.store.readChunk.bind(seeder.blobs.store);
    seeder.blobs.store.readChunk = async (...given) => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      return readChunk(...given);
    };
    const hints = [seeder, ...others].map(({ network }) => network.peerId);
    const results = await Promise.all(others.map(({ blobs }) => blobs.fetch(cid, { hints, announce: true })));
    assert.ok(results.every((result) => equal(result, bytes)));
    const helped = others.reduce((sum, { blobs }) => sum + blobs.stats().chunksServed, 0);
    assert.ok(helped > 0, 'chunks came from those who were still downloading');
    assert.ok(seeder.blobs.stats().chunksServed < 3 * 24, `the seeder sent ${seeder.blobs.stats().chunksServed} of 72`);
  }),
);

test(
  'two callers share one download; the second goes on when the first gives up',
  withPeers(async (peers) => {
    const a = await Node.start(peers, 'a');
    const b = await Node.start(peers, 'b', a);
    const bytes = sample(5 * CHUNK_BYTES, 13);
    const cid = await a.blobs.publish(bytes);
    const abort = new AbortController();
    const first = codeOf(b.blobs.fetch(cid, { signal: abort.signal, onProgress: () => abort.abort() }));
    const second = b.blobs.fetch(cid);
    const third = b.blobs.fetch(cid);
    assert.is(await first, 'ERR_FETCH_ABORTED');
    assert.ok(equal(await second, bytes) && equal(await third, bytes));
    assert.is(b.blobs.stats().fetches, 2, 'the aborted one and one more');
  }),
);

test(
  'a provider that leaves in the middle is replaced',
  withPeers(async (peers) => {
    const keeper = await Node.start(peers, 'keeper');
    const leaver = await Node.start(peers, 'leaver', keeper);
    const fetcher = await Node.start(peers, 'fetcher', keeper);
    const bytes = sample(16 * CHUNK_BYTES, 14);
    const cid = await leaver.blobs.publish(bytes);
    await until(() => fetcher.network.peers().length === 2, 'connected');
    let left: Promise<void> | undefined;
    const download = fetcher.blobs.fetch(cid, {
      onProgress: ({ chunks }) => {
        if (chunks === 5) left = leaver.network.stop();
      },
    });
    await until(() => left !== undefined, 'the provider leaves');
    await keeper.blobs.publish(bytes);
    assert.ok(equal(await download, bytes));
    await left;
  }),
);

test(
  'requests that are no requests fail, and the exchange goes on',
  withPeers(async (peers) => {
    const a = await Node.start(peers, 'a');
    const b = await Node.start(peers, 'b', a);
    await until(() => b.network.peers().length === 1, 'connected');
    const ask = (bytes: Uint8Array) =>
      codeOf(b.network.request(a.network.peerId, BLOB_PROTOCOL, bytes, { limits: BLOB_LIMITS }));
    assert.is(await ask(new Uint8Array(0)), 'ERR_REMOTE_FAILURE');
    assert.is(await ask(sample(36, 1)), 'ERR_REMOTE_FAILURE');
    assert.is(await ask(sample(37, 1)), 'resolved', 'an unknown blob is simply not here');
    const cid = await a.blobs.publish(sample(10, 15));
    assert.is((await b.blobs.fetch(cid)).length, 10);
  }),
);

test(
  'a blob that nobody announced, or whose records are gone, is found by asking neighbours',
  withPeers(async (peers) => {
    const bootstrap = await Node.start(peers, 'bootstrap');
    const [holder, seeker] = await Promise.all(['a', 'b'].map((name) => Node.start(peers, name, bootstrap)));
    const bytes = sample(CHUNK_BYTES + 5, 9);
    const cid = await holder!.blobs.store.put(bytes);
    await seeker!.network.connect(holder!.network.multiaddrs()[0]!);
    assert.ok(equal(await seeker!.blobs.fetch(cid, { timeoutMs: 20_000 }), bytes));
  }),
);

test(
  'a small blob is not sent by everyone who has it',
  withPeers(async (peers) => {
    const seeker = await Node.start(peers, 'seeker');
    const holders = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => Node.start(peers, name, seeker)));
    await until(() => seeker.network.peers().length === 6, 'all connected');
    const bytes = sample(100_000, 13);
    const cids = await Promise.all(holders.map(({ blobs }) => blobs.store.put(bytes)));
    const hints = holders.map(({ network }) => network.peerId);
    assert.ok(equal(await seeker.blobs.fetch(cids[0]!, { hints }), bytes));
    const sent = holders.reduce((sum, { blobs }) => sum + blobs.stats().chunksServed, 0);
    assert.ok(sent < 6, `${sent} copies were sent`);
  }),
);

test.run();
