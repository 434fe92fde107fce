/** A full node under a flood of fresh identities: who counts gets in, and who is there stays. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerIdText } from '../../node/network/interface.ts';
import { connectionFlood } from './attackers.ts';
import { type Cleanup, freePort, until, withPeers } from './local-peers.ts';

const SECONDS = 1_000;

async function flood(peers: Cleanup, address: string): Promise<void> {
  peers.add(await connectionFlood(address, 64));
}

/** Holds for so long. */
async function stays(condition: () => boolean, what: string, ms: number): Promise<void> {
  const start = performance.now();
  while (performance.now() - start < ms) {
    assert.ok(condition(), `${what}, after ${(performance.now() - start).toFixed(0)} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test(
  'a validator connects to a full node under 64 fresh strangers, and stays',
  withPeers(async (peers) => {
    const ours = await peers.started('ours', { maxPeers: 16, listen: ['/ip4/127.0.0.1/tcp/0'] });
    const validator = await peers.peer('validator', { bootstrap: ours.multiaddrs() });
    ours.standings.setValidators([validator.peerId]);
    await flood(peers, ours.multiaddrs()[0]!);
    await until(() => ours.peers().length >= 12, 'the node is full', 20 * SECONDS);
    await validator.start();
    await until(() => ours.peers().includes(validator.peerId), 'the validator is in', 10 * SECONDS);
    await stays(() => ours.peers().includes(validator.peerId), 'the validator stays', 12 * SECONDS);
  }),
);

test(
  'a node that is full of strangers still finds peers of its own choice, and they stay',
  withPeers(async (peers) => {
    const listen = [`/ip4/127.0.0.1/tcp/${await freePort()}`];
    const bootstrap = await peers.peer('bootstrap', { listen });
    const ours = await peers.started('ours', { maxPeers: 16, bootstrap: [`${listen[0]}/p2p/${bootstrap.peerId}`] });
    await flood(peers, ours.multiaddrs()[0]!);
    await until(() => ours.peers().length >= 12, 'the node is full', 20 * SECONDS);
    await bootstrap.start();
    const others = await Promise.all(
      ['a', 'b', 'c'].map((name) => peers.started(name, { bootstrap: bootstrap.multiaddrs() })),
    );
    const mine: PeerIdText[] = [bootstrap, ...others].map(({ peerId }) => peerId);
    const all = () => mine.every((peer) => ours.peers().includes(peer));
    await until(all, 'connected to all four honest peers', 30 * SECONDS);
    await stays(all, 'all four stay', 12 * SECONDS);
  }),
);

test.run();
