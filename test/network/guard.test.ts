/** What a peer does to a connection below any protocol. */
import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ProtocolLimits } from '../../node/network/interface.ts';
import { topicName } from '../../node/network/names.ts';
import { pingFlood, rapidResets, unreadRequests } from './attackers.ts';
import { NETWORK, until, withPeers } from './local-peers.ts';

const MIB = 1024 * 1024;

test(
  'a flood of pings costs the connection, and its sender is not let in again',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const raw = await peers.rawPeer('raw');
    const address = multiaddr(ours.multiaddrs()[0]!);
    const connection = await raw.dial(address);
    pingFlood(connection, 5);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.is(connection.status, 'open', 'a few are fine');
    pingFlood(connection, 20_000);
    await until(() => connection.status !== 'open', 'the connection is ended', 5_000);
    await raw.dial(address).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.is(ours.peers().length, 0);
  }),
);

test(
  'streams that are opened and reset at once cost the connection',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const raw = await peers.rawPeer('raw');
    const connection = await raw.dial(multiaddr(ours.multiaddrs()[0]!));
    await rapidResets(connection, 5_000);
    await until(() => connection.status !== 'open', 'the connection is ended', 5_000);
  }),
);

test(
  'a peer that reads nothing loses its connection, and nothing is held for it',
  withPeers(async (peers) => {
    const limits: ProtocolLimits = { maxRequestBytes: 8, maxResponseBytes: MIB, timeoutMs: 60_000 };
    const ours = await peers.started('ours');
    await ours.handle('chunk', limits, async () => new Uint8Array(MIB));
    ours.subscribe('votes', () => {});
    const gone: string[] = [];
    ours.onPeer(({ type, peer }) => {
      if (type === 'disconnected') gone.push(peer);
    });
    const raws = [await peers.rawPeer('raw'), await peers.rawPeer('another')];
    // In gossip first: who is not is disconnected for that.
    for (const raw of raws) {
      raw.services.pubsub.subscribe(topicName(NETWORK, 'votes'));
      await raw.dial(multiaddr(ours.multiaddrs()[0]!));
    }
    await until(() => ours.subscribers('votes').length === 2, 'both are in gossip');
    // More than the kernel's buffers of both ends take, which is some ten mebibytes.
    for (const raw of raws) await unreadRequests(raw, ours.multiaddrs()[0]!, 'chunk', Uint8Array.of(1), 16);
    await until(() => ours.status().answerBytesHeld > MIB, 'answers are held');
    await until(() => gone.length > 0, 'a connection is ended', 18_000);
    await until(() => ours.status().answerBytesHeld === 0, 'nothing is held', 18_000);
  }),
);

test.run();
