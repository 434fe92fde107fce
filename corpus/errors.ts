/**
 * What can be wrong with a corpus. Every message is one line that says what was wrong, where, and what to do.
 */

/** Base of every error of `corpus/`, so that a command can tell "your text" from "our fault". */
export abstract class CorpusError extends Error {
  abstract readonly code: string;
}

/** A file, folder or pattern that was named does not exist. */
export class MissingSourceError extends CorpusError {
  static readonly code = 'ERR_CORPUS_SOURCE_MISSING';
  readonly code = MissingSourceError.code;
  override readonly name = 'MissingSourceError';
}

/** A source exists and the operating system refuses to read it. */
export class UnreadableSourceError extends CorpusError {
  static readonly code = 'ERR_CORPUS_SOURCE_UNREADABLE';
  readonly code = UnreadableSourceError.code;
  override readonly name = 'UnreadableSourceError';
}

/** A file named by the user holds nothing, or no source holds any text. */
export class EmptySourceError extends CorpusError {
  static readonly code = 'ERR_CORPUS_SOURCE_EMPTY';
  readonly code = EmptySourceError.code;
  override readonly name = 'EmptySourceError';
}

/** A folder or pattern matches no file that could be read as text. */
export class NoSourceFilesError extends CorpusError {
  static readonly code = 'ERR_CORPUS_NO_FILES';
  readonly code = NoSourceFilesError.code;
  override readonly name = 'NoSourceFilesError';
}

/** A file named by the user has an extension that no reader knows. */
export class UnsupportedFormatError extends CorpusError {
  static readonly code = 'ERR_CORPUS_FORMAT_UNSUPPORTED';
  readonly code = UnsupportedFormatError.code;
  override readonly name = 'UnsupportedFormatError';
}

/** Bytes that are not UTF-8. `offset` counts bytes from the start of the (decompressed) file. */
export class InvalidUtf8Error extends CorpusError {
  static readonly code = 'ERR_CORPUS_NOT_UTF8';
  readonly code = InvalidUtf8Error.code;
  override readonly name = 'InvalidUtf8Error';
  readonly file: string;
  readonly offset: number;
  constructor(file: string, offset: number, hint = 'convert the file to UTF-8') {
    super(`${file}: not UTF-8 at byte ${offset}; ${hint}`);
    this.file = file;
    this.offset = offset;
  }
}

/** A line of a .jsonl file is not a JSON object. `line` counts from 1. */
export class MalformedJsonLineError extends CorpusError {
  static readonly code = 'ERR_CORPUS_JSON_LINE';
  readonly code = MalformedJsonLineError.code;
  override readonly name = 'MalformedJsonLineError';
  readonly file: string;
  readonly line: number;
  constructor(file: string, line: number, reason: string, options?: ErrorOptions) {
    super(`${file}:${line}: not a JSON object (${reason}); every line must be one object with a "text" field`, options);
    this.file = file;
    this.line = line;
  }
}

/** A line of a .jsonl file has no field `text`, or it is not a string. `line` counts from 1. */
export class MissingTextFieldError extends CorpusError {
  static readonly code = 'ERR_CORPUS_TEXT_FIELD';
  readonly code = MissingTextFieldError.code;
  override readonly name = 'MissingTextFieldError';
  readonly file: string;
  readonly line: number;
  constructor(file: string, line: number) {
    super(`${file}:${line}: no string field "text"; rename the field that holds the document to "text"`);
    this.file = file;
    this.line = line;
  }
}

/** A line of a .jsonl file is longer than the reader holds in memory. `line` counts from 1. */
export class LineTooLongError extends CorpusError {
  static readonly code = 'ERR_CORPUS_LINE_TOO_LONG';
  readonly code = LineTooLongError.code;
  override readonly name = 'LineTooLongError';
  constructor(file: string, line: number, limitBytes: number) {
    super(`${file}:${line}: line longer than ${limitBytes} bytes; split the document over several lines`);
  }
}

/** A .zst file is damaged, cut short, or not Zstandard. */
export class InvalidCompressionError extends CorpusError {
  static readonly code = 'ERR_CORPUS_ZSTD';
  readonly code = InvalidCompressionError.code;
  override readonly name = 'InvalidCompressionError';
}

/** The package with the default corpus is not there or not as expected. */
export class MissingDefaultCorpusError extends CorpusError {
  static readonly code = 'ERR_CORPUS_DEFAULT_MISSING';
  readonly code = MissingDefaultCorpusError.code;
  override readonly name = 'MissingDefaultCorpusError';
}

/** Too little text, or too few documents, for two training shards and one held-out shard. */
export class CorpusTooSmallError extends CorpusError {
  static readonly code = 'ERR_CORPUS_TOO_SMALL';
  readonly code = CorpusTooSmallError.code;
  override readonly name = 'CorpusTooSmallError';
}

/** The folder for shards cannot be written. */
export class CorpusOutputError extends CorpusError {
  static readonly code = 'ERR_CORPUS_OUTPUT';
  readonly code = CorpusOutputError.code;
  override readonly name = 'CorpusOutputError';
}

/** An option is out of its range: shard size, held-out share, seed length, number of windows, ... */
export class InvalidCorpusOptionError extends CorpusError {
  static readonly code = 'ERR_CORPUS_OPTION';
  readonly code = InvalidCorpusOptionError.code;
  override readonly name = 'InvalidCorpusOptionError';
}

/** A vocabulary outside what the tokenizer supports. */
export class InvalidVocabularyError extends CorpusError {
  static readonly code = 'ERR_VOCABULARY';
  readonly code = InvalidVocabularyError.code;
  override readonly name = 'InvalidVocabularyError';
}

/** A token id that the vocabulary does not have. */
export class UnknownTokenError extends CorpusError {
  static readonly code = 'ERR_TOKEN_UNKNOWN';
  readonly code = UnknownTokenError.code;
  override readonly name = 'UnknownTokenError';
}

/** Bytes that are not a shard, or a shard that is damaged, cut short, of another version, or not the one expected. */
export class InvalidShardError extends CorpusError {
  static readonly code = 'ERR_SHARD_INVALID';
  readonly code = InvalidShardError.code;
  override readonly name = 'InvalidShardError';
}

/** Bytes that are not a corpus manifest, of another version, or contradicting themselves. */
export class InvalidManifestError extends CorpusError {
  static readonly code = 'ERR_MANIFEST_INVALID';
  readonly code = InvalidManifestError.code;
  override readonly name = 'InvalidManifestError';
}
