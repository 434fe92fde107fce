// time-limit: 240 s
/** What peers make a node hold by sending and not ending, or not reading. */
import type { Stream } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { GOSSIP_BYTES } from '../../node/network/gossip-streams.ts';
import { libp2pProtocolPrefix } from '../../node/network/names.ts';
import { MAX_RPC_BYTES } from '../../node/network/settings.ts';
import { HostileGossipPeer } from './hostile/gossip-peer.ts';
import { type Cleanup, NETWORK, until, withPeers } from './local-peers.ts';

const MIB = 1024 * 1024;

/** The head of an RPC of 2,000,000 bytes, and all of it but the end. */
const HALF = Buffer.concat([Uint8Array.of(0x80, 0x89, 0x7a), new Uint8Array(1_999_000)]);

async function attacker(peers: Cleanup, name: string, address: string): Promise<HostileGossipPeer> {
  const peer = await HostileGossipPeer.start(NETWORK, name);
  peers.add(() => peer.stop());
  await peer.connect(address);
  return peer;
}

test(
  'RPCs that do not end: one of each peer is held, and so much over all strangers',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    ours.subscribe('votes', () => {});
    const address = ours.multiaddrs()[0]!;
    const first = await attacker(peers, 'one', address);
    void first.sendBytes(HALF);
    await until(() => ours.status().gossipBytesHeld.now >= 1_999_000, 'the half is here');
    // Another stream takes the place of the first, and with it what was held of it.
    await first.openStream();
    await until(() => ours.status().gossipBytesHeld.now === 0, 'nothing of the first stream is held');
    void first.sendBytes(HALF);
    for (let index = 0; index < 11; index++) {
      const peer = await attacker(peers, `half ${index}`, address);
      void peer.sendBytes(HALF);
      await until(() => ours.status().gossipBytesHeld.now >= Math.min(index, 6) * 2 * MIB, 'halves arrive');
    }
    await until(() => ours.status().gossipBytesHeld.now >= 8 * MIB, 'the halves are here');
    const { most } = ours.status().gossipBytesHeld;
    assert.ok(most > GOSSIP_BYTES.strangers / 2 && most <= GOSSIP_BYTES.strangers, `${most} bytes`);
  }),
);

test(
  'who sends more than its pace fills its connection, not our memory',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const flooder = await attacker(peers, 'flooder', ours.multiaddrs()[0]!);
    // RPCs of one unknown field, of 100 kB each: 40 MB.
    const frame = Buffer.concat([Uint8Array.of(0x7a, 0x9c, 0x8d, 0x06), new Uint8Array(99_996)]);
    let sent = 0;
    let stopped = false;
    const flooding = (async () => {
      for (; sent < 400 && !stopped; sent++) if (!(await flooder.sendFrame(frame))) return;
    })();
    await until(() => ours.status().gossipIntake.paused > 2, 'it is made to wait', 30_000);
    assert.ok(sent < 400, 'not all of it is taken');
    const { most } = ours.status().gossipBytesHeld;
    // Buffers double as they grow.
    assert.ok(most > 0 && most <= 2 * MAX_RPC_BYTES, `${most} bytes`);
    stopped = true;
    await flooder.disconnect();
    await flooding;
  }),
);

test(
  'a stream of a small protocol brings no more than that needs',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const raw = await peers.rawPeer('raw');
    const connection = await raw.dial(multiaddr(ours.multiaddrs()[0]!));
    const prefix = libp2pProtocolPrefix(NETWORK);
    for (const protocol of ['ping/1.0.0', 'id/1.0.0']) {
      const stream = await connection.newStream(`/${prefix}/${protocol}`);
      const closed = new Promise<Stream['status']>((resolve) => {
        stream.addEventListener('close', () => resolve(stream.status));
      });
      // What comes back is not read.
      stream.pause();
      for (let index = 0; index < 3; index++) if (stream.writeStatus === 'writable') stream.send(new Uint8Array(8_000));
      assert.is(await closed, 'reset', protocol);
    }
  }),
);

test.run();
