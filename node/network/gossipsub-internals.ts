/**
 * What gossipsub 17.1.1 (pinned in package.json) has and does not show in its interface, as far as our guards need it. All
 * that reaches into it is here and in `gossip-intake.ts`; a version without these parts is refused at the start, so that no
 * guard is lost unseen.
 */
import type { GossipSub } from '@libp2p/gossipsub';
import type { RPC } from '@libp2p/gossipsub/message';
import type { PeerId } from '@libp2p/interface';
import type { Uint8ArrayList } from 'uint8arraylist';

/** Remembers ids for a time. gossipsub's own cannot forget one: `gossip-memory.ts` puts others in their place. */
export interface TimeCache<V> {
  readonly size: number;
  /** True when the key was there already. */
  put(key: string, value?: V): boolean;
  prune(): void;
  has(key: string): boolean;
  get(key: string): V | undefined;
  delete(key: string): void;
  clear(): void;
}

/** A peer's account in gossipsub's scoring. */
export interface PeerStats {
  connected: boolean;
  behaviourPenalty: number;
  readonly knownIPs: ReadonlySet<string>;
}

/** How a message came. */
export interface DeliveryRecord {
  /** While it is being judged: who brought it after the first one. */
  readonly peers: ReadonlySet<string>;
}

/** Which of our peers first delivered which message. */
export interface DeliveryRecords {
  readonly records: Map<string, DeliveryRecord>;
  /** In order of arrival. */
  readonly queue: { shift(): { readonly msgId: string } | undefined };
  ensureRecord(messageId: string): unknown;
}

/** gossipsub's scoring. */
export interface PeerScoring {
  readonly peerStats: Map<string, PeerStats>;
  readonly scoreCache: Map<string, unknown>;
  readonly deliveryRecords: DeliveryRecords;
  addPeer(peer: string): void;
  removeIPsForPeer(peer: string, addresses: ReadonlySet<string>): void;
  score(peer: string): number;
}

/** See the file comment. */
export interface GossipsubInternals {
  seenCache: TimeCache<undefined>;
  fastMsgIdCache: TimeCache<string> | undefined;
  readonly score: PeerScoring;
  pipePeerReadStream(peer: PeerId, source: AsyncIterable<Uint8ArrayList>): Promise<void>;
  handleReceivedRpc(from: PeerId, rpc: RPC): Promise<void>;
  /** Tells the peers of a topic's mesh, but not `source`, that they need not send a message. */
  sendIDontWants(messageId: Uint8Array, topic: string, source: string): void;
}

/** Thrown when gossipsub is another than the one that our guards were made for. */
export class UnknownGossipsubError extends Error {
  static readonly code = 'ERR_UNKNOWN_GOSSIPSUB';
  readonly code = UnknownGossipsubError.code;
  override readonly name = 'UnknownGossipsubError';
}

/** Shows the inside of a gossipsub. Throws {@link UnknownGossipsubError}. */
export function gossipsubInternals(pubsub: GossipSub): GossipsubInternals {
  const inside: unknown = pubsub;
  if (!hasParts(inside)) throw new UnknownGossipsubError('gossipsub lacks parts that our guards rely on');
  return inside;
}

function hasParts(pubsub: unknown): pubsub is GossipsubInternals {
  const isMethod = (name: string) => typeof part(pubsub, name) === 'function';
  const score = part(pubsub, 'score');
  const deliveries = part(score, 'deliveryRecords');
  return (
    isMethod('pipePeerReadStream') &&
    isMethod('handleReceivedRpc') &&
    isMethod('sendIDontWants') &&
    part(pubsub, 'seenCache') !== undefined &&
    part(score, 'peerStats') instanceof Map &&
    part(score, 'scoreCache') instanceof Map &&
    typeof part(score, 'addPeer') === 'function' &&
    typeof part(score, 'removeIPsForPeer') === 'function' &&
    part(deliveries, 'records') instanceof Map &&
    typeof part(part(deliveries, 'queue'), 'shift') === 'function' &&
    typeof part(deliveries, 'ensureRecord') === 'function'
  );
}

function part(whole: unknown, name: string): unknown {
  return typeof whole === 'object' && whole !== null ? Reflect.get(whole, name) : undefined;
}
