import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TOPIC_LIMITS } from '../../node/network/gossip.ts';
import { Ignore, type PeerIdText, Reject, TOPICS, type Topic } from '../../node/network/interface.ts';
import { SILENT_LOG } from '../../node/network/log.ts';
import { topicName } from '../../node/network/names.ts';
import type { Network } from '../../node/network/network.ts';
import { type Cleanup, codeOf, NETWORK, until, withPeers } from './local-peers.ts';

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (value: string) => new TextEncoder().encode(value);

/** Subscribes and collects what arrives. */
function collect(peer: Network, topic: Topic): string[] {
  const got: string[] = [];
  peer.subscribe(topic, (data) => {
    got.push(text(data));
  });
  return got;
}

/** a - hub - b: the ends know only the hub and want no more peers. */
async function line(peers: Cleanup): Promise<{ a: Network; hub: Network; b: Network }> {
  const hub = await peers.started('hub', { targetPeers: 1 });
  const options = { bootstrap: hub.multiaddrs(), targetPeers: 1 };
  return { a: await peers.started('a', options), hub, b: await peers.started('b', options) };
}

async function subscribed(topic: Topic, ...pairs: [Network, Network][]): Promise<void> {
  await until(
    () => pairs.every(([from, to]) => from.subscribers(topic).includes(to.peerId)),
    'peers know of the subscriptions',
  );
}

test(
  'a message reaches every peer once, and not its sender',
  withPeers(async (peers) => {
    const bootstrap = await peers.started('bootstrap');
    const others = await Promise.all(
      ['a', 'b', 'c', 'd'].map((name) => peers.started(name, { bootstrap: bootstrap.multiaddrs() })),
    );
    const all = [bootstrap, ...others];
    const got = all.map((peer) => collect(peer, 'proposals'));
    await until(() => all.every((peer) => peer.subscribers('proposals').length === 4), 'all subscribed');
    const large = 'x'.repeat(TOPIC_LIMITS.proposals.maxBytes);
    await others[0]!.publish('proposals', bytes(large));
    await others[0]!.publish('proposals', bytes('second'));
    await until(() => got.every((list, index) => index === 1 || list.includes('second')), 'all have the second');
    await until(() => got.every((list, index) => index === 1 || list.length === 2), 'all have both');
    assert.equal(got[1], [], 'own messages do not come back');
    assert.is(got[4]!.find((message) => message !== 'second')?.length, large.length);
  }),
);

test(
  'a rejected message is not passed on and costs its sender; an ignored one costs nothing',
  withPeers(async (peers) => {
    const { a, hub, b } = await line(peers);
    hub.subscribe('transactions', (data) => {
      if (text(data).startsWith('bad')) throw new Reject('ERR_BAD');
      if (text(data).startsWith('late')) throw new Ignore('ERR_LATE');
      if (text(data).startsWith('bug')) throw new TypeError('a bug in the handler');
    });
    const atB = collect(b, 'transactions');
    collect(a, 'transactions');
    await subscribed('transactions', [a, hub], [hub, a], [hub, b], [b, hub]);
    // A peer passes messages on within its mesh, which forms at gossipsub's own heartbeat: wait until one went through.
    let warmUps = 0;
    await until(async () => {
      warmUps += 1;
      await a.publish('transactions', bytes(`warm-up ${warmUps}`));
      return atB.length > 0;
    }, 'the mesh carries messages from a to b');
    const atBInEarnest = () => atB.filter((message) => !message.startsWith('warm-up'));
    for (const message of ['late', 'bug', 'good 1']) await a.publish('transactions', bytes(message));
    await until(() => atBInEarnest().length === 1, 'the good one arrives');
    assert.ok(hub.score(a.peerId) >= 0, 'nothing held against the sender');
    for (const message of ['bad 1', 'bad 2', 'good 2']) await a.publish('transactions', bytes(message));
    await until(() => atBInEarnest().length === 2, 'the next good one arrives');
    assert.equal(atBInEarnest(), ['good 1', 'good 2']);
    // gossipsub keeps a score for one heartbeat before it computes it anew.
    await until(() => hub.score(a.peerId) < 0, 'the score falls');
    const { accepted, ...others } = hub.status().gossip.transactions;
    assert.equal(others, { published: 0, ignored: 1, rejected: 2, dropped: 0, failed: 1 });
    assert.ok(accepted >= atB.length, 'what was passed on was accepted');
    assert.equal([...hub.verdictCodes()].sort(), [
      ['transactions ERR_BAD', 2],
      ['transactions ERR_LATE', 1],
    ]);
  }),
);

test(
  'a peer that keeps sending rejected messages is no longer heard',
  withPeers(async (peers) => {
    const { a, hub } = await line(peers);
    let calls = 0;
    hub.subscribe('votes', () => {
      calls += 1;
      throw new Reject('ERR_FORGED');
    });
    await subscribed('votes', [a, hub]);
    for (let index = 0; index < 5; index++) await a.publish('votes', bytes(`forged ${index}`));
    await until(() => hub.score(a.peerId) < -80, 'score below the threshold for being heard');
    const before = calls;
    // gossipsub looks at the score again at the latest after one second; from then on nothing reaches the handler.
    await until(async () => {
      const seen = calls;
      await a.publish('votes', crypto.getRandomValues(new Uint8Array(16)));
      await new Promise((resolve) => setTimeout(resolve, 50));
      return calls === seen;
    }, 'messages of the peer are not looked at');
    assert.ok(before >= 3);
  }),
);

test(
  'equal bytes vanish while they are remembered, and travel again later',
  withPeers(async (peers) => {
    const options = { timings: { seenTtlMs: 1_500 } };
    const a = await peers.started('a', options);
    const b = await peers.started('b', { ...options, bootstrap: a.multiaddrs() });
    const got = collect(b, 'votes');
    await subscribed('votes', [a, b]);
    await a.publish('votes', bytes('vote'));
    await until(() => got.length === 1, 'first delivery');
    const first = performance.now();
    await a.publish('votes', bytes('vote'));
    await a.publish('votes', bytes('marker'));
    await until(() => got.length === 2, 'the marker');
    assert.equal(got, ['vote', 'marker']);
    await until(async () => {
      await a.publish('votes', bytes('vote'));
      return got.length === 3;
    }, 'the same vote is delivered again');
    assert.equal(got, ['vote', 'marker', 'vote']);
    const tookMs = performance.now() - first;
    assert.ok(tookMs > 1_000 && tookMs < 5_000, `after ${tookMs} ms`);
  }),
);

test(
  'publishing to nobody is fine, too much is not',
  withPeers(async (peers) => {
    const alone = await peers.started('alone');
    await alone.publish('votes', bytes('nobody hears'));
    alone.subscribe('votes', () => {});
    await alone.publish('votes', bytes('still nobody'));
    for (const topic of TOPICS) {
      const { maxBytes } = TOPIC_LIMITS[topic];
      assert.is(await codeOf(alone.publish(topic, new Uint8Array(maxBytes + 1))), 'ERR_MESSAGE_TOO_LARGE');
    }
    assert.is(TOPIC_LIMITS.votes.maxBytes, 1024);
    assert.is(TOPIC_LIMITS.proposals.maxBytes, 1024 * 1024);
  }),
);

test(
  'an oversized message of a peer without our rules is rejected',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const got = collect(ours, 'votes');
    const raw = await peers.rawPeer('raw');
    await raw.dial(multiaddr(ours.multiaddrs()[0]!));
    const topic = topicName(NETWORK, 'votes');
    await until(() => raw.services.pubsub.getSubscribers(topic).length === 1, 'raw knows our subscription');
    await raw.services.pubsub.publish(topic, new Uint8Array(TOPIC_LIMITS.votes.maxBytes + 1));
    await raw.services.pubsub.publish(topic, bytes('small'));
    await until(() => got.length === 1, 'the small one');
    assert.equal(got, ['small']);
    assert.is(ours.status().gossip.votes.rejected, 1);
    await until(() => ours.score(raw.peerId.toString() as PeerIdText) < 0, 'the score falls');
  }),
);

test(
  'garbage on the gossip stream harms nobody',
  withPeers(async (peers) => {
    const { a, hub } = await line(peers);
    const got = collect(hub, 'votes');
    await subscribed('votes', [a, hub]);
    const raw = await peers.rawPeer('raw');
    for (const garbage of [
      new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
      crypto.getRandomValues(new Uint8Array(50_000)),
    ]) {
      const stream = await raw.dialProtocol(multiaddr(hub.multiaddrs()[0]!), '/meshsub/1.2.0');
      stream.send(garbage);
      await stream.close().catch(() => {});
    }
    await a.publish('votes', bytes('after the garbage'));
    await until(() => got.length === 1, 'the hub still hears');
  }),
);

test(
  'a full queue drops, and the handler runs so many at a time',
  withPeers(async (peers) => {
    const a = await peers.started('a');
    const b = await peers.started('b', { bootstrap: a.multiaddrs() });
    const open = Promise.withResolvers<void>();
    let running = 0;
    let most = 0;
    b.subscribe('evidence', async () => {
      running += 1;
      most = Math.max(most, running);
      await open.promise;
      running -= 1;
    });
    await subscribed('evidence', [a, b]);
    const { concurrency, maxQueued } = TOPIC_LIMITS.evidence;
    const count = concurrency + maxQueued + 10;
    for (let index = 0; index < count; index++) await a.publish('evidence', bytes(`evidence ${index}`));
    await until(() => b.status().gossip.evidence.dropped === 10, 'ten are dropped');
    open.resolve();
    await until(() => b.status().gossip.evidence.accepted === count - 10, 'the others are handled');
    assert.is(most, concurrency);
  }),
);

test(
  'handlers come and go; a failing one is logged',
  withPeers(async (peers) => {
    const errors: string[] = [];
    const a = await peers.started('a');
    const b = await peers.started('b', {
      bootstrap: a.multiaddrs(),
      log: { ...SILENT_LOG, error: (_fields, message) => errors.push(message) },
    });
    const remove = b.subscribe('votes', async () => {
      throw new Error('broken');
    });
    assert.throws(() => b.subscribe('votes', () => {}), /has a handler/);
    await subscribed('votes', [a, b]);
    await a.publish('votes', bytes('one'));
    await until(() => errors.length === 1, 'logged');
    assert.equal(errors, ['gossip handler failed']);
    remove();
    await until(() => a.subscribers('votes').length === 0, 'unsubscribed');
    const got = collect(b, 'votes');
    await subscribed('votes', [a, b]);
    await a.publish('votes', bytes('two'));
    await until(() => got.length === 1, 'the new handler gets it');
  }),
);

test.run();
