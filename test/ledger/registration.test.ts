/** What a registration costs, when it is void, and how it ends. Whether the work was done is for registration/work.test.ts. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { registerMiner } from '../../node/chain/calls.ts';
import type { Hash } from '../../node/chain/hash.ts';
import { type Call, MAX_VALIDITY_BLOCKS } from '../../node/chain/transaction.ts';
import { Draft } from '../../node/ledger/draft.ts';
import { CHAIN } from '../../node/ledger/parameters.ts';
import { firstRegistration, type RegistrationRecord, registrationPrice } from '../../node/ledger/registration-price.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import { LedgerHarness, namedAccount, namedHash, scored, testParameters } from './harness.ts';

const HOUR_MS = 3_600_000;
const PRICED = {
  baseWork: 1000,
  bond: 0,
  perHour: 60,
  doubling: 16,
  maxPerBlock: 4,
  challengeMs: 600_000,
  expiryMs: 24 * HOUR_MS,
};

const priced = (registration: Partial<typeof PRICED> = {}) =>
  new LedgerHarness({ miners: 0, parameters: testParameters({ registration: { ...PRICED, ...registration } }) });

const worked = (ledger: LedgerHarness, work: bigint, challenge?: Hash): Call =>
  registerMiner('d', {
    challenge: challenge ?? ledger.state.registration.challenges[0]!.beacon,
    solution: 1n,
    work,
  });

/** Registers as many of those accounts as the ledger takes, each with that work; returns how many blocks it took. */
function flood(ledger: LedgerHarness, accounts: readonly AccountId[], work: bigint, blocks: number): number {
  let registered = 0;
  for (let block = 0; block < blocks; block++) {
    const left = accounts.filter((account) => ledger.state.miner(account) === undefined).slice(0, 40);
    const receipts = ledger.block(
      left.map((account) => [account, worked(ledger, work)]),
      1000,
    );
    registered += receipts.filter(({ error }) => error === undefined).length;
  }
  return registered;
}

test('work below the price, and work for a challenge that is over, buys nothing and changes nothing', () => {
  const ledger = priced();
  const a = namedAccount('a');
  assert.is(ledger.state.registrationPrice, 1000n);
  assert.is(ledger.try(a, worked(ledger, 999n)), 'ERR_TOO_LITTLE_WORK');
  assert.is(ledger.try(a, worked(ledger, 10n ** 12n, namedHash('made up'))), 'ERR_OLD_CHALLENGE');
  const first = ledger.state.registration.challenges[0]!.beacon;
  ledger.block([], 600_000);
  assert.not.equal(ledger.state.registration.challenges[0]!.beacon, first);
  assert.is(ledger.try(a, worked(ledger, 999n, first)), 'ERR_TOO_LITTLE_WORK');
  ledger.block([], 600_000);
  assert.is(ledger.try(a, worked(ledger, 1000n, first)), 'ERR_OLD_CHALLENGE');
  assert.is(ledger.state.account(a).nonce, 0);
  assert.is(ledger.try(a, worked(ledger, 1000n)), undefined);
  assert.ok(ledger.state.miner(a));
});

test('1,024 keys with the work of a quiet time: sixteen or so get in, and the state grows by what those take', () => {
  const ledger = priced();
  const before = [...ledger.state.tree.entries()].length;
  const keys = Array.from({ length: 1024 }, (_, index) => namedAccount(`key ${index}`));
  const registered = flood(ledger, keys, 1000n, 30);
  assert.ok(registered <= 4, `${registered} of 1024 with the work of a quiet time`);
  // Twice the work buys a doubling, and no more.
  assert.ok(flood(ledger, keys, 2000n, 30) <= 24);
  const grown = [...ledger.state.tree.entries()].length - before;
  assert.ok(grown < 28 * 6, `${grown} entries`);
});

test('a block takes a few registrations only', () => {
  const ledger = priced();
  const keys = Array.from({ length: 12 }, (_, index) => namedAccount(`key ${index}`));
  const errors = ledger.block(keys.map((key) => [key, worked(ledger, 10n ** 9n)])).map(({ error }) => error);
  assert.is(errors.filter((error) => error === undefined).length, 4);
  assert.is(errors.filter((error) => error === 'ERR_TOO_MANY_REGISTRATIONS').length, 8);
});

test('the price doubles with each burst, falls back when it is quiet, and never runs away', () => {
  const { registration } = testParameters({ registration: PRICED });
  const at = (pressure: bigint): RegistrationRecord => ({
    ...firstRegistration(namedHash('b'), 0n),
    pressure: pressure * 10n ** 9n,
  });
  assert.is(registrationPrice(at(0n), 0n, registration), 1000n);
  assert.is(registrationPrice(at(8n), 0n, registration), 1500n);
  assert.is(registrationPrice(at(16n), 0n, registration), 2000n);
  assert.is(registrationPrice(at(32n), 0n, registration), 4000n);
  assert.is(registrationPrice(at(160n), 0n, registration), 1_024_000n);
  // Sixteen leak in sixteen minutes; after three hours nothing is left.
  assert.is(registrationPrice(at(160n), 16n * 60_000n, registration), 512_000n);
  assert.is(registrationPrice(at(160n), 3n * BigInt(HOUR_MS), registration), 1000n);
  assert.is(registrationPrice(at(10n ** 9n), 0n, registration), 1000n << 40n);
  // A block that is not later than the record (there is none) would not be cheaper.
  assert.is(registrationPrice({ ...at(16n), updatedMs: 500n }, 400n, registration), 2000n);
});

/** The state as if so many blocks had gone by without anything in them. */
function skipBlocks(ledger: LedgerHarness, blocks: number): void {
  const draft = new Draft(ledger.state);
  draft.set(CHAIN, { ...ledger.state.chain, height: ledger.state.height + blocks });
  ledger.state = new LedgerState(ledger.state.tree.with(draft.changes()));
}

test('who registers and never works is forgotten, record, place in line and, once nothing can be repeated, nonce', () => {
  const ledger = priced({ expiryMs: HOUR_MS, maxPerBlock: 100 });
  ledger.block();
  const entries = () => [...ledger.state.tree.entries()].map(([key]) => key).sort();
  const before = entries();
  const keys = Array.from({ length: 40 }, (_, index) => namedAccount(`key ${index}`));
  ledger.block(keys.map((key) => [key, worked(ledger, 10n ** 9n)]));
  assert.ok(keys.every((key) => ledger.state.miner(key) !== undefined));
  // Rounds open and close without any of them doing anything.
  for (let block = 0; block < 400; block++) ledger.block([], 60_000);
  assert.ok(keys.every((key) => ledger.state.miner(key) === undefined));
  assert.ok(keys.every((key) => ledger.state.account(key).nonce === 1));
  skipBlocks(ledger, MAX_VALIDITY_BLOCKS);
  for (let block = 0; block < 5; block++) ledger.block([], 1000);
  assert.ok(keys.every((key) => ledger.state.account(key).nonce === 0));
  const left = entries().filter((key) => !before.includes(key));
  assert.ok(left.length <= 6, `left over: ${left.join(', ')}`);
});

test('who had work accepted stays, and one that comes back after it was forgotten registers anew', () => {
  const ledger = new LedgerHarness({
    miners: 2,
    parameters: testParameters({ registration: { ...PRICED, baseWork: 0, expiryMs: HOUR_MS } }),
  });
  ledger.start();
  ledger.playRound();
  for (let round = 0; round < 12; round++) {
    ledger.playRound(undefined, 120_000);
  }
  assert.ok(ledger.state.timeMs - ledger.state.chain.genesisTimeMs > 2n * BigInt(HOUR_MS));
  for (const miner of ledger.miners) assert.ok(ledger.state.miner(miner), 'works and was forgotten');
  // One goes away, and the other works on: what befalls all costs nobody its standing.
  const [gone, working] = ledger.miners as [AccountId, AccountId];
  const play = (calls: readonly (readonly [AccountId, Call])[]) => ledger.block(calls, 120_000);
  for (let round = 0; round < 60 && ledger.state.miner(gone) !== undefined; round++) {
    play([[working, ledger.commitCall(working)]]);
    play([[working, ledger.revealCall(working)]]);
    play(ledger.validators.map((v) => [v, ledger.commitScoresCall(v, () => scored(10))]));
    play(ledger.validators.map((v) => [v, ledger.revealScoresCall(() => scored(10))]));
    play(ledger.validators.map((v) => [v, ledger.attestCall()]));
  }
  assert.is(ledger.state.miner(gone), undefined);
  assert.ok(ledger.state.miner(working));
  assert.is(ledger.try(gone, registerMiner('again')), undefined);
  assert.ok(ledger.state.miner(gone));
});

test('a flood with twenty times a newcomer’s speed, and all the work it can make ahead, delays it by 40 minutes at most', () => {
  const baseWork = 2048;
  const ledger = priced({ baseWork });
  const newcomerPerSecond = 500n;
  const attackerPerSecond = 20n * newcomerPerSecond;
  // Work for a challenge is void after twice `challengeMs`.
  let budget = attackerPerSecond * BigInt((2 * PRICED.challengeMs) / 1000);
  let flooded = 0;
  const seconds = 10;
  const newcomer = namedAccount('newcomer');
  // The attacker fills each block as far as its work goes; the newcomer aims a quarter above the price, and goes first.
  const block = (waitedS: number) => {
    const price = ledger.state.registrationPrice;
    const calls: [AccountId, Call][] = [];
    if (newcomerPerSecond * BigInt(waitedS) * 4n >= price * 5n)
      calls.push([newcomer, worked(ledger, (price * 5n) / 4n)]);
    while (calls.length < PRICED.maxPerBlock && budget >= price) {
      budget -= price;
      calls.push([namedAccount(`flood ${flooded++}`), worked(ledger, price)]);
    }
    ledger.block(calls, seconds * 1000);
    budget += attackerPerSecond * BigInt(seconds);
  };
  const dearest = () => {
    const before = ledger.state.registrationPrice;
    block(0);
    return ledger.state.registrationPrice < before;
  };
  // It comes when the attacker has spent all that it had made ahead: then the price is highest.
  while (!dearest());
  const highest = ledger.state.registrationPrice;
  assert.ok(highest > 100n * BigInt(baseWork), `the flood raised the price to ${highest} only`);
  let waitedS = 0;
  while (ledger.state.miner(newcomer) === undefined) {
    assert.ok(waitedS < 40 * 60, `not in after ${waitedS} s, at a price of ${ledger.state.registrationPrice}`);
    block(waitedS);
    waitedS += seconds;
  }
  // It bought little for its work: the price rises faster than anybody's speed.
  assert.ok(flooded < 250, `${flooded} keys`);
});

test.run();
