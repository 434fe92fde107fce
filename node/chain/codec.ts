/**
 * Strict SCALE decoding (Substrate's codec) for everything that crosses the network or is hashed.
 *
 * `scale-ts` tolerates trailing bytes and non-minimal compact integers. Here the only accepted encoding of a value is
 * the one this program itself would write, so that equal values have equal hashes and no byte can be smuggled along.
 */
import { Bytes, type Codec, compact, createCodec, createDecoder, enhanceCodec, Vector as ScaleVector } from 'scale-ts';
import { type AccountId, accountFromPublicKey, accountPublicKey } from './account.ts';
import { type Hash, hashBytes, hashFromBytes } from './hash.ts';

/** Thrown when bytes are not the canonical encoding of the expected value. */
export class DecodeError extends Error {
  static readonly code = 'ERR_DECODE';
  readonly code = DecodeError.code;
  override readonly name = 'DecodeError';
}

/** 32 raw bytes on the wire, {@link Hash} in memory. */
export const hashCodec: Codec<Hash> = enhanceCodec(Bytes(32), hashBytes, hashFromBytes);

/** 32 raw bytes on the wire, {@link AccountId} in memory. */
export const accountCodec: Codec<AccountId> = enhanceCodec(Bytes(32), accountPublicKey, accountFromPublicKey);

/**
 * A list, as the codec's own `Vector` writes it. That one makes room for as many elements as the bytes announce before it
 * reads any: five bytes from a stranger take a quarter of a gigabyte. Here room grows with what is read, and a list longer
 * than the bytes that are left (an element takes at least one) is refused at once.
 */
export function Vector<T>(inner: Codec<T>): Codec<T[]> {
  const decode = createDecoder((input) => {
    const count = Number(compact.dec(input));
    // Decoders of one value share an array that remembers its place in `i`.
    const left = input.length - (input as Uint8Array & { readonly i: number }).i;
    if (count > left) throw new DecodeError(`a list of ${count} elements in ${left} bytes`);
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(inner.dec(input));
    return items;
  });
  return createCodec(ScaleVector(inner).enc, decode);
}

/**
 * Decodes `bytes` as exactly one canonical value.
 * Throws {@link DecodeError} when they are longer than `maxBytes`, malformed, non-canonical, or leave bytes over.
 */
export function decodeStrict<T>(codec: Codec<T>, bytes: Uint8Array, maxBytes: number, what: string): T {
  if (bytes.length > maxBytes) throw new DecodeError(`${what}: ${bytes.length} bytes, at most ${maxBytes} allowed`);
  let value: T;
  let again: Uint8Array;
  try {
    // A copy, because scale-ts reads from the start of the underlying buffer and so misreads a view into a larger one.
    value = codec.dec(new Uint8Array(bytes));
    again = codec.enc(value);
  } catch (cause) {
    throw new DecodeError(`${what}: malformed encoding`, { cause });
  }
  if (again.length !== bytes.length || Buffer.compare(again, bytes) !== 0) {
    throw new DecodeError(`${what}: not the canonical encoding`);
  }
  return value;
}
