/** A submission is nobody's but its author's until the reveal: not announced, not served, also not after a restart. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ModelClient } from '../../kernels/session/model-client.ts';
import { Announcer } from '../../node/blobs/announcer.ts';
import { BlobExchange } from '../../node/blobs/exchange.ts';
import { blobCid, cidDigest } from '../../node/blobs/manifest.ts';
import { openBlobStore } from '../../node/blobs/store.ts';
import { ABSENT, BLOB_LIMITS, BLOB_PROTOCOL, encodeRequest, KIND } from '../../node/blobs/wire.ts';
import { registerMiner } from '../../node/chain/calls.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { SILENT_LOGGER } from '../../node/log/logger.ts';
import type { Network } from '../../node/network/network.ts';
import { Miner, type MinerComponents } from '../../roles/miner/miner.ts';
import { RoundBlobs } from '../../roles/replica/round-blobs.ts';
import { sample } from '../blobs/sample.ts';
import { LedgerHarness, testGenesis, testParameters } from '../ledger/harness.ts';
import { type Cleanup, until, withPeers } from '../network/local-peers.ts';

const CONTEXT = 8;
const submission = sample(40_000, 77);
const cid = blobCid(submission);

/** A ledger with one miner, whose calls go into blocks of their own. */
class ChainOfOne {
  readonly harness = new LedgerHarness({ miners: 1 });
  readonly calls: Call[] = [];
  readonly #listeners = new Set<() => void>();

  get state() {
    return this.harness.state;
  }

  get account() {
    return this.harness.miners[0]!;
  }

  onBlock(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  block(calls: readonly Call[], afterMs = 100): void {
    const receipts = this.harness.block(
      calls.map((call) => [this.account, call] as const),
      afterMs,
    );
    for (const { error } of receipts) assert.is(error, undefined);
    for (const listener of [...this.#listeners]) listener();
  }

  async send(call: Call): Promise<void> {
    this.calls.push(call);
    this.block([call]);
  }
}

/** A miner on real sockets, with a real store; what it would train is given. */
async function startMiner(peers: Cleanup, stranger: Network, chain: ChainOfOne, folder: string) {
  const network = await peers.started('author', { bootstrap: stranger.multiaddrs() });
  await until(() => stranger.peers().includes(network.peerId), 'connected');
  const store = await openBlobStore({ dir: join(folder, 'blobs') });
  const blobs = new BlobExchange(network, store);
  await blobs.start();
  const announcer = new Announcer(network, SILENT_LOGGER);
  const roundBlobs = new RoundBlobs({ ledger: chain, store, announcer });
  const shard = { vocabulary: 100, tokens: new Uint16Array(1000) };
  const model = {
    train: async () => ({ losses: [1], tokensPerSecond: 1 }),
    compress: async () => submission,
  } as unknown as ModelClient;
  const miner = new Miner({ dir: join(folder, 'miner'), device: 'test', context: CONTEXT, adversary: 'none' }, {
    genesis: testGenesis([{ account: chain.harness.validators[0]!, weight: 1n }], testParameters()),
    account: chain.account,
    peerId: network.peerId,
    ledger: chain,
    replica: { catchUp: async () => chain.state },
    corpus: { shard: async () => shard },
    model,
    blobs,
    roundBlobs,
    send: (call: Call) => chain.send(call),
    log: SILENT_LOGGER,
  } as unknown as MinerComponents);
  miner.start();
  const stop = async () => {
    await miner.stop();
    roundBlobs.stop();
    await announcer.stop();
    await blobs.stop();
    await network.stop();
    await store.close();
  };
  peers.add(stop);
  return { miner, network, store, stop };
}

/** What a peer that knows the digest gets from another for it: the answers to all kinds of requests. */
async function answers(from: Network, to: Network): Promise<Uint8Array[]> {
  const digest = cidDigest(cid);
  return await Promise.all(
    Object.values(KIND).map((kind) =>
      from.request(to.peerId, BLOB_PROTOCOL, encodeRequest({ kind, digest, index: 0 }), { limits: BLOB_LIMITS }),
    ),
  );
}

async function providers(network: Network): Promise<string[]> {
  const found: string[] = [];
  for await (const peer of network.findProviders(cid, { signal: AbortSignal.timeout(1_000) })) found.push(peer);
  return found;
}

test(
  'who knows the digest gets nothing before the reveal, and everything after it',
  withPeers(async (peers) => {
    const folder = await mkdtemp(join(tmpdir(), 'alice-withheld-'));
    peers.add(() => rm(folder, { recursive: true, force: true }));
    const stranger = await peers.started('stranger');
    const chain = new ChainOfOne();
    let running = await startMiner(peers, stranger, chain, folder);
    await until(() => chain.calls.some(({ tag }) => tag === 'registerMiner'), 'the miner is registered');
    // The round waits for one miner, and would close with its commit: a second one that never comes keeps it open.
    chain.harness.block([[chain.harness.validators[3]!, registerMiner('absent')]]);
    chain.block([], 2500);
    const committed = () => chain.calls.some(({ tag }) => tag === 'commitSubmission');
    await until(committed, 'the commit is in a block');
    assert.is(chain.state.round.phase, 'train', 'others may still commit');

    const absent = async (when: string) => {
      for (const answer of await answers(stranger, running.network)) assert.equal([...answer], [...ABSENT], when);
      assert.equal(await providers(stranger), [], when);
      assert.not.ok(running.store.has(cid), when);
    };
    await absent('before the reveal');
    await running.stop();
    running = await startMiner(peers, stranger, chain, folder);
    await until(() => running.miner.activity.activity.endsWith('waiting to reveal'), 'it goes on after a restart');
    await absent('after a restart');

    chain.block([], 60_000);
    await until(() => chain.calls.some(({ tag }) => tag === 'revealSubmission'), 'the reveal is in a block');
    const [revealed] = chain.state.round.submissions;
    assert.equal(revealed!.reveal, { cid, sizeBytes: submission.length, provider: running.network.peerId });
    // Whom the ledger names has it, before any record is in the DHT; then there is one as well.
    const store = await openBlobStore({ dir: join(folder, 'elsewhere') });
    const validator = new BlobExchange(stranger, store);
    peers.add(() => store.close());
    const fetched = await validator.fetch(cid, { hints: [running.network.peerId], timeoutMs: 10_000 });
    assert.ok(Buffer.compare(fetched, submission) === 0);
    await until(async () => (await providers(stranger)).includes(running.network.peerId), 'announced');
  }),
);

test.run();
