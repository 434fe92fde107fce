/**
 * Documents of a file, as a stream.
 */
import { createReadStream } from 'node:fs';
import { readJsonLines } from './jsonl.ts';
import { type SourceFile, unreadable } from './sources.ts';
import { splitText } from './split-text.ts';
import { decodeUtf8 } from './utf8.ts';
import { decompressZstd } from './zstd.ts';

/** Bytes read at a time: large enough for speed, small enough that encoding one chunk does not hold up the event loop. */
const READ_BYTES = 256 * 1024;

/** How to read documents. */
export interface ReadOptions {
  /** Wished length of documents cut from running text, in UTF-16 code units: see {@link splitText}. */
  readonly documentLength: number;
  /** Called with the number of bytes on disk after every read. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Yields the documents of a file in order, none empty, holding a few hundred kilobytes (for JSON lines: one line).
 * Throws the errors of {@link decodeUtf8}, {@link readJsonLines}, {@link decompressZstd}, and {@link UnreadableSourceError}
 * or {@link MissingSourceError} when the file system fails.
 */
export function readDocuments(file: SourceFile, options: ReadOptions): AsyncIterable<string> {
  const bytes = readFile(file, options);
  switch (file.format) {
    case 'text':
      return splitText(decodeUtf8(bytes, file.name), options.documentLength);
    case 'jsonl':
      return readJsonLines(bytes, file.name);
    case 'jsonl.zst':
      return readJsonLines(decompressZstd(bytes, file.name), file.name);
  }
}

/** Bytes of a file in chunks. Each chunk is a buffer of its own. */
export async function* readFile(
  file: Pick<SourceFile, 'path' | 'name'>,
  { onBytes, signal }: Pick<ReadOptions, 'onBytes' | 'signal'> = {},
): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(file.path, { highWaterMark: READ_BYTES, signal })) {
      onBytes?.((chunk as Uint8Array).length);
      yield chunk as Uint8Array;
    }
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreadable(file.name, cause);
  }
}
