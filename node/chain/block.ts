/**
 * Blocks, votes and commits: the formats on which consensus, sync and the store agree.
 */
import { Bytes, type CodecType, i32, Option, Struct, u8, u32, u64 } from 'scale-ts';
import { accountCodec, DecodeError, decodeStrict, hashCodec, Vector } from './codec.ts';
import { domainHash, type Hash } from './hash.ts';

/** Largest block, and so largest proposal, in bytes (DESIGN 4: proposals up to 1 MiB on the wire). */
export const MAX_BLOCK_BYTES = 1024 * 1024 - 4096;

/** Bytes of an sr25519 VRF result: 32 of output, 64 of proof. */
export const BEACON_PROOF_BYTES = 96;

const headerCodec = Struct({
  /** 8-byte network id, the start of the genesis hash. */
  network: Bytes(8),
  /** First block has height 1. */
  height: u32,
  /** Milliseconds since the Unix epoch; strictly larger than the parent's. */
  timeMs: u64,
  /** Block id of the parent; the genesis hash for height 1. */
  previous: hashCodec,
  proposer: accountCodec,
  validatorsHash: hashCodec,
  nextValidatorsHash: hashCodec,
  transactionsRoot: hashCodec,
  /** See `evidenceRoot` in evidence.ts. */
  evidenceRoot: hashCodec,
  /** Root of the ledger state after this block. */
  stateRoot: hashCodec,
  /** Root of the weights that the state after this block calls current. */
  modelRoot: hashCodec,
  /** Training round that is open after this block. */
  trainingRound: u32,
  /** `sha256(parent's beacon || VRF output)`. */
  beacon: hashCodec,
  /** See `beaconProofHash` in beacon.ts: the beacon binds the output of the proof, this binds its every byte. */
  beaconProofHash: hashCodec,
});
/** What validators sign, by its hash. */
export type Header = CodecType<typeof headerCodec>;

const blockCodec = Struct({
  header: headerCodec,
  /** VRF output and proof of the proposer over (network, height, parent's beacon). */
  beaconProof: Bytes(BEACON_PROOF_BYTES),
  /** Encoded transactions, in the order of execution. */
  transactions: Vector(Bytes()),
  /** Encoded evidence of equivocation that the block commits. */
  evidence: Vector(Bytes()),
});
export type Block = CodecType<typeof blockCodec>;

/**
 * Identity of a block: the hash of its header. With the roots in the header it names every byte of the body as well, so
 * that one id has one body: see block-body.ts.
 */
export function blockId(header: Header): Hash {
  return domainHash('alice/header/1', headerCodec.enc(header));
}

export function encodeHeader(header: Header): Uint8Array {
  return headerCodec.enc(header);
}

/** Reads a header; throws DecodeError. */
export function decodeHeader(bytes: Uint8Array): Header {
  return decodeStrict(headerCodec, bytes, 1024, 'header');
}

/** Hash of the ordered list of encoded transactions. */
export function transactionsRoot(transactions: readonly Uint8Array[]): Hash {
  return domainHash('alice/transactions/1', Vector(Bytes()).enc([...transactions]));
}

export function encodeBlock(block: Block): Uint8Array {
  return blockCodec.enc(block);
}

/** Reads a block; throws DecodeError for anything but the canonical encoding. Checks nothing else. */
export function decodeBlock(bytes: Uint8Array): Block {
  return decodeStrict(blockCodec, bytes, MAX_BLOCK_BYTES, 'block');
}

/** Bytes of a block that hold its header, and more: headers are of one size, below this. */
export const HEADER_PREFIX_BYTES = 1024;

/**
 * The header of a block in its encoding, of which the first {@link HEADER_PREFIX_BYTES} are enough. For blocks that were
 * decoded as a whole before: it is not looked at whether the encoding is canonical. Throws DecodeError.
 */
export function headerOfBlock(bytes: Uint8Array): Header {
  try {
    // A copy, because scale-ts reads from the start of the underlying buffer.
    return headerCodec.dec(Uint8Array.from(bytes.subarray(0, HEADER_PREFIX_BYTES)));
  } catch (cause) {
    throw new DecodeError('header of a block: malformed encoding', { cause });
  }
}

/** Next beacon from the parent's beacon and the 32-byte VRF output. */
export function nextBeacon(previous: Hash, vrfOutput: Uint8Array): Hash {
  return domainHash('alice/beacon/1', Buffer.from(previous, 'hex'), vrfOutput);
}

/** `0` prevote, `1` precommit. */
export const VOTE_TYPES = ['prevote', 'precommit'] as const;
export type VoteType = (typeof VOTE_TYPES)[number];

const voteBodyCodec = Struct({
  /** Index into {@link VOTE_TYPES}. */
  type: u8,
  height: u32,
  round: u32,
  /** The block voted for; `undefined` is a vote for nil. */
  blockId: Option(hashCodec),
});
/** SCALE form of a vote. */
export const voteCodec = Struct({ body: voteBodyCodec, validator: accountCodec, signature: Bytes(64) });
export type VoteBody = CodecType<typeof voteBodyCodec>;
/** A signed prevote or precommit. */
export type Vote = CodecType<typeof voteCodec>;

const encoder = new TextEncoder();

/** Bytes that a validator's session key signs for a vote. The validator is not in them: its key is. */
export function voteSignBytes(networkId: Uint8Array, body: VoteBody): Uint8Array {
  return Buffer.concat([encoder.encode('alice/vote/1'), networkId, voteBodyCodec.enc(body)]);
}

export function encodeVote(vote: Vote): Uint8Array {
  return voteCodec.enc(vote);
}

/** Reads a vote; throws DecodeError. The signature is not checked here. */
export function decodeVote(bytes: Uint8Array): Vote {
  return decodeStrict(voteCodec, bytes, 256, 'vote');
}

const proposalBodyCodec = Struct({
  height: u32,
  round: u32,
  /** Round in which the proposer saw a quorum of prevotes for this block; -1 when it is new. */
  validRound: i32,
  blockId: hashCodec,
});
const proposalCodec = Struct({ body: proposalBodyCodec, proposer: accountCodec, signature: Bytes(64), block: Bytes() });
export type ProposalBody = CodecType<typeof proposalBodyCodec>;
/** A signed proposal with the encoded block it proposes. */
export type Proposal = CodecType<typeof proposalCodec>;

/** Bytes that a proposer's session key signs. */
export function proposalSignBytes(networkId: Uint8Array, body: ProposalBody): Uint8Array {
  return Buffer.concat([encoder.encode('alice/proposal/1'), networkId, proposalBodyCodec.enc(body)]);
}

export function encodeProposal(proposal: Proposal): Uint8Array {
  return proposalCodec.enc(proposal);
}

/** Reads a proposal; throws DecodeError. Neither signature nor block is checked here. */
export function decodeProposal(bytes: Uint8Array): Proposal {
  return decodeStrict(proposalCodec, bytes, MAX_BLOCK_BYTES + 512, 'proposal');
}

const commitCodec = Struct({
  height: u32,
  round: u32,
  blockId: hashCodec,
  /** Precommits for `blockId` in this round, ascending by account, each account once. */
  signatures: Vector(Struct({ validator: accountCodec, signature: Bytes(64) })),
});
/** Proof that more than two thirds of the power precommitted one block. */
export type Commit = CodecType<typeof commitCodec>;

export function encodeCommit(commit: Commit): Uint8Array {
  return commitCodec.enc(commit);
}

/** Reads a commit; throws DecodeError. Use the verifier in `consensus/` before believing it. */
export function decodeCommit(bytes: Uint8Array): Commit {
  return decodeStrict(commitCodec, bytes, 64 * 1024, 'commit');
}
