/** What strangers can ask of the DHT. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { guardDht } from '../../node/network/dht-guard.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { DHT, dhtMessage, dhtStream } from './attackers.ts';
import { codeOf, seedOf, withPeers } from './local-peers.ts';

test(
  'one stream brings a few messages, not five thousand',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const raw = await peers.rawPeer('raw');
    const address = ours.multiaddrs()[0]!;
    const ping = dhtMessage(DHT.ping, seedOf('key'));
    const one = await dhtStream(raw, address, ping, 500);
    assert.ok(one.length > 0, 'one is answered');
    const flood = Buffer.concat(Array.from({ length: 5_000 }, () => ping));
    const answers = await dhtStream(raw, address, flood, 5_000);
    assert.ok(answers.length < one.length * 400, `${Math.round(answers.length / one.length)} answers`);
    assert.ok((await dhtStream(raw, address, ping, 500)).length > 0, 'and then it is served again');
  }),
);

test(
  'values are neither stored nor given',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const raw = await peers.rawPeer('raw');
    const key = Buffer.concat([Buffer.from('/pk/'), raw.peerId.toMultihash().bytes]);
    assert.is((await dhtStream(raw, ours.multiaddrs()[0]!, dhtMessage(DHT.getValue, key), 500)).length, 0);
  }),
);

test('messages over a rate wait, and are refused when they would wait for long; nothing but one own provider', async () => {
  const handled: string[] = [];
  const dht = {
    rpc: {
      handleMessage: async (peer: string) => handled.push(peer),
      onIncomingStream: async () => {},
    },
  };
  guardDht(dht, (peer) => ({ peer: String(peer) as PeerIdText, address: undefined, known: String(peer) === 'v' }));
  const send = (peer: string, message: object = { type: 'FIND_NODE' }) =>
    codeOf((dht.rpc.handleMessage as (peer: string, message: object) => Promise<unknown>)(peer, message));
  const codes = await Promise.all(Array.from({ length: 6_000 }, () => send('flood')));
  assert.ok(handled.length >= 4_096 && handled.length < 5_500, `${handled.length} handled`);
  assert.ok(codes.includes('ERR_DHT_MESSAGE_REFUSED'));
  assert.is(await send('v'), 'resolved');
  const provider = { multiaddrs: [new Uint8Array(8)] };
  assert.is(await send('a', { type: 'ADD_PROVIDER', providers: [provider] }), 'resolved');
  assert.is(await send('a', { type: 'ADD_PROVIDER', providers: [provider, provider] }), 'ERR_DHT_MESSAGE_REFUSED');
  assert.is(await send('a', { type: 'PUT_VALUE' }), 'ERR_DHT_MESSAGE_REFUSED');
  assert.is(await send('a', { type: 'FIND_NODE', key: new Uint8Array(500) }), 'ERR_DHT_MESSAGE_REFUSED');
  assert.throws(() => guardDht({}, () => assert.unreachable() as never));
});

test.run();
