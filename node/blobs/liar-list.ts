/**
 * Peers that sent bytes with a wrong hash. They are not asked again for a while, by any download.
 */
import { BoundedMap } from '../network/bounded-map.ts';
import type { PeerIdText } from '../network/interface.ts';

/** Liars remembered; the one caught longest ago is forgotten first. */
const MAX_LIARS = 1_024;

/** A lie is remembered this long: a peer with a bad disk may have been repaired since. */
const MEMORY_MS = 10 * 60_000;

/** Bounded memory of liars. */
export class LiarList {
  readonly #until = new BoundedMap<PeerIdText, number>(MAX_LIARS);

  add(peer: PeerIdText): void {
    this.#until.set(peer, performance.now() + MEMORY_MS);
  }

  has(peer: PeerIdText): boolean {
    return (this.#until.get(peer) ?? 0) > performance.now();
  }

  /** Peers that are remembered now. */
  list(): PeerIdText[] {
    const now = performance.now();
    return [...this.#until.entries()].flatMap(([peer, until]) => (until > now ? [peer] : []));
  }
}
