/**
 * Model root: a Merkle root (SHA-256) over the weights in chunks of 1 MiB, in canonical tensor order, fp32 little-endian.
 *
 * A leaf is a hash over the chunk's plain SHA-256 digest. The plain digest is also what names the chunk as a blob, so a
 * joiner can check a list of blobs against the root before fetching one, and nothing is hashed twice. Leaves, nodes and root
 * are in domains of their own, and the root covers the size; a level's odd last hash moves up as it is (RFC 9162's tree).
 */
import { createHash, hash } from 'node:crypto';
import { InvalidModelChunksError } from './errors.ts';

/** Bytes of a full chunk; the last one may be shorter. */
export const MODEL_CHUNK_BYTES = 1024 * 1024;

/** fp32 elements of a full chunk. */
export const MODEL_CHUNK_ELEMENTS = MODEL_CHUNK_BYTES / 4;

const HASH_BYTES = 32;

/** Same construction as the hashes of blocks: length-prefixed tag, then the parts. */
function taggedHash(tag: string, ...parts: readonly Uint8Array[]): Uint8Array {
  const tagBytes = Buffer.from(tag, 'utf8');
  const hasher = createHash('sha256').update(Uint8Array.of(tagBytes.length)).update(tagBytes);
  for (const part of parts) hasher.update(part);
  return hasher.digest();
}

function leafHash(digest: Uint8Array): Uint8Array {
  return taggedHash('alice/model-leaf/1', digest);
}

function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return taggedHash('alice/model-node/1', left, right);
}

function rootHash(totalBytes: number, top: Uint8Array): string {
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(totalBytes));
  return Buffer.from(taggedHash('alice/model-root/1', size, top)).toString('hex');
}

/** Plain SHA-256 of a chunk: the name of its blob. */
export function chunkDigest(chunk: Uint8Array): Uint8Array {
  return hash('sha256', chunk, 'buffer');
}

/** Number of chunks of a model of `elements` fp32 parameters. */
export function chunkCount(elements: number): number {
  return Math.ceil(elements / MODEL_CHUNK_ELEMENTS);
}

/** Bytes of chunk `chunk` of a model of `totalBytes`. */
export function chunkSize(totalBytes: number, chunk: number): number {
  return Math.min(MODEL_CHUNK_BYTES, totalBytes - chunk * MODEL_CHUNK_BYTES);
}

/**
 * Chunk `chunk` of the weights as bytes, without copying. The bytes are those of memory, so this needs a little-endian
 * machine, as all are on which Node runs except s390x: there it throws {@link InvalidModelChunksError}.
 */
export function weightChunk(weights: Float32Array, chunk: number): Uint8Array {
  if (new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1) {
    throw new InvalidModelChunksError('weights can be read as bytes on little-endian machines only');
  }
  if (!(chunk >= 0 && chunk < chunkCount(weights.length))) {
    throw new InvalidModelChunksError(`chunk ${chunk} of ${chunkCount(weights.length)}`);
  }
  const start = chunk * MODEL_CHUNK_BYTES;
  return new Uint8Array(weights.buffer, weights.byteOffset + start, chunkSize(weights.byteLength, chunk));
}

/** Proof that a chunk belongs to a model root. */
export interface ChunkProof {
  readonly chunk: number;
  readonly totalBytes: number;
  /** Sibling hashes from the leaf upwards; levels where the hash moves up alone have none. */
  readonly siblings: readonly Uint8Array[];
}

/** The chunk tree of a model. Updates rehash only the chunks that changed and their ancestors. */
export class ModelTree {
  readonly totalBytes: number;
  /** Levels from the leaves to the single top hash, each a run of 32-byte hashes. */
  readonly #levels: Uint8Array[] = [];
  readonly #digests: Uint8Array;

  private constructor(totalBytes: number, digests: Uint8Array) {
    this.totalBytes = totalBytes;
    this.#digests = digests;
    const chunks = digests.length / HASH_BYTES;
    const leaves = new Uint8Array(digests.length);
    for (let chunk = 0; chunk < chunks; chunk++) leaves.set(leafHash(this.digest(chunk)), chunk * HASH_BYTES);
    this.#levels.push(leaves);
    for (let width = chunks; width > 1; ) {
      width = Math.ceil(width / 2);
      this.#levels.push(new Uint8Array(width * HASH_BYTES));
      for (let node = 0; node < width; node++) this.#rehash(this.#levels.length - 1, node);
    }
  }

  /** Tree of weights; hashes all of them. Throws {@link InvalidModelChunksError} for a model without parameters. */
  static ofWeights(weights: Float32Array): ModelTree {
    const chunks = chunkCount(weights.length);
    const digests = new Uint8Array(chunks * HASH_BYTES);
    for (let chunk = 0; chunk < chunks; chunk++) {
      digests.set(chunkDigest(weightChunk(weights, chunk)), chunk * HASH_BYTES);
    }
    return ModelTree.ofDigests(weights.byteLength, digests);
  }

  /** Tree from the plain digests of all chunks, 32 bytes each in order. Throws {@link InvalidModelChunksError}. */
  static ofDigests(totalBytes: number, digests: Uint8Array): ModelTree {
    const chunks = Math.ceil(totalBytes / MODEL_CHUNK_BYTES);
    if (!Number.isSafeInteger(totalBytes) || totalBytes < 1 || digests.length !== chunks * HASH_BYTES) {
      throw new InvalidModelChunksError(`${digests.length} bytes of digests for a model of ${totalBytes} bytes`);
    }
    return new ModelTree(totalBytes, digests.slice());
  }

  /** Number of chunks. */
  get chunks(): number {
    return this.#digests.length / HASH_BYTES;
  }

  /** Model root, 64 lower-case hex characters. */
  get root(): string {
    return rootHash(this.totalBytes, this.#levels[this.#levels.length - 1]);
  }

  /** Plain SHA-256 digest of a chunk. */
  digest(chunk: number): Uint8Array {
    return this.#digests.slice(chunk * HASH_BYTES, (chunk + 1) * HASH_BYTES);
  }

  #hashAt(level: number, node: number): Uint8Array {
    return this.#levels[level].subarray(node * HASH_BYTES, (node + 1) * HASH_BYTES);
  }

  #rehash(level: number, node: number): void {
    const left = this.#hashAt(level - 1, node * 2);
    const right = this.#hashAt(level - 1, node * 2 + 1);
    this.#levels[level].set(right.length === 0 ? left : nodeHash(left, right), node * HASH_BYTES);
  }

  /** Rehashes the given chunks of weights that have changed. Throws {@link InvalidModelChunksError} for other sizes. */
  update(weights: Float32Array, changedChunks: Iterable<number>): void {
    if (weights.byteLength !== this.totalBytes) {
      throw new InvalidModelChunksError(`weights of ${weights.byteLength} bytes, the tree is of ${this.totalBytes}`);
    }
    let nodes = new Set<number>();
    for (const chunk of changedChunks) {
      const digest = chunkDigest(weightChunk(weights, chunk));
      this.#digests.set(digest, chunk * HASH_BYTES);
      this.#levels[0].set(leafHash(digest), chunk * HASH_BYTES);
      nodes.add(chunk);
    }
    for (let level = 1; level < this.#levels.length; level++) {
      nodes = new Set([...nodes].map((node) => node >>> 1));
      for (const node of nodes) this.#rehash(level, node);
    }
  }

  /** Proof for a chunk. */
  proof(chunk: number): ChunkProof {
    if (!(Number.isInteger(chunk) && chunk >= 0 && chunk < this.chunks)) {
      throw new InvalidModelChunksError(`chunk ${chunk} of ${this.chunks}`);
    }
    const siblings: Uint8Array[] = [];
    for (let level = 0, node = chunk; level < this.#levels.length - 1; level++, node >>>= 1) {
      const sibling = this.#hashAt(level, node ^ 1);
      if (sibling.length > 0) siblings.push(sibling.slice());
    }
    return { chunk, totalBytes: this.totalBytes, siblings };
  }
}

/** Root of weights, 64 lower-case hex characters. */
export function modelRoot(weights: Float32Array): string {
  return ModelTree.ofWeights(weights).root;
}

/** True when `bytes` are chunk `proof.chunk` of the model with this root. Never throws. */
export function verifyChunk(root: string, proof: ChunkProof, bytes: Uint8Array): boolean {
  const { chunk, totalBytes, siblings } = proof;
  if (!Number.isSafeInteger(totalBytes) || !Number.isSafeInteger(chunk) || chunk < 0) return false;
  let width = Math.ceil(totalBytes / MODEL_CHUNK_BYTES);
  if (chunk >= width || bytes.length !== chunkSize(totalBytes, chunk)) return false;
  let current = leafHash(chunkDigest(bytes));
  let used = 0;
  for (let node = chunk; width > 1; node = Math.floor(node / 2), width = Math.ceil(width / 2)) {
    if (node % 2 === 0 && node === width - 1) continue;
    const sibling = siblings[used++];
    if (sibling === undefined || sibling.length !== HASH_BYTES) return false;
    current = node % 2 === 0 ? nodeHash(current, sibling) : nodeHash(sibling, current);
  }
  return used === siblings.length && rootHash(totalBytes, current) === root;
}
