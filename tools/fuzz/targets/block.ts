/** Blocks, votes, proposals, commits and evidence. The first byte of an input says which of them the rest is. */
import { accountFromPublicKey } from '../../../node/chain/account.ts';
import {
  BEACON_PROOF_BYTES,
  decodeBlock,
  decodeCommit,
  decodeProposal,
  decodeVote,
  encodeBlock,
  encodeCommit,
  encodeProposal,
  encodeVote,
  type Vote,
} from '../../../node/chain/block.ts';
import { decodeEvidence, encodeEvidence } from '../../../node/chain/evidence.ts';
import { parseHash } from '../../../node/chain/hash.ts';
import { canonicalCap, type Format, format, runFormat } from '../canonical.ts';
import { seeds as transactions } from './transaction.ts';

export const describe = 'blocks, votes, proposals, commits, evidence';

export const headBytes = 48;

const FORMATS: readonly Format[] = [
  format(decodeBlock, encodeBlock),
  format(decodeVote, encodeVote),
  format(decodeProposal, encodeProposal),
  format(decodeCommit, encodeCommit),
  format(decodeEvidence, encodeEvidence),
];

/** Two blocks, votes for a block and for nil, a proposal, a commit, evidence. */
export function seeds(): Uint8Array[] {
  const account = accountFromPublicKey(new Uint8Array(32).fill(8));
  const hash = parseHash('c4'.repeat(32));
  const signature = new Uint8Array(64).fill(6);
  const header = {
    network: new Uint8Array(8).fill(1),
    height: 12,
    timeMs: 1_780_000_000_000n,
    previous: hash,
    proposer: account,
    validatorsHash: hash,
    nextValidatorsHash: hash,
    transactionsRoot: hash,
    evidenceRoot: hash,
    stateRoot: hash,
    modelRoot: hash,
    trainingRound: 3,
    beacon: hash,
    beaconProofHash: hash,
  };
  const beaconProof = new Uint8Array(BEACON_PROOF_BYTES).fill(2);
  const [first, second] = [undefined, hash].map((blockId) => {
    return { body: { type: 1, height: 12, round: 0, blockId }, validator: account, signature };
  }) as [Vote, Vote];
  const evidence = [encodeEvidence({ first, second, power: 1n, totalPower: 4n })];
  const blocks = [
    encodeBlock({ header, beaconProof, transactions: [], evidence: [] }),
    encodeBlock({ header, beaconProof, transactions: transactions(), evidence }),
  ];
  const votes = [first, second].map(encodeVote);
  const body = { height: 12, round: 1, validRound: -1, blockId: hash };
  const proposals = blocks.map((block) => encodeProposal({ body, proposer: account, signature, block }));
  const signatures = [1, 2, 3].map(() => ({ validator: account, signature }));
  const commits = [encodeCommit({ height: 12, round: 1, blockId: hash, signatures })];
  return [blocks, votes, proposals, commits, evidence].flatMap((inputs, kind) =>
    inputs.map((bytes) => Buffer.concat([Uint8Array.of(kind), bytes])),
  );
}

export const allocationCap = canonicalCap;

export function run(input: Uint8Array): string {
  return runFormat(FORMATS[(input[0] ?? 0) % FORMATS.length], input.subarray(1));
}
