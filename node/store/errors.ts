/**
 * What can be wrong with a store when it is opened. Each message says in one line what to do.
 */

/** Thrown when the database file is damaged or is no database of Alice. */
export class StoreDamagedError extends Error {
  static readonly code = 'ERR_STORE_DAMAGED';
  readonly code = StoreDamagedError.code;
  override readonly name = 'StoreDamagedError';
}

/** Thrown when the store belongs to another network. */
export class StoreNetworkError extends Error {
  static readonly code = 'ERR_STORE_WRONG_NETWORK';
  readonly code = StoreNetworkError.code;
  override readonly name = 'StoreNetworkError';
}

/** Thrown when a newer version of the program wrote the store. */
export class StoreVersionError extends Error {
  static readonly code = 'ERR_STORE_NEWER_VERSION';
  readonly code = StoreVersionError.code;
  override readonly name = 'StoreVersionError';
}

/** Thrown when the store cannot be opened or written: folder missing, no permission, disk full, in use. */
export class StoreUnavailableError extends Error {
  static readonly code = 'ERR_STORE_UNAVAILABLE';
  readonly code = StoreUnavailableError.code;
  override readonly name = 'StoreUnavailableError';
}

/** Thrown when a block does not follow the last stored one. */
export class StoreOrderError extends Error {
  static readonly code = 'ERR_STORE_ORDER';
  readonly code = StoreOrderError.code;
  override readonly name = 'StoreOrderError';
}
