/**
 * Events of the last blocks, kept beside them, so that whoever watches can be away for a while and go on where it was.
 */

/** Place of an event: of its block, and inside it. Text form `HEIGHT:POSITION`. */
export interface EventCursor {
  readonly height: number;
  readonly position: number;
}

/** An event as it is kept. */
export interface StoredEvent extends EventCursor {
  readonly type: string;
  /** JSON of the whole event, `type` included; bigints are decimal strings. */
  readonly body: string;
}

/**
 * Blocks whose events are kept: a day of one-second blocks, some tens of megabytes. Whoever is away for longer reads the
 * state instead.
 */
export const EVENT_WINDOW_BLOCKS = 86_400;

/** Thrown for text that is no cursor. */
export class InvalidCursorError extends Error {
  static readonly code = 'ERR_INVALID_CURSOR';
  readonly code = InvalidCursorError.code;
  override readonly name = 'InvalidCursorError';
}

/** Thrown when events after a cursor are no longer kept: some would be missed without a word. */
export class CursorTooOldError extends Error {
  static readonly code = 'ERR_CURSOR_TOO_OLD';
  readonly code = CursorTooOldError.code;
  override readonly name = 'CursorTooOldError';
}

/** Writes a cursor. */
export function formatCursor({ height, position }: EventCursor): string {
  return `${height}:${position}`;
}

/** Reads a cursor. Throws {@link InvalidCursorError}. */
export function parseCursor(text: string): EventCursor {
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(text);
  if (match === null) throw new InvalidCursorError(`not a cursor: "${text.slice(0, 40)}" (example: 120:3)`);
  return { height: Number(match[1]), position: Number(match[2]) };
}
