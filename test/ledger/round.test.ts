import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { targetIssuance } from '../../node/ledger/issuance.ts';
import { LedgerHarness, namedHash, scored, testParameters } from './harness.ts';

test('three miners and four validators: a round from training to new weights, an epoch that pays', () => {
  const ledger = new LedgerHarness();
  assert.is(ledger.state.round.round, 1);
  assert.equal(ledger.seated, []);
  ledger.start();
  assert.equal(ledger.seated, ledger.miners);
  assert.is(ledger.state.round.attempt, 2);

  for (const receipt of ledger.block(ledger.miners.map((m) => [m, ledger.commitCall(m)] as const))) {
    assert.is(receipt.error, undefined);
  }
  assert.is(ledger.state.round.phase, 'reveal');
  ledger.block(ledger.miners.map((m) => [m, ledger.revealCall(m)] as const));
  assert.is(ledger.state.round.phase, 'score');
  assert.is(ledger.state.round.drawBeacon, namedHash(`beacon ${ledger.state.height}`));
  const verdict = (miner: string) => scored(10 * (1 + ledger.miners.indexOf(miner as never)));
  ledger.block(ledger.validators.map((v) => [v, ledger.commitScoresCall(v, verdict)] as const));
  assert.is(ledger.state.round.phase, 'scoreReveal');
  ledger.block(ledger.validators.map((v) => [v, ledger.revealScoresCall(verdict)] as const));
  assert.is(ledger.state.round.phase, 'aggregate');
  const result = ledger.state.roundResult(1)!;
  assert.equal(
    result.submissions.map(({ score, accepted }) => [score, accepted]),
    [
      [10_000_000n, true],
      [20_000_000n, true],
      [30_000_000n, true],
    ],
  );
  assert.is(result.heldOutLoss, 5_000_000_000n);
  assert.is(result.modelRootAfter, undefined);
  // Two of four are not more than two thirds; three are.
  ledger.block(ledger.validators.slice(0, 2).map((v) => [v, ledger.attestCall()] as const));
  assert.is(ledger.state.round.phase, 'aggregate');
  // An epoch's time has passed by now, so that this round's close settles it.
  ledger.block([[ledger.validators[2], ledger.attestCall()]], 70_000);
  const { state } = ledger;
  assert.is(state.round.round, 2);
  assert.is(state.round.phase, 'train');
  assert.is(state.modelRoot, namedHash('weights 1'));
  assert.is(state.roundResult(1)!.modelRootAfter, namedHash('weights 1'));
  assert.equal(ledger.seated, ledger.miners);
  assert.ok(state.round.seats.every(({ proven }) => proven));

  const epoch = state.settledEpoch(1)!;
  assert.is(epoch.minted, targetIssuance(state.timeMs - state.chain.genesisTimeMs));
  assert.is(state.supply.totalIssuance, epoch.minted);
  assert.is(state.totalHoldings, epoch.minted);
  const balances = ledger.miners.map((miner) => state.account(miner).balance);
  assert.ok(balances[0] > 0n && balances[1] - 2n * balances[0] <= 1n && balances[2] - 3n * balances[0] <= 2n);
  for (const validator of ledger.validators) assert.is(state.lastReward(validator)?.role, 'validator');
  assert.is(state.lastReward(ledger.miners[0])?.credit, 10_000_000n);
  assert.is(state.lastReward(ledger.miners[0])?.totalCredit, 60_000_000n);
});

test('many rounds: checkpoints when due, old results forgotten, all that a joiner needs kept', () => {
  const ledger = new LedgerHarness({ parameters: testParameters() });
  ledger.start();
  for (let round = 1; round <= 21; round++) {
    assert.is(ledger.round, round);
    ledger.playRound();
    const { state } = ledger;
    assert.is(state.checkpoint.round, Math.floor(round / 4) * 4, `checkpoint after round ${round}`);
    assert.equal(
      state.weightUpdates.map((result) => result.round).filter((kept) => kept > state.checkpoint.round),
      Array.from({ length: round - state.checkpoint.round }, (_, index) => state.checkpoint.round + 1 + index),
    );
    let root = state.checkpoint.modelRoot;
    for (const result of state.weightUpdates.filter((update) => update.round > state.checkpoint.round)) {
      assert.is(result.modelRootBefore, root);
      root = result.modelRootAfter!;
    }
    assert.is(root, state.modelRoot);
  }
  assert.is(ledger.state.roundResult(13), undefined);
  assert.is(ledger.state.roundResult(14)?.round, 14);
});

test.run();
