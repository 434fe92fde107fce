/**
 * Waiting with an end: deadlines joined to a caller's signal, and pauses that a signal can cut short.
 */

/** A signal that fires with its parent or after a time. Call `clear()` when done, or the timer outlives its use. */
export interface Deadline {
  readonly signal: AbortSignal;
  /** True when the time, not the parent, ended it. */
  expired(): boolean;
  clear(): void;
}

/**
 * Joins a caller's signal with a time limit. Written by hand because `AbortSignal.any` and `AbortSignal.timeout` keep
 * their listeners and timers until collected, which adds up over millions of requests.
 */
export function deadline(timeoutMs: number, parent?: AbortSignal): Deadline {
  const controller = new AbortController();
  let expired = false;
  const onParent = () => controller.abort(parent?.reason);
  const timer = setTimeout(() => {
    expired = true;
    controller.abort(new DOMException('deadline', 'TimeoutError'));
  }, timeoutMs);
  if (parent?.aborted === true) onParent();
  else parent?.addEventListener('abort', onParent, { once: true });
  return {
    signal: controller.signal,
    expired: () => expired,
    clear: () => {
      clearTimeout(timer);
      parent?.removeEventListener('abort', onParent);
    },
  };
}

/** Resolves after a time, or at once when the signal fires. Never rejects: callers look at the signal. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** The promise's outcome, or the signal's reason as a rejection, whichever is first. */
export function raceAbort<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    if (signal.aborted) {
      promise.catch(() => {});
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** A time scattered by up to a quarter either way, so that peers do not act in step. */
export function jittered(ms: number): number {
  return ms * (0.75 + Math.random() * 0.5);
}
