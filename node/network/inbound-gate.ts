/**
 * The door for connections that others open. libp2p counts those that are not through their handshake, and refuses more
 * when there are so many: a few silent sockets keep everybody out. Here one that keeps us waiting makes room instead.
 */
import type { Connection, ConnectionGater, MultiaddrConnection, PeerId } from '@libp2p/interface';
import { type AddressGroup, addressGroup } from './address-group.ts';
import type { BanList } from './ban-list.ts';
import type { PeerIdText } from './interface.ts';
import type { PeerStandings } from './peer-standings.ts';

/** Handshakes under way at a time, in all and from one address; each holds a socket and a few KiB. */
const MAX_PENDING = 256;
const MAX_PENDING_PER_ADDRESS = 16;

/** Connections of one peer: two when both sides dial at once, and one that is just being replaced. */
const MAX_CONNECTIONS_PER_PEER = 3;

/** Part of all peers that strangers of one address may be. */
const ADDRESS_PART = 1 / 4;

interface Pending {
  readonly address: AddressGroup | undefined;
  readonly connection: MultiaddrConnection;
}

/** What the door looks at. */
export interface InboundGateOptions {
  readonly standings: PeerStandings;
  /** Who was cut off for what it did. */
  readonly bans: BanList;
  readonly privateNetwork: boolean;
  readonly maxPeers: number;
}

/** libp2p `ConnectionGater`. */
export class InboundGate implements ConnectionGater {
  readonly #options: InboundGateOptions;
  /** In order of arrival. */
  readonly #pending = new Map<MultiaddrConnection, Pending>();
  #connections: () => readonly Connection[] = () => [];

  constructor(options: InboundGateOptions) {
    this.#options = options;
  }

  /** Handshakes under way. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Tells where to look for the connections that there are. */
  attach(connections: () => readonly Connection[]): void {
    this.#connections = connections;
  }

  /** Nor do we dial whom we would not let in. */
  denyDialPeer = (peer: PeerId): boolean => this.#options.bans.has(peer.toString());

  /** Refuses an address that is banned; where there are too many, the oldest of the same address or of all is ended. */
  denyInboundConnection = (connection: MultiaddrConnection): boolean => {
    const address = addressGroup(connection.remoteAddr, this.#options.privateNetwork);
    if (address !== undefined && this.#options.bans.hasAddress(address)) return true;
    const same = address === undefined ? [] : [...this.#pending.values()].filter((other) => other.address === address);
    if (same.length >= MAX_PENDING_PER_ADDRESS) this.#end(same[0]);
    else if (this.#pending.size >= MAX_PENDING) this.#end(this.#pending.values().next().value);
    this.#pending.set(connection, { address, connection });
    connection.addEventListener('close', () => this.#pending.delete(connection), { once: true });
    return false;
  };

  /** Refuses a peer that is banned or here already, and a stranger whose address has its share. */
  denyInboundEncryptedConnection = (peerId: PeerId, connection: MultiaddrConnection): boolean => {
    const { standings, bans, privateNetwork, maxPeers } = this.#options;
    const peer = peerId.toString() as PeerIdText;
    if (bans.has(peer)) return true;
    const open = this.#connections();
    if (open.filter((other) => other.remotePeer.equals(peerId)).length >= MAX_CONNECTIONS_PER_PEER) return true;
    const address = addressGroup(connection.remoteAddr, privateNetwork);
    if (address === undefined || standings.isKnown(peer)) return false;
    const neighbours = new Set<string>();
    for (const { remotePeer, remoteAddr, direction } of open) {
      const other = remotePeer.toString() as PeerIdText;
      if (direction !== 'inbound' || other === peer || standings.isKnown(other)) continue;
      if (addressGroup(remoteAddr, privateNetwork) === address) neighbours.add(other);
    }
    return neighbours.size >= Math.ceil(maxPeers * ADDRESS_PART);
  };

  /** The handshake is over. */
  denyInboundUpgradedConnection = (_peerId: PeerId, connection: MultiaddrConnection): boolean => {
    this.#pending.delete(connection);
    return false;
  };

  #end(pending: Pending | undefined): void {
    if (pending === undefined) return;
    this.#pending.delete(pending.connection);
    pending.connection.abort(new Error('others wait for their handshake'));
  }
}
