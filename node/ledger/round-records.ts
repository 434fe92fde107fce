/**
 * Records of training rounds: the open one, and the results of the latest.
 */
import { type Codec, type CodecType, enhanceCodec, i64, Option, Struct, str, u8, u32, u64, Vector } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec, hashCodec } from '../chain/codec.ts';
import { verdictCodec } from '../chain/transaction.ts';
import { flagCodec, listCodec, type StateRecord } from './draft.ts';

/** Phases of a round, in order. `train`: miners train and commit. `aggregate`: validators attest the new weights. */
export const PHASES = ['train', 'reveal', 'score', 'scoreReveal', 'aggregate'] as const;
export type Phase = (typeof PHASES)[number];

/** A text out of a fixed list, one byte on the wire. */
function choice<const T extends string>(list: readonly T[]): Codec<T> {
  return enhanceCodec(
    u8,
    (value: T) => list.indexOf(value),
    (index) => {
      const value = list[index];
      if (value === undefined) throw new RangeError(`no choice number ${index}`);
      return value;
    },
  );
}

const roundCodec = Struct({
  /** Number of the open round; the first is 1. Round 0 stands for the genesis weights. */
  round: u32,
  phase: choice(PHASES),
  /** Block that opened the training phase, for the last time if it had to open again; 0 is genesis. */
  openedHeight: u32,
  openedTimeMs: u64,
  /** Times that the training phase opened: 1, and one more for each time nobody committed before the deadline. */
  attempt: u32,
  /** Number of this opening of a training phase among all of the network: what waiting for a seat is counted in. */
  opening: u32,
  /** Block time at which the present phase began; its deadline counts from here. */
  phaseTimeMs: u64,
  /** When everyone had done its part in this phase whose seat is proven, while somebody else had not. */
  provenDoneMs: Option(u64),
  /** Beacon of the opening block: assigns shards and task nonces. */
  beacon: hashCodec,
  /** Weights from which miners train. */
  modelRoot: hashCodec,
  /** While there are no seats: the time of the block in which somebody first waited for one. */
  firstWaitingMs: Option(u64),
  /** Beacon of the block that opened scoring: decides what validators score on. */
  drawBeacon: Option(hashCodec),
  /** Validators that committed scores, ascending. */
  scorers: Vector(accountCodec),
  /** Those of them that revealed, ascending. */
  revealedScorers: Vector(accountCodec),
});
/** The open round. */
export type RoundRecord = Readonly<CodecType<typeof roundCodec>>;
export const ROUND: StateRecord<RoundRecord> = { key: 'round', codec: roundCodec };

const submissionCodec = Struct({
  account: accountCodec,
  slot: u8,
  commitment: hashCodec,
  /** Position among the commits of the round: of two equal blobs, the later commit is the copy. */
  order: u32,
  /** `provider`: the peer that its author names as having the blob; a hint. */
  reveal: Option(Struct({ cid: str, sizeBytes: u32, provider: str })),
});
/** A submission of the open round. */
export type SubmissionRecord = Readonly<CodecType<typeof submissionCodec>>;
/** Submissions of the open round, ascending by account and slot. */
export const SUBMISSIONS: StateRecord<readonly SubmissionRecord[]> = {
  key: 'round/submissions',
  codec: listCodec(submissionCodec),
};

const scoreSheetCodec = Struct({
  commitment: hashCodec,
  /** Verdicts in the order of the revealed submissions. */
  reveal: Option(Struct({ heldOutLoss: i64, verdicts: Vector(verdictCodec) })),
});
/** What a validator committed and revealed about the open round. */
export type ScoreSheet = Readonly<CodecType<typeof scoreSheetCodec>>;
export function scoreSheet(validator: AccountId): StateRecord<ScoreSheet> {
  return { key: `round/scores/${validator}`, codec: scoreSheetCodec };
}

const attestationCodec = Struct({ validator: accountCodec, modelRoot: hashCodec, checkpoint: str });
/** One validator's word on the weights after the open round. */
export type Attestation = Readonly<CodecType<typeof attestationCodec>>;
/** Attestations of the open round, ascending by validator. */
export const ATTESTATIONS: StateRecord<readonly Attestation[]> = {
  key: 'round/attestations',
  codec: listCodec(attestationCodec),
};

/** Why a submission counts or not. */
export const SUBMISSION_REASONS = [
  'accepted',
  'notRevealed',
  'unavailable',
  'malformed',
  'duplicate',
  'noGain',
  'belowFloor',
] as const;
export type SubmissionReason = (typeof SUBMISSION_REASONS)[number];

/**
 * What became of a round's weights. `open`: validators have not agreed yet; `updated`: they agreed on new ones;
 * `nothingAccepted`: there was nothing to apply; `failed`: they did not agree before the deadline, and the weights are
 * those before the round, although work was accepted (and is paid).
 */
export const AGGREGATIONS = ['open', 'updated', 'nothingAccepted', 'failed'] as const;
export type Aggregation = (typeof AGGREGATIONS)[number];

const resultCodec = Struct({
  round: u32,
  openedTimeMs: u64,
  /** Block that settled the scores (or ended a round without reveals). */
  settledHeight: u32,
  settledTimeMs: u64,
  beacon: hashCodec,
  drawBeacon: Option(hashCodec),
  /** Weights before the round. */
  modelRootBefore: hashCodec,
  /** Weights after it; undefined while validators have not agreed on them. */
  modelRootAfter: Option(hashCodec),
  /** What became of the weights; only `updated` changed them. */
  aggregation: choice(AGGREGATIONS),
  /** Power-weighted median of the held-out loss before any update, in nano-nats. */
  heldOutLoss: Option(i64),
  /** Validators whose scores counted, ascending. */
  scorers: Vector(accountCodec),
  /** Every committed submission, ascending by account and slot. `score` in nano-nats. */
  submissions: Vector(
    Struct({
      account: accountCodec,
      slot: u8,
      /** Empty where nothing was revealed, as is `provider`. */
      cid: str,
      sizeBytes: u32,
      /** The peer that the author named as having the blob. */
      provider: str,
      score: Option(i64),
      accepted: flagCodec,
      reason: choice(SUBMISSION_REASONS),
    }),
  ),
});
/** What a round came to. */
export type RoundResult = Readonly<CodecType<typeof resultCodec>>;
export type SubmissionResult = Readonly<RoundResult['submissions'][number]>;
export function roundResult(round: number): StateRecord<RoundResult> {
  return { key: `result/${round}`, codec: resultCodec };
}

/** Numbers of the rounds whose results are kept, ascending. */
export const KEPT_RESULTS: StateRecord<readonly number[]> = { key: 'results/kept', codec: listCodec(u32) };

const checkpointCodec = Struct({
  /** The weights are those after this round; 0 is genesis. */
  round: u32,
  modelRoot: hashCodec,
  /** CID of the weights; empty for round 0, whose weights everyone computes from the seed. */
  cid: str,
});
/** The latest published checkpoint. */
export type Checkpoint = Readonly<CodecType<typeof checkpointCodec>>;
export const CHECKPOINT: StateRecord<Checkpoint> = { key: 'checkpoint', codec: checkpointCodec };
