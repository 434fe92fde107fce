/** What gossipsub leaves broken for good, and the network mends. */
import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerIdText } from '../../node/network/interface.ts';
import { topicName } from '../../node/network/names.ts';
import { NETWORK, until, withPeers } from './local-peers.ts';

const topic = topicName(NETWORK, 'votes');

/** What the tests reach into to break things. */
interface Insides {
  topics: Map<string, Set<string>>;
  streamsOutbound: Map<string, { rawStream: { abort(error: Error): void } }>;
}

test(
  'a peer that forgot our subscriptions is told again',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    const got: string[] = [];
    ours.subscribe('votes', (data) => {
      got.push(new TextDecoder().decode(data));
    });
    const raw = await peers.rawPeer('raw');
    await raw.dial(multiaddr(ours.multiaddrs()[0]!));
    const knows = () => raw.services.pubsub.getSubscribers(topic).length === 1;
    await until(knows, 'the subscription is known');
    (raw.services.pubsub as unknown as Insides).topics.clear();
    assert.not.ok(knows());
    await until(knows, 'known again', 8_000);
    await raw.services.pubsub.publish(topic, new TextEncoder().encode('vote'));
    await until(() => got.length === 1, 'messages arrive again');
  }),
);

test(
  'a peer whose gossip stream broke while the connection stands is connected anew',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    ours.subscribe('votes', () => {});
    const raw = await peers.rawPeer('raw');
    const peer = raw.peerId.toString() as PeerIdText;
    const events: string[] = [];
    ours.onPeer(({ type }) => events.push(type));
    await raw.dial(multiaddr(ours.multiaddrs()[0]!));
    const insides = raw.services.pubsub as unknown as Insides;
    await until(() => insides.streamsOutbound.has(ours.peerId), 'gossip runs');
    insides.streamsOutbound.get(ours.peerId)!.rawStream.abort(new Error('as a full queue would'));
    await until(() => events.includes('disconnected'), 'the deaf connection is ended', 20_000);
    await until(() => ours.peers().includes(peer), 'and made again', 10_000);
    await until(() => insides.streamsOutbound.has(ours.peerId), 'gossip runs again');
  }),
);

test.run();
