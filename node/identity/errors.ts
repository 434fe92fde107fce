/**
 * What can be wrong with keys on disk. Messages name the file and what to do, never the key.
 */

/** Thrown when a key file is missing from a folder that has others, or does not hold a key. */
export class KeyDamagedError extends Error {
  static readonly code = 'ERR_KEY_DAMAGED';
  readonly code = KeyDamagedError.code;
  override readonly name = 'KeyDamagedError';
}

/** Thrown when others than the owner may read a key file. */
export class KeyPermissionsError extends Error {
  static readonly code = 'ERR_KEY_PERMISSIONS';
  readonly code = KeyPermissionsError.code;
  override readonly name = 'KeyPermissionsError';
}

/** Thrown when a key file cannot be read or written. */
export class KeyUnavailableError extends Error {
  static readonly code = 'ERR_KEY_UNAVAILABLE';
  readonly code = KeyUnavailableError.code;
  override readonly name = 'KeyUnavailableError';
}

/** Thrown when keys would be written where there are some already: keys are never overwritten. */
export class KeyExistsError extends Error {
  static readonly code = 'ERR_KEY_EXISTS';
  readonly code = KeyExistsError.code;
  override readonly name = 'KeyExistsError';
}

/** Thrown when a keystore needs a password and got none, or the wrong one. */
export class KeystorePasswordError extends Error {
  static readonly code = 'ERR_KEYSTORE_PASSWORD';
  readonly code = KeystorePasswordError.code;
  override readonly name = 'KeystorePasswordError';
}
