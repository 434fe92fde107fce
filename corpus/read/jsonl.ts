/**
 * Documents of JSON lines.
 */
import { Buffer } from 'node:buffer';
import { LineTooLongError, MalformedJsonLineError, MissingTextFieldError } from '../errors.ts';
import { normalizeDocument } from './split-text.ts';
import { decodeWhole, withoutByteOrderMark } from './utf8.ts';

/** Longest line, and so longest document, in bytes: the longest books of public data sets have some 5 MB. */
export const MAX_LINE_BYTES = 16 * 1024 * 1024;

const LINE_FEED = 0x0a;

/**
 * Yields field `text` of every line of a .jsonl stream; blank lines and empty texts are left out. Throws
 * {@link InvalidUtf8Error}, {@link MalformedJsonLineError}, {@link MissingTextFieldError}, {@link LineTooLongError}. Holds
 * one line and one chunk.
 */
export async function* readJsonLines(chunks: AsyncIterable<Uint8Array>, file: string): AsyncGenerator<string> {
  let number = 0;
  for await (const { line, offset } of splitLines(chunks, file)) {
    number++;
    const decoded = decodeWhole(line, file, offset);
    const text = number === 1 ? withoutByteOrderMark(decoded) : decoded;
    if (text.trim() === '') continue;
    const document = normalizeDocument(textField(text, file, number));
    if (document.length > 0) yield document;
  }
}

function textField(line: string, file: string, number: number): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    // The engine's message may quote the line: only its first words, on one line.
    const reason = (cause as Error).message.split('\n')[0].slice(0, 80);
    throw new MalformedJsonLineError(file, number, reason, { cause });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new MalformedJsonLineError(file, number, Array.isArray(value) ? 'an array' : `a ${typeof value} or null`);
  }
  const text = 'text' in value ? value.text : undefined;
  if (typeof text !== 'string') throw new MissingTextFieldError(file, number);
  return text;
}

/** Lines without their "\n", each with the offset of its first byte in the stream. */
async function* splitLines(
  chunks: AsyncIterable<Uint8Array>,
  file: string,
): AsyncGenerator<{ line: Buffer; offset: number }> {
  let parts: Buffer[] = [];
  let partsBytes = 0;
  let offset = 0;
  let number = 1;
  const take = (part: Buffer) => {
    partsBytes += part.length;
    if (partsBytes > MAX_LINE_BYTES) throw new LineTooLongError(file, number, MAX_LINE_BYTES);
    parts.push(part);
  };
  const finish = () => {
    const found = { line: parts.length === 1 ? parts[0] : Buffer.concat(parts), offset };
    offset += partsBytes + 1;
    parts = [];
    partsBytes = 0;
    number++;
    return found;
  };
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let start = 0;
    for (let end = bytes.indexOf(LINE_FEED); end !== -1; end = bytes.indexOf(LINE_FEED, start)) {
      take(bytes.subarray(start, end));
      yield finish();
      start = end + 1;
    }
    // Copied: the rest must not be lost when the reader reuses its buffer.
    if (start < bytes.length) take(Buffer.from(bytes.subarray(start)));
  }
  if (partsBytes > 0) yield finish();
}
