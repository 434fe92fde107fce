/** Stakes, and the validator set that follows them two blocks later. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { amount } from '../../node/chain/amount.ts';
import { bond, unbond, unjail, withdraw } from '../../node/chain/calls.ts';
import { fadedWeight } from '../../node/ledger/stakes.ts';
import { alice, certificate, LedgerHarness, namedAccount, scored, testParameters, withBalances } from './harness.ts';

const [rich, other] = ['rich', 'other'].map(namedAccount);
const funded = new Map([
  [rich, alice(1000)],
  [other, alice(1000)],
]);

function powers(set: readonly { account: string; power: bigint }[]): Map<string, bigint> {
  return new Map(set.map(({ account, power }) => [account, power]));
}

/** A ledger in which `rich` is a validator with 30 of 70. */
function staked(parameters = testParameters()): LedgerHarness {
  const ledger = new LedgerHarness({ parameters });
  ledger.state = withBalances(ledger.state, funded);
  ledger.block([
    [rich, bond(amount(alice(30)))],
    [rich, certificate(ledger, rich, 1)],
  ]);
  return ledger;
}

test('who bonds and certifies a key in block H votes from H + 2 on', () => {
  const ledger = staked();
  const { height, nextValidators, afterNextValidators } = ledger.state;
  assert.is(height, 1);
  assert.is(powers(nextValidators).get(rich), undefined);
  assert.is(powers(afterNextValidators).get(rich), 30n);
  assert.equal(
    ledger.last!.events.find(({ type }) => type === 'validatorsChanged'),
    { type: 'validatorsChanged', actsAtHeight: 3, validators: afterNextValidators },
  );
  ledger.block();
  assert.is(powers(ledger.state.nextValidators).get(rich), 30n);
  // Block 3 is the first that it decides, and the first in which it may act as a validator.
  ledger.start();
  assert.is(powers(ledger.state.nextValidators).get(rich), 30n);
});

test('a bond without a key has no power, nor has a key whose stake is gone', () => {
  const ledger = new LedgerHarness();
  ledger.state = withBalances(ledger.state, funded);
  ledger.block([[rich, bond(amount(alice(30)))]]);
  assert.is(powers(ledger.state.afterNextValidators).get(rich), undefined);
  ledger.block([[rich, certificate(ledger, rich, 1)]]);
  assert.is(powers(ledger.state.afterNextValidators).get(rich), 30n);
  ledger.block([[rich, unbond(amount(alice(30)))]]);
  assert.is(powers(ledger.state.afterNextValidators).get(rich), undefined);
  ledger.block();
  assert.is(powers(ledger.state.nextValidators).get(rich), undefined);
});

test('growth waits for the interval, losses do not', () => {
  const ledger = staked(testParameters({ staking: { validatorSetIntervalBlocks: 4 } }));
  while (ledger.state.height < 4) {
    assert.is(powers(ledger.state.afterNextValidators).get(rich), undefined);
    ledger.block();
  }
  assert.is(powers(ledger.state.afterNextValidators).get(rich), 30n);
  ledger.block([[rich, unbond(amount(alice(10)))]]);
  assert.is(powers(ledger.state.afterNextValidators).get(rich), 20n);
});

test('a new key takes over two blocks later; nobody else can have it', () => {
  const ledger = staked();
  ledger.block();
  const before = ledger.state.nextValidators.find(({ account }) => account === rich)!.sessionKey;
  ledger.block([[rich, certificate(ledger, rich, 2)]]);
  assert.is(ledger.state.nextValidators.find(({ account }) => account === rich)!.sessionKey, before);
  ledger.block();
  const after = ledger.state.nextValidators.find(({ account }) => account === rich)!.sessionKey;
  assert.is.not(after, before);
  ledger.block([[other, bond(amount(alice(1)))]]);
  // The key's own proof for another account: even its holder cannot serve two.
  assert.is(ledger.try(other, certificate(ledger, other, 1)), 'ERR_SESSION_KEY_TAKEN');
});

test('the set is the strongest, ties to the lower account', () => {
  const ledger = new LedgerHarness({
    powers: [1n, 2n, 2n, 2n, 3n],
    parameters: testParameters({ staking: { maxValidators: 3 } }),
  });
  ledger.block();
  const ties = [ledger.validators[1], ledger.validators[2], ledger.validators[3]].sort();
  assert.equal(
    ledger.state.afterNextValidators.map(({ account }) => account),
    [ledger.validators[4], ties[0], ties[1]].sort(),
  );
});

test('genesis weight fades in a straight line to zero; the last set stays when nobody is left', () => {
  for (const [elapsed, left] of [
    [-5n, 1000n],
    [0n, 1000n],
    [1n, 999n],
    [10n, 990n],
    [500n, 500n],
    [999n, 1n],
    [1000n, 0n],
    [5000n, 0n],
  ]) {
    assert.is(fadedWeight(1000n, elapsed, 1000), left);
  }
  // Rounded up: nothing is lost before its time.
  assert.is(fadedWeight(10n, 99n, 1000), 10n);
  assert.is(fadedWeight(10n, 100n, 1000), 9n);
  const ledger = staked(testParameters({ staking: { genesisWeightFadeMs: 10_000 } }));
  ledger.block([], 4900);
  assert.is(powers(ledger.state.afterNextValidators).get(ledger.validators[0]), 5n);
  assert.is(powers(ledger.state.afterNextValidators).get(rich), 30n);
  ledger.block([], 10_000);
  assert.equal([...powers(ledger.state.afterNextValidators)], [[rich, 30n]]);
  ledger.block([[rich, unbond(amount(alice(30)))]]);
  ledger.block();
  assert.equal([...powers(ledger.state.nextValidators)], [[rich, 30n]]);
});

test('unbonded stake is free after the blocks and the time, whichever is later', () => {
  for (const [blockMs, waitsFor] of [
    [100, 'time'],
    [5000, 'blocks'],
  ] as const) {
    const ledger = staked();
    ledger.block([[rich, unbond(amount(alice(10)))]]);
    const [entry] = ledger.state.stake(rich).unbonding;
    assert.is(entry.freeHeight, entry.sinceHeight + 21);
    assert.equal(ledger.state.holdings(rich), {
      balance: alice(970),
      locked: 0n,
      bonded: alice(20),
      unbonding: alice(10),
      registrationBond: 0n,
    });
    const isFree = () => {
      const { height, timeMs } = ledger.state;
      return height + 1 >= entry.freeHeight && timeMs + BigInt(blockMs) >= entry.freeTimeMs;
    };
    let refusals = 0;
    while (!isFree()) {
      assert.is(ledger.block([[rich, withdraw()]], blockMs)[0].error, 'ERR_NOTHING_TO_WITHDRAW');
      refusals += 1;
    }
    assert.ok(waitsFor === 'time' ? refusals > 90 : refusals === 20, `${waitsFor}: ${refusals}`);
    assert.is(ledger.block([[rich, withdraw()]], blockMs)[0].error, undefined);
    assert.is(ledger.state.account(rich).balance, alice(980));
    assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
  }
});

test('a stake that is empty is forgotten, and can be made anew with the same key', () => {
  const ledger = staked();
  ledger.block([[rich, unbond(amount(alice(30)))]]);
  for (let blocks = 0; blocks < 25; blocks++) ledger.block([], 1000);
  assert.is(ledger.try(rich, withdraw()), undefined);
  assert.not(ledger.state.stakers.includes(rich));
  assert.is(ledger.state.tree.get(`stake/${rich}`), undefined);
  assert.is(ledger.try(rich, bond(amount(alice(5)))), undefined);
  assert.is(ledger.try(rich, certificate(ledger, rich, 1)), undefined);
  assert.is(powers(ledger.state.afterNextValidators).get(rich), 5n);
});

test('a validator that is away for too many scored rounds is jailed, keeps its stake, and may come back', () => {
  const ledger = new LedgerHarness({
    parameters: testParameters({ staking: { absentRoundsToJail: 2, jailMs: 60_000 } }),
  });
  const [absent] = ledger.validators;
  ledger.start();
  const present = ledger.validators.filter((validator) => validator !== absent);
  const round = () => {
    ledger.block(ledger.miners.map((m) => [m, ledger.commitCall(m)] as const));
    ledger.block(ledger.miners.map((m) => [m, ledger.revealCall(m)] as const));
    ledger.block(
      present.map((v) => [v, ledger.commitScoresCall(v, () => scored(1))] as const),
      31_000,
    );
    ledger.block(present.map((v) => [v, ledger.revealScoresCall(() => scored(1))] as const));
    ledger.block(present.map((v) => [v, ledger.attestCall()] as const));
  };
  round();
  assert.is(ledger.state.stake(absent).absentRounds, 1);
  assert.ok(powers(ledger.state.afterNextValidators).has(absent));
  round();
  assert.ok(ledger.allEvents.some((event) => event.type === 'jailed' && event.account === absent));
  assert.not(powers(ledger.state.nextValidators).has(absent));
  assert.is(ledger.try(absent, unjail()), 'ERR_STILL_JAILED');
  ledger.block([], 60_000);
  assert.is(ledger.try(absent, unjail()), undefined);
  assert.is(powers(ledger.state.afterNextValidators).get(absent), 10n);
});

test.run();
