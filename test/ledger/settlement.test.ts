import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Verdict } from '../../node/chain/transaction.ts';
import type { SubmissionRecord } from '../../node/ledger/round-records.ts';
import { type RevealedScores, settleSubmissions, weightedMedian } from '../../node/ledger/settlement.ts';
import { namedAccount, namedCid, namedHash, PROVIDER } from './harness.ts';
import { Random } from './random.ts';

const UNAVAILABLE: Verdict = { tag: 'unavailable', value: undefined };
const MALFORMED: Verdict = { tag: 'malformed', value: undefined };
const score = (value: bigint): Verdict => ({ tag: 'scored', value });

function submission(
  name: string,
  options: { cid?: string; order?: number; revealed?: boolean; slot?: number } = {},
): SubmissionRecord {
  const cid = options.cid ?? namedCid(name);
  const reveal = options.revealed === false ? undefined : { cid, sizeBytes: 10, provider: PROVIDER };
  const seat = { account: namedAccount(name), slot: options.slot ?? 0 };
  return { ...seat, commitment: namedHash(name), order: options.order ?? 0, reveal };
}

function sheet(name: string, power: bigint, verdicts: Verdict[]): RevealedScores {
  return { validator: namedAccount(name), power, heldOutLoss: 0n, verdicts };
}

/** One submission, scored by validators of the given powers: its result. */
function settleOne(verdicts: readonly (readonly [bigint, Verdict])[]) {
  const sheets = verdicts.map(([power, verdict], index) => sheet(`v${index}`, power, [verdict]));
  return settleSubmissions([submission('m')], sheets, 250_000)[0];
}

test('weighted median: by power, the lower of two, within the honest values', () => {
  const median = (...values: [number, number][]) =>
    weightedMedian(values.map(([value, power]) => ({ value: BigInt(value), power: BigInt(power) })));
  assert.is(weightedMedian([]), undefined);
  assert.is(median([5, 1]), 5n);
  assert.is(median([5, 1], [9, 1]), 5n);
  assert.is(median([9, 1], [5, 1], [7, 1]), 7n);
  assert.is(median([1, 1], [2, 1], [100, 3]), 100n);
  assert.is(median([-100, 49], [3, 51]), 3n);
  const random = new Random(9);
  for (let run = 0; run < 2000; run++) {
    const honest = Array.from({ length: 1 + random.below(6) }, () => ({
      value: BigInt(100 + random.below(50)),
      power: 10n,
    }));
    const liars = Array.from({ length: random.below(honest.length) }, () => ({
      value: BigInt(random.below(1000) - 500),
      power: 10n,
    }));
    const result = weightedMedian(random.shuffled([...honest, ...liars]))!;
    assert.ok(result >= 100n && result < 150n);
  }
});

test('a score counts only where more than two thirds of the revealing power gave one', () => {
  assert.is(
    settleOne([
      [10n, score(5n)],
      [10n, score(7n)],
      [10n, score(6n)],
      [10n, UNAVAILABLE],
    ]).score,
    6n,
  );
  assert.is(
    settleOne([
      [20n, score(5n)],
      [10n, UNAVAILABLE],
    ]).reason,
    'unavailable',
  );
  assert.is(
    settleOne([
      [20n, score(5n)],
      [10n, MALFORMED],
    ]).reason,
    'malformed',
  );
  assert.is(
    settleOne([
      [10n, score(5n)],
      [10n, MALFORMED],
      [10n, UNAVAILABLE],
    ]).reason,
    'unavailable',
  );
  assert.is(
    settleOne([
      [10n, score(5n)],
      [11n, MALFORMED],
      [10n, UNAVAILABLE],
    ]).reason,
    'malformed',
  );
  assert.is(
    settleOne([
      [21n, score(5n)],
      [10n, MALFORMED],
    ]).score,
    5n,
  );
  assert.is(settleOne([[10n, MALFORMED]]).score, undefined);
});

test('no gain, below the floor, at the floor', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  const values = [100n, 100n, 25n, 24n, 0n, -50n];
  const submissions = names.map((name, order) => submission(name, { order }));
  // The positive scores are 24, 25, 100, 100: their lower median is 25, a quarter of it 6.25.
  const results = settleSubmissions(submissions, [sheet('v', 1n, values.map(score))], 250_000);
  assert.equal(
    results.map(({ reason }) => reason),
    ['accepted', 'accepted', 'accepted', 'accepted', 'noGain', 'noGain'],
  );
  const many = [...values.slice(0, 3), 100n, 100n, 24n];
  const stricter = settleSubmissions(submissions, [sheet('v', 1n, many.map(score))], 250_000);
  assert.equal(
    stricter.map(({ reason }) => reason),
    ['accepted', 'accepted', 'accepted', 'accepted', 'accepted', 'belowFloor'],
  );
  assert.is(stricter[5].score, 24n);
  assert.not(stricter[5].accepted);
});

test('nothing is accepted where nobody gained', () => {
  const results = settleSubmissions([submission('a')], [sheet('v', 1n, [score(-1n)])], 0);
  assert.is(results[0].reason, 'noGain');
  assert.equal(settleSubmissions([], [], 0), []);
});

test('what was not revealed keeps its place and takes no verdict', () => {
  const submissions = [submission('a'), submission('b', { revealed: false }), submission('c')];
  const results = settleSubmissions(submissions, [sheet('v', 1n, [score(10n), score(20n)])], 250_000);
  assert.equal(
    results.map((result) => [result.reason, result.score]),
    [
      ['accepted', 10n],
      ['notRevealed', undefined],
      ['accepted', 20n],
    ],
  );
  assert.is(results[1].cid, '');
});

test('of two equal blobs the later commit is the copy', () => {
  const cid = namedCid('same');
  const submissions = [
    submission('a', { cid, order: 2 }),
    submission('b', { cid, order: 1 }),
    submission('c', { order: 0 }),
  ];
  const results = settleSubmissions(submissions, [sheet('v', 1n, [score(10n), score(10n), score(10n)])], 250_000);
  assert.equal(
    results.map(({ reason }) => reason),
    ['duplicate', 'accepted', 'accepted'],
  );
});

test('what did not score is no original, however early it was committed; two slots of one account copy each other', () => {
  const cid = namedCid('same');
  const submissions = [submission('thief', { cid, order: 0 }), submission('author', { cid, order: 1 })];
  for (const [verdict, reason] of [
    [MALFORMED, 'malformed'],
    [UNAVAILABLE, 'unavailable'],
  ] as const) {
    const results = settleSubmissions(submissions, [sheet('v', 1n, [verdict, score(10n)])], 250_000);
    assert.equal(
      results.map((result) => result.reason),
      [reason, 'accepted'],
    );
  }
  const slots = [submission('a', { cid, order: 1 }), submission('a', { cid, order: 0, slot: 1 })];
  const results = settleSubmissions(slots, [sheet('v', 1n, [score(10n), score(10n)])], 250_000);
  assert.equal(
    results.map((result) => [result.slot, result.reason]),
    [
      [0, 'duplicate'],
      [1, 'accepted'],
    ],
  );
});

test.run();
