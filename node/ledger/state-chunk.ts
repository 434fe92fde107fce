/**
 * A state in pieces: all entries whose path begins with the same `depth` bits, with the proof that they are all of them.
 * So a newcomer can fetch a state from many strangers and check each piece by itself, against nothing but the root.
 */
import { Bytes, type CodecType, Option, Struct, str } from 'scale-ts';
import { decodeStrict, hashCodec, Vector } from '../chain/codec.ts';
import type { Hash } from '../chain/hash.ts';
import {
  type Bytes32,
  bitAt,
  EMPTY_HASH,
  fromHash,
  hashOf,
  innerHash,
  leafHashOfDigest,
  pathOf,
  StateTree,
  sha256,
  type TreeNode,
  toHash,
} from './tree.ts';

/** Most bits by which a state is cut: 65,536 pieces. */
export const MAX_CHUNK_DEPTH = 16;

const chunkCodec = Struct({
  entries: Vector(Struct({ key: str, value: Bytes() })),
  /** Hash of the other subtree at each step from the top; `undefined` where it is empty. At most `depth` of them. */
  siblings: Vector(Option(hashCodec)),
  /** The only entry of the subtree at which the walk ends early, where that entry belongs to another chunk. */
  other: Option(Struct({ path: hashCodec, valueDigest: hashCodec })),
});
export type StateChunk = CodecType<typeof chunkCodec>;

export function encodeChunk(chunk: StateChunk): Uint8Array {
  return chunkCodec.enc(chunk);
}

/** Reads a chunk of at most `maxBytes`; throws DecodeError. */
export function decodeChunk(bytes: Uint8Array, maxBytes: number): StateChunk {
  return decodeStrict(chunkCodec, bytes, maxBytes, 'state chunk');
}

/** Thrown when a chunk is not the piece of the state that it should be. */
export class InvalidChunkError extends Error {
  static readonly code = 'ERR_INVALID_STATE_CHUNK';
  readonly code = InvalidChunkError.code;
  override readonly name = 'InvalidChunkError';
}

/** Bit `index` of a chunk's position, most significant first. */
const positionBit = (position: number, depth: number, index: number): 0 | 1 =>
  ((position >> (depth - 1 - index)) & 1) as 0 | 1;

function isInChunk(path: Bytes32, depth: number, position: number): boolean {
  for (let index = 0; index < depth; index++)
    if (bitAt(path, index) !== positionBit(position, depth, index)) return false;
  return true;
}

/** Thrown when a chunk would be larger than allowed: the state has to be cut into more pieces. */
export class ChunkTooLargeError extends Error {
  static readonly code = 'ERR_STATE_CHUNK_TOO_LARGE';
  readonly code = ChunkTooLargeError.code;
  override readonly name = 'ChunkTooLargeError';
}

/** Every entry below a node, in the order of paths. */
function* entriesBelow(node: TreeNode): IterableIterator<{ key: string; value: Uint8Array }> {
  const waiting: TreeNode[] = [node];
  while (waiting.length > 0) {
    const next = waiting.pop();
    if (next?.kind === 'leaf') yield { key: next.key, value: next.value };
    else if (next !== undefined) waiting.push(next.right, next.left);
  }
}

/**
 * Piece number `position` of `2 ** depth`. Depth 0 is the whole state. Throws {@link ChunkTooLargeError} as soon as keys
 * and values have more than `maxBytes`: whoever asks chooses the depth.
 */
export function chunkOf(
  tree: StateTree,
  depth: number,
  position: number,
  maxBytes: number = Number.POSITIVE_INFINITY,
): StateChunk {
  const siblings: (Hash | undefined)[] = [];
  let node = tree.top;
  while (node?.kind === 'inner' && siblings.length < depth) {
    const goRight = positionBit(position, depth, siblings.length) === 1;
    const sibling = goRight ? node.left : node.right;
    siblings.push(sibling === undefined ? undefined : toHash(hashOf(sibling)));
    node = goRight ? node.right : node.left;
  }
  if (node?.kind === 'leaf' && !isInChunk(node.path, depth, position)) {
    const other = { path: toHash(node.path), valueDigest: toHash(sha256(node.value)) };
    return { entries: [], siblings, other };
  }
  const entries: { key: string; value: Uint8Array }[] = [];
  let bytes = 0;
  for (const entry of entriesBelow(node)) {
    bytes += entry.key.length + entry.value.length;
    if (bytes > maxBytes)
      throw new ChunkTooLargeError(`piece ${position} of 2^${depth} has more than ${maxBytes} bytes`);
    entries.push(entry);
  }
  return { entries, siblings, other: undefined };
}

/**
 * Checks that a chunk holds exactly the entries that the state with this root has for these bits of the path. Throws
 * {@link InvalidChunkError}. O(entries).
 */
export function verifyChunk(root: Hash, depth: number, position: number, chunk: StateChunk): void {
  const { entries, siblings, other } = chunk;
  if (siblings.length > depth) throw new InvalidChunkError(`the proof walks ${siblings.length} of ${depth} bits`);
  const keys = new Set(entries.map(({ key }) => key));
  if (keys.size !== entries.length) throw new InvalidChunkError('a key is there twice');
  if (!entries.every(({ key }) => isInChunk(pathOf(key), depth, position)))
    throw new InvalidChunkError('an entry belongs to another chunk');
  let hash: Bytes32;
  if (other !== undefined) {
    const path = fromHash(other.path);
    if (entries.length > 0 || isInChunk(path, depth, position))
      throw new InvalidChunkError('the entry that should stand in the way belongs here');
    hash = leafHashOfDigest(path, fromHash(other.valueDigest));
  } else {
    let node = StateTree.empty.with(entries.map(({ key, value }) => [key, value] as const)).top;
    // Alone, the entries hang below a chain of nodes with one side; in the state the chain is as long as the proof.
    for (let index = 0; index < siblings.length && node?.kind === 'inner'; index++)
      node = positionBit(position, depth, index) === 1 ? node.right : node.left;
    hash = node === undefined ? EMPTY_HASH : hashOf(node);
  }
  for (let index = siblings.length - 1; index >= 0; index--) {
    const named = siblings[index];
    const sibling = named === undefined ? EMPTY_HASH : fromHash(named);
    hash = positionBit(position, depth, index) === 1 ? innerHash(sibling, hash) : innerHash(hash, sibling);
  }
  if (toHash(hash) !== root) throw new InvalidChunkError(`the chunk leads to ${toHash(hash)}, not to ${root}`);
}

/** Smallest depth at which pieces of a state of so many bytes have about `chunkBytes`. Paths are hashes: pieces are alike. */
export function chunkDepth(stateBytes: number, chunkBytes: number): number {
  let depth = 0;
  while (depth < MAX_CHUNK_DEPTH && stateBytes > chunkBytes * (1 << depth)) depth += 1;
  return depth;
}
