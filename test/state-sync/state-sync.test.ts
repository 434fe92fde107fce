// time-limit: 60 s
import { Bytes, Struct, Vector } from 'scale-ts';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Blockchain, blockchain } from '../../node/blockchain/blockchain.ts';
import { type Block, encodeBlock, encodeCommit } from '../../node/chain/block.ts';
import { registerMiner } from '../../node/chain/calls.ts';
import { genesisHash } from '../../node/chain/genesis.ts';
import type { Hash } from '../../node/chain/hash.ts';
import { answerBlockSync, BLOCK_SYNC_LIMITS, BLOCK_SYNC_PROTOCOL } from '../../node/consensus/block-sync.ts';
import { signaturesReady } from '../../node/identity/signatures.ts';
import { chunkOf, encodeChunk } from '../../node/ledger/state-chunk.ts';
import type { PeerIdText, RequestHandler } from '../../node/network/interface.ts';
import type { Network } from '../../node/network/network.ts';
import {
  chunkRequestCodec,
  LIGHT_BLOCK_PROTOCOL,
  offerCodec,
  STATE_CHUNK_PROTOCOL,
  STATE_OFFER_LIMITS,
  STATE_OFFER_PROTOCOL,
  type StateOffer,
  StateSyncServer,
} from '../../node/state-sync/protocol.ts';
import { StateSync, type StateSyncInit } from '../../node/state-sync/state-sync.ts';
import { Store } from '../../node/store/store.ts';
import { advance, chainGenesis, openChain, signed, testSigner } from '../blockchain/harness.ts';
import { type Cleanup, until, withPeers } from '../network/local-peers.ts';

await signaturesReady();

const genesis = chainGenesis();
const silent = process.env.VERBOSE ? { info: console.log, warn: console.log } : { info: () => {}, warn: () => {} };

/** One chain that all honest peers have. */
const { chain } = openChain();
for (let miner = 1; miner <= 30; miner++) {
  await chain.submit(signed(chain, testSigner(miner), registerMiner(`machine ${miner}`)));
  await advance(chain);
}
while (chain.height < 33) await advance(chain);

const trustAt = (height: number) => ({ height, id: chain.blockIdAt(height) ?? genesisHash(genesis) });

/** Cut so that the state of this chain makes eight pieces. */
const SERVED = { intervalBlocks: 10, chunkBytes: 3200 };

/** A peer that has the chain; `chunk` and `blocks` answer in place of an honest one. */
async function server(
  peers: Cleanup,
  name: string,
  served: Blockchain = chain,
  chunk?: RequestHandler,
  blocks: RequestHandler = (request) => answerBlockSync(served, request),
): Promise<Network> {
  const network = await peers.started(name);
  await new StateSyncServer(served, SERVED).serve({
    handle: (protocol, limits, handler) =>
      network.handle(protocol, limits, protocol === STATE_CHUNK_PROTOCOL ? (chunk ?? handler) : handler),
  });
  await network.handle(BLOCK_SYNC_PROTOCOL, BLOCK_SYNC_LIMITS, blocks);
  return network;
}

async function joiner(peers: Cleanup, name: string, servers: readonly Network[]) {
  const network = await peers.started(name, { bootstrap: servers.flatMap((peer) => peer.multiaddrs()) });
  await until(() => network.peers().length === servers.length, 'connections');
  return network;
}

const freshStore = () => Store.open({ path: ':memory:', genesisHash: genesisHash(genesis) });

function stateSync(network: Network, store: Store, override: Partial<StateSyncInit> = {}): StateSync {
  const init = {
    trust: trustAt(5),
    trustingPeriodMs: 3650 * 24 * 3600 * 1000,
    minGainBlocks: 10,
    patienceMs: 0,
    nowMs: () => Number(chain.lastTimeMs) + 1000,
    ...override,
  };
  return new StateSync(init, { store, requests: network, discovery: network, log: silent });
}

const never = new AbortController().signal;

/** A clock that goes on from the end of the chain. */
function laterEachTime(): () => number {
  const start = performance.now();
  return () => Number(chain.lastTimeMs) + 1000 + Math.round(performance.now() - start);
}

/** The node goes on from the state as if it had executed every block. */
async function goesOn(store: Store): Promise<void> {
  const joined = blockchain({ genesis })({ store });
  assert.is(joined.height, 30);
  assert.is(joined.state.root, chain.stateAt(30)?.root);
  for (let height = 31; height <= 33; height++) {
    const found = await chain.finalized(height);
    assert.ok(found);
    await joined.commit(found.block, found.commit);
  }
  assert.is(joined.state.root, chain.state.root);
  const own = await joined.finalized(30);
  const theirs = await chain.finalized(30);
  assert.ok(own && theirs);
  assert.equal(encodeBlock(own.block), encodeBlock(theirs.block));
  assert.is(joined.lightBlock(30)?.header.stateRoot, chain.stateAt(30)?.root);
}

test('the state of the tests comes in eight pieces', async () => {
  assert.is((await new StateSyncServer(chain, SERVED).offer()).depth, 3);
});

test(
  'a newcomer fetches a state from several peers, verifies it, and goes on by blocks',
  withPeers(async (peers) => {
    const servers = [await server(peers, 'a'), await server(peers, 'b'), await server(peers, 'c')];
    const network = await joiner(peers, 'joiner', servers);
    const store = freshStore();
    assert.is(await stateSync(network, store).run({ signal: never }), 30);
    await goesOn(store);
    store.close();
  }),
);

/** Ways to lie about a chunk. */
const LIES: Record<string, RequestHandler> = {
  'entries that it made up': async (request) => {
    const { depth, position } = chunkRequestCodec.dec(request);
    const chunk = chunkOf(chain.state.tree, depth, position);
    return encodeChunk({ ...chunk, entries: chunk.entries.map(({ key }) => ({ key, value: new Uint8Array([1]) })) });
  },
  'the state of another height': async (request) => {
    const { depth, position } = chunkRequestCodec.dec(request);
    return encodeChunk(chunkOf(chain.state.tree, depth, position));
  },
  garbage: async () => new Uint8Array([255, 255, 1]),
};

/** What a stranger may say that it offers, with the right root wherever there is one, without giving anything of it. */
const BOASTS: Record<string, StateOffer> = {
  'a state of a height that nobody has come to': {
    height: 4_000_000_000,
    stateRoot: 'ab'.repeat(32) as Hash,
    depth: 2,
  },
  'a state of long ago, cut into other pieces': {
    height: 20,
    stateRoot: chain.stateAt(20)?.root ?? ('ab'.repeat(32) as Hash),
    depth: 0,
  },
  'the latest state, in pieces that are too large': {
    height: 30,
    stateRoot: chain.stateAt(30)?.root ?? ('ab'.repeat(32) as Hash),
    depth: 0,
  },
};

for (const [what, offer] of Object.entries(BOASTS)) {
  test(
    `peers that offer ${what} keep nobody from the state that others have`,
    withPeers(async (peers) => {
      const boasters: Network[] = [];
      for (const name of ['boaster', 'another']) {
        const network = await peers.started(name);
        const nothing: RequestHandler = async () => {
          throw new Error('never');
        };
        await network.handle(STATE_OFFER_PROTOCOL, STATE_OFFER_LIMITS, async () => offerCodec.enc(offer));
        for (const protocol of [LIGHT_BLOCK_PROTOCOL, STATE_CHUNK_PROTOCOL, BLOCK_SYNC_PROTOCOL])
          await network.handle(protocol, BLOCK_SYNC_LIMITS, nothing);
        boasters.push(network);
      }
      const network = await joiner(peers, 'joiner', [...boasters, await server(peers, 'honest')]);
      const store = freshStore();
      assert.is(
        await stateSync(network, store, { patienceMs: 20_000, nowMs: laterEachTime() }).run({ signal: never }),
        30,
      );
      await goesOn(store);
      store.close();
    }),
  );
}

for (const [lie, handler] of Object.entries(LIES)) {
  test(
    `a peer that gives ${lie} is dropped, and the state comes from the others`,
    withPeers(async (peers) => {
      const liar = await server(peers, 'liar', chain, handler);
      const network = await joiner(peers, 'joiner', [liar, await server(peers, 'honest')]);
      const store = freshStore();
      const sync = stateSync(network, store);
      assert.is(await sync.run({ signal: never }), 30);
      assert.equal([...sync.dropped], [liar.peerId as PeerIdText]);
      await goesOn(store);
      store.close();
    }),
  );
}

/** Bodies that are not those of the header. */
const OTHER_BODIES: Record<string, (block: Block) => Block> = {
  'evidence of its own': (block) => ({ ...block, evidence: [...block.evidence, new Uint8Array([1])] }),
  'transactions of its own': (block) => ({ ...block, transactions: [...block.transactions, new Uint8Array([1])] }),
  'a beacon proof of its own': (block) => ({ ...block, beaconProof: new Uint8Array(block.beaconProof.length) }),
};

for (const [lie, forge] of Object.entries(OTHER_BODIES)) {
  test(
    `a peer that gives the block under the state with ${lie} is dropped`,
    withPeers(async (peers) => {
      const liar = await server(peers, 'liar', chain, undefined, async () => {
        const found = await chain.finalized(30);
        assert.ok(found);
        const entry = { block: encodeBlock(forge(found.block)), commit: encodeCommit(found.commit) };
        return Vector(Struct({ block: Bytes(), commit: Bytes() })).enc([entry]);
      });
      const alone = await joiner(peers, 'alone', [liar]);
      const store = freshStore();
      const sync = stateSync(alone, store);
      assert.is(await sync.run({ signal: never }), undefined);
      assert.equal([...sync.dropped], [liar.peerId as PeerIdText]);
      const network = await joiner(peers, 'joiner', [liar, await server(peers, 'honest')]);
      assert.is(await stateSync(network, store).run({ signal: never }), 30);
      await goesOn(store);
      store.close();
    }),
  );
}

test(
  'a chain that the trusted block is not part of is refused, however many peers have it',
  withPeers(async (peers) => {
    const { chain: forged } = openChain();
    while (forged.height < 33) await advance(forged, 50);
    const servers = [await server(peers, 'f1', forged), await server(peers, 'f2', forged)];
    const network = await joiner(peers, 'joiner', servers);
    const store = freshStore();
    const sync = stateSync(network, store);
    assert.is(await sync.run({ signal: never }), undefined);
    assert.is(sync.dropped.size, 2);
    assert.is(store.height, 0);
    // One honest peer is enough.
    const honest = await server(peers, 'honest');
    const second = await joiner(peers, 'second', [...servers, honest]);
    assert.is(await stateSync(second, store).run({ signal: never }), 30);
    await goesOn(store);
    store.close();
  }),
);

test(
  'what was fetched before a restart is not fetched again',
  withPeers(async (peers) => {
    const store = freshStore();
    const asked: number[] = [];
    const counting = (name: string, limit: number) =>
      server(peers, name, chain, async (request) => {
        const { height, depth, position } = chunkRequestCodec.dec(request);
        if (asked.length >= limit) throw new Error('gone');
        asked.push(position);
        const state = chain.stateAt(height);
        assert.ok(state);
        return encodeChunk(chunkOf(state.tree, depth, position));
      });
    const first = await joiner(peers, 'first', [await counting('dying', 5)]);
    assert.is(await stateSync(first, store).run({ signal: never }), undefined);
    assert.equal(store.syncing, { height: 30, depth: 3 });
    const second = await joiner(peers, 'again', [await counting('living', 8)]);
    assert.is(await stateSync(second, store).run({ signal: never }), 30);
    assert.equal(
      asked.toSorted((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7],
    );
    assert.is(store.syncing, undefined);
    await goesOn(store);
    store.close();
  }),
);

test(
  'a node that is not far behind, or whose trust is too old, fetches nothing',
  withPeers(async (peers) => {
    const network = await joiner(peers, 'joiner', [await server(peers, 'a')]);
    const store = freshStore();
    assert.is(await stateSync(network, store, { minGainBlocks: 31 }).run({ signal: never }), undefined);
    assert.is(await stateSync(network, store, { trustingPeriodMs: 1 }).run({ signal: never }), undefined);
    assert.is(store.height, 0);
    store.close();
    const { chain: near, store: nearStore } = openChain();
    const found = await chain.finalized(1);
    assert.ok(found);
    await near.commit(found.block, found.commit);
    assert.is(await stateSync(network, nearStore, { trust: trustAt(1) }).run({ signal: never }), undefined);
    nearStore.close();
  }),
);

test.run();
