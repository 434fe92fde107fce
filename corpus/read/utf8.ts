/**
 * Strict UTF-8: bytes in chunks to text in chunks, with the place of the first wrong byte.
 */
import { Buffer, isUtf8 } from 'node:buffer';
import { InvalidUtf8Error } from '../errors.ts';

/** Longest UTF-8 sequence, in bytes. */
const MAX_SEQUENCE_BYTES = 4;

/**
 * Decodes a stream of chunks as UTF-8; characters may cross chunk borders. A byte order mark at the very start is left
 * out. Throws {@link InvalidUtf8Error} with the offset of the first byte that starts no valid character. Holds one chunk.
 */
export async function* decodeUtf8(chunks: AsyncIterable<Uint8Array>, file: string): AsyncGenerator<string> {
  let carried: Buffer = Buffer.alloc(0);
  /** Offset in the file of the first carried byte. */
  let offset = 0;
  for await (const chunk of chunks) {
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const bytes = carried.length === 0 ? view : Buffer.concat([carried, view]);
    const end = completeLength(bytes);
    const text = decodeWhole(bytes.subarray(0, end), file, offset);
    // Copied: the rest must not be lost when the reader reuses its buffer.
    carried = Buffer.from(bytes.subarray(end));
    if (text.length > 0) yield offset === 0 ? withoutByteOrderMark(text) : text;
    offset += end;
  }
  if (carried.length > 0) throw invalid(carried, file, offset);
}

/** Decodes bytes that are complete. `offset` is where they stand in the file. Throws {@link InvalidUtf8Error}. */
export function decodeWhole(bytes: Buffer, file: string, offset: number): string {
  if (!isUtf8(bytes)) throw invalid(bytes, file, offset);
  return bytes.toString('utf8');
}

/** The text without a leading U+FEFF. */
export function withoutByteOrderMark(text: string): string {
  return text.startsWith('\ufeff') ? text.slice(1) : text;
}

function invalid(bytes: Uint8Array, file: string, offset: number): InvalidUtf8Error {
  const at = offset + firstInvalid(bytes);
  const utf16 = offset === 0 && ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff));
  return new InvalidUtf8Error(file, at, utf16 ? 'it looks like UTF-16: convert the file to UTF-8' : undefined);
}

/** Number of leading bytes that hold whole characters: all but a sequence that a further chunk may complete. */
function completeLength(bytes: Uint8Array): number {
  for (let back = 1; back < MAX_SEQUENCE_BYTES && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back];
    if ((byte & 0xc0) === 0x80) continue;
    const need = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return need > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** Index of the first byte that starts no valid character; the length when all are valid. */
export function firstInvalid(bytes: Uint8Array): number {
  // Halve down to a few bytes; a prefix cut inside a character is judged up to that character.
  let valid = 0;
  let end = bytes.length;
  while (end - valid > 16) {
    const middle = valid + ((end - valid) >> 1);
    const whole = valid + completeLength(bytes.subarray(valid, middle));
    if (isUtf8(bytes.subarray(valid, whole))) valid = whole;
    else end = whole;
  }
  while (valid < bytes.length) {
    let length = 1;
    while (length <= MAX_SEQUENCE_BYTES && !isUtf8(bytes.subarray(valid, valid + length))) length++;
    if (length > MAX_SEQUENCE_BYTES || valid + length > bytes.length) return valid;
    valid += length;
  }
  return bytes.length;
}
