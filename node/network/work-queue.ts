/**
 * Bounded concurrency with a bounded waiting line and a stated drop policy.
 */

/** What goes when the line is full: the newcomer, or the one that waited longest. */
export type DropPolicy = 'newest' | 'oldest';

/** Outcome of a task that never ran. */
export const DROPPED = Symbol('dropped');

interface Waiting {
  start(): void;
  drop(): void;
}

/** Runs tasks, so many at a time, first come first served. */
export class WorkQueue {
  readonly #waiting: Waiting[] = [];
  readonly #concurrency: number;
  readonly #maxWaiting: number;
  readonly #policy: DropPolicy;
  #running = 0;

  constructor(concurrency: number, maxWaiting: number, policy: DropPolicy) {
    this.#concurrency = concurrency;
    this.#maxWaiting = maxWaiting;
    this.#policy = policy;
  }

  /** Tasks that wait for their turn. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Runs the task in its turn. Resolves to {@link DROPPED} when the line is full. Rejects as the task does. */
  run<T>(task: () => Promise<T>): Promise<T | typeof DROPPED> {
    if (this.#running < this.#concurrency) return this.#start(task);
    if (this.#waiting.length >= this.#maxWaiting) {
      if (this.#policy === 'newest' || this.#maxWaiting === 0) return Promise.resolve(DROPPED);
      this.#waiting.shift()?.drop();
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        start: () => this.#start(task).then(resolve, reject),
        drop: () => resolve(DROPPED),
      });
    });
  }

  /** Drops everything that waits. What runs goes on. */
  clear(): void {
    for (const entry of this.#waiting.splice(0)) entry.drop();
  }

  async #start<T>(task: () => Promise<T>): Promise<T> {
    this.#running += 1;
    try {
      return await task();
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.start();
    }
  }
}
