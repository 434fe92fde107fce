/**
 * Does a body belong to its header? A header, and so a block id and every signature of it, binds each byte of the body:
 * transactions and evidence by their roots, the beacon proof by its hash. Who delivers a header with another body has
 * made that body up; it says nothing about the block, nor about its proposer.
 */
import { beaconProofHash } from './beacon.ts';
import { type Block, transactionsRoot } from './block.ts';
import { evidenceRoot } from './evidence.ts';

/** The part of a body that is not the one its header names. */
export type BodyFault = 'beacon proof' | 'evidence' | 'transactions';

/** The first part that does not belong to the header; undefined when all do. Costs one hash of the block's bytes. */
export function bodyFault({ header, beaconProof, evidence, transactions }: Block): BodyFault | undefined {
  if (beaconProofHash(beaconProof) !== header.beaconProofHash) return 'beacon proof';
  if (evidenceRoot(evidence) !== header.evidenceRoot) return 'evidence';
  if (transactionsRoot(transactions) !== header.transactionsRoot) return 'transactions';
  return undefined;
}
