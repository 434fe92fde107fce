/** Votes cannot make anybody's power last for ever, or price others out: whatever the sequence, values stay near genesis. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { localParameters } from '../../bootstrap/local/parameters.ts';
import { type ParameterChange, voteParameters } from '../../node/chain/calls.ts';
import { canonicalJson } from '../../node/chain/genesis.ts';
import type { Parameters } from '../../node/chain/parameters.ts';
import { changedParameters } from '../../node/ledger/parameter-votes.ts';
import { LedgerHarness, testParameters } from './harness.ts';
import { Random } from './random.ts';

/** Lets the founders, who have all the power, vote for a change. Returns what the ledger says. */
function voted(ledger: LedgerHarness, change: ParameterChange): string | undefined {
  const height = ledger.state.height + 2;
  const receipts = ledger.block(ledger.validators.map((validator) => [validator, voteParameters(change, height)]));
  while (ledger.state.height < height) ledger.block();
  return receipts[0].error;
}

test('founders cannot lengthen their own fade, in one step or many', () => {
  const fade = 1_000_000_000;
  const ledger = new LedgerHarness({ parameters: testParameters({ staking: { genesisWeightFadeMs: fade } }) });
  assert.is(voted(ledger, { staking: { genesisWeightFadeMs: fade + 1 } }), 'ERR_INVALID_CHANGE');
  assert.is(voted(ledger, { staking: { genesisWeightFadeMs: fade / 2 } }), undefined);
  assert.is(ledger.state.parameters.staking.genesisWeightFadeMs, fade / 2);
  assert.is(voted(ledger, { staking: { genesisWeightFadeMs: fade } }), 'ERR_INVALID_CHANGE');
});

test('the minimum bond at most doubles, and stake never counts for less', () => {
  const ledger = new LedgerHarness();
  const { minimumBond, unitsPerPower } = testParameters().staking;
  assert.is(voted(ledger, { staking: { minimumBond: 2 * minimumBond } }), undefined);
  assert.is(voted(ledger, { staking: { minimumBond: 4 * minimumBond } }), 'ERR_INVALID_CHANGE');
  assert.is(voted(ledger, { staking: { unitsPerPower: unitsPerPower + 1 } }), 'ERR_INVALID_CHANGE');
  assert.is(voted(ledger, { staking: { unitsPerPower: unitsPerPower / 10 } }), undefined);
});

/** Values that no network should come to, whoever votes. */
function outOfBounds(genesis: Parameters, now: Parameters): string[] {
  const wrong: string[] = [];
  const [first, last] = [genesis.staking, now.staking];
  if (last.genesisWeightFadeMs > first.genesisWeightFadeMs) wrong.push('fade');
  if (last.minimumBond > 2 * first.minimumBond) wrong.push('minimumBond');
  if (last.unitsPerPower > first.unitsPerPower) wrong.push('unitsPerPower');
  if (last.unbondingMs < first.unbondingMs || last.unbondingMs > 4 * first.unbondingMs) wrong.push('unbondingMs');
  if (last.maxValidators * 2 < first.maxValidators) wrong.push('maxValidators');
  if (last.jailMs > 4 * first.jailMs) wrong.push('jailMs');
  const [before, after] = [genesis.economics, now.economics];
  if (after.minerSharePpm * 4 < before.minerSharePpm * 3 - 4) wrong.push('minerSharePpm');
  if (after.baseFee > Math.max(before.baseFee, 10 ** 10)) wrong.push('baseFee');
  if (before.baseFee > 100 && after.baseFee < Math.floor(before.baseFee / 100)) wrong.push('no fee');
  if (after.epochMs > 4 * before.epochMs) wrong.push('epochMs');
  return wrong;
}

test('no sequence of 20,000 votes leaves the bounds', () => {
  const random = new Random(5);
  for (const genesis of [testParameters(), localParameters(4, 100)]) {
    let now = genesis;
    let changes = 0;
    for (let vote = 0; vote < 10_000; vote++) {
      const section = random.pick(['economics', 'staking'] as const);
      const name = random.pick(Object.keys(now[section])) as keyof (typeof now)[typeof section];
      const value = now[section][name] as number;
      const next = random.pick([
        value + 1,
        Math.max(0, value - 1),
        value * 2,
        Math.floor(value / 2),
        value * 10,
        0,
        1,
        10 ** random.below(16),
      ]);
      const change: Record<string, number> = { [name]: next };
      // Shares go together.
      if (String(name).endsWith('SharePpm')) {
        const miner = random.below(1_000_001);
        const validator = random.below(1_000_001 - miner);
        Object.assign(change, { minerSharePpm: miner, validatorSharePpm: validator });
        change.infrastructureSharePpm = 1_000_000 - miner - validator;
      }
      const after = changedParameters(genesis, now, canonicalJson({ [section]: change }));
      if (after === undefined) continue;
      changes += 1;
      assert.equal(outOfBounds(genesis, after), []);
      if (after.staking.genesisWeightFadeMs > now.staking.genesisWeightFadeMs) assert.unreachable('the fade grew');
      now = after;
    }
    assert.ok(changes > 200, `${changes} changes`);
  }
});

test.run();
