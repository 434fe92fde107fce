/**
 * The logger that the network writes to, and the silent one that libp2p gets.
 */
import type { ComponentLogger, Logger } from '@libp2p/interface';

/** The part of pino's logger that is used here: fields first, then a constant message. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const ignore = () => {};

/** Drops everything. */
export const SILENT_LOG: Log = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/**
 * libp2p's logger, switched off. libp2p makes a logger per connection and stream; its default one formats names and
 * checks an environment variable each time, which shows in profiles. What matters is logged by our own components.
 */
export function quietLibp2pLogger(): ComponentLogger {
  const logger: Logger = Object.assign(() => {}, {
    error: ignore,
    trace: ignore,
    enabled: false,
    newScope: () => logger,
  });
  return { forComponent: () => logger };
}
