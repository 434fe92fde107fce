/**
 * From revealed scores to results: which submissions of a round count, with what score.
 *
 * Rules, in this order, for each committed submission:
 * 1. not revealed in time: `notRevealed`;
 * 2. validators with at most two thirds of the revealing power gave a score: `unavailable` or `malformed`, whichever
 *    verdict has more power (`unavailable` on a tie);
 * 3. the same blob was committed earlier by another seat, and has a score there: `duplicate`. What did not score is no
 *    original: who commits a CID that it has seen (its bytes name their author, so they are malformed there) takes nothing
 *    from the author;
 * 4. its score is the power-weighted lower median of the scores given;
 * 5. score not positive: `noGain`;
 * 6. score below `acceptanceFloorPpm` of the lower median of the round's positive scores: `belowFloor`. The scores of proven
 *    seats make it, where one is positive: newcomers may be half of a round, and would else decide how little is enough;
 * 7. else `accepted`.
 */
import type { AccountId } from '../chain/account.ts';
import { seatKey } from '../chain/seat.ts';
import type { Verdict } from '../chain/transaction.ts';
import { isQuorum } from '../chain/validator-set.ts';
import type { SubmissionReason, SubmissionRecord, SubmissionResult } from './round-records.ts';

/** What one validator revealed, with its power. Verdicts in the order of the revealed submissions. */
export interface RevealedScores {
  readonly validator: AccountId;
  readonly power: bigint;
  readonly heldOutLoss: bigint;
  readonly verdicts: readonly Verdict[];
}

/** A value and the power behind it. */
export interface Weighted {
  readonly value: bigint;
  readonly power: bigint;
}

/**
 * Power-weighted lower median: the smallest value such that the values up to it hold at least half of the power. With
 * more than half of the power honest, it lies within the honest values. Undefined for an empty list.
 */
export function weightedMedian(values: readonly Weighted[]): bigint | undefined {
  const sorted = [...values].sort((a, b) => (a.value < b.value ? -1 : a.value > b.value ? 1 : 0));
  const total = sorted.reduce((sum, { power }) => sum + power, 0n);
  let reached = 0n;
  for (const { value, power } of sorted) {
    reached += power;
    if (2n * reached >= total) return value;
  }
  return undefined;
}

/** Settles one submission by the power-weighted verdicts on it: a score, or the reason why there is none. */
function settleVerdicts(verdicts: readonly { verdict: Verdict; power: bigint }[]): bigint | SubmissionReason {
  const scores: Weighted[] = [];
  let total = 0n;
  let scored = 0n;
  let malformed = 0n;
  for (const { verdict, power } of verdicts) {
    total += power;
    if (verdict.tag === 'scored') {
      scored += power;
      scores.push({ value: verdict.value, power });
    } else if (verdict.tag === 'malformed') {
      malformed += power;
    }
  }
  const median = weightedMedian(scores);
  if (median === undefined || !isQuorum(scored, total)) {
    return malformed > total - scored - malformed ? 'malformed' : 'unavailable';
  }
  return median;
}

/** A committed submission and what validators made of it. */
interface Judged {
  readonly submission: SubmissionRecord;
  readonly verdict: bigint | SubmissionReason;
}

/** Of the submissions that scored, those whose blob was committed earlier by another one that scored. */
function copies(judged: readonly Judged[]): Set<Judged> {
  const scored = judged.filter(({ verdict }) => typeof verdict === 'bigint');
  const first = new Map<string | undefined, Judged>();
  for (const item of [...scored].sort((a, b) => a.submission.order - b.submission.order)) {
    const cid = item.submission.reveal?.cid;
    if (!first.has(cid)) first.set(cid, item);
  }
  const originals = new Set(first.values());
  return new Set(scored.filter((item) => !originals.has(item)));
}

/**
 * Results of all committed submissions, in the order in which they came (by account and slot). `floorPpm`: acceptance floor in parts per
 * million of the round's median positive score. `proven`: keys of the seats of accounts with accepted work.
 */
export function settleSubmissions(
  submissions: readonly SubmissionRecord[],
  sheets: readonly RevealedScores[],
  floorPpm: number,
  proven: ReadonlySet<string> = new Set(),
): SubmissionResult[] {
  let position = 0;
  const judged = submissions.map((submission): Judged => {
    if (submission.reveal === undefined) return { submission, verdict: 'notRevealed' };
    const index = position++;
    const verdicts = sheets.map(({ verdicts: given, power }) => ({ verdict: given[index], power }));
    return { submission, verdict: settleVerdicts(verdicts) };
  });
  const copied = copies(judged);
  const settled = judged.map((item): Judged => (copied.has(item) ? { ...item, verdict: 'duplicate' } : item));
  const positive: Weighted[] = [];
  const positiveOfProven: Weighted[] = [];
  for (const { submission, verdict } of settled) {
    if (typeof verdict !== 'bigint' || verdict <= 0n) continue;
    const value = { value: verdict, power: 1n };
    positive.push(value);
    if (proven.has(seatKey(submission))) positiveOfProven.push(value);
  }
  const median = weightedMedian(positiveOfProven) ?? weightedMedian(positive) ?? 0n;
  return settled.map(({ submission, verdict }) => {
    const score = typeof verdict === 'bigint' ? verdict : undefined;
    const reason = typeof verdict === 'string' ? verdict : judge(verdict, median, floorPpm);
    return {
      account: submission.account,
      slot: submission.slot,
      cid: submission.reveal?.cid ?? '',
      sizeBytes: submission.reveal?.sizeBytes ?? 0,
      provider: submission.reveal?.provider ?? '',
      score,
      accepted: reason === 'accepted',
      reason,
    };
  });
}

function judge(score: bigint, medianPositive: bigint, floorPpm: number): SubmissionReason {
  if (score <= 0n) return 'noGain';
  return score * 1_000_000n >= medianPositive * BigInt(floorPpm) ? 'accepted' : 'belowFloor';
}
