/** What a file tools/fuzz/targets/NAME.ts exports: a decoder of bytes that strangers send, ready to be fed. */

/** The exports of a target. */
export interface FuzzTarget {
  /** One line: what is decoded. */
  readonly describe: string;
  /** Well-formed inputs, to be mutated. The same at every call. */
  seeds(): readonly Uint8Array[];
  /** Leading bytes that hold most of the structure: half of all mutations hit them. */
  readonly headBytes: number;
  /** Bytes that decoding an input of `inputBytes` may allocate at most, everything counted. */
  allocationCap(inputBytes: number): number;
  /**
   * Decodes an input. Returns the code of the error with which it was refused, or `accepted` once the result was found
   * sound. Throws for whatever must not happen: an error of another kind, a result that breaks a promise.
   */
  run(input: Uint8Array): string;
}

/** Thrown by a target when an accepted input breaks a promise of its decoder. */
export class UnsoundResultError extends Error {
  static readonly code = 'ERR_UNSOUND_RESULT';
  readonly code = UnsoundResultError.code;
  override readonly name = 'UnsoundResultError';
}

/** Throws {@link UnsoundResultError} unless `holds`. */
export function requireSound(holds: boolean, promise: string): void {
  if (!holds) throw new UnsoundResultError(promise);
}
