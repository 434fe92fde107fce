/** Failures of aggregation and application. */

/** Thrown when submissions of a round contradict each other: two of one account, a negative weight, unordered indices. */
export class InvalidSubmissionsError extends Error {
  static readonly code = 'ERR_INVALID_SUBMISSIONS';
  readonly code = InvalidSubmissionsError.code;
  override readonly name = 'InvalidSubmissionsError';
}

/** Thrown when bytes or digests do not fit the shape of a model's chunk tree. */
export class InvalidModelChunksError extends Error {
  static readonly code = 'ERR_INVALID_MODEL_CHUNKS';
  readonly code = InvalidModelChunksError.code;
  override readonly name = 'InvalidModelChunksError';
}
