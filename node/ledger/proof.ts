/**
 * Proofs that a key has a value, or that it has none, against nothing but a state root.
 */

import { _void, Bytes, type CodecType, Enum, Option, Struct } from 'scale-ts';
import { decodeStrict, hashCodec, Vector } from '../chain/codec.ts';
import type { Hash } from '../chain/hash.ts';
import {
  type Bytes32,
  bitAt,
  EMPTY_HASH,
  fromHash,
  hashOf,
  innerHash,
  leafHash,
  leafHashOfDigest,
  pathOf,
  type StateTree,
  sha256,
  toHash,
} from './tree.ts';

/** A proof takes at most this many bytes: 256 siblings and a value. */
export const MAX_PROOF_BYTES = 1024 * 1024;

const proofCodec = Struct({
  /** Hash of the other subtree at each step from the top; `undefined` where it is empty. */
  siblings: Vector(Option(hashCodec)),
  /** Where the walk ends: at the key's own value, at nothing, or at the only entry of that subtree, another one. */
  end: Enum({ value: Bytes(), nothing: _void, other: Struct({ path: hashCodec, valueDigest: hashCodec }) }),
});
/** Proof of membership (`end.tag` "value") or of absence. */
export type StateProof = CodecType<typeof proofCodec>;

export function encodeProof(proof: StateProof): Uint8Array {
  return proofCodec.enc(proof);
}

/** Reads a proof; throws DecodeError. */
export function decodeProof(bytes: Uint8Array): StateProof {
  return decodeStrict(proofCodec, bytes, MAX_PROOF_BYTES, 'state proof');
}

/** Thrown when a proof does not lead from the key to the root. */
export class InvalidProofError extends Error {
  static readonly code = 'ERR_INVALID_STATE_PROOF';
  readonly code = InvalidProofError.code;
  override readonly name = 'InvalidProofError';
}

/** Proves what a tree holds, or does not hold, for a key. */
export function prove(tree: StateTree, key: string): StateProof {
  const path = pathOf(key);
  const siblings: (Hash | undefined)[] = [];
  let node = tree.top;
  while (node?.kind === 'inner') {
    const goRight = bitAt(path, siblings.length) === 1;
    const sibling = goRight ? node.left : node.right;
    siblings.push(sibling === undefined ? undefined : toHash(hashOf(sibling)));
    node = goRight ? node.right : node.left;
  }
  if (node === undefined) return { siblings, end: { tag: 'nothing', value: undefined } };
  if (node.path === path) return { siblings, end: { tag: 'value', value: node.value } };
  const valueDigest = sha256(node.value);
  return { siblings, end: { tag: 'other', value: { path: toHash(node.path), valueDigest: toHash(valueDigest) } } };
}

/**
 * The value that the state with this root has for the key, `undefined` when it proves that there is none.
 * Throws {@link InvalidProofError} when it proves nothing about this key under this root.
 */
export function verifyProof(root: Hash, key: string, proof: StateProof): Uint8Array | undefined {
  const path = pathOf(key);
  const depth = proof.siblings.length;
  if (depth > 256) throw new InvalidProofError(`a path has 256 bits, the proof walks ${depth}`);
  let hash: Bytes32;
  if (proof.end.tag === 'value') {
    hash = leafHash(path, proof.end.value);
  } else if (proof.end.tag === 'nothing') {
    hash = EMPTY_HASH;
  } else {
    const other = fromHash(proof.end.value.path);
    if (other === path) throw new InvalidProofError('the entry that should stand in the way is the key itself');
    // That the other entry lies on the path follows from the fold below: it goes by the bits of the key.
    hash = leafHashOfDigest(other, fromHash(proof.end.value.valueDigest));
  }
  for (let bit = depth - 1; bit >= 0; bit--) {
    const named = proof.siblings[bit];
    const sibling = named === undefined ? EMPTY_HASH : fromHash(named);
    hash = bitAt(path, bit) === 0 ? innerHash(hash, sibling) : innerHash(sibling, hash);
  }
  if (toHash(hash) !== root) throw new InvalidProofError(`the proof leads to ${toHash(hash)}, not to ${root}`);
  return proof.end.tag === 'value' ? proof.end.value : undefined;
}
