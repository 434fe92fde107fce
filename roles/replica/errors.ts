/** What keeps weights from following the ledger. */

/** Thrown when applying a round gives another root than the validators agreed on, even from a fresh checkpoint. */
export class DivergedError extends Error {
  static readonly code = 'ERR_DIVERGED';
  readonly code = DivergedError.code;
  override readonly name = 'DivergedError';
}

/** Thrown when a round that is needed has left the ledger's window and no checkpoint covers it. */
export class MissingHistoryError extends Error {
  static readonly code = 'ERR_MISSING_HISTORY';
  readonly code = MissingHistoryError.code;
  override readonly name = 'MissingHistoryError';
}
