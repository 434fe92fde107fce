/**
 * How to start another copy of this program: the same Node, the same flags, the same entry file.
 */

/** Command and leading arguments that run this program again. */
export function selfCommand(): { readonly command: string; readonly leadingArguments: readonly string[] } {
  const entry = process.argv[1];
  return { command: process.execPath, leadingArguments: entry === undefined ? [] : [...process.execArgv, entry] };
}
