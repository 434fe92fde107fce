/**
 * What can go wrong with blobs. Every class has a `code`.
 */

/** Common ancestor. */
export abstract class BlobError extends Error {
  abstract readonly code: string;
  override readonly name: string = 'BlobError';
}

/** Bytes are not what the CID names, or no manifest can be made of the parts given. */
export class InvalidManifestError extends BlobError {
  static readonly code = 'ERR_INVALID_MANIFEST';
  readonly code = InvalidManifestError.code;
}

/**
 * The bytes are those that the CID names, and no manifest: who made the CID made no blob. Nobody can deliver one, and who
 * delivers the bytes does right.
 */
export class NotABlobError extends BlobError {
  static readonly code = 'ERR_NOT_A_BLOB';
  readonly code = NotABlobError.code;
}

/** The store does not have the blob, or not all of it. */
export class BlobNotFoundError extends BlobError {
  static readonly code = 'ERR_BLOB_NOT_FOUND';
  readonly code = BlobNotFoundError.code;
}

/** Bytes are not what their hash says: damage on disk, or a lie on the network. */
export class CorruptBlobError extends BlobError {
  static readonly code = 'ERR_BLOB_CORRUPT';
  readonly code = CorruptBlobError.code;
}

/** The blob is larger than the caller allows or than any manifest can describe. */
export class BlobTooLargeError extends BlobError {
  static readonly code = 'ERR_BLOB_TOO_LARGE';
  readonly code = BlobTooLargeError.code;
}

/** The store's capacity is used up by pinned blobs and blobs in use. */
export class BlobStoreFullError extends BlobError {
  static readonly code = 'ERR_BLOB_STORE_FULL';
  readonly code = BlobStoreFullError.code;
}

/** The folder cannot be used. */
export class BlobStoreUnusableError extends BlobError {
  static readonly code = 'ERR_BLOB_STORE_UNUSABLE';
  readonly code = BlobStoreUnusableError.code;
}

/** The caller's signal ended a download; what was verified stays on disk. */
export class FetchAbortedError extends BlobError {
  static readonly code = 'ERR_FETCH_ABORTED';
  readonly code = FetchAbortedError.code;
}

/** The blob was not complete in time; what was verified stays on disk. */
export class FetchTimeoutError extends BlobError {
  static readonly code = 'ERR_FETCH_TIMEOUT';
  readonly code = FetchTimeoutError.code;
}
