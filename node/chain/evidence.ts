/**
 * Evidence of equivocation: two votes of one validator, for the same height, round and type, that contradict each other.
 *
 * The two votes are the whole proof. Power and total power of the set of that height travel with them, so that what a
 * block does follows from the block; those who judge it compare the numbers with the set ({@link verifyEvidence}), which
 * the state tells for as long as the evidence counts.
 */
import { Bytes, type CodecType, Struct, u8, u32, u64 } from 'scale-ts';
import type { AccountId } from './account.ts';
import { type Vote, type VoteBody, voteCodec, voteSignBytes } from './block.ts';
import { accountCodec, decodeStrict, Vector } from './codec.ts';
import { domainHash, type Hash } from './hash.ts';
import { type SessionKey, totalPower, type ValidatorSet } from './validator-set.ts';

/** Longest encoding of one evidence: two votes of at most 138 bytes and two powers. */
export const MAX_EVIDENCE_BYTES = 512;

/** Most evidence in one block. More waits for the next block. */
export const MAX_EVIDENCE_PER_BLOCK = 32;

const evidenceCodec = Struct({
  /** The vote whose encoded body is lower, byte by byte. */
  first: voteCodec,
  second: voteCodec,
  /** Power of the offender in the set that decided the height of the votes. */
  power: u64,
  /** Power of that whole set. */
  totalPower: u64,
});

/** See the head of this file. */
export type EquivocationEvidence = Readonly<CodecType<typeof evidenceCodec>>;

/** Why evidence proves nothing. */
export const EVIDENCE_FAULTS = {
  ERR_VOTES_OF_TWO: 'the votes are of two validators',
  ERR_VOTES_NOT_COMPARABLE: 'the votes differ in height, round or type',
  ERR_VOTES_AGREE: 'the votes are for the same block',
  ERR_VOTES_UNORDERED: 'the votes are not in the order of their bodies',
  ERR_OFFENDER_NOT_IN_SET: 'the voter was no validator at that height',
  ERR_WRONG_POWER: 'the stated power is not that of the validator set of that height',
  ERR_BAD_VOTE_SIGNATURE: 'a vote is not signed by the session key of the validator',
} as const;
export type EvidenceFault = keyof typeof EVIDENCE_FAULTS;

/** Thrown by {@link verifyEvidence}. */
export class InvalidEvidenceError extends Error {
  readonly code: EvidenceFault;
  override readonly name = 'InvalidEvidenceError';
  constructor(code: EvidenceFault) {
    super(EVIDENCE_FAULTS[code]);
    this.code = code;
  }
}

function bodyOrder(a: VoteBody, b: VoteBody): number {
  // A vote for nil sorts before a vote for a block.
  const [left, right] = [a.blockId ?? '', b.blockId ?? ''];
  return left < right ? -1 : left > right ? 1 : 0;
}

/**
 * Evidence from two contradicting votes in any order. `validators`: the set that decided their height. Throws
 * {@link InvalidEvidenceError} when they prove nothing; signatures are not checked.
 */
export function equivocationEvidence(a: Vote, b: Vote, validators: ValidatorSet): EquivocationEvidence {
  const [first, second] = bodyOrder(a.body, b.body) <= 0 ? [a, b] : [b, a];
  const power = validators.find(({ account }) => account === first.validator)?.power;
  if (power === undefined) throw new InvalidEvidenceError('ERR_OFFENDER_NOT_IN_SET');
  const evidence = { first, second, power, totalPower: totalPower(validators) };
  checkVotes(evidence);
  return evidence;
}

/** Wire form; also what blocks carry. */
export function encodeEvidence(evidence: EquivocationEvidence): Uint8Array {
  return evidenceCodec.enc(evidence);
}

/** Reads evidence; throws DecodeError for anything but the canonical encoding. Proves nothing yet. */
export function decodeEvidence(bytes: Uint8Array): EquivocationEvidence {
  return decodeStrict(evidenceCodec, bytes, MAX_EVIDENCE_BYTES, 'evidence');
}

const offenceCodec = Struct({ validator: accountCodec, height: u32, round: u32, type: u8 });

/**
 * Identity of the offence: who, and at which height, round and type. Any two contradicting votes prove the same offence,
 * so that it is committed once however many votes there are.
 */
export function evidenceId({ first: { body, validator } }: EquivocationEvidence): Hash {
  const { height, round, type } = body;
  return domainHash('alice/equivocation/1', offenceCodec.enc({ validator, height, round, type }));
}

/** Hash of an ordered list of encoded evidence, as a header carries it. */
export function evidenceRoot(evidence: readonly Uint8Array[]): Hash {
  return domainHash('alice/evidence/1', Vector(Bytes()).enc([...evidence]));
}

/** Checks everything that needs no validator set and no key. Throws {@link InvalidEvidenceError}. */
export function checkVotes({ first, second }: EquivocationEvidence): void {
  if (first.validator !== second.validator) throw new InvalidEvidenceError('ERR_VOTES_OF_TWO');
  const [a, b] = [first.body, second.body];
  if (a.height !== b.height || a.round !== b.round || a.type !== b.type) {
    throw new InvalidEvidenceError('ERR_VOTES_NOT_COMPARABLE');
  }
  const order = bodyOrder(a, b);
  if (order === 0) throw new InvalidEvidenceError('ERR_VOTES_AGREE');
  if (order > 0) throw new InvalidEvidenceError('ERR_VOTES_UNORDERED');
}

/** Who offended, with what share of the power. */
export interface ProvenOffence {
  readonly offender: AccountId;
  readonly height: number;
  readonly power: bigint;
  readonly totalPower: bigint;
}

/**
 * Checks evidence against the set that decided the height of its votes, two signatures included. `verify` is
 * `verifySession` of `identity/`. Throws {@link InvalidEvidenceError}.
 */
export function verifyEvidence(
  evidence: EquivocationEvidence,
  at: {
    readonly networkId: Uint8Array;
    readonly validators: ValidatorSet;
    readonly verify: (sessionKey: SessionKey, message: Uint8Array, signature: Uint8Array) => boolean;
  },
): ProvenOffence {
  checkVotes(evidence);
  const { first, second, power } = evidence;
  const offender = at.validators.find(({ account }) => account === first.validator);
  if (offender === undefined) throw new InvalidEvidenceError('ERR_OFFENDER_NOT_IN_SET');
  if (power !== offender.power || evidence.totalPower !== totalPower(at.validators)) {
    throw new InvalidEvidenceError('ERR_WRONG_POWER');
  }
  for (const { body, signature } of [first, second]) {
    if (!at.verify(offender.sessionKey, voteSignBytes(at.networkId, body), signature)) {
      throw new InvalidEvidenceError('ERR_BAD_VOTE_SIGNATURE');
    }
  }
  return { offender: offender.account, height: first.body.height, power, totalPower: evidence.totalPower };
}
