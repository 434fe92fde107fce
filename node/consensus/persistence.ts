/** Writes that must succeed before a node goes on. */
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';

/** Pause before a failed write of log or block is tried again: the disk may be full for a while. */
const STORAGE_RETRY_MS = 1000;

/**
 * Tries until it works or `running` says no: without its disk a validator must stand still, not go on. Resolves with
 * `false` when it was stopped.
 */
export async function persistently(
  what: string,
  write: () => Promise<void>,
  context: { readonly clock: Clock; readonly logger: Logger; running(): boolean },
): Promise<boolean> {
  while (context.running()) {
    try {
      await write();
      return context.running();
    } catch (error) {
      context.logger.error({ error: String(error), what }, 'consensus: a write failed; trying again');
      await new Promise<void>((resolve) => context.clock.schedule(STORAGE_RETRY_MS, resolve));
    }
  }
  return false;
}
