import { createPeerScoreParams, PeerScore } from '@libp2p/gossipsub/score';
import type { MultiaddrConnection } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AddressGroup } from '../../node/network/address-group.ts';
import { BanList } from '../../node/network/ban-list.ts';
import { InboundGate } from '../../node/network/inbound-gate.ts';
import { quietLibp2pLogger } from '../../node/network/log.ts';
import { PeerStandings } from '../../node/network/peer-standings.ts';
import { GRAYLIST_THRESHOLD, gossipSettings, PUBLIC_TIMINGS } from '../../node/network/settings.ts';
import { NETWORK } from './local-peers.ts';

const PEERS = [
  '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA',
  '12D3KooWCFbYpWCAf4YSpTsqJZgnSTrDv1bMTmAB7UxVMEDQ8dsr',
] as const;

/** A connection that somebody opens to us. */
function from(address: string): MultiaddrConnection {
  return { remoteAddr: multiaddr(address), addEventListener: () => {} } as unknown as MultiaddrConnection;
}

test('nobody is cut off, or left out of gossip, for the number of peers behind the same address', () => {
  const { scoreParams } = gossipSettings(NETWORK, PUBLIC_TIMINGS.seenTtlMs);
  const score = new PeerScore(createPeerScoreParams(scoreParams), null, quietLibp2pLogger(), {
    scoreCacheValidityMs: 0,
  });
  // As many as the door lets in of one address where there are 64 places.
  const peers = Array.from({ length: 16 }, (_, index) => `peer ${index}`);
  for (const peer of peers) {
    score.addPeer(peer);
    score.addIP(peer, '192.0.2.1');
  }
  assert.ok(score.score('peer 0') > GRAYLIST_THRESHOLD, `a score of ${score.score('peer 0')}`);
  assert.ok(score.score('peer 0') >= 0);
});

test('the door: a banned peer is neither let in nor dialled, and an address that keeps sending such peers is shut out', () => {
  let now = 0;
  const bans = new BanList(() => now);
  const gate = new InboundGate({ standings: new PeerStandings(), bans, privateNetwork: false, maxPeers: 10 });
  const [bad, good] = PEERS.map((text) => peerIdFromString(text));
  const [here, elsewhere] = ['/ip4/192.0.2.1/tcp/1000', '/ip4/192.0.2.2/tcp/1000'].map(from);
  bans.ban(PEERS[0], '192.0.2.1' as AddressGroup);
  assert.ok(gate.denyDialPeer(bad!));
  assert.not(gate.denyDialPeer(good!));
  assert.ok(gate.denyInboundEncryptedConnection(bad!, elsewhere!), 'wherever it comes from');
  assert.not(gate.denyInboundEncryptedConnection(good!, here!));
  assert.not(gate.denyInboundConnection(here!));
  for (const peer of ['b', 'c', 'd']) bans.ban(peer, '192.0.2.1' as AddressGroup);
  assert.ok(gate.denyInboundConnection(here!), 'before any handshake');
  assert.not(gate.denyInboundConnection(elsewhere!));
  now = 60_001;
  assert.not(gate.denyInboundConnection(here!));
  assert.not(gate.denyInboundEncryptedConnection(bad!, here!));
});

test.run();
