/**
 * Module rounds, the clock: at the end of each block, moves the open round on as far as commits, reveals and deadlines
 * allow. All deadlines are in block time.
 *
 *     train -> reveal -> score -> scoreReveal -> aggregate -> next round
 *       |        |                     |             |
 *       |        |                     |             +- not agreed before the deadline: weights unchanged -> next round
 *       |        +- nobody revealed ---+- none accepted: weights unchanged -> next round
 *       +- nobody committed: the phase opens again with a fresh beacon
 *
 * `train` and `reveal` end when every seat has done its part, or at the deadline; or when those seats have whose accounts
 * are proven, that is have accepted work in recent rounds, and a minimum time and a little more than those needed is over.
 * So nobody waits for strangers, nobody closes a phase on others, and a stranger who is as fast as the others is in time.
 * While no seat is proven, all are waited for.
 */
import type { AccountId } from '../chain/account.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import { seatKey } from '../chain/seat.ts';
import type { Draft } from './draft.ts';
import { need } from './draft.ts';
import { addRoundCredit, settleEpochIfDue } from './epochs.ts';
import type { LedgerEvent } from './events.ts';
import { noteAttendance } from './jail.ts';
import { CHAIN } from './parameters.ts';
import { countSubmission, strikeOff } from './registry.ts';
import {
  type Aggregation,
  ATTESTATIONS,
  CHECKPOINT,
  KEPT_RESULTS,
  type Phase,
  ROUND,
  type RoundRecord,
  roundResult,
  SUBMISSIONS,
  type SubmissionResult,
  scoreSheet,
} from './round-records.ts';
import type { AgreedModel } from './rounds.ts';
import { chooseSeats, SEATS, type SeatRecord, shuffled } from './seats.ts';
import { type RevealedScores, settleSubmissions, weightedMedian } from './settlement.ts';
import { isAnyoneWaiting, noteSeat, type SeatOutcome } from './standing.ts';
import { currentValidators, holdQuorum } from './validators.ts';

/** The block being executed, as far as the clock needs it. */
export interface BlockMoment {
  readonly height: number;
  readonly timeMs: bigint;
  readonly beacon: Hash;
}

/** A round that opens, at first or again. */
function opening(
  draft: Draft,
  at: BlockMoment,
  parameters: Parameters,
  round: { readonly round: number; readonly attempt: number; readonly opening: number; readonly modelRoot: Hash },
): LedgerEvent[] {
  const { trainingShards } = need(draft, CHAIN);
  const { opening: number } = round;
  const seats = chooseSeats(draft, { opening: number, beacon: at.beacon, trainingShards }, parameters);
  draft.set(SEATS, seats);
  draft.set(ROUND, {
    ...round,
    phase: 'train',
    openedHeight: at.height,
    openedTimeMs: at.timeMs,
    phaseTimeMs: at.timeMs,
    beacon: at.beacon,
    firstWaitingMs: undefined,
    provenDoneMs: undefined,
    drawBeacon: undefined,
    scorers: [],
    revealedScorers: [],
  });
  const proven = seats.filter((seat) => seat.proven).length;
  return [{ type: 'roundOpened', round: round.round, attempt: round.attempt, seats: seats.length, proven }];
}

/** The round that genesis opens; nobody is registered, so there are no seats. */
export function openFirstRound(draft: Draft, at: BlockMoment, parameters: Parameters, modelRoot: Hash): void {
  opening(draft, at, parameters, { round: 1, attempt: 1, opening: 1, modelRoot });
}

/** Moves the open round on as far as it can go in this block. */
export function advanceRound(draft: Draft, at: BlockMoment, parameters: Parameters): LedgerEvent[] {
  const events: LedgerEvent[] = [];
  for (;;) {
    const round = need(draft, ROUND);
    const moved = STEPS[round.phase](draft, round, at, parameters);
    if (moved === undefined) return events;
    events.push(...moved);
  }
}

/** What a phase does at the end of a block: the events of moving on, or undefined to stay. */
type Step = (draft: Draft, round: RoundRecord, at: BlockMoment, parameters: Parameters) => LedgerEvent[] | undefined;

const STEPS: Readonly<Record<Phase, Step>> = {
  train: stepTrain,
  reveal: stepReveal,
  score: stepScore,
  scoreReveal: stepScoreReveal,
  aggregate: stepAggregate,
};

function enter(draft: Draft, round: RoundRecord, phase: Phase, at: BlockMoment): LedgerEvent[] {
  draft.set(ROUND, { ...round, phase, phaseTimeMs: at.timeMs, provenDoneMs: undefined });
  return [{ type: 'phaseChanged', round: round.round, phase }];
}

function isOver(round: RoundRecord, at: BlockMoment, deadlineMs: number): boolean {
  return at.timeMs >= round.phaseTimeMs + BigInt(deadlineMs);
}

/** Strangers have this part of the time that the proven seats needed in addition. */
const GRACE = 8n;

/**
 * True when a phase may end: nobody's part is missing, or its deadline is over, or only strangers are missing and both the
 * minimum time and their grace are over. Notes the time from which that counts.
 */
function isComplete(
  draft: Draft,
  seats: readonly (SeatRecord & { readonly done: boolean })[],
  round: RoundRecord,
  at: BlockMoment,
  limits: { readonly minimumMs: number; readonly deadlineMs: number },
): boolean {
  const missing = seats.filter(({ done }) => !done);
  if (missing.length === 0 || isOver(round, at, limits.deadlineMs)) return true;
  if (!seats.some(({ proven }) => proven) || missing.some(({ proven }) => proven)) return false;
  const doneMs = round.provenDoneMs ?? at.timeMs;
  if (round.provenDoneMs === undefined) draft.set(ROUND, { ...round, provenDoneMs: doneMs });
  const graceMs = (doneMs - round.phaseTimeMs) / GRACE;
  return at.timeMs >= doneMs + graceMs && isOver(round, at, limits.minimumMs);
}

function stepTrain(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] | undefined {
  const seats = draft.get(SEATS) ?? [];
  const next = {
    round: round.round,
    attempt: round.attempt + 1,
    opening: round.opening + 1,
    modelRoot: round.modelRoot,
  };
  if (seats.length === 0) {
    // Nobody to wait for. The round opens again soon after somebody registers, late enough for those who start at the
    // same time: two empty blocks are time for a transaction that was sent when the first one was seen.
    const first = round.firstWaitingMs;
    if (first === undefined) {
      if (isAnyoneWaiting(draft)) draft.set(ROUND, { ...round, firstWaitingMs: at.timeMs });
      return undefined;
    }
    const windowMs = BigInt(2 * parameters.consensus.emptyBlockIntervalMs);
    return at.timeMs >= first + windowMs ? opening(draft, at, parameters, next) : undefined;
  }
  const submissions = draft.get(SUBMISSIONS) ?? [];
  const committed = new Set(submissions.map(seatKey));
  const parts = seats.map((seat) => ({ ...seat, done: committed.has(seatKey(seat)) }));
  const { trainMinimumMs: minimumMs, trainDeadlineMs: deadlineMs } = parameters.rounds;
  if (!isComplete(draft, parts, round, at, { minimumMs, deadlineMs })) return undefined;
  const isExcused = !parts.some(({ done, proven }) => done && proven);
  const absent = parts
    .filter(({ done }) => !done)
    .map(
      ({ account, proven }) => ({ account, outcome: proven && isExcused ? ('excused' as const) : 'absent' }) as const,
    );
  const events = leaveSeats(draft, round, absent, at, parameters);
  if (submissions.length === 0) return [...events, ...opening(draft, at, parameters, next)];
  return [...events, ...enter(draft, round, 'reveal', at)];
}

/** Accounts whose seats are over go back into line, or whatever `standing.ts` has for them. */
function leaveSeats(
  draft: Draft,
  round: RoundRecord,
  seats: readonly { readonly account: AccountId; readonly outcome: SeatOutcome }[],
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] {
  const events: LedgerEvent[] = [];
  for (const { account, outcome } of shuffled(seats, at.beacon)) {
    const stays = noteSeat(draft, account, outcome, round.opening, parameters.rounds);
    if (!stays) events.push(...strikeOff(draft, account));
  }
  return events;
}

function stepReveal(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] | undefined {
  const submissions = new Map((draft.get(SUBMISSIONS) ?? []).map((submission) => [seatKey(submission), submission]));
  const parts = (draft.get(SEATS) ?? []).flatMap((seat) => {
    const submission = submissions.get(seatKey(seat));
    return submission === undefined ? [] : [{ ...seat, done: submission.reveal !== undefined }];
  });
  const { revealMinimumMs: minimumMs, revealDeadlineMs: deadlineMs } = parameters.rounds;
  if (!isComplete(draft, parts, round, at, { minimumMs, deadlineMs })) return undefined;
  if (!parts.some(({ done }) => done)) return settle(draft, round, at, parameters);
  return enter(draft, { ...round, drawBeacon: at.beacon }, 'score', at);
}

function stepScore(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] | undefined {
  const validators = currentValidators(draft);
  const scorers = new Set(round.scorers);
  const complete = validators.every(({ account }) => scorers.has(account));
  const enough = isOver(round, at, parameters.rounds.scoreDeadlineMs) && holdQuorum(validators, scorers);
  return complete || enough ? enter(draft, round, 'scoreReveal', at) : undefined;
}

function stepScoreReveal(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] | undefined {
  const validators = currentValidators(draft);
  const enough = holdQuorum(validators, new Set(round.revealedScorers));
  const complete = round.revealedScorers.length === round.scorers.length;
  const deadlineMs = parameters.rounds.scoreRevealDeadlineMs;
  if (enough && (complete || isOver(round, at, deadlineMs))) return settle(draft, round, at, parameters);
  // The deadline extends once. After that, those who committed and went away must not hold up the others: all score
  // again, on a fresh draw, so that what was revealed already is of no use to anyone.
  if (!isOver(round, at, 2 * deadlineMs)) return undefined;
  for (const scorer of round.scorers) draft.delete(scoreSheet(scorer));
  return enter(draft, { ...round, drawBeacon: at.beacon, scorers: [], revealedScorers: [] }, 'score', at);
}

/** Settles the round's scores; goes on to `aggregate`, or to the next round when nothing was accepted. */
function settle(draft: Draft, round: RoundRecord, at: BlockMoment, parameters: Parameters): LedgerEvent[] {
  const sheets: RevealedScores[] = [];
  for (const { account, power } of currentValidators(draft)) {
    const reveal = draft.get(scoreSheet(account))?.reveal;
    if (reveal !== undefined) sheets.push({ validator: account, power, ...reveal });
  }
  const seats = draft.get(SEATS) ?? [];
  const proven = new Set(seats.filter((seat) => seat.proven).map(seatKey));
  const { acceptanceFloorPpm } = parameters.rounds;
  const submissions = settleSubmissions(draft.get(SUBMISSIONS) ?? [], sheets, acceptanceFloorPpm, proven);
  const heldOutLoss = weightedMedian(sheets.map((sheet) => ({ value: sheet.heldOutLoss, power: sheet.power })));
  for (const { account, accepted } of submissions) countSubmission(draft, account, accepted, round.round);
  const left = leaveSeats(draft, round, outcomes(submissions, proven), at, parameters);
  const present = new Set(sheets.map(({ validator }) => validator));
  // A round in which no miner revealed asked nothing of the validators.
  const absences = sheets.length === 0 ? [] : noteAttendance(draft, currentValidators(draft), present, at, parameters);
  const accepted = submissions.filter((submission) => submission.accepted);
  addRoundCredit(
    draft,
    accepted.map(({ account, score }) => ({ account, credit: score ?? 0n })),
    sheets.map(({ validator, power }) => ({ account: validator, credit: power })),
  );
  draft.set(roundResult(round.round), {
    round: round.round,
    openedTimeMs: round.openedTimeMs,
    settledHeight: at.height,
    settledTimeMs: at.timeMs,
    beacon: round.beacon,
    drawBeacon: round.drawBeacon,
    modelRootBefore: round.modelRoot,
    modelRootAfter: undefined,
    aggregation: 'open',
    heldOutLoss,
    scorers: sheets.map(({ validator }) => validator),
    submissions,
  });
  const events: LedgerEvent[] = [
    ...left,
    ...absences,
    {
      type: 'roundSettled',
      round: round.round,
      accepted: accepted.length,
      rejected: submissions.length - accepted.length,
      heldOutLossNanoNats: heldOutLoss,
    },
  ];
  if (accepted.length > 0) return [...events, ...enter(draft, round, 'aggregate', at)];
  return [...events, ...closeRound(draft, round, at, parameters, 'nothingAccepted')];
}

/** What became of the seats whose submissions these are. `proven`: keys of the seats of accounts with accepted work. */
function outcomes(
  submissions: readonly SubmissionResult[],
  proven: ReadonlySet<string>,
): { account: AccountId; outcome: SeatOutcome }[] {
  const isExcused = !submissions.some((submission) => submission.accepted && proven.has(seatKey(submission)));
  return submissions.map((submission) => {
    const { account, accepted, reason } = submission;
    if (accepted) return { account, outcome: 'accepted' };
    if (isExcused && proven.has(seatKey(submission))) return { account, outcome: 'excused' };
    return { account, outcome: reason === 'notRevealed' ? 'absent' : 'rejected' };
  });
}

function stepAggregate(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] | undefined {
  const validators = currentValidators(draft);
  const byModel = new Map<string, { model: AgreedModel; by: Set<AccountId> }>();
  for (const { validator, modelRoot, checkpoint } of draft.get(ATTESTATIONS) ?? []) {
    const key = `${modelRoot} ${checkpoint}`;
    const entry = byModel.get(key) ?? { model: { modelRoot, checkpoint }, by: new Set<AccountId>() };
    byModel.set(key, entry);
    entry.by.add(validator);
  }
  // At most one can hold more than two thirds, so the order of the map does not matter.
  for (const { model, by } of byModel.values()) {
    if (holdQuorum(validators, by)) return closeRound(draft, round, at, parameters, model);
  }
  if (!isOver(round, at, parameters.rounds.aggregateDeadlineMs)) return undefined;
  const failed: LedgerEvent = { type: 'aggregationFailed', round: round.round };
  return [failed, ...closeRound(draft, round, at, parameters, 'failed')];
}

/**
 * Ends the round with new weights, or with the old ones, and opens the next. Accepted work keeps its credit where the
 * aggregation failed: its authors did it, and whoever can make validators disagree could else take everybody's pay.
 */
function closeRound(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
  end: AgreedModel | Exclude<Aggregation, 'open' | 'updated'>,
): LedgerEvent[] {
  const events: LedgerEvent[] = [];
  const model = typeof end === 'string' ? undefined : end;
  const modelRoot = model?.modelRoot ?? round.modelRoot;
  draft.set(roundResult(round.round), {
    ...need(draft, roundResult(round.round)),
    modelRootAfter: modelRoot,
    aggregation: typeof end === 'string' ? end : 'updated',
  });
  if (model !== undefined) {
    events.push({ type: 'modelUpdated', round: round.round, modelRoot });
    if (model.checkpoint !== '') {
      draft.set(CHECKPOINT, { round: round.round, modelRoot, cid: model.checkpoint });
      events.push({ type: 'checkpointPublished', round: round.round, modelRoot, cid: model.checkpoint });
    }
  }
  for (const scorer of round.scorers) draft.delete(scoreSheet(scorer));
  draft.delete(SUBMISSIONS);
  draft.delete(ATTESTATIONS);
  forgetResults(draft, round.round, parameters);
  events.push(...settleEpochIfDue(draft, { height: at.height, timeMs: at.timeMs, round: round.round }, parameters));
  const next = { round: round.round + 1, attempt: 1, opening: round.opening + 1, modelRoot };
  events.push(...opening(draft, at, parameters, next));
  return events;
}

/**
 * Drops results that nobody needs any more. Kept are those of the last `2 * checkpointEveryRounds` rounds, and of every
 * round after the last checkpoint that changed the weights: a joiner replays those. There are at most
 * `checkpointEveryRounds` of them, since an update that is due publishes a checkpoint.
 */
function forgetResults(draft: Draft, round: number, parameters: Parameters): void {
  const checkpoint = need(draft, CHECKPOINT).round;
  const recent = round - 2 * parameters.rounds.checkpointEveryRounds;
  const kept: number[] = [];
  for (const old of [...(draft.get(KEPT_RESULTS) ?? []), round]) {
    const replayed = old > checkpoint && draft.get(roundResult(old))?.aggregation === 'updated';
    if (old > recent || replayed) kept.push(old);
    else draft.delete(roundResult(old));
  }
  draft.set(KEPT_RESULTS, kept);
}
