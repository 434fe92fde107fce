import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SUPPLY_CAP, UNITS_PER_ALICE } from '../../node/chain/amount.ts';
import { annualBudget, HALVING_MS, splitProportionally, targetIssuance, YEAR_MS } from '../../node/ledger/issuance.ts';
import { Random } from './random.ts';

/** The integral by its definition: a sum over periods, in 2^-200 units, rounded down at the end. */
function referenceTarget(elapsedMs: bigint): bigint {
  let sum = 0n;
  for (let period = 0n; period < 200n && period * HALVING_MS < elapsedMs; period++) {
    const rest = elapsedMs - period * HALVING_MS;
    const inPeriod = rest < HALVING_MS ? rest : HALVING_MS;
    sum += (5_250_000n * UNITS_PER_ALICE * inPeriod) << (200n - period);
  }
  return (sum / YEAR_MS) >> 200n;
}

test('a year issues 5,250,000, two years twice that, then half, for ever below the cap', () => {
  assert.is(targetIssuance(0n), 0n);
  assert.is(targetIssuance(-5n), 0n);
  assert.is(targetIssuance(YEAR_MS), 5_250_000n * UNITS_PER_ALICE);
  assert.is(targetIssuance(2n * YEAR_MS), 10_500_000n * UNITS_PER_ALICE);
  assert.is(targetIssuance(3n * YEAR_MS), 13_125_000n * UNITS_PER_ALICE);
  assert.is(targetIssuance(4n * YEAR_MS), 15_750_000n * UNITS_PER_ALICE);
  // One second of the first year: 5,250,000 / 31,536,000 ALICE, rounded down to the unit.
  assert.is(targetIssuance(1000n), (5_250_000n * UNITS_PER_ALICE) / 31_536_000n);
  assert.is(targetIssuance(10_000n * YEAR_MS), SUPPLY_CAP - 1n);
  assert.is(targetIssuance(2n ** 64n), SUPPLY_CAP - 1n);
});

test('the closed form equals the sum over periods at 20,000 random times', () => {
  const random = new Random(5);
  for (let index = 0; index < 20_000; index++) {
    const ms = (BigInt(random.below(2 ** 31)) * BigInt(random.below(2 ** 31))) % (HALVING_MS * 40n);
    assert.is(targetIssuance(ms), referenceTarget(ms));
  }
});

test('the target never falls, and around each halving the rate is as announced', () => {
  let before = 0n;
  for (let step = 0n; step < 3000n; step++) {
    const target = targetIssuance((step * HALVING_MS) / 37n);
    assert.ok(target >= before && target < SUPPLY_CAP);
    before = target;
  }
  for (let period = 1n; period < 20n; period++) {
    const day = 86_400_000n;
    const last = targetIssuance(period * HALVING_MS) - targetIssuance(period * HALVING_MS - day);
    const next = targetIssuance(period * HALVING_MS + day) - targetIssuance(period * HALVING_MS);
    const difference = last - 2n * next;
    assert.ok(difference >= -2n && difference <= 2n, `halving ${period}: ${last} then ${next}`);
  }
});

test('however time is cut into epochs, the sum is the integral to the unit', () => {
  const random = new Random(6);
  for (let run = 0; run < 200; run++) {
    let elapsed = 0n;
    let issued = 0n;
    for (let epoch = 0; epoch < 100; epoch++) {
      // From a millisecond to four years.
      elapsed +=
        1n +
        ((BigInt(random.below(2 ** 31)) * BigInt(random.below(2 ** 31))) %
          (random.chance(50) ? 100_000n : HALVING_MS * 2n));
      const mint = targetIssuance(elapsed) - issued;
      assert.ok(mint >= 0n);
      issued += mint;
    }
    assert.is(issued, targetIssuance(elapsed));
  }
});

test('annual budget by year', () => {
  for (const [year, whole] of [
    [0, 5_250_000n],
    [1, 5_250_000n],
    [2, 2_625_000n],
    [3, 2_625_000n],
    [4, 1_312_500n],
    [6, 656_250n],
  ] as const) {
    assert.is(annualBudget(BigInt(year) * YEAR_MS), whole * UNITS_PER_ALICE);
    assert.is(annualBudget(BigInt(year + 1) * YEAR_MS - 1n), whole * UNITS_PER_ALICE);
  }
});

const vectors = fileURLToPath(new URL('../../../shared/vectors/known-answers.json', import.meta.url));
(existsSync(vectors) ? test : test.skip)('annual budgets of the shared vectors', () => {
  const { issuance } = JSON.parse(readFileSync(vectors, 'utf8'));
  for (const [year, budget] of Object.entries(issuance.annual_budget_by_year)) {
    assert.is(annualBudget(BigInt(year) * YEAR_MS), BigInt(budget as number) * UNITS_PER_ALICE);
  }
  assert.is(BigInt(issuance.seconds_per_year) * 1000n, YEAR_MS);
  assert.is(BigInt(issuance.cap) * UNITS_PER_ALICE, SUPPLY_CAP);
});

test('a split loses nothing, gives nothing for no weight, and differs from the exact share by less than a unit', () => {
  const random = new Random(7);
  for (let run = 0; run < 5000; run++) {
    const weights = Array.from({ length: 1 + random.below(12) }, () =>
      random.chance(20) ? 0n : BigInt(random.below(2 ** 31)) ** 2n,
    );
    const whole = BigInt(random.below(2 ** 31)) * BigInt(random.below(1000));
    const total = weights.reduce((a, b) => a + b, 0n);
    if (total === 0n) continue;
    const parts = splitProportionally(whole, weights);
    assert.is(
      parts.reduce((a, b) => a + b, 0n),
      whole,
    );
    for (const [index, part] of parts.entries()) {
      const scaled = part * total - whole * weights[index];
      assert.ok(scaled > -total && scaled < total);
      if (weights[index] === 0n) assert.is(part, 0n);
    }
  }
  assert.equal(splitProportionally(10n, [1n, 1n, 1n]), [4n, 3n, 3n]);
  assert.equal(splitProportionally(0n, []), []);
  assert.throws(() => splitProportionally(1n, [0n]), RangeError);
});

test('splitting an identity gains at most a unit of rounding per part', () => {
  const random = new Random(8);
  for (let run = 0; run < 2000; run++) {
    const others = Array.from({ length: 5 }, () => BigInt(1 + random.below(1_000_000)));
    const own = BigInt(10 + random.below(1_000_000));
    const cut = 1n + BigInt(random.below(Number(own) - 1));
    const whole = BigInt(random.below(2 ** 31));
    const [alone] = splitProportionally(whole, [own, ...others]);
    const [first, second] = splitProportionally(whole, [cut, own - cut, ...others]);
    const gain = first + second - alone;
    assert.ok(gain >= -2n && gain <= 2n);
  }
});

test.run();
