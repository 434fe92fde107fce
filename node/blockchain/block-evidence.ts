/** Evidence of equivocation between blocks and the ledger: reading it, proving it, and saying where it stands. */
import { DecodeError } from '../chain/codec.ts';
import {
  decodeEvidence,
  type EquivocationEvidence,
  InvalidEvidenceError,
  MAX_EVIDENCE_PER_BLOCK,
  verifyEvidence,
} from '../chain/evidence.ts';
import type { ValidatorSet } from '../chain/validator-set.ts';
import type { EvidenceStatus } from '../consensus/application.ts';
import { verifySession } from '../identity/signatures.ts';
import { InvalidBlockError } from '../ledger/errors.ts';
import { evidenceError } from '../ledger/offences.ts';
import type { LedgerState } from '../ledger/state.ts';

/** Where evidence stands with the block after a state. */
export function evidenceStatus(state: LedgerState, evidence: EquivocationEvidence): EvidenceStatus {
  switch (evidenceError(state, evidence, state.height + 1)) {
    case undefined:
      return 'new';
    case 'ERR_EVIDENCE_FROM_FUTURE':
      return 'early';
    case 'ERR_EVIDENCE_TOO_OLD':
      return 'expired';
    default:
      return 'known';
  }
}

/** The evidence of a block. Throws {@link InvalidBlockError} when it does not decode or is too much. */
export function readEvidence(encoded: readonly Uint8Array[]): EquivocationEvidence[] {
  if (encoded.length > MAX_EVIDENCE_PER_BLOCK)
    throw new InvalidBlockError(`${encoded.length} pieces of evidence, at most ${MAX_EVIDENCE_PER_BLOCK} allowed`);
  try {
    return encoded.map(decodeEvidence);
  } catch (cause) {
    if (cause instanceof DecodeError) throw new InvalidBlockError('evidence of the block does not decode', { cause });
    throw cause;
  }
}

/**
 * Checks evidence against the sets of its heights. The state tells them for as long as evidence about them counts, also to
 * a node that began at a snapshot. Throws {@link InvalidBlockError}.
 */
export function proveEvidence(
  evidence: readonly EquivocationEvidence[],
  networkId: Uint8Array,
  validatorsAt: (height: number) => ValidatorSet | undefined,
): void {
  for (const item of evidence) {
    const { height } = item.first.body;
    const validators = validatorsAt(height);
    if (validators === undefined)
      throw new InvalidBlockError(`evidence about height ${height}, whose validators nobody knows any more`);
    try {
      verifyEvidence(item, { networkId, validators, verify: verifySession });
    } catch (cause) {
      if (cause instanceof InvalidEvidenceError) throw new InvalidBlockError(`evidence: ${cause.message}`, { cause });
      throw cause;
    }
  }
}
