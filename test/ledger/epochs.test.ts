import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { registerMiner } from '../../node/chain/calls.ts';
import { EPOCH_HISTORY } from '../../node/ledger/epochs.ts';
import { targetIssuance } from '../../node/ledger/issuance.ts';
import { GENESIS_TIME_MS, LedgerHarness, scored, testParameters } from './harness.ts';

test('an epoch settles with the first round that closes after its time, and not before', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ economics: { epochMs: 100_000 } }) });
  ledger.start();
  while (ledger.state.epoch.epoch === 1) {
    const before = ledger.state;
    ledger.playRound(undefined, 2000);
    const { timeMs } = ledger.state;
    const settled = ledger.state.settledEpoch(1);
    if (timeMs - before.epoch.startTimeMs < 100_000n) assert.is(settled, undefined);
    else assert.is(settled?.endTimeMs, timeMs);
  }
  const first = ledger.state.settledEpoch(1)!;
  assert.equal(
    [first.epoch, first.firstRound, first.lastRound, first.height],
    [1, 1, ledger.round - 1, ledger.state.height],
  );
  assert.is(first.startTimeMs, BigInt(GENESIS_TIME_MS));
  assert.ok(first.lastRound > 5);
  assert.is(ledger.state.epoch.startTimeMs, first.endTimeMs);
  assert.is(ledger.state.epoch.firstRound, first.lastRound + 1);
  assert.equal(ledger.state.epoch.miners, []);
});

test('the split: shares to roles, then by credit; every unit goes somewhere', () => {
  const ledger = new LedgerHarness({
    powers: [1n, 2n, 3n, 4n],
    parameters: testParameters({ economics: { epochMs: 1 } }),
  });
  ledger.start();
  const [m0, m1, m2] = ledger.miners;
  const scores = new Map<string, number>([
    [m0, 10],
    [m1, 30],
    [m2, -1],
  ]);
  ledger.playRound((miner) => scored(scores.get(miner)!), 30_000);
  const epoch = ledger.state.settledEpoch(1)!;
  const minted = targetIssuance(ledger.state.timeMs - BigInt(GENESIS_TIME_MS));
  assert.is(epoch.minted, minted);
  const near = (actual: bigint, expected: bigint) =>
    assert.ok(actual - expected <= 1n && expected - actual <= 1n, `${actual} ${expected}`);
  const forMiners = epoch.rewards.filter(({ role }) => role === 'miner').reduce((sum, { amount }) => sum + amount, 0n);
  const forValidators = epoch.rewards
    .filter(({ role }) => role === 'validator')
    .reduce((sum, { amount }) => sum + amount, 0n);
  near(forMiners, (minted * 800_000n) / 1_000_000n);
  near(forValidators, (minted * 150_000n) / 1_000_000n);
  near(epoch.infrastructure, (minted * 50_000n) / 1_000_000n);
  assert.is(forMiners + forValidators + epoch.infrastructure, minted);
  assert.is(ledger.state.supply.infrastructurePot, epoch.infrastructure);
  near(ledger.state.account(m0).balance, forMiners / 4n);
  near(ledger.state.account(m1).balance, (forMiners * 3n) / 4n);
  assert.is(ledger.state.account(m2).balance, 0n);
  for (const [index, validator] of ledger.validators.entries()) {
    near(ledger.state.account(validator).balance, (forValidators * BigInt(index + 1)) / 10n);
  }
});

test('credit of several rounds adds up in one epoch', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ economics: { epochMs: 1_000_000 } }) });
  ledger.start();
  for (let round = 1; round <= 3; round++) ledger.playRound(() => scored(round));
  assert.equal(
    ledger.state.epoch.miners,
    ledger.miners.map((account) => ({ account, credit: 6_000_000n })),
  );
  assert.ok(ledger.state.epoch.validators.every(({ credit }) => credit === 30n));
});

test('a miner that is also a validator is paid for both', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ economics: { epochMs: 1 } }) });
  const both = ledger.validators[0];
  const miners = [both];
  ledger.block([[both, registerMiner('')]]);
  ledger.block([], 2500);
  ledger.block(miners.map((m) => [m, ledger.commitCall(m)] as const));
  ledger.block(miners.map((m) => [m, ledger.revealCall(m)] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.commitScoresCall(v, () => scored(1))] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.revealScoresCall(() => scored(1))] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.attestCall()] as const));
  const rewards = ledger.state.settledEpoch(1)!.rewards.filter(({ account }) => account === both);
  assert.equal(
    rewards.map(({ role }) => role),
    ['miner', 'validator'],
  );
  assert.is(ledger.state.account(both).balance, rewards[0].amount + rewards[1].amount);
});

test('the history keeps the last epochs, and with them the last reward of an account', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ economics: { epochMs: 1 } }) });
  ledger.start();
  const [paidOnce, ...others] = ledger.miners;
  for (let epoch = 1; epoch <= EPOCH_HISTORY + 3; epoch++) {
    ledger.playRound((miner) => scored(miner === paidOnce && epoch > 5 ? -1 : 1));
    if (epoch === 5 || epoch === EPOCH_HISTORY + 2) {
      assert.is(ledger.state.lastReward(paidOnce)?.epoch, 5);
      assert.is(ledger.state.lastReward(others[0])?.epoch, epoch);
    }
  }
  const { state } = ledger;
  assert.is(state.epoch.epoch, EPOCH_HISTORY + 4);
  assert.is(state.settledEpoch(3), undefined);
  assert.is(state.settledEpoch(4)?.epoch, 4);
  assert.is(state.lastReward(paidOnce)?.lastRound, 5);
});

test.run();
