/**
 * The ledger's state as one authenticated key-value map: an immutable binary Merkle radix tree over `sha256(key)`.
 *
 * Form (a compact sparse Merkle tree, as in Diem's Jellyfish): walking down the bits of the path, most significant
 * first, a subtree without entries is empty, a subtree with one entry is that leaf itself, and any other subtree is an
 * inner node. The form, and so the root, depends on the entries alone and not on the order of their insertion.
 *
 * Hashes: empty `0^32`; leaf `sha256(0x00 || path || sha256(value))`; inner `sha256(0x01 || left || right)`.
 * An update shares every untouched subtree with the tree before it, and a root hashes only what changed:
 * O(changed * log n).
 */
import { hash as digest } from 'node:crypto';
import type { Hash } from '../chain/hash.ts';

/** 32 raw bytes as a string of 32 characters below 256: a third of the memory of a Buffer, and it compares by byte. */
export type Bytes32 = string & { readonly __brand: 'Bytes32' };

/** Hash of the empty subtree. No SHA-256 digest with a known preimage is all zeros. */
export const EMPTY_HASH = '\0'.repeat(32) as Bytes32;

/** SHA-256 of bytes or of a UTF-8 string. */
export function sha256(data: Uint8Array | string): Bytes32 {
  // 'binary' is Node's older name of latin1, one character a byte.
  return digest('sha256', data, 'binary') as string as Bytes32;
}

/** Where a key sits in the tree. */
export function pathOf(key: string): Bytes32 {
  return sha256(key);
}

/** Bit `index` of a path, 0 being the most significant bit of the first byte. */
export function bitAt(path: Bytes32, index: number): 0 | 1 {
  return ((path.charCodeAt(index >> 3) >> (7 - (index & 7))) & 1) as 0 | 1;
}

function nodeHash(tag: 0 | 1, first: Bytes32, second: Bytes32): Bytes32 {
  const bytes = Buffer.allocUnsafe(65);
  bytes[0] = tag;
  bytes.write(first, 1, 'latin1');
  bytes.write(second, 33, 'latin1');
  return sha256(bytes);
}

/** Hash of a leaf from its path and the bytes of its value. */
export function leafHash(path: Bytes32, value: Uint8Array): Bytes32 {
  return nodeHash(0, path, sha256(value));
}

/** Hash of a leaf of which only the digest of the value is known. */
export function leafHashOfDigest(path: Bytes32, valueDigest: Bytes32): Bytes32 {
  return nodeHash(0, path, valueDigest);
}

/** Hash of an inner node. */
export function innerHash(left: Bytes32, right: Bytes32): Bytes32 {
  return nodeHash(1, left, right);
}

/** {@link Bytes32} as hex. */
export function toHash(bytes: Bytes32): Hash {
  return Buffer.from(bytes, 'latin1').toString('hex') as Hash;
}

/** Hex hash as {@link Bytes32}. */
export function fromHash(hash: Hash): Bytes32 {
  return Buffer.from(hash, 'hex').toString('latin1') as Bytes32;
}

/** One entry. `decoded` is a memo for readers: the value's decoded form, which must never be changed. */
export interface Leaf {
  readonly kind: 'leaf';
  readonly key: string;
  readonly path: Bytes32;
  readonly value: Uint8Array;
  hash: Bytes32 | undefined;
  decoded: unknown;
}

/** A subtree of at least two entries. `hash` is computed when it is first asked for. */
export interface Inner {
  readonly kind: 'inner';
  readonly left: TreeNode;
  readonly right: TreeNode;
  hash: Bytes32 | undefined;
}

/** `undefined` is the empty subtree. */
export type TreeNode = Leaf | Inner | undefined;

/** Hash of a subtree, computing what is missing. */
export function hashOf(node: TreeNode): Bytes32 {
  if (node === undefined) return EMPTY_HASH;
  node.hash ??=
    node.kind === 'leaf' ? leafHash(node.path, node.value) : innerHash(hashOf(node.left), hashOf(node.right));
  return node.hash;
}

/** One change to apply: a new value, or `undefined` to remove. */
interface Change {
  readonly key: string;
  readonly path: Bytes32;
  readonly value: Uint8Array | undefined;
}

/** Joins two halves into the one form that their entries allow. */
function join(left: TreeNode, right: TreeNode): TreeNode {
  if (left === undefined && right?.kind !== 'inner') return right;
  if (right === undefined && left?.kind !== 'inner') return left;
  return { kind: 'inner', left, right, hash: undefined };
}

/** Index of the first change in `[from, to)` whose path has bit `depth` set; the changes are sorted by path. */
function split(changes: readonly Change[], from: number, to: number, depth: number): number {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bitAt(changes[middle].path, depth) === 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** Subtree of the changes `[from, to)` that set something, and of one leaf that was there before. */
function build(
  before: Leaf | undefined,
  changes: readonly Change[],
  from: number,
  to: number,
  depth: number,
): TreeNode {
  if (from === to) return before;
  if (to - from === 1 && (before === undefined || before.path === changes[from].path)) {
    const { key, path, value } = changes[from];
    if (value === undefined) return undefined;
    if (before !== undefined && equalBytes(before.value, value)) return before;
    return { kind: 'leaf', key, path, value, hash: undefined, decoded: undefined };
  }
  const middle = split(changes, from, to, depth);
  const onRight = before !== undefined && bitAt(before.path, depth) === 1;
  return join(
    build(onRight ? undefined : before, changes, from, middle, depth + 1),
    build(onRight ? before : undefined, changes, middle, to, depth + 1),
  );
}

function apply(node: TreeNode, changes: readonly Change[], from: number, to: number, depth: number): TreeNode {
  if (from === to) return node;
  if (node?.kind !== 'inner') return build(node, changes, from, to, depth);
  const middle = split(changes, from, to, depth);
  const left = apply(node.left, changes, from, middle, depth + 1);
  const right = apply(node.right, changes, middle, to, depth + 1);
  return left === node.left && right === node.right ? node : join(left, right);
}

/** An immutable authenticated map from text keys to byte values. */
export class StateTree {
  /** The map without entries. */
  static readonly empty = new StateTree(undefined);

  /** Topmost node, for proofs. */
  readonly top: TreeNode;

  private constructor(top: TreeNode) {
    this.top = top;
  }

  /** Root hash; all zeros for the empty map. */
  get root(): Hash {
    return toHash(hashOf(this.top));
  }

  /** The entry of a key. Neither it nor its bytes may be changed, except for the memo. */
  leaf(key: string): Leaf | undefined {
    const path = pathOf(key);
    let node = this.top;
    for (let depth = 0; node?.kind === 'inner'; depth++) node = bitAt(path, depth) === 0 ? node.left : node.right;
    return node?.path === path ? node : undefined;
  }

  /** The value of a key. The bytes may not be changed. */
  get(key: string): Uint8Array | undefined {
    return this.leaf(key)?.value;
  }

  /** The map with entries set (bytes) or removed (`undefined`). The bytes belong to the map from then on. */
  with(changes: Iterable<readonly [string, Uint8Array | undefined]>): StateTree {
    const sorted: Change[] = [];
    for (const [key, value] of changes) sorted.push({ key, path: pathOf(key), value });
    sorted.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
    for (let index = 1; index < sorted.length; index++) {
      if (sorted[index].path === sorted[index - 1].path) throw new Error(`key given twice: ${sorted[index].key}`);
    }
    const top = apply(this.top, sorted, 0, sorted.length, 0);
    return top === this.top ? this : new StateTree(top);
  }

  /** Every entry, in the order of their paths. */
  *entries(): IterableIterator<readonly [string, Uint8Array]> {
    const waiting: TreeNode[] = [this.top];
    while (waiting.length > 0) {
      const node = waiting.pop();
      if (node?.kind === 'leaf') yield [node.key, node.value];
      else if (node !== undefined) waiting.push(node.right, node.left);
    }
  }
}
