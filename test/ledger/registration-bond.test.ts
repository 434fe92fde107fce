/** Registrations that hold a bond instead of proving work: what is held, how it comes back, what a rich flood gets. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { registerWithBond } from '../../node/chain/calls.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { SUPPLY } from '../../node/ledger/accounts.ts';
import { Draft } from '../../node/ledger/draft.ts';
import { registrationBondRecord } from '../../node/ledger/registration-bond.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import { type Lot, lockedUnits, lotsOf, vestingRecord } from '../../node/ledger/vesting.ts';
import { LedgerHarness, namedAccount, testParameters, transferCall, withBalances } from './harness.ts';
import { Random } from './random.ts';

const HOUR_MS = 3_600_000;
const BOND = 1000;
const RULES = { baseWork: 1000, bond: BOND, perHour: 60, doubling: 16, expiryMs: HOUR_MS };

const bonded = (balances: ReadonlyMap<AccountId, bigint>, registration: Partial<typeof RULES> = {}) => {
  const ledger = new LedgerHarness({
    miners: 0,
    parameters: testParameters({ registration: { ...RULES, ...registration } }),
  });
  ledger.state = withBalances(ledger.state, balances);
  return ledger;
};

/** The state with locked rewards of an account. */
function withLots(state: LedgerState, account: AccountId, lots: readonly Lot[]): LedgerState {
  const draft = new Draft(state);
  draft.set(vestingRecord(account), lots);
  draft.set(SUPPLY, { ...state.supply, totalIssuance: state.supply.totalIssuance + lockedUnits(lots) });
  return new LedgerState(state.tree.with(draft.changes()));
}

function expire(ledger: LedgerHarness, account: AccountId): void {
  for (let block = 0; block < 400 && ledger.state.miner(account) !== undefined; block++) ledger.block([], 60_000);
  for (let block = 0; block < 70; block++) ledger.block([], 60_000);
  assert.is(ledger.state.miner(account), undefined);
}

test('a bond is held without any work, is no longer spendable, and comes back when the registration expires', () => {
  const [a, b] = [namedAccount('a'), namedAccount('b')];
  const ledger = bonded(new Map([[a, 1500n]]));
  assert.is(ledger.try(a, registerWithBond('d')), undefined);
  assert.ok(ledger.state.miner(a));
  assert.is(ledger.state.holdings(a).balance, 500n);
  assert.is(ledger.state.holdings(a).registrationBond, 1000n);
  assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
  assert.is(ledger.block([[a, transferCall(b, 501n)]])[0].error, 'ERR_INSUFFICIENT_BALANCE');
  expire(ledger, a);
  assert.is(ledger.state.holdings(a).balance, 1500n);
  assert.is(ledger.state.holdings(a).registrationBond, 0n);
  assert.is(ledger.state.get(registrationBondRecord(a)), undefined);
  assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
});

test('locked rewards are a bond, come back with their unlock times, and are locked at no moment less than without', () => {
  const a = namedAccount('a');
  const ledger = bonded(new Map([[a, 200n]]));
  const lots = lotsOf(900n, ledger.state.timeMs, 40 * HOUR_MS);
  ledger.state = withLots(ledger.state, a, lots);
  assert.is(ledger.try(a, registerWithBond('d')), undefined);
  assert.equal(ledger.state.get(registrationBondRecord(a)), { free: 100n, lots });
  assert.is(ledger.state.holdings(a).locked, 0n);
  assert.is(ledger.state.holdings(a).balance, 100n);
  expire(ledger, a);
  const lockedStill = lockedUnits(lots.filter(({ unlockTimeMs }) => unlockTimeMs > ledger.state.timeMs));
  assert.ok(lockedStill > 0n && lockedStill < 900n);
  assert.is(ledger.state.holdings(a).locked, lockedStill);
  assert.is(ledger.state.holdings(a).balance, 1100n - lockedStill);
});

test('of locked rewards those are held that unlock last', () => {
  const a = namedAccount('a');
  const ledger = bonded(new Map());
  const lots = lotsOf(1600n, ledger.state.timeMs, 40 * HOUR_MS);
  ledger.state = withLots(ledger.state, a, lots);
  assert.is(ledger.try(a, registerWithBond('d')), undefined);
  assert.equal(ledger.state.get(vestingRecord(a)), lots.slice(0, 6));
  assert.equal(ledger.state.get(registrationBondRecord(a))?.lots, lots.slice(6));
});

test('a rich account that funds many keys gets one a block, at a price that doubles with every burst', () => {
  const rich = namedAccount('rich');
  const capital = 100_000n;
  const keys = Array.from({ length: 400 }, (_, index) => namedAccount(`key ${index}`));
  const ledger = bonded(new Map([[rich, capital]]), { expiryMs: 240 * HOUR_MS });
  let left = capital;
  let registered = 0;
  for (const key of keys) {
    const price = ledger.state.registrationBondPrice;
    if (left < price) break;
    left -= price;
    ledger.block([[rich, transferCall(key, price)]], 1);
    const receipts = ledger.block(
      [
        [key, registerWithBond('d')],
        [rich, registerWithBond('d')],
      ] satisfies (readonly [AccountId, Call])[],
      1,
    );
    assert.is(receipts.filter(({ error }) => error === undefined).length, 1);
    registered += 1;
  }
  // A hundred bonds' worth: not a hundred names but 16 * log2(1 + 100 ln 2 / 16), about 39.
  assert.ok(registered > 30 && registered < 42, `${registered} names`);
  // Who proves work pays no more for it.
  assert.is(ledger.state.registrationPrice, 1000n);
  assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
});

test('the same units never hold two registrations at a time: sent on, they are not there', () => {
  const [a, b] = [namedAccount('a'), namedAccount('b')];
  const ledger = bonded(new Map([[a, 1000n]]));
  assert.is(ledger.try(a, registerWithBond('d')), undefined);
  assert.is(ledger.block([[a, transferCall(b, 1n)]])[0].error, 'ERR_INSUFFICIENT_BALANCE');
  assert.is(ledger.try(b, registerWithBond('d')), 'ERR_INSUFFICIENT_BALANCE');
});

test('2,000 random blocks of bonds, transfers and expiries: conserved, never negative, nothing unlocked early', () => {
  const random = new Random(7);
  const people = Array.from({ length: 12 }, (_, index) => namedAccount(`p ${index}`));
  const ledger = bonded(new Map(people.map((person) => [person, BigInt(random.below(6000))])));
  const unlocks = new Map<AccountId, readonly Lot[]>();
  for (const person of people.slice(0, 6)) {
    const lots = lotsOf(BigInt(1 + random.below(5000)), ledger.state.timeMs, 400 * HOUR_MS);
    unlocks.set(person, lots);
    ledger.state = withLots(ledger.state, person, lots);
  }
  let held = 0;
  let returned = 0;
  for (let block = 0; block < 2000; block++) {
    const [signer, other] = [random.pick(people), random.pick(people)];
    const call = random.chance(50) ? registerWithBond('d') : transferCall(other, BigInt(random.below(3000)));
    ledger.block([[signer, call]], 1 + random.below(1_200_000));
    for (const { type } of ledger.last!.events) {
      if (type === 'registrationBonded') held += 1;
      if (type === 'registrationBondReturned') returned += 1;
    }
    assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
    for (const [person, lots] of unlocks) {
      const due = lots.filter(({ unlockTimeMs }) => unlockTimeMs > ledger.state.timeMs);
      const bond = ledger.state.get(registrationBondRecord(person))?.lots ?? [];
      const locked = [...bond, ...(ledger.state.get(vestingRecord(person)) ?? [])].filter(
        ({ unlockTimeMs }) => unlockTimeMs > ledger.state.timeMs,
      );
      assert.is(lockedUnits(locked), lockedUnits(due));
    }
  }
  assert.ok(held > 50 && returned > 30, `${held} held, ${returned} returned`);
});

test.run();
