/** What the replay of the Quint model's traces does where the shared vectors have no trace for it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ReplayResult, replayTrace } from '../../tools/vectors/consensus-itf.ts';
import { type ModelStep, prevote, proposal, rules, start, stepChange, timeout, trace } from './itf-trace.ts';

function replay(steps: readonly ModelStep[]): ReplayResult {
  const folder = mkdtempSync(join(tmpdir(), 'alice-itf-'));
  try {
    writeFileSync(join(folder, 'trace.itf.json'), JSON.stringify(trace(steps)));
    return replayTrace(join(folder, 'trace.itf.json'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const STARTED: readonly ModelStep[] = [
  { round: -1, step: 'NoStep' },
  { input: start, executed: [rules.newRound(0)], round: 0, step: 'ProposeStep', pending: true },
  { input: stepChange, round: 0, step: 'ProposeStep' },
];

test('a round is skipped to (RoundSkipCInput) where more than a third vote', () => {
  const { mismatches, known } = replay([
    ...STARTED,
    { input: prevote('v2', 2, 'a'), round: 0, step: 'ProposeStep' },
    {
      input: prevote('v3', 2, 'a'),
      executed: [rules.roundSkip(2), rules.newRound(2)],
      round: 2,
      step: 'ProposeStep',
    },
    {
      input: timeout('Propose'),
      executed: [rules.timeout('Propose', 2)],
      round: 2,
      step: 'PrevoteStep',
      pending: true,
    },
    { input: stepChange, round: 2, step: 'PrevoteStep' },
  ]);
  assert.equal(mismatches, []);
  assert.equal(known, {});
});

test('a skip that the model does not make, or makes to another round, is a mismatch', () => {
  const none = replay([
    ...STARTED,
    { input: prevote('v2', 2, 'a'), executed: [rules.roundSkip(2)], round: 0, step: 'ProposeStep' },
  ]);
  assert.ok(none.mismatches.length > 0);
  const other = replay([
    ...STARTED,
    { input: prevote('v2', 2, 'a'), round: 0, step: 'ProposeStep' },
    { input: prevote('v3', 2, 'a'), executed: [rules.roundSkip(3), rules.newRound(3)], round: 3, step: 'ProposeStep' },
  ]);
  assert.ok(other.mismatches.some((mismatch) => mismatch.includes('driver')));
});

const SKIPPED: readonly ModelStep[] = [
  ...STARTED,
  { input: proposal(1, 'a'), round: 0, step: 'ProposeStep' },
  { input: prevote('v2', 1, 'a'), round: 0, step: 'ProposeStep' },
  { input: prevote('v3', 1, 'a'), executed: [rules.roundSkip(1), rules.newRound(1)], round: 1, step: 'ProposeStep' },
];

test('known difference L22: the model holds the proposal of the round that it skips to and does not look at it', () => {
  const { mismatches, known } = replay([
    ...SKIPPED,
    {
      input: timeout('Propose'),
      executed: [rules.timeout('Propose', 1)],
      round: 1,
      step: 'PrevoteStep',
      pending: true,
    },
    { input: stepChange, round: 1, step: 'PrevoteStep' },
  ]);
  assert.equal(mismatches, []);
  assert.equal(known, { L22: 1 });
});

const OLD_QUORUM: readonly ModelStep[] = [
  ...STARTED,
  { input: prevote('v2', 0, 'a'), round: 0, step: 'ProposeStep' },
  { input: prevote('v3', 0, 'a'), round: 0, step: 'ProposeStep' },
  {
    input: timeout('Precommit'),
    executed: [rules.timeout('Precommit', 0), rules.newRound(1)],
    round: 1,
    step: 'ProposeStep',
  },
  { input: proposal(1, 'a', 0), round: 1, step: 'ProposeStep' },
];

test('known difference L28: an old prevote completes the quorum of the held proposal, and the model does not look', () => {
  const { mismatches, known } = replay([
    ...OLD_QUORUM,
    { input: prevote('v4', 0, 'a'), round: 1, step: 'ProposeStep' },
  ]);
  assert.equal(mismatches, []);
  assert.equal(known, { L28: 1 });
});

test('nothing else passes for a known difference', () => {
  const without = (step: ModelStep) => replay([...STARTED, step]);
  // The proposal of the present round, no skip: the model would have looked.
  const late = without({ input: proposal(0, 'a'), round: 0, step: 'ProposeStep' });
  assert.is(late.mismatches.length, 1);
  assert.equal(late.known, {});
  // A quorum that is not complete: it is the model that goes too far.
  const early = replay([...OLD_QUORUM, { input: prevote('v3', 0, 'a'), round: 1, step: 'PrevoteStep' }]);
  assert.ok(early.mismatches.length > 0);
  assert.equal(early.known, {});
});

test.run();
