/**
 * The message under the beacon's VRF. Proposer and ledger both need it, so it is defined once, here.
 *
 * The beacon is only as good as the freedom it leaves: the message holds nothing that a proposer can choose, so each
 * proposer has exactly one possible output for a height.
 */
import { u32 } from 'scale-ts';
import { domainHash, type Hash, hashBytes } from './hash.ts';

const DOMAIN = new TextEncoder().encode('alice/beacon-proof/1');

/**
 * Bytes that the proposer of `height` proves (`AccountSigner.prove`) and everyone checks (`verifyProof`).
 * `networkId`: the 8-byte id of the genesis. `height`: of the block that will carry the proof. `previousBeacon`: the
 * beacon of its parent. Every part has a fixed size, so no two inputs share their bytes.
 */
export function beaconMessage(networkId: Uint8Array, height: number, previousBeacon: Hash): Uint8Array {
  return Buffer.concat([DOMAIN, networkId, u32.enc(height), hashBytes(previousBeacon)]);
}

/**
 * Hash of a whole beacon proof, as a header carries it. A VRF proof may be right in many encodings and wrong in all
 * others, and telling them apart costs milliseconds; bound by the header it is told apart by a hash, and a proof that is
 * wrong is its proposer's own.
 */
export function beaconProofHash(beaconProof: Uint8Array): Hash {
  return domainHash('alice/beacon-proof-hash/1', beaconProof);
}

/** The beacon before the first block: the parent's beacon of height 1. */
export function genesisBeacon(genesisHash: Hash): Hash {
  return domainHash('alice/genesis-beacon/1', hashBytes(genesisHash));
}
