/** Deadlines, and rounds in which somebody is missing. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { LedgerHarness, namedAccount, namedHash, register, scored, testParameters } from './harness.ts';

const good = () => scored(10);

function commitAll(ledger: LedgerHarness, miners = ledger.miners): void {
  ledger.block(miners.map((miner) => [miner, ledger.commitCall(miner)] as const));
}
function revealAll(ledger: LedgerHarness, miners = ledger.miners): void {
  ledger.block(miners.map((miner) => [miner, ledger.revealCall(miner)] as const));
}
function commitScores(ledger: LedgerHarness, validators = ledger.validators): void {
  ledger.block(validators.map((v) => [v, ledger.commitScoresCall(v, good)] as const));
}
function revealScores(ledger: LedgerHarness, validators = ledger.validators): void {
  ledger.block(validators.map((v) => [v, ledger.revealScoresCall(good)] as const));
}
function attestAll(ledger: LedgerHarness, validators = ledger.validators): void {
  ledger.block(validators.map((v) => [v, ledger.attestCall()] as const));
}

test('nobody registered: the round waits without end and without change', () => {
  const ledger = new LedgerHarness({ miners: 0 });
  const beacon = ledger.state.round.beacon;
  for (let index = 0; index < 5; index++) ledger.block([], 100_000);
  assert.is(ledger.state.round.beacon, beacon);
  assert.is(ledger.state.round.attempt, 1);
});

test('miners that register within the window after the first begin together', () => {
  const ledger = new LedgerHarness();
  const [first, second, third] = ledger.miners;
  ledger.block([[first, register()]]);
  assert.equal(ledger.seated, []);
  ledger.block([[second, register()]], 1900);
  assert.equal(ledger.seated, []);
  // The window (two empty blocks, 2000 ms) is over with this block; who registers in it is a block too late, because its
  // proposer knows the beacon already.
  ledger.block([[third, register()]], 100);
  assert.equal(ledger.seated, [first, second].sort());
  assert.is(ledger.state.round.beacon, namedHash(`beacon ${ledger.state.height}`));
  assert.is(ledger.try(third, ledger.commitCall(third)), 'ERR_NOT_SEATED');
  commitAll(ledger, [first, second]);
  assert.is(ledger.state.round.phase, 'reveal');
});

test('nobody commits: the phase opens again with a fresh beacon, same round, same weights', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  const before = ledger.state.round;
  ledger.block([], 59_999);
  assert.is(ledger.state.round.beacon, before.beacon);
  ledger.block([], 1);
  const after = ledger.state.round;
  assert.is(after.round, before.round);
  assert.is(after.attempt, before.attempt + 1);
  assert.not.equal(after.beacon, before.beacon);
  assert.is(after.modelRoot, before.modelRoot);
  commitAll(ledger);
  assert.is(ledger.state.round.phase, 'reveal');
});

test('a commit that came too late for an opening does not take the seat of the next one, where it opens nothing', () => {
  const ledger = new LedgerHarness({ miners: 1 });
  ledger.start();
  ledger.playRound();
  const [miner] = ledger.miners;
  const late = ledger.commitCall(miner);
  ledger.block([], 60_000);
  assert.equal(ledger.seated, [miner], 'the only one with accepted work has a seat again');
  assert.is(ledger.try(miner, late), 'ERR_WRONG_ATTEMPT');
  assert.is(ledger.try(miner, ledger.commitCall(miner)), undefined);
  assert.is(ledger.try(miner, ledger.revealCall(miner)), undefined);
});

/** Plays on from the reveal. */
function finish(ledger: LedgerHarness, miners: readonly AccountId[]): void {
  ledger.block(miners.map((miner) => [miner, ledger.revealCall(miner)] as const));
  commitScores(ledger);
  revealScores(ledger);
  if (ledger.state.round.phase === 'aggregate') attestAll(ledger);
}

test('a miner that is gone is waited for in at most idleRounds rounds, further and further apart', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ rounds: { idleRounds: 2 } }) });
  ledger.start();
  const [first, second, gone] = ledger.miners;
  const present = [first, second];
  ledger.playRound();
  const seated: boolean[] = [];
  for (let round = 2; round <= 12; round++) {
    assert.is(ledger.round, round);
    const isWaitedFor = ledger.state.round.seats.some(({ account, proven }) => account === gone && proven);
    seated.push(ledger.seated.includes(gone));
    commitAll(ledger, present);
    assert.is(ledger.state.round.phase === 'reveal', !seated.at(-1));
    // Longer than the minimum time, shorter than the deadline.
    if (ledger.state.round.phase === 'train') ledger.block([], 11_000);
    assert.is(ledger.state.round.phase, isWaitedFor ? 'train' : 'reveal');
    if (isWaitedFor) ledger.block([], 60_000);
    finish(ledger, present);
  }
  // Out of turn for two openings, then for four; then it is a newcomer, whom nobody waits for longer than the minimum.
  assert.equal(seated, [true, false, false, true, false, false, false, false, true, false, false]);
  assert.is(ledger.state.standing(gone)?.proven, false);
});

test('a newcomer whose seats come to nothing has to register again, and is forgotten', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ rounds: { newcomerTries: 2, noShowRounds: 1 } }) });
  ledger.start();
  ledger.playRound();
  const idle = namedAccount('idle');
  ledger.block([[idle, register()]]);
  let seats = 0;
  for (let round = 2; round <= 8; round++) {
    if (ledger.seated.includes(idle)) seats += 1;
    ledger.playRound();
  }
  assert.is(seats, 2);
  assert.is(ledger.state.standing(idle), undefined);
  assert.is(ledger.state.miner(idle), undefined);
  assert.equal(
    ledger.allEvents.filter((event) => event.type === 'minerStruckOff'),
    [{ type: 'minerStruckOff', account: idle }],
  );
  assert.is(ledger.try(idle, register('new device')), undefined);
  assert.is(ledger.state.miner(idle)?.device, 'new device');
  ledger.playRound();
  assert.ok(ledger.seated.includes(idle));
});

test('accepted work is remembered when its account has to register again', () => {
  const ledger = new LedgerHarness({
    parameters: testParameters({ rounds: { newcomerTries: 1, idleRounds: 1, noShowRounds: 1 } }),
  });
  ledger.start();
  const [gone, ...present] = ledger.miners;
  ledger.playRound();
  while (ledger.state.standing(gone) !== undefined) ledger.playRound(undefined, 100, present);
  assert.is(ledger.state.miner(gone)?.accepted, 1);
  ledger.block([[gone, register()]]);
  assert.is(ledger.state.miner(gone)?.accepted, 1);
});

test('a newcomer has the minimum time: those who are proven do not close the phase on it before', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const slow = namedAccount('slow');
  ledger.block([[slow, register()]]);
  ledger.playRound();
  commitAll(ledger);
  ledger.block([], 9000);
  assert.is(ledger.state.round.phase, 'train');
  assert.is(ledger.try(slow, ledger.commitCall(slow)), undefined);
  assert.is(ledger.state.round.phase, 'reveal', 'nobody is missing');
  finish(ledger, [...ledger.miners, slow]);
  assert.is(ledger.state.standing(slow)?.proven, true);
});

test('a newcomer that is a little slower than the others is in time: an eighth of what they needed', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const slow = namedAccount('slow');
  ledger.block([[slow, register()]]);
  ledger.playRound();
  ledger.block([], 39_900);
  commitAll(ledger);
  ledger.block([], 4999);
  assert.is(ledger.state.round.phase, 'train');
  ledger.block([], 1);
  assert.is(ledger.state.round.phase, 'reveal');
});

test('while nobody is proven, all seats are waited for until the deadline', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  commitAll(ledger, ledger.miners.slice(0, 2));
  ledger.block([], 59_000);
  assert.is(ledger.state.round.phase, 'train');
  ledger.block([], 1000);
  assert.is(ledger.state.round.phase, 'reveal');
  revealAll(ledger, ledger.miners.slice(0, 1));
  ledger.block([], 9000);
  assert.is(ledger.state.round.phase, 'reveal');
  ledger.block([], 1000);
  assert.is(ledger.state.round.phase, 'score');
});

test('what befalls all who are proven costs none of them its seats: strangers do not take over', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const strangers = Array.from({ length: 30 }, (_, index) => namedAccount(`stranger ${index}`));
  ledger.block(strangers.map((account) => [account, register()] as const));
  const isHeld = () => {
    const proven = ledger.state.round.seats.filter((seat) => seat.proven).map(({ account }) => account);
    assert.equal(proven, ledger.miners);
    assert.ok(ledger.seated.length <= ledger.miners.length + 4);
  };
  // An outage: nobody commits, many times over.
  for (let opening = 2; opening <= 10; opening++) {
    ledger.block([], 60_000);
    assert.is(ledger.state.round.attempt, opening);
    isHeld();
  }
  // Commits that nobody reveals, and work that brings no gain to anyone.
  for (let round = 2; round <= 6; round++) {
    assert.is(ledger.round, round);
    commitAll(ledger);
    ledger.block([], 11_000);
    ledger.block([], 11_000);
    isHeld();
  }
  for (let round = 7; round <= 11; round++) {
    assert.is(ledger.round, round);
    ledger.playRound(() => scored(-1));
    isHeld();
  }
  // Where one of them does better, it counts.
  const [gone, ...present] = ledger.miners;
  for (let round = 12; ledger.state.standing(gone)?.proven; round++) {
    assert.ok(round < 40);
    ledger.playRound(undefined, 100, present);
  }
});

test('weights that were not agreed on: an event, a result that says so, pay as ever, no update to replay', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ rounds: { checkpointEveryRounds: 2 } }) });
  ledger.start();
  const fail = () => {
    commitAll(ledger);
    revealAll(ledger);
    commitScores(ledger);
    revealScores(ledger);
    ledger.block(ledger.validators.slice(0, 2).map((v) => [v, ledger.attestCall()] as const));
    ledger.block([], 30_000);
  };
  fail();
  assert.is(ledger.round, 2);
  const failed = ledger.state.roundResult(1)!;
  assert.is(failed.aggregation, 'failed');
  assert.is(failed.modelRootAfter, failed.modelRootBefore);
  assert.ok(failed.submissions.every(({ accepted }) => accepted));
  assert.ok(ledger.allEvents.some(({ type }) => type === 'aggregationFailed'));
  assert.equal(ledger.state.weightUpdates, []);
  assert.equal(ledger.state.round.attestations, []);
  assert.is(ledger.state.epoch.miners.length, ledger.miners.length);
  assert.ok(ledger.state.round.seats.every(({ proven }) => proven));
  ledger.playRound();
  assert.is(ledger.state.checkpoint.round, 2);
  // However long it goes on, the state does not grow.
  for (let round = 3; round < 20; round++) fail();
  const keys = [...ledger.state.tree.entries()].map(([key]) => key);
  assert.is(keys.filter((key) => key.startsWith('result/')).length, 4);
  assert.ok(ledger.state.round.checkpointDue);
  ledger.playRound();
  assert.is(ledger.state.checkpoint.round, 20);
  assert.equal(
    ledger.state.weightUpdates.map(({ round }) => round),
    [20],
  );
});

test('unrevealed is not submitted; nobody revealed ends the round with the weights as they were', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  commitAll(ledger);
  revealAll(ledger, ledger.miners.slice(0, 2));
  assert.is(ledger.state.round.phase, 'reveal');
  ledger.block([], 10_000);
  assert.is(ledger.state.round.phase, 'score');
  commitScores(ledger);
  revealScores(ledger);
  assert.is(
    ledger.state.roundResult(1)?.submissions.find(({ account }) => account === ledger.miners[2])?.reason,
    'notRevealed',
  );
  attestAll(ledger);
  assert.is(ledger.round, 2);

  commitAll(ledger);
  ledger.block([], 10_000);
  assert.is(ledger.round, 3);
  assert.is(ledger.state.modelRoot, namedHash('weights 1'));
  const result = ledger.state.roundResult(2)!;
  assert.is(result.modelRootAfter, result.modelRootBefore);
  assert.is(result.heldOutLoss, undefined);
  assert.ok(result.submissions.every(({ reason }) => reason === 'notRevealed'));
});

test('one of four validators missing: the deadlines end its phases, the round goes on', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  const three = ledger.validators.slice(0, 3);
  commitAll(ledger);
  revealAll(ledger);
  commitScores(ledger, three);
  assert.is(ledger.state.round.phase, 'score');
  ledger.block([], 30_000);
  assert.is(ledger.state.round.phase, 'scoreReveal');
  revealScores(ledger, three);
  assert.is(ledger.state.round.phase, 'aggregate');
  assert.equal(ledger.state.roundResult(1)?.scorers, [...three].sort());
  attestAll(ledger, three);
  assert.is(ledger.round, 2);
  const credited = ledger.state.epoch.validators.map(({ account }) => account);
  assert.equal(credited, [...three].sort());
});

test('two of four validators missing: scoring waits past its deadline until more than two thirds are there', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  commitAll(ledger);
  revealAll(ledger);
  commitScores(ledger, ledger.validators.slice(0, 2));
  ledger.block([], 300_000);
  assert.is(ledger.state.round.phase, 'score');
  commitScores(ledger, [ledger.validators[2]]);
  assert.is(ledger.state.round.phase, 'scoreReveal');
});

test('power decides, not heads', () => {
  const ledger = new LedgerHarness({ powers: [70n, 10n, 10n, 10n] });
  ledger.start();
  commitAll(ledger);
  revealAll(ledger);
  commitScores(ledger, ledger.validators.slice(1));
  ledger.block([], 30_000);
  assert.is(ledger.state.round.phase, 'score');
  commitScores(ledger, [ledger.validators[0]]);
  ledger.block(ledger.validators.slice(1).map((v) => [v, ledger.revealScoresCall(() => scored(-5))] as const));
  assert.is(ledger.state.round.phase, 'scoreReveal');
});

test('committed but not revealed: one more deadline, then all score again on a fresh draw', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  commitAll(ledger);
  revealAll(ledger);
  const firstDraw = ledger.state.round.drawBeacon;
  commitScores(ledger, ledger.validators.slice(0, 3));
  ledger.block([], 30_000);
  revealScores(ledger, ledger.validators.slice(0, 2));
  ledger.block([], 10_000);
  assert.is(ledger.state.round.phase, 'scoreReveal');
  ledger.block([], 10_000);
  assert.is(ledger.state.round.phase, 'score');
  assert.not.equal(ledger.state.round.drawBeacon, firstDraw);
  assert.equal(ledger.state.round.scorers, []);
  assert.is(ledger.state.scoreSheet(ledger.validators[0]), undefined);
  const others = [ledger.validators[0], ledger.validators[1], ledger.validators[3]];
  commitScores(ledger, others);
  ledger.block([], 30_000);
  revealScores(ledger, others);
  assert.is(ledger.state.round.phase, 'aggregate');
});

test('noise is rejected: no pay for no gain, and the weights stay when nobody gained', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  const noise = ledger.miners[1];
  ledger.playRound((miner) => (miner === noise ? scored(-3) : scored(10)), 30_000);
  const epoch = ledger.state.settledEpoch(1)!;
  assert.is(
    epoch.rewards.find(({ account }) => account === noise),
    undefined,
  );
  assert.is(ledger.state.account(noise).balance, 0n);
  assert.is(ledger.state.roundResult(1)?.submissions[1].reason, 'noGain');
  assert.equal([ledger.state.miner(noise)?.accepted, ledger.state.miner(noise)?.rejected], [0, 1]);
  const root = ledger.state.modelRoot;
  const issued = ledger.state.supply.totalIssuance;
  ledger.playRound(() => scored(0), 30_000);
  assert.is(ledger.round, 3);
  assert.is(ledger.state.modelRoot, root);
  // An epoch's time went by, but there is nobody to reward: it stays open, and the next one that pays makes up for it.
  assert.is(ledger.state.supply.totalIssuance, issued);
  ledger.playRound(() => scored(1), 30_000);
  assert.is(ledger.state.supply.totalIssuance, ledger.state.scheduledIssuance);
});

test('attestations for different weights do not add up', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  commitAll(ledger);
  revealAll(ledger);
  commitScores(ledger);
  revealScores(ledger);
  const [v0, v1, v2, v3] = ledger.validators;
  ledger.block([
    [v0, ledger.attestCall(namedHash('x'))],
    [v1, ledger.attestCall(namedHash('x'))],
    [v2, ledger.attestCall(namedHash('y'))],
    [v3, ledger.attestCall(namedHash('y'))],
  ]);
  ledger.block([], 29_000);
  assert.is(ledger.state.round.phase, 'aggregate');
  ledger.block([[v2, ledger.attestCall(namedHash('x'))]]);
  assert.is(ledger.round, 2);
  assert.is(ledger.state.modelRoot, namedHash('x'));
});

test('leftovers of a round do not reach the next', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const { state } = ledger;
  assert.equal(state.round.submissions, []);
  assert.equal(state.round.attestations, []);
  assert.equal(state.round.scorers, []);
  for (const validator of ledger.validators) assert.is(state.scoreSheet(validator), undefined);
  const keys = [...state.tree.entries()].map(([key]) => key).filter((key) => key.startsWith('round'));
  assert.equal(keys.sort(), ['round', 'round/seats']);
});

test('phase events come in order, each once', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const phases = ledger.allEvents.flatMap((event) => (event.type === 'phaseChanged' ? [event.phase] : []));
  assert.equal(phases, ['reveal', 'score', 'scoreReveal', 'aggregate']);
  assert.is(ledger.allEvents.filter(({ type }) => type === 'roundSettled').length, 1);
  assert.is(ledger.allEvents.filter(({ type }) => type === 'modelUpdated').length, 1);
});

test.run();
