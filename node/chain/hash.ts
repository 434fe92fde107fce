/**
 * 32-byte SHA-256 hashes, as every consensus object names them.
 *
 * In memory a hash is a branded lower-case hex string: it compares, sorts (same order as its bytes) and keys a `Map`
 * without ceremony; on the wire it is 32 raw bytes.
 */
import { createHash } from 'node:crypto';

/** SHA-256 digest as 64 lower-case hex characters. */
export type Hash = string & { readonly __brand: 'Hash' };

/** The hash that stands for "nothing yet" (the parent of the first block). */
export const ZERO_HASH = '0'.repeat(64) as Hash;

/** Thrown when text or bytes are not a 32-byte hash. */
export class InvalidHashError extends Error {
  static readonly code = 'ERR_INVALID_HASH';
  readonly code = InvalidHashError.code;
  override readonly name = 'InvalidHashError';
}

/** Reads 64 hex characters as a {@link Hash}. Throws {@link InvalidHashError}. */
export function parseHash(text: string): Hash {
  if (!/^[0-9a-f]{64}$/.test(text))
    throw new InvalidHashError(`not a 32-byte lower-case hex hash: ${text.slice(0, 80)}`);
  return text as Hash;
}

/** Names 32 raw bytes as a {@link Hash}. Throws {@link InvalidHashError}. */
export function hashFromBytes(bytes: Uint8Array): Hash {
  if (bytes.length !== 32) throw new InvalidHashError(`a hash has 32 bytes, got ${bytes.length}`);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex') as Hash;
}

/** The 32 raw bytes of a hash. */
export function hashBytes(hash: Hash): Uint8Array {
  return new Uint8Array(Buffer.from(hash, 'hex'));
}

/**
 * SHA-256 over a domain tag and parts. The tag is length-prefixed, so that no two purposes ever hash the same bytes;
 * the parts are concatenated as they are, so callers pass fixed-size parts or one self-delimiting encoding.
 */
export function domainHash(domain: string, ...parts: readonly Uint8Array[]): Hash {
  const tag = Buffer.from(domain, 'utf8');
  const hasher = createHash('sha256');
  hasher.update(Uint8Array.of(tag.length)).update(tag);
  for (const part of parts) hasher.update(part);
  return hasher.digest('hex') as Hash;
}
