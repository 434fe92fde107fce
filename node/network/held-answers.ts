/**
 * Bytes of answers that are being made or wait to be read by who asked, over all protocols of a node. A peer that asks
 * and does not read makes us hold its answer; so there is a bound on all of them, and one whose reader has stopped gives
 * way when somebody else would be refused.
 */
import { type Claimant, FairShare } from './fair-share.ts';
import type { PeerIdText } from './interface.ts';

const MIB = 1024 * 1024;

/** Forty-eight answers of the largest kind, a quarter of them kept for known peers. */
export const ANSWER_BYTES = { total: 48 * MIB, reserved: 12 * MIB, perPeer: 16 * MIB, perAddress: 12 * MIB } as const;

/** An answer counts as so many bytes at least: its stream is held as long as it is. */
const MIN_ANSWER_BYTES = 16 * 1024;

/**
 * An answer of which nothing was taken for so long gives way to others: a peer's only one, for which a slice takes 2 s at
 * 32 KiB/s; and one of several, whose reader should ask for fewer at a time while others get none.
 */
const STALLED_MS = { only: 3_000, oneOfSeveral: 500 } as const;

/** An answer that is held. */
export interface HeldAnswer {
  /** The answer has this many bytes, no more than were taken for it. */
  shrink(bytes: number): void;
  /** The peer takes some of it: from the first call on it must go on doing so. */
  progress(): void;
  /** Nothing is held any more. */
  release(): void;
}

interface Held {
  readonly peer: string;
  readonly end: () => void;
  /** Time of the last progress; undefined before the answer is ready. */
  progressAt: number | undefined;
}

/** See the head of this file. */
export class HeldAnswers {
  readonly #bytes = new FairShare(ANSWER_BYTES);
  /** Bounded by the bytes that they hold. */
  readonly #held = new Set<Held>();
  readonly #now: () => number;

  /** `now` is in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#bytes.used;
  }

  /** True when an answer for the peer is held. */
  holds(peer: PeerIdText): boolean {
    return this.#bytes.holds(peer);
  }

  /** Makes room for an answer of at most so many bytes; undefined when there is none. `end` is called when it gives way. */
  hold(claimant: Claimant, maxBytes: number, end: () => void): HeldAnswer | undefined {
    const taken = Math.max(maxBytes, MIN_ANSWER_BYTES);
    const give = this.#bytes.take(claimant, taken);
    if (give === undefined) return undefined;
    const release = () => {
      this.#held.delete(held);
      give();
    };
    const held: Held = {
      peer: claimant.peer,
      end: () => {
        release();
        end();
      },
      progressAt: undefined,
    };
    this.#held.add(held);
    return {
      shrink: (bytes) => give(taken - Math.max(bytes, MIN_ANSWER_BYTES)),
      progress: () => {
        held.progressAt = this.#now();
      },
      release,
    };
  }

  /**
   * Ends one answer whose reader has stopped, of the peer that has most of them the one that stands still for the longest
   * time. False when all are being read.
   */
  endStalled(): boolean {
    const counts = new Map<string, number>();
    for (const { peer } of this.#held) counts.set(peer, (counts.get(peer) ?? 0) + 1);
    let victim: (Held & { count: number; stalledMs: number }) | undefined;
    for (const held of this.#held) {
      if (held.progressAt === undefined) continue;
      const count = counts.get(held.peer) ?? 1;
      const stalledMs = this.#now() - held.progressAt;
      if (stalledMs < (count > 1 ? STALLED_MS.oneOfSeveral : STALLED_MS.only)) continue;
      const worse = count - (victim?.count ?? 0) || stalledMs - (victim?.stalledMs ?? 0);
      if (worse > 0) victim = { ...held, count, stalledMs };
    }
    if (victim === undefined) return false;
    victim.end();
    return true;
  }
}
