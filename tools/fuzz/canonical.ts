/** What the targets of the chain's formats share: whatever is accepted must be the one encoding of its value. */
import { DecodeError } from '../../node/chain/codec.ts';
import { requireSound } from './target.ts';

/** A decoder with the encoder that undoes it. */
export interface Format {
  readonly decodeThenEncode: (bytes: Uint8Array) => Uint8Array;
}

/** Ties a decoder and an encoder together, whatever their value is. */
export function format<T>(decode: (bytes: Uint8Array) => T, encode: (value: T) => Uint8Array): Format {
  return { decodeThenEncode: (bytes) => encode(decode(bytes)) };
}

/** Decodes `bytes` in a format; the outcome is the code of a DecodeError or `accepted`. */
export function runFormat({ decodeThenEncode }: Format, bytes: Uint8Array): string {
  try {
    requireSound(Buffer.compare(decodeThenEncode(bytes), bytes) === 0, 'only canonical encodings are accepted');
    return 'accepted';
  } catch (error) {
    if (error instanceof DecodeError) return error.code;
    throw error;
  }
}

/**
 * Decoding reads a copy, makes the value, and writes it again to compare. A value is at most some 100 objects per byte of
 * input in the formats at hand (empty byte strings in a list: one byte each).
 */
export function canonicalCap(inputBytes: number): number {
  return 128 * 1024 + 1024 * inputBytes;
}
