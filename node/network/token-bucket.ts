/**
 * Rate limit per peer: each peer has a bucket of tokens that refills over time.
 */
import { BoundedMap } from './bounded-map.ts';

/** Peers whose buckets are remembered. A forgotten peer starts with a full bucket. */
const MAX_BUCKETS = 4096;

interface Bucket {
  tokens: number;
  at: number;
}

/** One token bucket for each of a bounded number of peers. */
export class TokenBuckets {
  readonly #buckets = new BoundedMap<string, Bucket>(MAX_BUCKETS);
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #now: () => number;

  /** `burst` tokens at most, refilled at `perSecond`. `now` is in milliseconds. */
  constructor(perSecond: number, burst: number, now: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#now = now;
  }

  /** Takes one token; false when the peer has none left. */
  take(peer: string): boolean {
    const now = this.#now();
    const bucket = this.#buckets.get(peer) ?? { tokens: this.#burst, at: now };
    bucket.tokens = Math.min(this.#burst, bucket.tokens + ((now - bucket.at) / 1000) * this.#perSecond);
    bucket.at = now;
    this.#buckets.set(peer, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
}
