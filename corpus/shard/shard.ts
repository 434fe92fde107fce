/**
 * Shard files: a fixed number of tokens, as miners and validators train and score on them.
 *
 * ```
 *  0  8  magic "ALICESHD"
 *  8  2  version, 1
 * 10  2  bytes of a token: 2 for vocabularies up to 65,536, else 4
 * 12  4  vocabulary: every token is below it
 * 16  4  number of tokens
 * 20 12  zero
 * 32 32  SHA-256 over bytes 0 to 31 and the tokens
 * 64     tokens
 * ```
 * All numbers little-endian, as the memory of every platform that Node and onnxruntime support. One file per content:
 * there is exactly one valid encoding of a list of tokens.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { InvalidShardError } from '../errors.ts';

/** Version of the format that is written, and the only one that is read. */
export const SHARD_VERSION = 1;

/** Most tokens of a shard: 2 MiB at two bytes, a size that a peer still pulls in seconds. */
export const MAX_SHARD_TOKENS = 1_048_576;

const MAGIC = Buffer.from('ALICESHD', 'latin1');
const HEADER_BYTES = 64;
const CHECKSUM_OFFSET = 32;
/** What the two-byte form can hold. */
const MAX_NARROW_VOCABULARY = 65_536;
/** No known vocabulary has a million tokens; a bound keeps ids exact in every consumer (int32, float32). */
const MAX_VOCABULARY = 1 << 24;

/** A shard in memory. */
export interface Shard {
  /** Every token is below this. */
  readonly vocabulary: number;
  readonly tokens: Uint16Array | Uint32Array;
}

/** Largest shard file that a reader accepts, for limits on transfers. */
export const MAX_SHARD_BYTES = HEADER_BYTES + MAX_SHARD_TOKENS * 4;

/** Size of the file of a shard. */
export function shardBytes(vocabulary: number, tokens: number): number {
  return HEADER_BYTES + tokens * tokenWidth(vocabulary);
}

function tokenWidth(vocabulary: number): 2 | 4 {
  return vocabulary <= MAX_NARROW_VOCABULARY ? 2 : 4;
}

/** File content of a shard. Throws {@link InvalidShardError} for what {@link readShard} would refuse. */
export function encodeShard({ vocabulary, tokens }: Shard): Uint8Array {
  checkCounts(vocabulary, tokens.length);
  checkTokens(tokens, vocabulary);
  const width = tokenWidth(vocabulary);
  const bytes = Buffer.alloc(shardBytes(vocabulary, tokens.length));
  MAGIC.copy(bytes);
  bytes.writeUInt16LE(SHARD_VERSION, 8);
  bytes.writeUInt16LE(width, 10);
  bytes.writeUInt32LE(vocabulary, 12);
  bytes.writeUInt32LE(tokens.length, 16);
  const payload = width === 2 ? Uint16Array.from(tokens) : Uint32Array.from(tokens);
  bytes.set(new Uint8Array(payload.buffer), HEADER_BYTES);
  checksum(bytes).copy(bytes, CHECKSUM_OFFSET);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Reads the bytes of a shard file, whoever sent them. Pure; allocates no more than the bytes themselves take, and the
 * tokens do not share memory with `bytes`. Throws {@link InvalidShardError} unless magic, version, width, vocabulary,
 * length, checksum and every token are right. A checksum tells damage, not malice: compare the hash of the whole file
 * with the manifest's too.
 */
export function readShard(bytes: Uint8Array): Shard {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < HEADER_BYTES) {
    throw new InvalidShardError(`shard cut short: ${view.length} bytes, the header alone has ${HEADER_BYTES}`);
  }
  if (!view.subarray(0, MAGIC.length).equals(MAGIC)) throw new InvalidShardError('not a shard: wrong magic');
  const version = view.readUInt16LE(8);
  if (version !== SHARD_VERSION) {
    throw new InvalidShardError(`shard of version ${version}; this program reads version ${SHARD_VERSION}`);
  }
  const vocabulary = view.readUInt32LE(12);
  const count = view.readUInt32LE(16);
  checkCounts(vocabulary, count);
  const width = tokenWidth(vocabulary);
  if (view.readUInt16LE(10) !== width) throw new InvalidShardError(`shard with a wrong token width, not ${width}`);
  const expected = HEADER_BYTES + count * width;
  if (view.length !== expected) {
    throw new InvalidShardError(`shard of ${count} tokens must have ${expected} bytes, got ${view.length}`);
  }
  if (view.subarray(20, CHECKSUM_OFFSET).some((byte) => byte !== 0)) {
    throw new InvalidShardError('shard with unknown header fields');
  }
  if (!checksum(view).equals(view.subarray(CHECKSUM_OFFSET, HEADER_BYTES))) {
    throw new InvalidShardError('shard damaged: checksum does not match');
  }
  // Copied, so that the tokens are aligned and the caller's buffer stays the caller's.
  const payload = new Uint8Array(count * width);
  payload.set(view.subarray(HEADER_BYTES));
  const tokens = width === 2 ? new Uint16Array(payload.buffer) : new Uint32Array(payload.buffer);
  checkTokens(tokens, vocabulary);
  return { vocabulary, tokens };
}

function checkCounts(vocabulary: number, tokens: number): void {
  if (!Number.isInteger(vocabulary) || vocabulary < 1 || vocabulary > MAX_VOCABULARY) {
    throw new InvalidShardError(`shard with a vocabulary of ${vocabulary}, must be 1 to ${MAX_VOCABULARY}`);
  }
  if (tokens < 1 || tokens > MAX_SHARD_TOKENS) {
    throw new InvalidShardError(`shard of ${tokens} tokens, must be 1 to ${MAX_SHARD_TOKENS}`);
  }
}

function checkTokens(tokens: Shard['tokens'], vocabulary: number): void {
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i] >= vocabulary) {
      throw new InvalidShardError(`shard with token ${tokens[i]} at ${i}, beyond its vocabulary of ${vocabulary}`);
    }
  }
}

function checksum(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes.subarray(0, CHECKSUM_OFFSET)).update(bytes.subarray(HEADER_BYTES)).digest();
}
