/** Deadlines, and rounds in which somebody is missing. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LedgerHarness, namedHash, register, scored, testParameters } from './harness.ts';

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
  assert.equal(ledger.state.round.expected, []);
  ledger.block([[second, register()]], 1900);
  assert.equal(ledger.state.round.expected, []);
  // The window (two empty blocks, 2000 ms) is over with this block; who registers in it is a block too late, because its
  // proposer knows the beacon already.
  ledger.block([[third, register()]], 100);
  assert.equal(ledger.state.round.expected, [first, second].sort());
  assert.is(ledger.state.round.beacon, namedHash(`beacon ${ledger.state.height}`));
  assert.is(ledger.try(third, ledger.commitCall(third)), 'ERR_REGISTERED_TOO_LATE');
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

test('a missing miner holds up a round until the deadline only, and is not waited for after some rounds', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ rounds: { idleRounds: 2 } }) });
  ledger.start();
  const [first, second, gone] = ledger.miners;
  const present = [first, second];
  const finish = () => {
    revealAll(ledger, present);
    commitScores(ledger);
    revealScores(ledger);
    attestAll(ledger);
  };
  const rounds: boolean[] = [];
  for (let round = 1; round <= 5; round++) {
    assert.is(ledger.round, round);
    rounds.push(ledger.state.round.expected.includes(gone));
    commitAll(ledger, present);
    if (ledger.state.round.phase === 'train') {
      ledger.block([], 59_000);
      assert.is(ledger.state.round.phase, 'train');
      ledger.block([], 1000);
    }
    assert.is(ledger.state.round.phase, 'reveal');
    finish();
  }
  // Registered in round 1: waited for in rounds 1 to 3, no longer from round 4 on.
  assert.equal(rounds, [true, true, true, false, false]);
  // It may still commit, and is waited for again afterwards.
  assert.is(ledger.try(gone, ledger.commitCall(gone)), undefined);
  commitAll(ledger, present);
  assert.is(ledger.state.round.phase, 'reveal');
  revealAll(ledger, ledger.miners);
  commitScores(ledger);
  revealScores(ledger);
  attestAll(ledger);
  assert.equal(ledger.state.round.expected, ledger.miners);
});

test('an idle miner comes back by registering again', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ rounds: { idleRounds: 1 } }) });
  ledger.start();
  const [first, second, gone] = ledger.miners;
  for (let round = 1; round <= 2; round++) {
    commitAll(ledger, [first, second]);
    ledger.block([], 60_000);
    revealAll(ledger, [first, second]);
    commitScores(ledger);
    revealScores(ledger);
    attestAll(ledger);
  }
  assert.not(ledger.state.round.expected.includes(gone));
  assert.is(ledger.try(gone, register('new device')), undefined);
  assert.is(ledger.state.miner(gone)?.device, 'new device');
  commitAll(ledger, [first, second]);
  revealAll(ledger, [first, second]);
  commitScores(ledger);
  revealScores(ledger);
  attestAll(ledger);
  assert.ok(ledger.state.round.expected.includes(gone));
});

test('shards of a miner that commits without being waited for are not scored on either', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ rounds: { idleRounds: 1 } }) });
  ledger.start();
  const [first, second, idle] = ledger.miners;
  for (let round = 1; round <= 2; round++) {
    commitAll(ledger, [first, second]);
    ledger.block([], 60_000);
    revealAll(ledger, [first, second]);
    commitScores(ledger);
    revealScores(ledger);
    attestAll(ledger);
  }
  const before = ledger.state.unassignedShards;
  ledger.block([[idle, ledger.commitCall(idle)]]);
  const after = ledger.state.unassignedShards;
  assert.ok(after.length < before.length);
  assert.ok(after.every((shard) => before.includes(shard)));
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
  ledger.block([], 1_000_000);
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
  assert.equal(keys.sort(), ['round', 'round/expected']);
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
