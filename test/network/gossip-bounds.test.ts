import type { gossipsub } from '@libp2p/gossipsub';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AddressGroup } from '../../node/network/address-group.ts';
import { BanList } from '../../node/network/ban-list.ts';
import { FairQueue, type FairQueueLimits } from '../../node/network/fair-queue.ts';
import { BoundedTimeCache, boundGossipMemory } from '../../node/network/gossip-memory.ts';
import {
  type DeliveryRecord,
  type GossipsubInternals,
  gossipsubInternals,
  type PeerStats,
  UnknownGossipsubError,
} from '../../node/network/gossipsub-internals.ts';
import { type PeerIdText, Reject } from '../../node/network/interface.ts';
import { topicName } from '../../node/network/names.ts';
import { PacedBudgets } from '../../node/network/paced-budget.ts';
import { DROPPED } from '../../node/network/work-queue.ts';
import { HostileGossipPeer } from './hostile/gossip-peer.ts';
import { NETWORK, until, withPeers } from './local-peers.ts';

const LIMITS: FairQueueLimits = { concurrency: 1, maxQueued: 100, maxQueuedBytes: 1_000_000, drop: 'newest' };

/** A queue whose first task waits for `open`; notes the order in which the others run. */
function gated(limits: Partial<FairQueueLimits>) {
  const queue = new FairQueue({ ...LIMITS, ...limits });
  const gate = Promise.withResolvers<void>();
  const order: string[] = [];
  const first = queue.run('first', 1, () => gate.promise);
  const put = (peer: string, name: string, bytes = 1) =>
    queue.run(peer, bytes, async () => {
      order.push(name);
      return name;
    });
  const open = () => {
    gate.resolve();
    return first;
  };
  return { queue, order, put, open };
}

test('who sends little does not wait behind who sends much', async () => {
  const { order, put, open } = gated({});
  const all = [1, 2, 3, 4].map((number) => put('flood', `flood ${number}`));
  all.push(put('honest', 'honest 1'), put('other', 'other 1'), put('honest', 'honest 2'));
  await open();
  await Promise.all(all);
  assert.equal(order, ['flood 1', 'honest 1', 'other 1', 'flood 2', 'honest 2', 'flood 3', 'flood 4']);
});

for (const [drop, left] of [
  ['newest', ['flood 1', 'honest 1', 'flood 2']],
  ['oldest', ['flood 4', 'honest 1', 'flood 5']],
] as const) {
  test(`a full queue takes room from the longest line: its ${drop}`, async () => {
    const { order, put, open, queue } = gated({ maxQueued: 3, drop });
    const all = [1, 2, 3, 4].map((number) => put('flood', `flood ${number}`));
    all.push(put('honest', 'honest 1'), put('flood', 'flood 5'));
    assert.is(queue.waiting, 3);
    await open();
    const outcomes = await Promise.all(all);
    assert.is(outcomes.filter((outcome) => outcome === DROPPED).length, 3);
    assert.equal(order, left);
  });
}

test('where bytes are short, the line with the most bytes loses', async () => {
  const { order, put, open } = gated({ maxQueuedBytes: 1000 });
  const all = [put('large', 'large 1', 900), ...[1, 2, 3].map((number) => put('small', `small ${number}`, 60))];
  await open();
  assert.is((await Promise.all(all))[0], DROPPED);
  assert.equal(order, ['small 1', 'small 2', 'small 3']);
});

test('a cleared queue drops what waits; a failing task frees its place', async () => {
  const { put, open, queue } = gated({});
  const waiting = [put('a', 'a'), put('b', 'b')];
  queue.clear();
  assert.equal(await Promise.all(waiting), [DROPPED, DROPPED]);
  const failing = queue.run('a', 1, async () => {
    throw new Error('no');
  });
  const next = queue.run('a', 1, async () => 'next');
  await open();
  assert.is(await failing.catch((error) => error.message), 'no');
  assert.is(await next, 'next');
});

test('a budget may be overdrawn and is paid back over time, by each peer for itself', () => {
  let now = 0;
  const budgets = new PacedBudgets(10, 20, () => now);
  budgets.spend('a', 15);
  assert.is(budgets.waitMs('a'), 0);
  budgets.spend('a', 25);
  assert.is(budgets.waitMs('a'), 2000);
  assert.is(budgets.waitMs('b'), 0);
  now = 1500;
  assert.is(budgets.waitMs('a'), 500);
  now = 1e9;
  budgets.spend('a', 21);
  assert.is(budgets.waitMs('a'), 100, 'never more than the burst is saved up');
});

test('bans grow with each and end; an address that keeps sending such peers is banned too', () => {
  let now = 0;
  const bans = new BanList(() => now);
  const address = '192.0.2.1' as AddressGroup;
  bans.ban('a', address);
  assert.ok(bans.has('a'));
  assert.not(bans.has('b'));
  now = 60_001;
  assert.not(bans.has('a'));
  bans.ban('a', address);
  now = 120_003;
  assert.ok(bans.has('a'), 'the second takes twice as long');
  for (const peer of ['b', 'c']) bans.ban(peer, address);
  assert.not(bans.hasAddress(address));
  bans.ban('d', address);
  assert.ok(bans.hasAddress(address));
  bans.ban('e', undefined);
  now = 181_000;
  assert.not(bans.hasAddress(address), 'it ends with the first of them');
});

test('a time cache forgets by time and by number', () => {
  let now = 0;
  const cache = new BoundedTimeCache<string>(3, 100, () => now);
  for (const key of ['a', 'b', 'c']) assert.not(cache.put(key, key));
  assert.ok(cache.put('a', 'other'));
  assert.is(cache.get('a'), 'a');
  cache.put('d', 'd');
  assert.not(cache.has('a'));
  assert.is(cache.size, 3);
  now = 101;
  assert.is(cache.get('b'), undefined);
  cache.prune();
  assert.is(cache.size, 0);
});

test('what gossipsub remembers of messages and of peers that left is bounded in number', () => {
  const records = new Map<string, DeliveryRecord>();
  const queue: { msgId: string }[] = [];
  const peerStats = new Map<string, PeerStats>();
  const withAddress = new Set<string>();
  const score = {
    peerStats,
    scoreCache: new Map<string, unknown>(),
    deliveryRecords: {
      records,
      queue,
      ensureRecord: (msgId: string) => {
        records.set(msgId, { peers: new Set() });
        queue.push({ msgId });
      },
    },
    addPeer: (peer: string) => {
      peerStats.set(peer, { connected: true, behaviourPenalty: 0, knownIPs: new Set([peer]) });
      withAddress.add(peer);
    },
    removeIPsForPeer: (peer: string) => withAddress.delete(peer),
    score: () => 0,
  };
  const internals: GossipsubInternals = {
    seenCache: new BoundedTimeCache(1, 1),
    fastMsgIdCache: new BoundedTimeCache(1, 1),
    score,
    pipePeerReadStream: async () => {},
    handleReceivedRpc: async () => {},
    sendIDontWants: () => {},
  };
  boundGossipMemory(internals, 60_000);
  for (let index = 0; index < 70_000; index++) {
    internals.seenCache.put(`message ${index}`);
    internals.fastMsgIdCache?.put(`message ${index}`);
    score.deliveryRecords.ensureRecord(`message ${index}`);
  }
  const sizes = [internals.seenCache.size, internals.fastMsgIdCache?.size, records.size, queue.length];
  assert.equal(sizes, [65_536, 65_536, 65_536, 65_536]);
  assert.ok(records.has('message 69999') && internals.seenCache.has('message 69999'));
  score.addPeer('here');
  for (let index = 0; index < 6_000; index++) {
    score.addPeer(`peer ${index}`);
    peerStats.get(`peer ${index}`)!.connected = false;
  }
  assert.equal([peerStats.size, withAddress.size], [4_096, 4_096]);
  assert.ok(peerStats.get('here')?.connected, 'who is here stays');
  peerStats.get('peer 5999')!.behaviourPenalty = 5;
  score.addPeer('peer 5999');
  assert.is(peerStats.get('peer 5999')?.behaviourPenalty, 5, 'and who comes again finds its own');
  assert.ok(peerStats.get('peer 5999')?.connected);
});

test('a gossipsub without the parts that the guards need is refused', () => {
  assert.throws(
    () => gossipsubInternals({} as ReturnType<ReturnType<typeof gossipsub>>),
    (error: unknown) => error instanceof UnknownGossipsubError,
  );
});

test(
  'who was found out and comes again is refused; its score is what it was',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    ours.subscribe('votes', () => {
      throw new Reject('ERR_FORGED');
    });
    const hostile = await HostileGossipPeer.start(NETWORK, 'comes again');
    peers.add(() => hostile.stop());
    const peer = hostile.peerId.toString() as PeerIdText;
    await hostile.connect(ours.multiaddrs()[0]!);
    const send = (name: string) => hostile.send({ messages: [hostile.message('votes', Buffer.from(name))] });
    for (const name of ['one', 'two']) await send(name);
    await until(() => ours.score(peer) < 0, 'the score falls');
    const before = ours.score(peer);
    // Two are not enough to be cut off. Coming again does not wash it clean.
    await hostile.disconnect();
    await until(() => !ours.peers().includes(peer), 'it is gone');
    await hostile.connect(ours.multiaddrs()[0]!);
    await until(() => ours.peers().includes(peer), 'it is here again');
    await send('three');
    await until(() => !hostile.connected, 'it is cut off at the third');
    assert.ok(ours.score(peer) < before);
    let refused = false;
    try {
      await hostile.connect(ours.multiaddrs()[0]!);
      await until(() => !hostile.connected, 'it is refused');
      refused = true;
    } catch {
      refused = true;
    }
    assert.ok(refused);
    assert.is(ours.status().gossip.votes.rejected, 3);
  }),
);

test(
  'a peer with something to lose is not heard, but keeps its connection',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    ours.subscribe('votes', () => {
      throw new Reject('ERR_FORGED');
    });
    const validator = await HostileGossipPeer.start(NETWORK, 'validator');
    peers.add(() => validator.stop());
    ours.standings.setValidators([validator.peerId.toString() as PeerIdText]);
    await validator.connect(ours.multiaddrs()[0]!);
    const send = (name: string) => validator.send({ messages: [validator.message('votes', Buffer.from(name))] });
    for (const name of ['one', 'two', 'three', 'four']) await send(name);
    await until(() => ours.score(validator.peerId.toString() as PeerIdText) < -80, 'it is below the threshold');
    const { rejected } = ours.status().gossip.votes;
    const { rpcs } = ours.status().gossipIntake;
    for (const name of ['five', 'six']) await send(name);
    const stranger = await HostileGossipPeer.start(NETWORK, 'stranger');
    peers.add(() => stranger.stop());
    await stranger.connect(ours.multiaddrs()[0]!);
    await stranger.send({ messages: [stranger.message('votes', Buffer.from('from another'))] });
    await until(() => ours.status().gossip.votes.rejected === rejected + 1, 'only the stranger is heard');
    assert.is(ours.status().gossipIntake.rpcs, rpcs + 1);
    assert.ok(validator.connected);
  }),
);

test(
  'what an author adds to a message does not travel with it, and signed messages are not taken',
  withPeers(async (peers) => {
    const hub = await peers.started('hub');
    const far = await peers.started('far', { bootstrap: hub.multiaddrs() });
    hub.subscribe('votes', () => {});
    const got: string[] = [];
    far.subscribe('votes', (data) => {
      got.push(Buffer.from(data).toString());
    });
    await until(() => hub.subscribers('votes').length === 1, 'far takes part');
    const hostile = await HostileGossipPeer.start(NETWORK, 'adds');
    peers.add(() => hostile.stop());
    await hostile.connect(hub.multiaddrs()[0]!);
    const ballast = new Uint8Array(1_000_000).fill(1);
    const received = () => far.traffic().bytesReceived;
    let sent = 0;
    await until(async () => {
      const data = Buffer.from(`vote ${sent++}`);
      await hostile.send({ messages: [{ topic: topicName(NETWORK, 'votes'), data, from: ballast }] });
      return got.length > 0;
    }, 'the mesh carries it');
    assert.ok(received() < 500_000, `${received()} bytes`);
    await hostile.send({
      messages: [{ topic: topicName(NETWORK, 'votes'), data: Buffer.from('signed'), signature: new Uint8Array(64) }],
    });
    await until(() => hub.score(hostile.peerId.toString() as PeerIdText) < 0, 'a signed one costs its sender');
    assert.not(got.includes('signed'));
  }),
);

test.run();
