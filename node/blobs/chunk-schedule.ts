/**
 * Who is asked for which chunk of a download. Pure bookkeeping: the caller does the asking and tells the time.
 */
import type { PeerIdText } from '../network/interface.ts';
import type { ChunkBitmap } from './chunk-bitmap.ts';

/** A chunk that is in flight for this long may be asked of one more provider, when one has nothing else to do. */
export const SLOW_CHUNK_MS = 1_500;

interface InFlight {
  readonly sinceMs: number;
  readonly peers: Set<PeerIdText>;
}

/** The chunks that are still missing: those nobody was asked for, and those in flight. */
export class ChunkSchedule {
  /** In random order: peers that download the same blob at once get different chunks first, and can trade them. */
  #unassigned: number[];
  readonly #inFlight = new Map<number, InFlight>();

  constructor(missing: readonly number[]) {
    this.#unassigned = shuffled([...missing]);
  }

  /**
   * Picks a chunk to ask a provider for and notes it as in flight. `have` is what the provider has; undefined means all.
   * Undefined when there is nothing that it should be asked for now.
   */
  next(peer: PeerIdText, have: ChunkBitmap | undefined, nowMs: number): number | undefined {
    for (let at = this.#unassigned.length - 1; at >= 0; at--) {
      const index = this.#unassigned[at];
      if (index === undefined || have?.has(index) === false) continue;
      this.#unassigned.splice(at, 1);
      this.#inFlight.set(index, { sinceMs: nowMs, peers: new Set([peer]) });
      return index;
    }
    // All are asked for. One that takes long may hang on a provider that stalls: ask for it once more.
    for (const [index, { sinceMs, peers }] of this.#inFlight) {
      if (peers.has(peer) || have?.has(index) === false) continue;
      if (nowMs - sinceMs < SLOW_CHUNK_MS * peers.size) continue;
      peers.add(peer);
      return index;
    }
    return undefined;
  }

  /** A request ended. When it was the last for a chunk that is not done, the chunk is free to be asked for again. */
  release(peer: PeerIdText, index: number): void {
    const flight = this.#inFlight.get(index);
    if (flight === undefined) return;
    flight.peers.delete(peer);
    if (flight.peers.size > 0) return;
    this.#inFlight.delete(index);
    this.#unassigned.push(index);
  }

  /** A chunk is there. */
  done(index: number): void {
    // One that came unasked (inside the answer to OPEN) is still unassigned; one that was asked for is not.
    if (!this.#inFlight.delete(index)) this.#unassigned = this.#unassigned.filter((other) => other !== index);
  }
}

/** Fisher-Yates. */
function shuffled(items: number[]): number[] {
  for (let at = items.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    const [a, b] = [items[at] ?? 0, items[other] ?? 0];
    items[at] = b;
    items[other] = a;
  }
  return items;
}
