import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerIdText, ProtocolLimits } from '../../node/network/interface.ts';
import { protocolId } from '../../node/network/names.ts';
import type { Network } from '../../node/network/network.ts';
import { type Cleanup, codeOf, NETWORK, until, withPeers } from './local-peers.ts';

const LIMITS: ProtocolLimits = { maxRequestBytes: 1000, maxResponseBytes: 2 ** 20, timeoutMs: 3_000 };

async function pair(peers: Cleanup): Promise<[client: Network, server: Network]> {
  const server = await peers.started('server');
  const client = await peers.started('client', { bootstrap: server.multiaddrs() });
  await until(() => client.peers().length === 1 && server.peers().length === 1, 'two connected');
  return [client, server];
}

test(
  'answers come back whole, from none to a mebibyte, many at once, with the requester known',
  withPeers(async (peers) => {
    const [client, server] = await pair(peers);
    const from = new Set<string>();
    await server.handle('repeat', LIMITS, async (request, peer) => {
      from.add(peer);
      const length = new DataView(request.buffer, request.byteOffset).getUint32(0);
      return new Uint8Array(length).fill(request[4]!);
    });
    await Promise.all(
      [0, 1, 2, 255, 256, 65_535, 65_536, 262_144, 262_145, 2 ** 20].map(async (length, index) => {
        const request = new Uint8Array(5);
        new DataView(request.buffer).setUint32(0, length);
        request[4] = index;
        const answer = await client.request(server.peerId, 'repeat', request, { limits: LIMITS });
        assert.is(answer.length, length);
        assert.ok(answer.every((byte) => byte === index));
      }),
    );
    assert.equal([...from], [client.peerId]);
  }),
);

test(
  'every failure has its code, and the server goes on',
  withPeers(async (peers) => {
    const [client, server] = await pair(peers);
    const never = new Promise<Uint8Array>(() => {});
    await server.handle('throws', LIMITS, async () => {
      throw new Error('secret reason');
    });
    await server.handle('throws-early', LIMITS, () => {
      throw new Error('before any promise');
    });
    await server.handle('hangs', LIMITS, () => never);
    await server.handle('slow-server', { ...LIMITS, timeoutMs: 100 }, () => never);
    await server.handle('too-much', LIMITS, async () => new Uint8Array(LIMITS.maxResponseBytes + 1));
    await server.handle('small', { ...LIMITS, maxRequestBytes: 10 }, async () => new Uint8Array(500));
    const ask = (name: string, bytes: number, limits: Partial<ProtocolLimits> = {}, signal?: AbortSignal) =>
      codeOf(
        client.request(server.peerId, name, new Uint8Array(bytes), {
          limits: { ...LIMITS, ...limits },
          ...(signal === undefined ? {} : { signal }),
        }),
      );
    assert.is(await ask('throws', 1), 'ERR_REMOTE_FAILURE');
    assert.is(await ask('throws-early', 1), 'ERR_REMOTE_FAILURE');
    assert.is(await ask('too-much', 1), 'ERR_REMOTE_FAILURE');
    assert.is(await ask('slow-server', 1), 'ERR_REMOTE_FAILURE');
    assert.is(await ask('small', 1001), 'ERR_MESSAGE_TOO_LARGE', 'refused before it is sent');
    assert.is(await ask('small', 11), 'ERR_MESSAGE_TOO_LARGE', 'refused by the server');
    assert.is(await ask('small', 10, { maxResponseBytes: 499 }), 'ERR_MESSAGE_TOO_LARGE', 'answer over our limit');
    assert.is(await ask('nobody-serves', 1), 'ERR_UNSUPPORTED_PROTOCOL');
    assert.is(await ask('hangs', 1, { timeoutMs: 100 }), 'ERR_REQUEST_TIMEOUT');
    assert.is(await ask('hangs', 1, {}, AbortSignal.timeout(50)), 'ERR_REQUEST_ABORTED');
    assert.is(await ask('hangs', 1, {}, AbortSignal.abort()), 'ERR_REQUEST_ABORTED');
    assert.is(await ask('small', 10), 'resolved');
    const options = { limits: LIMITS };
    assert.is(
      await codeOf(client.request('nonsense' as PeerIdText, 'small', new Uint8Array(1), options)),
      'ERR_INVALID_PEER',
    );
    const stranger = await peers.peer('stranger');
    assert.is(await codeOf(client.request(stranger.peerId, 'small', new Uint8Array(1), options)), 'ERR_NO_CONNECTION');
    const pending = ask('hangs', 1);
    await until(() => (server.status().protocols.get('hangs')?.requested ?? 0) >= 0, 'sent');
    await server.stop();
    assert.ok(['ERR_STREAM_CLOSED', 'ERR_NO_CONNECTION'].includes(await pending));
    await client.stop();
    assert.is(await ask('small', 1), 'ERR_NETWORK_STOPPED');
  }),
);

test(
  'a request connects by itself to a peer whose address is known',
  withPeers(async (peers) => {
    const [client, server] = await pair(peers);
    await server.handle('ping', LIMITS, async () => new Uint8Array(1));
    await client.disconnect(server.peerId);
    assert.is((await client.request(server.peerId, 'ping', new Uint8Array(1), { limits: LIMITS })).length, 1);
  }),
);

test(
  'a peer that asks too often or too much at once is told so',
  withPeers(async (peers) => {
    const [client, server] = await pair(peers);
    await server.handle('rare', { ...LIMITS, burst: 3, requestsPerSecond: 0.001 }, async () => new Uint8Array(1));
    const ask = (name: string) => codeOf(client.request(server.peerId, name, new Uint8Array(1), { limits: LIMITS }));
    const codes: string[] = [];
    for (let index = 0; index < 5; index++) codes.push(await ask('rare'));
    assert.equal(codes, ['resolved', 'resolved', 'resolved', 'ERR_RATE_LIMITED', 'ERR_RATE_LIMITED']);

    const open = Promise.withResolvers<void>();
    let running = 0;
    await server.handle('narrow', { ...LIMITS, maxConcurrentPerPeer: 2 }, async () => {
      running += 1;
      await open.promise;
      return new Uint8Array(1);
    });
    const first = [ask('narrow'), ask('narrow')];
    await until(() => running === 2, 'two are running');
    assert.is(await ask('narrow'), 'ERR_RATE_LIMITED');
    open.resolve();
    assert.equal(await Promise.all(first), ['resolved', 'resolved']);
    await until(async () => (await ask('narrow')) === 'resolved', 'the slots are free again');
  }),
);

test(
  'garbage, half requests and endless requests on the raw stream harm nobody',
  withPeers(async (peers) => {
    const server = await peers.started('server');
    let served = 0;
    const limits = { ...LIMITS, timeoutMs: 300, maxConcurrentPerPeer: 4 };
    await server.handle('echo', limits, async (request) => {
      served += 1;
      return request;
    });
    const raw = await peers.rawPeer('raw');
    const open = () => raw.dialProtocol(multiaddr(server.multiaddrs()[0]!), protocolId(NETWORK, 'echo'));

    /** Sends bytes, closes if asked to, and returns what came back until the stream ended. */
    const talk = async (bytes: Uint8Array, close: boolean): Promise<number[]> => {
      const stream = await open();
      const got: number[] = [];
      stream.addEventListener('message', (event) => got.push(...event.data.subarray()));
      stream.send(bytes);
      if (close) await stream.close().catch(() => {});
      await until(
        () => stream.status !== 'open' || stream.remoteWriteStatus === 'closed',
        'the server ends the stream',
      );
      stream.abort(new Error('done'));
      return got;
    };
    assert.equal(await talk(Uint8Array.of(0, 0, 0, 2, 7, 8), true), [0, 0, 0, 0, 2, 7, 8], 'the format, byte by byte');
    assert.equal(await talk(Uint8Array.of(0, 0, 0, 0), true), [0, 0, 0, 0, 0], 'an empty request');
    assert.is(served, 2);
    assert.equal(
      await talk(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1), true),
      [3, 0, 0, 0, 0],
      'four gigabytes announced',
    );
    assert.equal(await talk(Uint8Array.of(0, 0, 3, 0xe9), false), [3, 0, 0, 0, 0], 'one byte over the limit');
    assert.equal(await talk(Uint8Array.of(0, 0, 0, 1, 7, 8), true), [4, 0, 0, 0, 0], 'a byte too many');
    assert.equal(await talk(Uint8Array.of(0, 0), true), [], 'half a length, then the end');
    assert.equal(await talk(Uint8Array.of(0, 0, 0, 9, 1), true), [], 'half a request, then the end');
    assert.equal(await talk(Uint8Array.of(0, 0, 0, 9, 1), false), [], 'half a request, then silence');
    for (let round = 0; round < 20; round++) {
      await talk(crypto.getRandomValues(new Uint8Array(1 + round * 50)), round % 2 === 0);
    }
    assert.is(served, 2, 'no handler saw any of it');
    // Streams that never say anything hold a slot until the time limit, and no longer.
    const silent = await Promise.all(Array.from({ length: 4 }, open));
    await until(() => silent.every((stream) => stream.status !== 'open'), 'silent streams are ended');
    assert.equal(await talk(Uint8Array.of(0, 0, 0, 1, 5), true), [0, 0, 0, 0, 1, 5], 'still serving');
  }),
);

test(
  'answers that break the protocol are typed errors',
  withPeers(async (peers) => {
    const client = await peers.started('client');
    const raw = await peers.rawPeer('raw');
    await client.connect(raw.getMultiaddrs()[0]!.toString());
    const peer = raw.peerId.toString() as PeerIdText;
    const answers: Record<string, { send: number[]; end: 'close' | 'abort' | 'nothing'; code: string }> = {
      good: { send: [0, 0, 0, 0, 1, 9], end: 'close', code: 'resolved' },
      unclosed: { send: [0, 0, 0, 0, 1, 9], end: 'nothing', code: 'resolved' },
      status: { send: [77, 0, 0, 0, 0], end: 'close', code: 'ERR_MALFORMED_MESSAGE' },
      long: { send: [0, 0, 0, 0, 1, 9, 9], end: 'close', code: 'ERR_MALFORMED_MESSAGE' },
      huge: { send: [0, 0xff, 0xff, 0xff, 0xff], end: 'nothing', code: 'ERR_MESSAGE_TOO_LARGE' },
      short: { send: [0, 0, 0, 0, 9, 1], end: 'close', code: 'ERR_STREAM_CLOSED' },
      empty: { send: [], end: 'close', code: 'ERR_STREAM_CLOSED' },
      reset: { send: [0, 0, 0], end: 'abort', code: 'ERR_STREAM_CLOSED' },
      silent: { send: [], end: 'nothing', code: 'ERR_REQUEST_TIMEOUT' },
    };
    for (const [name, { send, end }] of Object.entries(answers)) {
      await raw.handle(protocolId(NETWORK, name), async (stream) => {
        stream.addEventListener('message', () => {});
        if (send.length > 0) stream.send(Uint8Array.from(send));
        if (end === 'close') await stream.close();
        if (end === 'abort') stream.abort(new Error('on purpose'));
      });
    }
    for (const [name, { code }] of Object.entries(answers)) {
      const limits = { ...LIMITS, timeoutMs: name === 'silent' ? 200 : 3_000 };
      assert.is(await codeOf(client.request(peer, name, new Uint8Array(3), { limits })), code, name);
    }
  }),
);

test.run();
