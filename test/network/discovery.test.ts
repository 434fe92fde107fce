import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerIdText } from '../../node/network/interface.ts';
import { cidFromDigest } from '../../node/network/names.ts';
import type { Network } from '../../node/network/network.ts';
import { codeOf, freePort, seedOf, until, withPeers } from './local-peers.ts';

function fullyMeshed(peers: readonly Network[]): boolean {
  return peers.every((peer) => peer.peers().length === peers.length - 1);
}

async function collect(source: AsyncIterable<PeerIdText>): Promise<PeerIdText[]> {
  const found: PeerIdText[] = [];
  for await (const peer of source) found.push(peer);
  return found.sort();
}

test(
  'five peers that know one bootstrap all find each other',
  withPeers(async (peers) => {
    const bootstrap = await peers.started('bootstrap');
    const others = await Promise.all(
      ['a', 'b', 'c', 'd'].map((name) => peers.started(name, { bootstrap: bootstrap.multiaddrs() })),
    );
    const all = [bootstrap, ...others];
    await until(() => fullyMeshed(all), 'everyone connected to everyone');
    assert.equal(
      [...others[0]!.peers()].sort(),
      all
        .filter((peer) => peer !== others[0])
        .map((peer) => peer.peerId)
        .sort(),
    );
  }),
);

test(
  'a bootstrap that starts late, and restarts, is found; a late joiner finds all through it',
  withPeers(async (peers) => {
    const listen = [`/ip4/127.0.0.1/tcp/${await freePort()}`];
    const first = await peers.peer('bootstrap', { listen });
    const bootstrap = [`${listen[0]}/p2p/${first.peerId}`];
    const a = await peers.started('a', { bootstrap });
    const b = await peers.started('b', { bootstrap });
    assert.is(a.peers().length, 0);
    await first.start();
    await until(() => fullyMeshed([first, a, b]), 'the late bootstrap brings a and b together');
    await first.stop();
    await until(() => !a.peers().includes(first.peerId) && !b.peers().includes(first.peerId), 'bootstrap gone');
    assert.ok(a.peers().includes(b.peerId), 'peers keep each other without the bootstrap');
    const second = await peers.started('bootstrap', { listen });
    const c = await peers.started('c', { bootstrap });
    await until(() => fullyMeshed([second, a, b, c]), 'all connected after the restart');
  }),
);

test(
  'a peer that restarts at another port is connected again',
  withPeers(async (peers) => {
    const bootstrap = await peers.started('bootstrap');
    const options = { bootstrap: bootstrap.multiaddrs() };
    const a = await peers.started('a', options);
    const b = await peers.started('b', options);
    await until(() => fullyMeshed([bootstrap, a, b]), 'three connected');
    await b.stop();
    await until(() => a.peers().length === 1, 'a sees that b is gone');
    const again = await peers.started('b', options);
    await until(() => fullyMeshed([bootstrap, a, again]), 'three connected again');
  }),
);

test(
  'networks with other names never mix',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const theirs = await peers.started('theirs', { networkName: 'othernet', bootstrap: ours.multiaddrs() });
    const friend = await peers.started('friend', { bootstrap: ours.multiaddrs() });
    assert.is(await codeOf(theirs.connect(ours.multiaddrs()[0]!)), 'ERR_NO_CONNECTION');
    // Each side learns by itself what the other speaks.
    await until(() => friend.peers().length === 1 && ours.peers().length > 0, 'the friend is in');
    assert.equal(theirs.peers(), []);
    assert.equal(ours.peers(), [friend.peerId]);
  }),
);

test(
  'a taken port and bad options are clear errors',
  withPeers(async (peers) => {
    const first = await peers.started('a');
    const [address] = first.multiaddrs();
    const second = await peers.peer('b', { listen: [address!.replace(/\/p2p\/.*/, '')] });
    const failure = await second.start().then(
      () => undefined,
      (error) => error,
    );
    assert.is(failure.code, 'ERR_ADDRESS_IN_USE');
    assert.match(failure.message, /127\.0\.0\.1:\d+ is in use/);
    await second.stop();
    assert.is(
      await codeOf((await peers.peer('c', { listen: ['/ip4/192.0.2.1/tcp/0'] })).start()),
      'ERR_LISTEN',
      'not an address of this machine',
    );
    assert.is(await codeOf(peers.peer('d', { listen: ['nonsense'] })), 'ERR_INVALID_NETWORK_OPTION');
    assert.is(await codeOf(peers.peer('d', { networkName: 'no/slash' })), 'ERR_INVALID_NETWORK_OPTION');
    assert.is(await codeOf(peers.peer('d', { privateKeySeed: seedOf('x').subarray(1) })), 'ERR_INVALID_NETWORK_OPTION');
  }),
);

test(
  'content is found at who provides it, also by a peer that came later',
  withPeers(async (peers) => {
    const bootstrap = await peers.started('bootstrap');
    const options = { bootstrap: bootstrap.multiaddrs() };
    const a = await peers.started('a', options);
    const b = await peers.started('b', options);
    const cid = cidFromDigest(seedOf('some content')).toString();
    // At once: waits for the first peer that takes the record.
    await Promise.all([a.provide(cid), b.provide(cid)]);
    assert.equal(await collect(bootstrap.findProviders(cid)), [a.peerId, b.peerId].sort());
    const c = await peers.started('c', options);
    await until(() => c.peers().length === 3, 'c is connected');
    assert.equal(await collect(c.findProviders(cid)), [a.peerId, b.peerId].sort());
    assert.equal(await collect(a.findProviders(cid)), [b.peerId], 'never oneself');
    assert.equal(await collect(c.findProviders(cidFromDigest(seedOf('other')).toString())), []);
    assert.is(await codeOf(a.provide('bafy-nonsense')), 'ERR_INVALID_CID');
    assert.is(await codeOf(collect(a.findProviders(''))), 'ERR_INVALID_CID');
  }),
);

test(
  'what was taken back is told to nobody any more',
  withPeers(async (peers) => {
    const a = await peers.started('a');
    const bootstrap = a.multiaddrs();
    const witness = await peers.started('witness', { bootstrap });
    const [kept, withdrawn] = ['kept', 'withdrawn'].map((name) => cidFromDigest(seedOf(name)).toString());
    await Promise.all([a.provide(kept!), a.provide(withdrawn!)]);
    await a.withdraw(withdrawn!);
    // The only other peer that holds the records goes: what a newcomer learns, it learns from their author.
    await witness.stop();
    const newcomer = await peers.started('newcomer', { bootstrap });
    await until(() => newcomer.peers().includes(a.peerId), 'connected');
    await until(async () => (await collect(newcomer.findProviders(kept!))).includes(a.peerId), 'the other one is told');
    assert.equal(await collect(newcomer.findProviders(withdrawn!)), []);
  }),
);

test(
  'providing alone ends with the signal',
  withPeers(async (peers) => {
    const alone = await peers.started('alone');
    const cid = cidFromDigest(seedOf('x')).toString();
    assert.is(await codeOf(alone.provide(cid, { signal: AbortSignal.timeout(50) })), 'ERR_REQUEST_ABORTED');
    assert.equal(await collect(alone.findProviders(cid)), []);
  }),
);

test(
  'bytes are counted alike on both sides, and peers are reported as they come and go',
  withPeers(async (peers) => {
    const a = await peers.started('a');
    const events: string[] = [];
    a.onPeer(({ type, peer }) => events.push(`${type} ${peer}`));
    const b = await peers.started('b', { bootstrap: a.multiaddrs() });
    await until(() => events.length === 1, 'connected event');
    await b.handle(
      'sink',
      { maxRequestBytes: 500_000, maxResponseBytes: 1, timeoutMs: 5_000 },
      async () => new Uint8Array(1),
    );
    const before = a.traffic();
    await a.request(b.peerId, 'sink', new Uint8Array(500_000), {
      limits: { maxRequestBytes: 500_000, maxResponseBytes: 1, timeoutMs: 5_000 },
    });
    const sent = a.traffic().bytesSent - before.bytesSent;
    assert.ok(sent > 500_000 && sent < 520_000, `500,000 bytes and a little: ${sent}`);
    await b.stop();
    await until(() => events.length === 2, 'disconnected event');
    assert.equal(events, [`connected ${b.peerId}`, `disconnected ${b.peerId}`]);
    // What was on its way when the connection closed may be counted on one side only.
    assert.ok(Math.abs(a.traffic().bytesSent - b.traffic().bytesReceived) < 2_000);
    assert.ok(Math.abs(b.traffic().bytesSent - a.traffic().bytesReceived) < 2_000);
  }),
);

test(
  'a network stops at any time, starts once, and says so',
  withPeers(async (peers) => {
    const never = await peers.peer('a');
    await never.stop();
    assert.is(await codeOf(never.start()), 'ERR_NETWORK_STOPPED');
    const running = await peers.started('b');
    await Promise.all([running.stop(), running.stop()]);
    assert.is(await codeOf(running.publish('votes', new Uint8Array(1))), 'ERR_NETWORK_STOPPED');
    assert.equal(running.peers(), []);
  }),
);

test.run();
