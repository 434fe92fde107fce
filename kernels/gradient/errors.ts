/**
 * Everything that can be wrong with an AGF1 submission, one class each. All share {@link MalformedUpdateError}, so that
 * a caller who only needs the verdict "malformed" catches one class; the `code` names the reason for logs and tests.
 */

/** Base of all AGF1 decoding errors. */
export abstract class MalformedUpdateError extends Error {
  abstract readonly code: string;
}

/** The submission has more bytes than the limits allow. */
export class UpdateTooLargeError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_TOO_LARGE';
  readonly code = UpdateTooLargeError.code;
  override readonly name = 'UpdateTooLargeError';
}

/** A declared length reaches beyond the end of the bytes. */
export class TruncatedUpdateError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_TRUNCATED';
  readonly code = TruncatedUpdateError.code;
  override readonly name = 'TruncatedUpdateError';
}

/** Bytes follow the last record. */
export class TrailingBytesError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_TRAILING_BYTES';
  readonly code = TrailingBytesError.code;
  override readonly name = 'TrailingBytesError';
}

/** The first four bytes are not "AGF1". */
export class BadMagicError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_MAGIC';
  readonly code = BadMagicError.code;
  override readonly name = 'BadMagicError';
}

/** A version that this program does not know. */
export class UnsupportedVersionError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_VERSION';
  readonly code = UnsupportedVersionError.code;
  override readonly name = 'UnsupportedVersionError';
}

/** A reserved field is not zero. */
export class ReservedBitsError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_RESERVED';
  readonly code = ReservedBitsError.code;
  override readonly name = 'ReservedBitsError';
}

/** The header is for another round, author, model root or preset. */
export class HeaderMismatchError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_HEADER_MISMATCH';
  readonly code = HeaderMismatchError.code;
  override readonly name = 'HeaderMismatchError';
}

/** More records than the layout has tensors, or a tensor index outside the layout. */
export class UnknownTensorError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_UNKNOWN_TENSOR';
  readonly code = UnknownTensorError.code;
  override readonly name = 'UnknownTensorError';
}

/** Records are not in strictly ascending order of tensor. */
export class TensorOrderError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_TENSOR_ORDER';
  readonly code = TensorOrderError.code;
  override readonly name = 'TensorOrderError';
}

/** Value width is not 2, 8 or 32 bits, or one that the limits do not allow. */
export class UnknownValueTypeError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_VALUE_TYPE';
  readonly code = UnknownValueTypeError.code;
  override readonly name = 'UnknownValueTypeError';
}

/** Chunking or count mode is not one of those defined. */
export class UnknownModeError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_MODE';
  readonly code = UnknownModeError.code;
  override readonly name = 'UnknownModeError';
}

/** Rice parameter above the largest one defined. */
export class RiceParameterError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_RICE_PARAMETER';
  readonly code = RiceParameterError.code;
  override readonly name = 'RiceParameterError';
}

/** Elements per chunk are zero or more than the largest chunk of the tensor has. */
export class InvalidTopKError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_TOP_K';
  readonly code = InvalidTopKError.code;
  override readonly name = 'InvalidTopKError';
}

/** A chunk's count exceeds its bound, a record is empty, or counts are spelled out although every chunk is full. */
export class InvalidCountError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_COUNT';
  readonly code = InvalidCountError.code;
  override readonly name = 'InvalidCountError';
}

/** The submission holds more elements than the limits allow. */
export class TooManyEntriesError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_TOO_MANY_ENTRIES';
  readonly code = TooManyEntriesError.code;
  override readonly name = 'TooManyEntriesError';
}

/** An index lies outside its chunk. */
export class IndexOutOfBoundsError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_INDEX_BOUNDS';
  readonly code = IndexOutOfBoundsError.code;
  override readonly name = 'IndexOutOfBoundsError';
}

/** The index stream ends before all indices are read, or has bytes left after them. */
export class IndexStreamLengthError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_INDEX_STREAM_LENGTH';
  readonly code = IndexStreamLengthError.code;
  override readonly name = 'IndexStreamLengthError';
}

/** The unused bits of the last byte of a stream are not zero. */
export class NonZeroPaddingError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_PADDING';
  readonly code = NonZeroPaddingError.code;
  override readonly name = 'NonZeroPaddingError';
}

/** A value, or an entry of a value table, is not a finite number. */
export class NonFiniteValueError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_NON_FINITE';
  readonly code = NonFiniteValueError.code;
  override readonly name = 'NonFiniteValueError';
}

/** A value table contradicts itself: the 8-bit range has a lower end above its upper end. */
export class InvalidTableError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_TABLE';
  readonly code = InvalidTableError.code;
  override readonly name = 'InvalidTableError';
}

/** A value is larger than the recipe of the network allows. */
export class ValueTooLargeError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_VALUE_BOUND';
  readonly code = ValueTooLargeError.code;
  override readonly name = 'ValueTooLargeError';
}

/** The values of a tensor are together larger than the recipe of the network allows. */
export class TensorNormError extends MalformedUpdateError {
  static readonly code = 'ERR_AGF1_NORM_BOUND';
  readonly code = TensorNormError.code;
  override readonly name = 'TensorNormError';
}
