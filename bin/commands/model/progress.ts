/**
 * Progress of commands that move a whole model: a line on standard error each time another tenth is done.
 */

/** Bytes below which no progress is worth a line. */
const QUIET_BYTES = 256 * 1024 * 1024;

/** A progress callback for `verb`, as "exporting". Silent for small models. */
export function progressLines(verb: string): (doneBytes: number, totalBytes: number) => void {
  let shown = 0;
  return (doneBytes, totalBytes) => {
    const tenths = Math.floor((doneBytes / totalBytes) * 10);
    if (totalBytes < QUIET_BYTES || tenths <= shown) return;
    shown = tenths;
    process.stderr.write(`${verb}: ${tenths * 10} % of ${(totalBytes / 1e9).toFixed(1)} GB\n`);
  };
}

/** Thrown when the person at the terminal has had enough. */
export class InterruptedError extends Error {
  static readonly code = 'ERR_INTERRUPTED';
  readonly code = InterruptedError.code;
  override readonly name = 'InterruptedError';
}

/** A signal that Ctrl-C and SIGTERM raise, so that half-written files are taken away. */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => controller.abort(new InterruptedError('interrupted')));
  return controller.signal;
}

/** Prints one JSON object, or lines of names and values. */
export function print(fields: Readonly<Record<string, unknown>>, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(fields)}\n`);
    return;
  }
  const width = Math.max(...Object.keys(fields).map((key) => key.length));
  for (const [key, value] of Object.entries(fields)) {
    const text = Array.isArray(value)
      ? value.join(', ')
      : typeof value === 'number'
        ? value.toLocaleString('en-US')
        : value;
    process.stdout.write(`${key.replaceAll('_', ' ').padEnd(width)}  ${text ?? 'unknown'}\n`);
  }
}
