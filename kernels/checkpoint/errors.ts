/** What can be wrong with a tensor file. All share {@link TensorFileError}; `code` says which. */

/** Base of all failures to read a tensor file. */
export abstract class TensorFileError extends Error {
  abstract readonly code: string;
}

/** The file is shorter or longer than its header says, or has no whole header. */
export class TensorFileSizeError extends TensorFileError {
  static readonly code = 'ERR_TENSOR_FILE_SIZE';
  readonly code = TensorFileSizeError.code;
  override readonly name = 'TensorFileSizeError';
}

/** The file is no tensor file, of a version that this program does not know, or its header was damaged. */
export class TensorFileHeaderError extends TensorFileError {
  static readonly code = 'ERR_TENSOR_FILE_HEADER';
  readonly code = TensorFileHeaderError.code;
  override readonly name = 'TensorFileHeaderError';
}

/** The numbers in the file are not those that its header names: damaged. */
export class TensorFileContentError extends TensorFileError {
  static readonly code = 'ERR_TENSOR_FILE_CONTENT';
  readonly code = TensorFileContentError.code;
  override readonly name = 'TensorFileContentError';
}

/** The file is sound but holds something else: another preset, another kind of state, another number of parameters. */
export class TensorFileMismatchError extends TensorFileError {
  static readonly code = 'ERR_TENSOR_FILE_MISMATCH';
  readonly code = TensorFileMismatchError.code;
  override readonly name = 'TensorFileMismatchError';
}

/** The file was being written when its program ended: no whole state is in it. */
export class TensorFileIncompleteError extends TensorFileError {
  static readonly code = 'ERR_TENSOR_FILE_INCOMPLETE';
  readonly code = TensorFileIncompleteError.code;
  override readonly name = 'TensorFileIncompleteError';
}
