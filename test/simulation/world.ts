/** Virtual time: events in order of time, then of creation. One thread; between two events all promises settle. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../node/consensus/clock.ts';

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
  cancelled: boolean;
}

/** See the head of this file. */
export class World {
  nowMs: number;
  #heap: Event[] = [];
  #order = 0;

  constructor(startMs: number) {
    this.nowMs = startMs;
  }

  /** A clock of this world that is off by `skewMs`. */
  clock(skewMs = 0): Clock {
    return {
      nowMs: () => this.nowMs + skewMs,
      schedule: (delayMs, callback) => this.after(delayMs, callback),
    };
  }

  after(delayMs: number, callback: () => void): () => void {
    const event: Event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, callback, cancelled: false };
    this.#push(event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Resolves after virtual time. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }

  /** Runs until the condition holds (true) or the time is over (false). */
  async runUntil(condition: () => boolean, limitMs: number): Promise<boolean> {
    const endMs = this.nowMs + limitMs;
    await nextTurn();
    while (!condition()) {
      const event = this.#pop();
      if (event === undefined || event.atMs > endMs) {
        if (event !== undefined) this.#push(event);
        this.nowMs = endMs;
        return false;
      }
      if (event.cancelled) continue;
      this.nowMs = event.atMs;
      event.callback();
      await nextTurn();
    }
    return true;
  }

  async run(durationMs: number): Promise<void> {
    await this.runUntil(() => false, durationMs);
  }

  #before(a: Event, b: Event): boolean {
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(event, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1], heap[child])) child += 1;
      if (!this.#before(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
