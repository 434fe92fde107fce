/**
 * The line between a node and the process that started it (`alice up`): the child reports, and ends when its parent is
 * gone, so that a killed parent leaves no process behind.
 */
import type { NodeStatus } from './status.ts';

/** What a child tells its parent. */
export type ChildMessage =
  | { readonly type: 'ready'; readonly status: NodeStatus }
  | { readonly type: 'status'; readonly status: NodeStatus }
  | { readonly type: 'failed'; readonly code: string; readonly message: string };

/** How often a child reports; fast enough for a live view, slow enough to cost nothing. */
const REPORT_INTERVAL_MS = 500;

/** True when a process that listens started this one. */
export function hasParent(): boolean {
  return process.send !== undefined && process.connected === true;
}

/**
 * Sends one message and resolves when it is on its way. Does nothing without a parent, or when the parent is just going
 * away.
 */
export function tellParent(message: ChildMessage): Promise<void> {
  if (!hasParent()) return Promise.resolve();
  return new Promise((resolve) => {
    // A parent that dies between the check and the write is noticed through 'disconnect'.
    process.send?.(message, undefined, {}, () => resolve());
  });
}

/** Reports `status()` now as ready and then regularly. Returns a function that stops it. */
export function reportToParent(status: () => NodeStatus): () => void {
  if (!hasParent()) return () => {};
  void tellParent({ type: 'ready', status: status() });
  const timer = setInterval(() => void tellParent({ type: 'status', status: status() }), REPORT_INTERVAL_MS);
  return () => clearInterval(timer);
}

/**
 * Aborts when this process should end: SIGTERM, the parent's disappearance, or SIGINT when nobody else handles it.
 * With a parent, SIGINT is left to the parent: a terminal sends Ctrl-C to the whole group, and the parent decides the
 * order of the end. A second SIGINT or SIGTERM ends the process at once.
 */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (exitCode: number) => () => {
    if (controller.signal.aborted) process.exit(exitCode);
    controller.abort();
  };
  process.on('SIGTERM', stop(143));
  if (hasParent()) {
    process.on('SIGINT', () => {});
    process.once('disconnect', stop(0));
  } else {
    process.on('SIGINT', stop(130));
  }
  return controller.signal;
}
