/**
 * What a blob is made of. A blob's name is the CID of its manifest: CIDv1, codec raw, sha2-256 over the manifest's
 * canonical encoding, in base32 text (`bafkrei...`).
 *
 * Canonical encoding (SCALE): `version: u8 = 1 | size: u64 | chunkBytes: u32 | chunks: Vec<[u8; 32]>`, integers
 * little-endian, the vector with its compact length in front. Chunks are sha2-256 hashes of the blob's consecutive pieces
 * of `chunkBytes`, the last one shorter. Equal bytes have equal manifests, because the chunk size is fixed.
 */
import { createHash } from 'node:crypto';
import { Struct, u8, u32, u64 } from 'scale-ts';
import { decodeStrict, hashCodec, Vector } from '../chain/codec.ts';
import type { Hash } from '../chain/hash.ts';
import { cidFromDigest, parseCid } from '../network/names.ts';
import { InvalidManifestError, NotABlobError } from './errors.ts';

/** Bytes of a chunk: one request pulls one (DESIGN 4). */
export const CHUNK_BYTES = 1024 * 1024;

/** Largest manifest, so that it too fits into one answer. */
export const MAX_MANIFEST_BYTES = 1024 * 1024;

/** Most chunks that a manifest can list. */
export const MAX_CHUNKS = Math.floor((MAX_MANIFEST_BYTES - 17) / 32);

/** Largest blob: about 32 GiB. */
export const MAX_BLOB_BYTES = MAX_CHUNKS * CHUNK_BYTES;

const VERSION = 1;

const manifestCodec = Struct({ version: u8, size: u64, chunkBytes: u32, chunks: Vector(hashCodec) });

/** A blob's size and the hashes of its chunks. */
export interface Manifest {
  /** CID of this manifest, which names the blob. */
  readonly cid: string;
  /** Bytes of the blob. */
  readonly size: number;
  /** sha2-256 of each chunk. */
  readonly chunks: readonly Hash[];
  /** Canonical encoding: what the CID hashes. */
  readonly encoded: Uint8Array;
}

/** Builds the manifest of a blob. Throws {@link InvalidManifestError} when the chunks do not fit the size. */
export function makeManifest(size: number, chunks: readonly Hash[]): Manifest {
  if (!Number.isSafeInteger(size) || size < 0 || chunks.length !== Math.ceil(size / CHUNK_BYTES)) {
    throw new InvalidManifestError(`${chunks.length} chunks do not make ${size} bytes`);
  }
  if (chunks.length > MAX_CHUNKS) throw new InvalidManifestError(`a blob of ${size} bytes is too large`);
  const encoded = manifestCodec.enc({
    version: VERSION,
    size: BigInt(size),
    chunkBytes: CHUNK_BYTES,
    chunks: [...chunks],
  });
  return { cid: cidOf(encoded), size, chunks, encoded };
}

/**
 * Reads the manifest that `cid`, in any spelling, names. Throws {@link InvalidManifestError} when these are not the bytes
 * that it names, {@link NotABlobError} when they are and make no manifest, InvalidCidError.
 */
export function readManifest(cid: string, encoded: Uint8Array): Manifest {
  // The hash first: only bytes that the name vouches for are decoded. Digests, not texts, are compared.
  const name = cidOf(encoded);
  if (name !== contentId(cid)) throw new InvalidManifestError(`not the manifest of ${cid}`);
  let manifest: ReturnType<typeof manifestCodec.dec>;
  try {
    manifest = decodeStrict(manifestCodec, encoded, MAX_MANIFEST_BYTES, 'manifest');
  } catch (cause) {
    throw new NotABlobError(`${cid} names no manifest`, { cause });
  }
  const size = Number(manifest.size);
  if (
    manifest.version !== VERSION ||
    manifest.chunkBytes !== CHUNK_BYTES ||
    !Number.isSafeInteger(size) ||
    manifest.chunks.length !== Math.ceil(size / CHUNK_BYTES)
  ) {
    throw new NotABlobError(`${cid}: a manifest that contradicts itself`);
  }
  return { cid: name, size, chunks: manifest.chunks, encoded: encoded.slice() };
}

/** Bytes of the chunk with this index. */
export function chunkLength(manifest: Manifest, index: number): number {
  return Math.min(CHUNK_BYTES, manifest.size - index * CHUNK_BYTES);
}

/** sha2-256 of a chunk. */
export function hashChunk(bytes: Uint8Array): Hash {
  return createHash('sha256').update(bytes).digest('hex') as Hash;
}

/** CID text of a manifest's encoding. */
function cidOf(encoded: Uint8Array): string {
  return cidFromDigest(createHash('sha256').update(encoded).digest()).toString();
}

/** The 32-byte digest inside a blob's CID. Throws InvalidCidError. */
export function cidDigest(cid: string): Uint8Array {
  return parseCid(cid).multihash.digest;
}

/** The canonical text of a blob's CID in any spelling: what the ledger and the store name it by. Throws InvalidCidError. */
export function contentId(cid: string): string {
  return cidText(cidDigest(cid));
}

/** CID text of a digest. */
export function cidText(digest: Uint8Array): string {
  return cidFromDigest(digest).toString();
}

/** CID that a blob of these bytes has. */
export function blobCid(bytes: Uint8Array): string {
  const chunks: Hash[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) chunks.push(hashChunk(bytes.subarray(at, at + CHUNK_BYTES)));
  return makeManifest(bytes.length, chunks).cid;
}
