/** What keeps weights from following the ledger. */

/** Thrown when applying a round gives another root than the validators agreed on, even from a fresh checkpoint. */
export class DivergedError extends Error {
  static readonly code = 'ERR_DIVERGED';
  readonly code = DivergedError.code;
  override readonly name = 'DivergedError';
}
