/**
 * Streams on which a request is still to be read. They cost their sender nothing, so they hold no place of those who are
 * served; there are so many of them, and where there would be more, one that has kept us waiting is ended: an honest
 * request follows its stream in the next packet.
 */
import type { Claimant } from './fair-share.ts';

/** Streams being read of one node, over all protocols: each holds at most a request of a few KiB. */
const MAX_READING = 512;

/** The same of one peer. */
const MAX_READING_PER_PEER = 64;

interface Reader {
  readonly claimant: Claimant;
  readonly end: () => void;
}

/** See the head of this file. */
export class ReadingRoom {
  /** In order of arrival. */
  readonly #readers = new Set<Reader>();
  readonly #byPeer = new Map<string, Set<Reader>>();

  /** Streams being read now. */
  get size(): number {
    return this.#readers.size;
  }

  /**
   * Enters a stream; returns what ends its stay. `end` is called when it has to make room: for another of its own peer
   * where that has many, else for whoever comes, those first who have most. Known peers make room for their own only.
   */
  enter(claimant: Claimant, end: () => void): () => void {
    const own = this.#byPeer.get(claimant.peer) ?? new Set<Reader>();
    if (own.size >= MAX_READING_PER_PEER) this.#evict(first(own));
    else if (this.#readers.size >= MAX_READING) this.#evict(this.#greediest() ?? first(this.#readers));
    const reader = { claimant, end };
    own.add(reader);
    this.#byPeer.set(claimant.peer, own);
    this.#readers.add(reader);
    return () => this.#leave(reader);
  }

  /** The oldest reader of the stranger with most of them. */
  #greediest(): Reader | undefined {
    let most: Set<Reader> | undefined;
    for (const readers of this.#byPeer.values()) {
      if (first(readers)?.claimant.known !== true && readers.size > (most?.size ?? 0)) most = readers;
    }
    return most === undefined ? undefined : first(most);
  }

  #evict(reader: Reader | undefined): void {
    if (reader === undefined) return;
    this.#leave(reader);
    reader.end();
  }

  #leave(reader: Reader): void {
    this.#readers.delete(reader);
    const own = this.#byPeer.get(reader.claimant.peer);
    own?.delete(reader);
    if (own?.size === 0) this.#byPeer.delete(reader.claimant.peer);
  }
}

function first(readers: Set<Reader>): Reader | undefined {
  for (const reader of readers) return reader;
  return undefined;
}
