/** Time for consensus: injected, so that simulations run on a virtual clock. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  nowMs(): number;
  /** Calls back once after `delayMs`. Returns a function that cancels. */
  schedule(delayMs: number, callback: () => void): () => void;
}

/** The machine's clock. Its timers keep the process alive; whoever schedules cancels on stop. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  schedule: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
