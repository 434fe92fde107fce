/**
 * How long work that comes to an event loop waits for its turn.
 *
 * `perf_hooks.monitorEventLoopDelay` counts each turn once, so that one stall of three seconds among a thousand short
 * turns is one sample in a thousand, and its 99th percentile looks fine. Here moments count, not turns: the 99th
 * percentile is what work that arrives at a random moment waits at most, 99 times of 100. Both are kept; and a third, in
 * which a turn takes only the processor time of this thread: what other processes of a busy machine do is not in it.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Pause between two looks at the clock. */
const STEP_MS = 10;

/** Looks that are kept: five minutes' worth; the oldest go. */
const MAX_STEPS = 30_000;

/** Milliseconds. */
export interface Lag {
  /** Of moments: see the head of this file. */
  readonly p99Ms: number;
  /** Of turns, as Node counts them. */
  readonly turnsP99Ms: number;
  /** Like `p99Ms`, with nothing in it but what this thread computed. */
  readonly ownP99Ms: number;
  /** Longest turn. */
  readonly longestMs: number;
}

/** Processor time of this thread so far, in milliseconds. */
function ownMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/**
 * The wait that `share` of all moments stay under. In a turn that took `late` more than it should, work that came at its
 * start waits `late`, at its end nothing.
 */
export function waitOfMoments(lateMs: readonly number[], share: number): number {
  const totalMs = lateMs.reduce((sum, late) => sum + late + STEP_MS, 0);
  const allowedMs = totalMs * (1 - share);
  const over = (bound: number) => lateMs.reduce((sum, late) => sum + Math.max(0, late - bound), 0);
  let [low, high] = [0, Math.max(0, ...lateMs)];
  for (let step = 0; step < 40; step++) {
    const middle = (low + high) / 2;
    if (over(middle) > allowedMs) low = middle;
    else high = middle;
  }
  return high;
}

/** Measures this process's event loop from its making on. */
export class EventLoopLag {
  readonly #turns = monitorEventLoopDelay({ resolution: STEP_MS });
  #lateMs: number[] = [];
  #busyMs: number[] = [];
  #lastMs = performance.now();
  #lastOwnMs = ownMs();

  constructor() {
    this.#turns.enable();
    this.#step();
  }

  #step(): void {
    setTimeout(() => {
      const [nowMs, nowOwnMs] = [performance.now(), ownMs()];
      this.#lateMs.push(Math.max(0, nowMs - this.#lastMs - STEP_MS));
      this.#busyMs.push(Math.max(0, nowOwnMs - this.#lastOwnMs - STEP_MS));
      if (this.#lateMs.length > MAX_STEPS) {
        this.#lateMs = this.#lateMs.slice(MAX_STEPS / 2);
        this.#busyMs = this.#busyMs.slice(MAX_STEPS / 2);
      }
      this.#lastMs = nowMs;
      this.#lastOwnMs = nowOwnMs;
      this.#step();
    }, STEP_MS).unref();
  }

  /** Begins anew. */
  reset(): void {
    this.#turns.reset();
    this.#lateMs = [];
    this.#busyMs = [];
    this.#lastMs = performance.now();
    this.#lastOwnMs = ownMs();
  }

  /** Since the last reset. */
  read(): Lag {
    const turns = this.#turns.count === 0 ? 0 : this.#turns.percentile(99) / 1e6 - STEP_MS;
    return {
      p99Ms: waitOfMoments(this.#lateMs, 0.99),
      ownP99Ms: waitOfMoments(this.#busyMs, 0.99),
      turnsP99Ms: Math.max(0, turns),
      longestMs: Math.max(0, ...this.#lateMs),
    };
  }
}
