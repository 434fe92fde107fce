/**
 * Bounded concurrency with a waiting line for each peer. Lines take turns, so that who sends much waits long and who sends
 * little does not wait for it; when there is no room, the longest line loses one.
 */
import type { DropPolicy } from './work-queue.ts';
import { DROPPED } from './work-queue.ts';

/** Bounds of a queue. */
export interface FairQueueLimits {
  /** Tasks at a time. */
  readonly concurrency: number;
  /** Tasks that wait, of all peers together, and their bytes. */
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  /** Which one of the longest line goes. */
  readonly drop: DropPolicy;
}

interface Waiting {
  readonly bytes: number;
  start(): void;
  drop(): void;
}

interface Line {
  readonly waiting: Waiting[];
  bytes: number;
}

/** See the file comment. */
export class FairQueue {
  readonly #limits: FairQueueLimits;
  /** In the order of their turns. Only lines in which something waits: at most as many as tasks. */
  readonly #lines = new Map<string, Line>();
  #waiting = 0;
  #waitingBytes = 0;
  #running = 0;

  constructor(limits: FairQueueLimits) {
    this.#limits = limits;
  }

  /** Tasks that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Runs the task in its turn. Resolves to {@link DROPPED} when it had to make room. Rejects as the task does. */
  run<T>(peer: string, bytes: number, task: () => Promise<T>): Promise<T | typeof DROPPED> {
    if (this.#running < this.#limits.concurrency) return this.#start(task);
    return new Promise((resolve, reject) => {
      this.#push(peer, {
        bytes,
        start: () => this.#start(task).then(resolve, reject),
        drop: () => resolve(DROPPED),
      });
      while (this.#waiting > this.#limits.maxQueued || this.#waitingBytes > this.#limits.maxQueuedBytes)
        this.#dropOne();
    });
  }

  /** Drops everything that waits. What runs goes on. */
  clear(): void {
    const lines = [...this.#lines.values()];
    this.#lines.clear();
    this.#waiting = 0;
    this.#waitingBytes = 0;
    for (const { waiting } of lines) for (const entry of waiting) entry.drop();
  }

  async #start<T>(task: () => Promise<T>): Promise<T> {
    this.#running += 1;
    try {
      return await task();
    } finally {
      this.#running -= 1;
      this.#next();
    }
  }

  #next(): void {
    for (const [peer, line] of this.#lines) {
      const entry = this.#take(peer, line, 'first');
      // Its next turn comes after everybody else's.
      if (this.#lines.delete(peer) && line.waiting.length > 0) this.#lines.set(peer, line);
      entry?.start();
      return;
    }
  }

  #push(peer: string, entry: Waiting): void {
    const line = this.#lines.get(peer) ?? { waiting: [], bytes: 0 };
    this.#lines.set(peer, line);
    line.waiting.push(entry);
    line.bytes += entry.bytes;
    this.#waiting += 1;
    this.#waitingBytes += entry.bytes;
  }

  #take(peer: string, line: Line, which: 'first' | 'last'): Waiting | undefined {
    const entry = which === 'first' ? line.waiting.shift() : line.waiting.pop();
    if (entry === undefined) return undefined;
    line.bytes -= entry.bytes;
    this.#waiting -= 1;
    this.#waitingBytes -= entry.bytes;
    if (line.waiting.length === 0) this.#lines.delete(peer);
    return entry;
  }

  /** Where bytes are short the line with the most bytes loses one, else the one with the most tasks. */
  #dropOne(): void {
    const byBytes = this.#waitingBytes > this.#limits.maxQueuedBytes;
    const length = (line: Line) => (byBytes ? line.bytes : line.waiting.length);
    let longest: [string, Line] | undefined;
    for (const entry of this.#lines)
      if (longest === undefined || length(entry[1]) > length(longest[1])) longest = entry;
    if (longest === undefined) return;
    this.#take(...longest, this.#limits.drop === 'oldest' ? 'first' : 'last')?.drop();
  }
}
