/**
 * Module rounds, the calls: commit, reveal and attest, each checked against the open round and its phase.
 *
 * `round-clock.ts` moves a round from phase to phase at the end of a block; `settlement.ts` turns scores into results.
 */
import type { AccountId } from '../chain/account.ts';
import { isContentId } from '../chain/content-id.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import { isPeerIdText } from '../chain/peer-id.ts';
import { compareSeats, isSameSeat } from '../chain/seat.ts';
import { type Call, scoresCommitment, submissionCommitment, taskNonce } from '../chain/transaction.ts';
import type { Draft, StateReader } from './draft.ts';
import { need } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import {
  ATTESTATIONS,
  CHECKPOINT,
  type Phase,
  ROUND,
  type RoundRecord,
  SUBMISSIONS,
  type SubmissionRecord,
  scoreSheet,
} from './round-records.ts';
import { SEATS } from './seats.ts';
import { requireValidator } from './validators.ts';

/** Arguments of the call with that name. */
type Arguments<Tag extends Call['tag']> = Extract<Call, { tag: Tag }>['value'];

/** The open round, when it has that number and is in that phase. Throws {@link CallRefusedError}. */
function openRound(reader: StateReader, round: number, phase: Phase): RoundRecord {
  const open = need(reader, ROUND);
  if (open.round !== round) throw new CallRefusedError('ERR_WRONG_ROUND');
  if (open.phase !== phase) throw new CallRefusedError('ERR_WRONG_PHASE');
  return open;
}

/** `list`, which is in that order, with one more item. */
function inserted<T>(list: readonly T[], item: T, compare: (a: T, b: T) => number): T[] {
  const at = list.findIndex((other) => compare(other, item) > 0);
  return at < 0 ? [...list, item] : [...list.slice(0, at), item, ...list.slice(at)];
}

const byAccount = (a: AccountId, b: AccountId) => (a < b ? -1 : 1);

/** Call `commitSubmission`. Throws {@link CallRefusedError}. */
export function commitSubmission(draft: Draft, signer: AccountId, call: Arguments<'commitSubmission'>): void {
  const { attempt } = openRound(draft, call.round, 'train');
  if (call.attempt !== attempt) throw new CallRefusedError('ERR_WRONG_ATTEMPT');
  const seat = { account: signer, slot: call.slot };
  if (!(draft.get(SEATS) ?? []).some((other) => isSameSeat(other, seat))) throw new CallRefusedError('ERR_NOT_SEATED');
  const submissions = draft.get(SUBMISSIONS) ?? [];
  if (submissions.some((other) => isSameSeat(other, seat))) throw new CallRefusedError('ERR_ALREADY_COMMITTED');
  const submission = { ...seat, commitment: call.commitment, order: submissions.length, reveal: undefined };
  draft.set(SUBMISSIONS, inserted(submissions, submission, compareSeats));
}

/** Call `revealSubmission`. Throws {@link CallRefusedError}. */
export function revealSubmission(draft: Draft, signer: AccountId, call: Arguments<'revealSubmission'>): void {
  const round = openRound(draft, call.round, 'reveal');
  const submissions = draft.get(SUBMISSIONS) ?? [];
  const seat = { account: signer, slot: call.slot };
  const submission = submissions.find((other) => isSameSeat(other, seat));
  if (submission === undefined) throw new CallRefusedError('ERR_NOT_COMMITTED');
  if (submission.reveal !== undefined) throw new CallRefusedError('ERR_ALREADY_REVEALED');
  if (!isContentId(call.cid)) throw new CallRefusedError('ERR_INVALID_CID');
  if (!isPeerIdText(call.provider)) throw new CallRefusedError('ERR_INVALID_PROVIDER');
  if (call.sizeBytes === 0) throw new CallRefusedError('ERR_INVALID_SIZE');
  const commitment = submissionCommitment({
    cid: call.cid,
    seat,
    nonce: taskNonce(round.beacon, seat),
    modelRoot: round.modelRoot,
    salt: call.salt,
  });
  if (commitment !== submission.commitment) throw new CallRefusedError('ERR_COMMITMENT_MISMATCH');
  const { cid, sizeBytes, provider } = call;
  const revealed: SubmissionRecord = { ...submission, reveal: { cid, sizeBytes, provider } };
  draft.set(
    SUBMISSIONS,
    submissions.map((other) => (other === submission ? revealed : other)),
  );
}

/** Submissions of the open round that were revealed, ascending by account and slot: what validators score. */
export function revealedSubmissions(reader: StateReader): SubmissionRecord[] {
  return (reader.get(SUBMISSIONS) ?? []).filter(({ reveal }) => reveal !== undefined);
}

/** Call `commitScores`. Throws {@link CallRefusedError}. */
export function commitScores(draft: Draft, signer: AccountId, call: Arguments<'commitScores'>): void {
  requireValidator(draft, signer);
  const round = openRound(draft, call.round, 'score');
  if (round.scorers.includes(signer)) throw new CallRefusedError('ERR_ALREADY_COMMITTED');
  draft.set(scoreSheet(signer), { commitment: call.commitment, reveal: undefined });
  draft.set(ROUND, { ...round, scorers: inserted(round.scorers, signer, byAccount) });
}

/** Call `revealScores`. Throws {@link CallRefusedError}. */
export function revealScores(draft: Draft, signer: AccountId, call: Arguments<'revealScores'>): void {
  requireValidator(draft, signer);
  const round = openRound(draft, call.round, 'scoreReveal');
  const sheet = draft.get(scoreSheet(signer));
  if (sheet === undefined) throw new CallRefusedError('ERR_NOT_COMMITTED');
  if (sheet.reveal !== undefined) throw new CallRefusedError('ERR_ALREADY_REVEALED');
  const submissions = revealedSubmissions(draft);
  const matches =
    call.scores.length === submissions.length &&
    call.scores.every(({ miner, slot }, index) => isSameSeat({ account: miner, slot }, submissions[index]));
  if (!matches) throw new CallRefusedError('ERR_SCORES_MISMATCH');
  const { salt, heldOutLoss, scores } = call;
  const commitment = scoresCommitment({ round: round.round, validator: signer, salt, heldOutLoss, scores });
  if (commitment !== sheet.commitment) throw new CallRefusedError('ERR_COMMITMENT_MISMATCH');
  const verdicts = scores.map(({ verdict }) => verdict);
  draft.set(scoreSheet(signer), { commitment: sheet.commitment, reveal: { heldOutLoss, verdicts } });
  draft.set(ROUND, { ...round, revealedScorers: inserted(round.revealedScorers, signer, byAccount) });
}

/**
 * True when the attestations of this round have to name a checkpoint: the last one is `checkpointEveryRounds` old. It
 * counts from the last checkpoint, so a due checkpoint is not lost to a round that changed nothing.
 */
export function isCheckpointDue(reader: StateReader, round: number, parameters: Parameters): boolean {
  return round >= need(reader, CHECKPOINT).round + parameters.rounds.checkpointEveryRounds;
}

/**
 * Call `attestModel`. A validator may correct itself by attesting something else while the round is open: weights that
 * it computed wrongly after a fault would otherwise stop the network. Throws {@link CallRefusedError}.
 */
export function attestModel(
  draft: Draft,
  signer: AccountId,
  call: Arguments<'attestModel'>,
  parameters: Parameters,
): void {
  requireValidator(draft, signer);
  const round = openRound(draft, call.round, 'aggregate');
  if (isCheckpointDue(draft, round.round, parameters)) {
    if (call.checkpoint === '') throw new CallRefusedError('ERR_CHECKPOINT_MISSING');
    if (!isContentId(call.checkpoint)) throw new CallRefusedError('ERR_INVALID_CID');
  } else if (call.checkpoint !== '') {
    throw new CallRefusedError('ERR_CHECKPOINT_NOT_DUE');
  }
  const attestations = draft.get(ATTESTATIONS) ?? [];
  const before = attestations.find(({ validator }) => validator === signer);
  if (before?.modelRoot === call.modelRoot && before.checkpoint === call.checkpoint) {
    throw new CallRefusedError('ERR_ALREADY_ATTESTED');
  }
  const others = attestations.filter((other) => other !== before);
  const { modelRoot, checkpoint } = call;
  draft.set(
    ATTESTATIONS,
    inserted(others, { validator: signer, modelRoot, checkpoint }, (a, b) => byAccount(a.validator, b.validator)),
  );
}

/** A model root and checkpoint that holders of more than two thirds of the power attest. */
export interface AgreedModel {
  readonly modelRoot: Hash;
  readonly checkpoint: string;
}
