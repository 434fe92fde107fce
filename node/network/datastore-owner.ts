/**
 * What the bounds of the datastore have to know about peers: which keys are our own, who counts, who is here.
 */
import type { Connection, PeerId } from '@libp2p/interface';
import { peerIdFromCID, peerIdFromString } from '@libp2p/peer-id';
import { CID } from 'multiformats/cid';
import { addressGroup } from './address-group.ts';
import type { DatastoreOwner } from './bounded-datastore.ts';
import type { PeerIdText } from './interface.ts';
import type { Log } from './log.ts';
import type { PeerStandings } from './peer-standings.ts';

/** What is looked at; `connections`, those to a peer, only once libp2p runs. */
export interface DatastoreOwnerParts {
  readonly self: PeerId;
  readonly standings: PeerStandings;
  readonly privateNetwork: boolean;
  readonly connections: (peer: PeerId) => readonly Connection[];
  readonly log: Log;
}

/** Makes it. */
export function datastoreOwner(parts: DatastoreOwnerParts): DatastoreOwner {
  const { self, standings, privateNetwork, connections, log } = parts;
  const own = [`/${self.toString()}`, `/peers/${self.toCID().toString()}`];
  return {
    isOwn: (key) => own.some((suffix) => key.endsWith(suffix)),
    ownDropped: (key) => log.warn({ key }, 'this peer announces too much: its oldest provider record is dropped'),
    origin: (peer) => {
      const known = standings.isKnown(peer as PeerIdText);
      // A record is taken from its provider only, so that there is a connection.
      const connection = known ? undefined : connections(peerIdFromString(peer))[0];
      const address = connection === undefined ? undefined : addressGroup(connection.remoteAddr, privateNetwork);
      return { known, address };
    },
    describePeer: (name) => {
      const id = peerIdFromCID(CID.parse(name));
      const peer = id.toString() as PeerIdText;
      return { peer, keep: standings.isKnown(peer) || connections(id).length > 0 };
    },
  };
}
