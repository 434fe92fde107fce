/** The door for inbound connections, and who is let go when there are too many. */
import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type ConnectedPeer,
  keptPeers,
  minOutbound,
  PROBATION_MS,
  probationPlaces,
  surplusPeers,
} from '../../node/network/connection-policy.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { silentSockets } from './attackers.ts';
import { until, withPeers } from './local-peers.ts';

const MINUTE = 60_000;
const LIMITS = { maxPeers: 16, minOutbound: minOutbound(11) };

function peer(name: string, override: Partial<ConnectedPeer> = {}): ConnectedPeer {
  const stranger = { direction: 'inbound', ageMs: MINUTE, standing: 'stranger', bootstrap: false, value: 0 } as const;
  return { peer: name as PeerIdText, ...stranger, ...override };
}

test('a flood of newcomers leaves all who are settled, and has its own oldest go for the next', () => {
  const settled = Array.from({ length: 16 }, (_, index) => peer(`settled ${index}`, { ageMs: 10 * MINUTE }));
  const newcomers = Array.from({ length: 20 }, (_, index) => peer(`new ${index}`, { ageMs: 20 - index }));
  const places = probationPlaces(16);
  const gone = surplusPeers([...settled, ...newcomers], LIMITS);
  assert.equal(
    gone,
    newcomers.slice(0, 20 - places).map(({ peer }) => peer),
  );
});

test('newcomers who stayed too long go before anyone else, the youngest first', () => {
  const old = Array.from({ length: 15 }, (_, index) => peer(`old ${index}`, { ageMs: 10 * MINUTE }));
  const young = [1, 2, 3].map((index) => peer(`young ${index}`, { ageMs: PROBATION_MS + index }));
  assert.equal(surplusPeers([...old, ...young], LIMITS), ['young 1', 'young 2']);
  assert.equal(surplusPeers([...old, ...young], LIMITS, 12).length, 6);
  const meshed = young.map((entry, index) => ({ ...entry, value: index === 0 ? 300 : 0 }));
  assert.equal(surplusPeers([...old, ...meshed], LIMITS), ['young 2', 'young 3'], 'a place in the mesh counts');
});

test('validators, peers with a record, the bootstrap and peers of our own choice are never let go', () => {
  const strangers = Array.from({ length: 40 }, (_, index) => peer(`s${index}`, { ageMs: 20 * MINUTE, value: 300 }));
  const fresh = { ageMs: 1 } as const;
  const counted = [
    peer('validator', { standing: 'validator', ...fresh }),
    peer('record', { standing: 'record', ...fresh }),
    peer('bootstrap', { bootstrap: true, direction: 'outbound', ...fresh }),
    peer('chosen 1', { direction: 'outbound', ageMs: MINUTE }),
    peer('chosen 2', { direction: 'outbound', ageMs: MINUTE }),
  ];
  const gone = surplusPeers([...strangers, ...counted], LIMITS);
  for (const { peer: name } of counted) assert.not.ok(gone.includes(name), name);
  assert.is(strangers.length + counted.length - gone.length, 16);
  const validators = Array.from({ length: 40 }, (_, index) => peer(`v${index}`, { standing: 'validator' }));
  assert.is(keptPeers(validators, LIMITS).size, 8, 'half of all');
});

test(
  'three hundred silent sockets keep nobody out',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const address = ours.multiaddrs()[0]!;
    const port = multiaddr(address)
      .getComponents()
      .find(({ name }) => name === 'tcp')?.value;
    const sockets = await silentSockets(Number(port), 300);
    peers.add(async () => {
      for (const socket of sockets) socket.destroy();
    });
    const client = await peers.started('client');
    const start = performance.now();
    await client.connect(address);
    await until(() => ours.peers().length === 1, 'connected');
    assert.ok(performance.now() - start < 3_000);
    await until(() => sockets.every((socket) => socket.destroyed), 'silent sockets are ended', 15_000);
  }),
);

test(
  'one identity has a few connections, not all',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const address = multiaddr(ours.multiaddrs()[0]!);
    const same = await Promise.all(Array.from({ length: 8 }, () => peers.rawPeer('raw')));
    for (const raw of same) await raw.dial(address).catch(() => {});
    assert.is(ours.peers().length, 1);
    assert.ok(ours.status().connections <= 3, `${ours.status().connections} connections of one peer`);
  }),
);

test.run();
