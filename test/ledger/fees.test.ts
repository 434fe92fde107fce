/** Fees, rewards that vest, and parameters that validators change. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { amount } from '../../node/chain/amount.ts';
import { approve, transferFrom, voteParameters } from '../../node/chain/calls.ts';
import { encodeTransaction, type Transaction, transactionId } from '../../node/chain/transaction.ts';
import { InvalidBlockError } from '../../node/ledger/errors.ts';
import { buildBlock } from '../../node/ledger/execute.ts';
import { lotsOf, MAX_LOTS, VESTING_STEPS, vestingRecord } from '../../node/ledger/vesting.ts';
import {
  alice,
  LedgerHarness,
  namedAccount,
  namedHash,
  register,
  scored,
  testParameters,
  transferCall,
  withBalances,
} from './harness.ts';

const [a, b, c] = ['a', 'b', 'c'].map(namedAccount);

function paying(burnPpm = 1_000_000): LedgerHarness {
  const economics = { baseFee: 1000, feePerByte: 10, feeBurnPpm: burnPpm };
  return new LedgerHarness({ parameters: testParameters({ economics }) });
}

function sizeOf(signer: AccountId, call: Transaction['body']['call']): bigint {
  const body = { version: 1, signer, nonce: 0, validUntil: 9, tip: 0, call };
  return BigInt(encodeTransaction({ body, signature: new Uint8Array(64) }).length);
}

test('nothing is paid while there is nothing', () => {
  const ledger = paying();
  assert.is(ledger.try(a, approve(b, amount(0n))), undefined);
  assert.is(ledger.try(a, register()), undefined);
});

test('then base and bytes, whether or not the call succeeds; duties stay free', () => {
  const ledger = paying();
  ledger.state = withBalances(ledger.state, new Map([[a, alice(1)]]));
  const call = transferCall(b, 5000n);
  const fee = 1000n + 10n * sizeOf(a, call);
  assert.is(ledger.try(a, call), undefined);
  assert.is(ledger.state.account(a).balance, alice(1) - 5000n - fee);
  assert.is(ledger.state.supply.burned, fee);
  assert.equal(
    ledger.last!.events.find(({ type }) => type === 'feePaid'),
    { type: 'feePaid', account: a, amount: fee, burned: fee },
  );
  assert.is(ledger.try(a, transferCall(b, alice(2))), 'ERR_INSUFFICIENT_BALANCE');
  assert.ok(ledger.state.supply.burned > fee);
  const before = ledger.state.supply.burned;
  assert.is(ledger.try(c, register()), undefined);
  assert.is(ledger.state.supply.burned, before);
  assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
});

test('a share of the fee may go to the infrastructure pot; burning rounds down', () => {
  const ledger = paying(333_333);
  ledger.state = withBalances(ledger.state, new Map([[a, alice(1)]]));
  const call = transferCall(b, 5000n);
  assert.is(ledger.try(a, call), undefined);
  const fee = 1000n + 10n * sizeOf(a, call);
  const burned = (fee * 333_333n) / 1_000_000n;
  assert.is(ledger.state.supply.burned, burned);
  assert.is(ledger.state.supply.infrastructurePot, fee - burned);
});

test('who cannot pay is in no block: refused from others, left out by a proposer', () => {
  const ledger = paying();
  ledger.state = withBalances(ledger.state, new Map([[a, 4000n]]));
  assert.throws(
    () => ledger.block([[b, transferCall(a, 1n)]]),
    (error: unknown) => error instanceof InvalidBlockError && /less than the fee/.test(error.message),
  );
  const signed = (signer: AccountId, nonce: number) => {
    const body = { version: 1, signer, nonce, validUntil: 9, tip: 0, call: transferCall(c, 1n) };
    const transaction = { body, signature: new Uint8Array(64) };
    return { id: transactionId(transaction), transaction };
  };
  // The first takes what the second would have paid with.
  const offered = [signed(b, 0), signed(a, 0), signed(a, 1)];
  const built = buildBlock(ledger.state, {
    height: 1,
    timeMs: ledger.state.timeMs + 1n,
    beacon: namedHash('b'),
    proposer: ledger.validators[0],
    transactions: offered,
  });
  assert.equal(built.included, [offered[1]]);
  assert.is(built.receipts.length, 1);
});

test('a reward unlocks in equal steps; every unit of it', () => {
  for (const units of [0n, 1n, 15n, 16n, 1_000_003n]) {
    for (const vestingMs of [1, 16, 1000, 86_400_000]) {
      const lots = lotsOf(units, 12_345n, vestingMs);
      assert.is(
        lots.reduce((sum, lot) => sum + lot.amount, 0n),
        units,
      );
      const parts = lots.map((lot) => lot.amount);
      if (parts.length === VESTING_STEPS) assert.ok(parts[0] - parts[VESTING_STEPS - 1] <= 1n);
      for (const { unlockTimeMs } of lots) {
        assert.ok(unlockTimeMs > 12_345n && unlockTimeMs <= 12_345n + BigInt(vestingMs + 2 * VESTING_STEPS));
      }
    }
  }
});

test('rewards are locked, unlock over the vesting time, and move to the balance when the account acts', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ economics: { epochMs: 1, vestingMs: 160_000 } }) });
  ledger.start();
  ledger.playRound(() => scored(1));
  const [miner] = ledger.miners;
  const earned = ledger.state.holdings(miner).locked;
  assert.ok(earned > 0n);
  assert.is(ledger.state.account(miner).balance, 0n);
  assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
  ledger.block([], 80_000);
  const half = ledger.state.holdings(miner);
  assert.is(half.balance + half.locked, earned);
  assert.ok(half.balance >= (earned * 7n) / 16n && half.balance <= (earned * 9n) / 16n);
  assert.is(ledger.state.account(miner).balance, 0n);
  assert.is(ledger.try(miner, transferCall(b, half.balance)), undefined);
  assert.is(ledger.try(miner, approve(b, amount(earned))), 'ERR_BELOW_EXISTENTIAL_DEPOSIT');
  ledger.block([], 160_000);
  assert.is(ledger.state.holdings(miner).locked, 0n);
  // A spender gets at it too.
  ledger.block([[miner, approve(b, amount(earned))]]);
  const rest = ledger.state.account(miner).balance;
  assert.is(rest, earned - half.balance);
  assert.is(ledger.try(b, transferFrom(miner, c, amount(rest))), undefined);
  assert.is(ledger.state.tree.get(vestingRecord(miner).key), undefined);
  assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
});

test('an account never has more lots than the bound, even when the vesting time changes every round', () => {
  const ledger = new LedgerHarness({ validators: 1, parameters: testParameters({ economics: { epochMs: 1 } }) });
  const [validator] = ledger.validators;
  ledger.start();
  for (let round = 0; round < 8; round++) {
    ledger.block([
      [validator, voteParameters({ economics: { vestingMs: 1_000_003 + 7919 * round } }, ledger.state.height + 2)],
    ]);
    ledger.playRound(() => scored(1));
    for (const account of [...ledger.miners, validator]) {
      assert.ok((ledger.state.get(vestingRecord(account)) ?? []).length <= MAX_LOTS);
    }
    assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
  }
  assert.is((ledger.state.get(vestingRecord(validator)) ?? []).length, MAX_LOTS);
});

test('more than two thirds of the power change a parameter at a height; fewer do not, nor votes for something else', () => {
  const ledger = new LedgerHarness({ powers: [10n, 10n, 10n, 10n] });
  const [v0, v1, v2, v3] = ledger.validators;
  const change = voteParameters({ economics: { baseFee: 7 }, staking: { jailMs: 1234 } }, 10);
  ledger.block([
    [v0, change],
    [v1, change],
    [v2, voteParameters({ economics: { baseFee: 8 } }, 10)],
    [v3, voteParameters({ economics: { baseFee: 7 }, staking: { jailMs: 1234 } }, 11)],
  ]);
  assert.not(ledger.allEvents.some(({ type }) => type === 'parametersScheduled'));
  // Changing one's mind replaces the vote.
  ledger.block([[v2, change]]);
  assert.ok(ledger.allEvents.some(({ type }) => type === 'parametersScheduled'));
  while (ledger.state.height < 10) {
    assert.is(ledger.state.parameters.economics.baseFee, 0);
    ledger.block();
  }
  assert.is(ledger.state.parameters.economics.baseFee, 7);
  assert.is(ledger.state.parameters.staking.jailMs, 1234);
  assert.is(ledger.state.parameters.staking.minimumBond, testParameters().staking.minimumBond);
});

test('a change that no longer fits when its height comes is dropped', () => {
  const ledger = new LedgerHarness({ validators: 1 });
  const [validator] = ledger.validators;
  const shares = (minerSharePpm: number, validatorSharePpm: number) =>
    voteParameters({ economics: { minerSharePpm, validatorSharePpm } }, 5);
  // One after the other: a validator votes once in a block while that is free.
  assert.is(ledger.try(validator, shares(700_000, 250_000)), undefined);
  const other = voteParameters({ economics: { minerSharePpm: 750_000, infrastructureSharePpm: 100_000 } }, 5);
  assert.is(ledger.try(validator, other), undefined);
  while (ledger.state.height < 5) ledger.block();
  const { economics } = ledger.state.parameters;
  assert.equal(
    [economics.minerSharePpm, economics.validatorSharePpm, economics.infrastructureSharePpm],
    [700_000, 250_000, 50_000],
  );
  assert.ok(ledger.allEvents.some(({ type }) => type === 'parametersRefused'));
});

test.run();
