/** Faults in what binds a body to its header. */
import type { Mutant } from './mutant.ts';

const BODY = 'node/chain/block-body.ts';

export const BLOCK_BODY_MUTANTS: readonly Mutant[] = [
  {
    name: 'a proposal is believed with any body',
    file: 'node/consensus/ingress.ts',
    find: "if (fault !== undefined) throw new Reject('block-body'",
    replace: "if (fault !== undefined && networkId.length === 0) throw new Reject('block-body'",
  },
  {
    name: 'another body of a proposal is no fault of who delivers it',
    file: 'node/consensus/ingress.ts',
    find: "throw new Reject('block-body'",
    replace: "throw new Ignore('block-body'",
  },
  {
    name: 'block sync hands any body under a good commit to the engine',
    file: 'node/consensus/block-sync.ts',
    find: 'if (fault !== undefined) throw new LyingPeerError',
    replace: 'if (fault !== undefined && header.height < 0) throw new LyingPeerError',
  },
  {
    name: 'the result of a block is taken for one with another body',
    file: 'node/blockchain/blockchain.ts',
    find: 'if (fault !== undefined) throw new InvalidBlockError',
    replace: 'if (fault !== undefined && id.length === 0) throw new InvalidBlockError',
  },
  {
    name: 'transactions need not be those of the header',
    file: BODY,
    find: "if (transactionsRoot(transactions) !== header.transactionsRoot) return 'transactions';",
    replace: 'void [transactionsRoot, transactions];',
  },
  {
    name: 'evidence need not be that of the header',
    file: BODY,
    find: "if (evidenceRoot(evidence) !== header.evidenceRoot) return 'evidence';",
    replace: 'void [evidenceRoot, evidence];',
  },
  {
    name: 'the beacon proof need not be that of the header',
    file: BODY,
    find: "if (beaconProofHash(beaconProof) !== header.beaconProofHash) return 'beacon proof';",
    replace: 'void [beaconProofHash, beaconProof];',
  },
];
