/** Virtual time: events in order of time, then of creation. One thread; between two events all promises settle. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../node/consensus/clock.ts';
import { EventQueue, type QueuedEvent } from './event-queue.ts';

interface Event extends QueuedEvent {
  readonly callback: () => void;
  cancelled: boolean;
}

/** See the head of this file. */
export class World {
  nowMs: number;
  readonly #events = new EventQueue<Event>();
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
    this.#events.push(event);
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
      const event = this.#events.pop();
      if (event === undefined || event.atMs > endMs) {
        if (event !== undefined) this.#events.push(event);
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
}
