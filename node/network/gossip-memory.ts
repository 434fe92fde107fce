/**
 * Bounds in number on what gossipsub remembers in time only: ids of messages, who delivered them, and peers that left. A
 * flood makes its memory shorter instead of larger.
 */
import type { DeliveryRecords, GossipsubInternals, PeerScoring, TimeCache } from './gossipsub-internals.ts';

/** Ids of messages remembered: over a minute of 1,000/s. 0.2 KiB each, in two caches. */
const MAX_SEEN = 65_536;

/** Records of who delivered a message, which gossipsub keeps for two minutes: 0.3 KiB each. */
const MAX_DELIVERIES = 65_536;

/** Scores of peers that left, kept so that coming again does not wash them clean: 0.5 KiB each. */
const MAX_DEPARTED = 4096;

/** Puts the bounds on, and mends that a peer that comes again got a fresh score. Call before gossipsub starts. */
export function boundGossipMemory(pubsub: GossipsubInternals, seenTtlMs: number): void {
  pubsub.seenCache = new BoundedTimeCache(MAX_SEEN, seenTtlMs);
  if (pubsub.fastMsgIdCache !== undefined) pubsub.fastMsgIdCache = new BoundedTimeCache(MAX_SEEN, seenTtlMs);
  boundDeliveries(pubsub.score.deliveryRecords);
  keepScores(pubsub.score);
}

/** A time cache that also forgets the oldest when it holds too many. */
export class BoundedTimeCache<V> implements TimeCache<V> {
  readonly #entries = new Map<string, { readonly value: V | undefined; readonly until: number }>();
  readonly #capacity: number;
  readonly #validityMs: number;
  readonly #now: () => number;

  constructor(capacity: number, validityMs: number, now: () => number = Date.now) {
    this.#capacity = capacity;
    this.#validityMs = validityMs;
    this.#now = now;
  }

  get size(): number {
    return this.#entries.size;
  }

  put(key: string, value?: V): boolean {
    if (this.#entries.has(key)) return true;
    this.#entries.set(key, { value, until: this.#now() + this.#validityMs });
    if (this.#entries.size > this.#capacity) this.#dropOldest();
    return false;
  }

  prune(): void {
    const now = this.#now();
    for (const [key, { until }] of this.#entries) {
      // In order of arrival, and so of expiry.
      if (until >= now) return;
      this.#entries.delete(key);
    }
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    return entry !== undefined && entry.until >= this.#now() ? entry.value : undefined;
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  #dropOldest(): void {
    for (const key of this.#entries.keys()) {
      this.#entries.delete(key);
      return;
    }
  }
}

function boundDeliveries(deliveries: DeliveryRecords): void {
  const ensureRecord = deliveries.ensureRecord.bind(deliveries);
  deliveries.ensureRecord = (messageId) => {
    const record = ensureRecord(messageId);
    if (deliveries.records.size > MAX_DELIVERIES) {
      const oldest = deliveries.queue.shift();
      if (oldest !== undefined) deliveries.records.delete(oldest.msgId);
    }
    return record;
  };
}

/**
 * gossipsub keeps the score of a peer that leaves, and then replaces it by a fresh one when the peer comes again (17.1.1):
 * whoever was found out need only connect anew. Here it finds its own.
 */
function keepScores(score: PeerScoring): void {
  const addPeer = score.addPeer.bind(score);
  score.addPeer = (peer) => {
    const known = score.peerStats.get(peer);
    if (known !== undefined) {
      known.connected = true;
      return;
    }
    addPeer(peer);
    if (score.peerStats.size > MAX_DEPARTED) forgetOneDeparted(score);
  };
}

/** The one that left and came first; entries are in order of arrival. */
function forgetOneDeparted(score: PeerScoring): void {
  for (const [peer, { connected, knownIPs }] of score.peerStats) {
    if (connected) continue;
    score.removeIPsForPeer(peer, knownIPs);
    score.peerStats.delete(peer);
    score.scoreCache.delete(peer);
    return;
  }
}
