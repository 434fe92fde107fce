/** Places for requests, and bytes of answers, under peers that hold them for nothing. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ProtocolLimits } from '../../node/network/interface.ts';
import { framed, silentStreams, unreadRequests } from './attackers.ts';
import { codeOf, until, withPeers } from './local-peers.ts';

const MIB = 1024 * 1024;

/** As the blob protocol has them. */
const LIMITS: ProtocolLimits = {
  maxRequestBytes: 64,
  maxResponseBytes: MIB + 8 * 1024,
  timeoutMs: 30_000,
  requestsPerSecond: 1_000,
  burst: 2_000,
  maxConcurrentPerPeer: 16,
  maxConcurrent: 64,
};

test(
  '64 silent streams of four identities keep nobody else from being served',
  withPeers(async (peers) => {
    const server = await peers.started('server', { maxPeers: 100 });
    await server.handle('echo', LIMITS, async (request) => request);
    const address = server.multiaddrs()[0]!;
    for (let index = 0; index < 4; index++)
      await silentStreams(await peers.rawPeer(`silent ${index}`), address, 'echo', 16);
    const client = await peers.started('client', { bootstrap: server.multiaddrs() });
    for (let round = 0; round < 5; round++)
      assert.is(await codeOf(client.request(server.peerId, 'echo', Uint8Array.of(1), { limits: LIMITS })), 'resolved');
  }),
);

test(
  'answers that nobody reads are bounded in all, and leave room for those who read',
  withPeers(async (peers) => {
    const server = await peers.started('server', { maxPeers: 100 });
    let answers = 0;
    await server.handle('chunk', LIMITS, async () => {
      answers += 1;
      return new Uint8Array(MIB);
    });
    const address = server.multiaddrs()[0]!;
    for (let index = 0; index < 8; index++)
      await unreadRequests(await peers.rawPeer(`greedy ${index}`), address, 'chunk', Uint8Array.of(1), 32);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    assert.ok(answers <= 48, `${answers} answers of a mebibyte were made for peers that read none`);
    const client = await peers.started('client', { bootstrap: server.multiaddrs() });
    await until(() => client.peers().length > 0, 'connected');
    for (let round = 0; round < 5; round++) {
      const answer = await client.request(server.peerId, 'chunk', Uint8Array.of(1), { limits: LIMITS });
      assert.is(answer.length, MIB);
    }
  }),
);

test(
  'a few strangers that take their answers slowly do not close a protocol with few places',
  withPeers(async (peers) => {
    // As block sync has them: six of the eight places are for strangers.
    const limits: ProtocolLimits = {
      maxRequestBytes: 16,
      maxResponseBytes: 1_600_000,
      timeoutMs: 10_000,
      requestsPerSecond: 20,
      burst: 20,
      maxConcurrentPerPeer: 2,
      maxConcurrent: 8,
    };
    const server = await peers.started('server', { maxPeers: 100 });
    let answers = 0;
    await server.handle('blocks', limits, async () => {
      answers += 1;
      return new Uint8Array(1_500_000);
    });
    const client = await peers.started('client', { bootstrap: server.multiaddrs() });
    await until(() => client.peers().length > 0, 'connected');
    const raws = [];
    for (let index = 0; index < 12; index++) raws.push(await peers.rawPeer(`slow ${index}`));
    const address = server.multiaddrs()[0]!;
    await Promise.all(raws.map((raw) => unreadRequests(raw, address, 'blocks', Uint8Array.of(1), 1)));
    await until(() => answers >= 6, 'the places are taken');
    // At once: an answer that stands still for seconds gives way anyway.
    for (let round = 0; round < 3; round++)
      assert.is(await codeOf(client.request(server.peerId, 'blocks', Uint8Array.of(1), { limits })), 'resolved');
    assert.ok(server.status().answerBytesHeld <= 36 * MIB);
  }),
);

test(
  'any number of strangers together ask as often as sixteen peers; known peers are not among them',
  withPeers(async (peers) => {
    const server = await peers.started('server', { maxPeers: 100 });
    const limits = { ...LIMITS, requestsPerSecond: 0.001, burst: 2 };
    let served = 0;
    await server.handle('rare', limits, async (request) => {
      served += 1;
      return request;
    });
    const address = server.multiaddrs()[0]!;
    for (let index = 0; index < 24; index++) {
      const raw = await peers.rawPeer(`stranger ${index}`);
      const streams = await silentStreams(raw, address, 'rare', 2);
      for (const stream of streams) stream.send(framed(Uint8Array.of(1)));
    }
    const refused = () => server.status().protocols.get('rare')!.refused;
    await until(() => served + refused() === 48, 'all are answered');
    assert.is(served, 32);
    const client = await peers.started('client', { bootstrap: server.multiaddrs() });
    const ask = () => codeOf(client.request(server.peerId, 'rare', Uint8Array.of(1), { limits }));
    assert.is(await ask(), 'ERR_RATE_LIMITED');
    server.standings.setRecords([client.peerId]);
    assert.is(await ask(), 'resolved');
  }),
);

test.run();
