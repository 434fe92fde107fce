/**
 * Which peers a node lets go when it has too many. Pure: what is decided from is handed in.
 *
 * Identities are free, so newcomers in any number must not push out those who are there, nor keep out those who count. So
 * some are never let go (validators, peers with a record, the bootstrap, the oldest connections that this node opened
 * itself and the oldest that others opened), of the rest the youngest go first, and there are a few places above the limit
 * where whoever comes may stay for some seconds: enough to ask the DHT for other peers, or to show that it is a validator.
 */
import type { PeerIdText } from './interface.ts';
import type { Standing } from './peer-standings.ts';

/** A connected peer. */
export interface ConnectedPeer {
  readonly peer: PeerIdText;
  /** Who opened the connection; `outbound` where this node opened one of several. */
  readonly direction: 'inbound' | 'outbound';
  /** How long it is connected. */
  readonly ageMs: number;
  readonly standing: Standing;
  /** One of the addresses that this node was given to start from. */
  readonly bootstrap: boolean;
  /** Sum of its tags: 100 for a place in the mesh of a gossip topic, 50 for a neighbour in the DHT. */
  readonly value: number;
}

/** Numbers of peers. */
export interface ConnectionLimits {
  /** Most peers that stay. */
  readonly maxPeers: number;
  /** Peers that this node connects to by itself, whatever others do: those are chosen by it and not by whoever comes. */
  readonly minOutbound: number;
}

/** A newcomer may stay above the limit for so long. */
export const PROBATION_MS = 6_000;

/** Parts of `maxPeers` that a kind of peer is kept up to; bootstrap peers are as many as were given. */
const KEPT_PARTS = { validators: 1 / 2, records: 1 / 4, oldestInbound: 1 / 8 } as const;

/** A tag of 100 counts as much as so many minutes of age, and age counts up to the longest. */
const MINUTES_PER_MESH = 1;
const MAX_TAG_VALUE = 300;
const MAX_AGE_MINUTES = 30;

/** Places above `maxPeers` for newcomers. */
export function probationPlaces(maxPeers: number): number {
  return Math.max(8, Math.ceil(maxPeers / 4));
}

/** Connections that a node opens by itself in any case. */
export function minOutbound(targetPeers: number): number {
  return Math.min(8, Math.ceil(targetPeers / 3));
}

/** The peers that are never let go. */
export function keptPeers(peers: readonly ConnectedPeer[], limits: ConnectionLimits): Set<PeerIdText> {
  const oldest = [...peers].sort((a, b) => b.ageMs - a.ageMs);
  const kept = new Set<PeerIdText>();
  const keep = (which: (peer: ConnectedPeer) => boolean, most: number) => {
    for (const { peer } of oldest.filter(which).slice(0, Math.ceil(most))) kept.add(peer);
  };
  const { maxPeers } = limits;
  keep(({ bootstrap }) => bootstrap, maxPeers);
  keep(({ standing }) => standing === 'validator', maxPeers * KEPT_PARTS.validators);
  keep(({ standing }) => standing === 'record', maxPeers * KEPT_PARTS.records);
  keep(({ direction }) => direction === 'outbound', limits.minOutbound);
  keep(({ direction, ageMs }) => direction === 'inbound' && ageMs > PROBATION_MS, maxPeers * KEPT_PARTS.oldestInbound);
  return kept;
}

/**
 * Who has to go so that, newcomers apart, no more than `room` peers are left; the first to go first. Newcomers go when
 * there are more peers than `maxPeers` and the places above it, those first that have been there longest.
 */
export function surplusPeers(
  peers: readonly ConnectedPeer[],
  limits: ConnectionLimits,
  room: number = limits.maxPeers,
): PeerIdText[] {
  const kept = keptPeers(peers, limits);
  const loose = peers.filter(({ peer }) => !kept.has(peer));
  const settled = loose.filter(({ ageMs }) => ageMs > PROBATION_MS).sort((a, b) => worth(a) - worth(b));
  const newcomers = loose.filter(({ ageMs }) => ageMs <= PROBATION_MS).sort((a, b) => b.ageMs - a.ageMs);
  const excess = Math.max(0, peers.length - newcomers.length - room);
  const gone = settled.slice(0, excess);
  const above = peers.length - gone.length - limits.maxPeers - probationPlaces(limits.maxPeers);
  return [...gone, ...newcomers.slice(0, Math.max(0, above))].map(({ peer }) => peer);
}

function worth({ ageMs, value }: ConnectedPeer): number {
  return Math.min(MAX_AGE_MINUTES, ageMs / 60_000) + (MINUTES_PER_MESH * Math.min(value, MAX_TAG_VALUE)) / 100;
}
