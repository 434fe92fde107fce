/**
 * Module rounds, the clock: at the end of each block, moves the open round on as far as commits, reveals and deadlines
 * allow. All deadlines are in block time.
 *
 *     train -> reveal -> score -> scoreReveal -> aggregate -> next round
 *       |        |                     |             |
 *       |        +- nobody revealed ---+- none accepted: weights unchanged -> next round
 *       +- nobody committed: the phase opens again with a fresh beacon
 */
import type { AccountId } from '../chain/account.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { Draft } from './draft.ts';
import { need } from './draft.ts';
import { addRoundCredit, settleEpochIfDue } from './epochs.ts';
import type { LedgerEvent } from './events.ts';
import { noteAttendance } from './jail.ts';
import { activeMiners, noteOutcome, takeExpected } from './registry.ts';
import {
  ATTESTATIONS,
  CHECKPOINT,
  EXPECTED,
  type Phase,
  ROUND,
  type RoundRecord,
  roundResult,
  SUBMISSIONS,
  scoreSheet,
} from './round-records.ts';
import type { AgreedModel } from './rounds.ts';
import { type RevealedScores, settleSubmissions, weightedMedian } from './settlement.ts';
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
  round: { readonly round: number; readonly attempt: number; readonly modelRoot: Hash },
): LedgerEvent[] {
  const expected = takeExpected(draft, round.round, at.height, parameters.rounds.idleRounds);
  draft.set(EXPECTED, expected);
  draft.set(ROUND, {
    ...round,
    phase: 'train',
    openedHeight: at.height,
    openedTimeMs: at.timeMs,
    phaseTimeMs: at.timeMs,
    beacon: at.beacon,
    firstRegistrationMs: undefined,
    drawBeacon: undefined,
    scorers: [],
    revealedScorers: [],
  });
  return [{ type: 'roundOpened', round: round.round, attempt: round.attempt, expected: expected.length }];
}

/** The round that genesis opens; nobody is registered, so nobody is waited for. */
export function openFirstRound(draft: Draft, at: BlockMoment, parameters: Parameters, modelRoot: Hash): void {
  opening(draft, at, parameters, { round: 1, attempt: 1, modelRoot });
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
  draft.set(ROUND, { ...round, phase, phaseTimeMs: at.timeMs });
  return [{ type: 'phaseChanged', round: round.round, phase }];
}

function isOver(round: RoundRecord, at: BlockMoment, deadlineMs: number): boolean {
  return at.timeMs >= round.phaseTimeMs + BigInt(deadlineMs);
}

function stepTrain(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] | undefined {
  const submissions = draft.get(SUBMISSIONS) ?? [];
  const over = isOver(round, at, parameters.rounds.trainDeadlineMs);
  if (submissions.length > 0) {
    const committed = new Set(submissions.map(({ account }) => account));
    const expected = draft.get(EXPECTED) ?? [];
    const complete =
      submissions.length >= parameters.rounds.maxSubmissions || expected.every((account) => committed.has(account));
    return complete || over ? enter(draft, round, 'reveal', at) : undefined;
  }
  const reopen = () => opening(draft, at, parameters, { ...pick(round), attempt: round.attempt + 1 });
  if ((draft.get(EXPECTED) ?? []).length > 0) return over ? reopen() : undefined;

  // Nobody to wait for. The round opens again soon after somebody registers, late enough for those who start at the
  // same time: two empty blocks are time for a transaction that was sent when the first one was seen.
  const first = round.firstRegistrationMs;
  if (first === undefined) {
    if (activeMiners(draft).length > 0) draft.set(ROUND, { ...round, firstRegistrationMs: at.timeMs });
    return undefined;
  }
  const windowMs = BigInt(2 * parameters.consensus.emptyBlockIntervalMs);
  return at.timeMs >= first + windowMs ? reopen() : undefined;
}

function pick(round: RoundRecord): { round: number; attempt: number; modelRoot: Hash } {
  return { round: round.round, attempt: round.attempt, modelRoot: round.modelRoot };
}

function stepReveal(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
): LedgerEvent[] | undefined {
  const submissions = draft.get(SUBMISSIONS) ?? [];
  const revealed = submissions.filter(({ reveal }) => reveal !== undefined).length;
  if (revealed < submissions.length && !isOver(round, at, parameters.rounds.revealDeadlineMs)) return undefined;
  if (revealed === 0) return settle(draft, round, at, parameters);
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
  const submissions = settleSubmissions(draft.get(SUBMISSIONS) ?? [], sheets, parameters.rounds.acceptanceFloorPpm);
  const heldOutLoss = weightedMedian(sheets.map((sheet) => ({ value: sheet.heldOutLoss, power: sheet.power })));
  for (const { account, accepted } of submissions) noteOutcome(draft, account, accepted);
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
    heldOutLoss,
    scorers: sheets.map(({ validator }) => validator),
    submissions,
  });
  const events: LedgerEvent[] = [
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
  return [...events, ...closeRound(draft, round, at, parameters, undefined)];
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
  return undefined;
}

/** Ends the round with new weights, or with the old ones, and opens the next. */
function closeRound(
  draft: Draft,
  round: RoundRecord,
  at: BlockMoment,
  parameters: Parameters,
  model: AgreedModel | undefined,
): LedgerEvent[] {
  const events: LedgerEvent[] = [];
  const modelRoot = model?.modelRoot ?? round.modelRoot;
  draft.set(roundResult(round.round), { ...need(draft, roundResult(round.round)), modelRootAfter: modelRoot });
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
  events.push(...opening(draft, at, parameters, { round: round.round + 1, attempt: 1, modelRoot }));
  return events;
}

/**
 * Drops results that nobody needs any more. Kept are the last `2 * checkpointEveryRounds` rounds, and every round after
 * the last checkpoint: a joiner replays those.
 */
function forgetResults(draft: Draft, round: number, parameters: Parameters): void {
  const checkpoint = need(draft, CHECKPOINT).round;
  const last = Math.min(checkpoint, round - 2 * parameters.rounds.checkpointEveryRounds);
  // Downwards until one is missing: what was kept for an old checkpoint goes at once when the next one is published.
  for (let old = last; old >= 1 && draft.get(roundResult(old)) !== undefined; old--) draft.delete(roundResult(old));
}
