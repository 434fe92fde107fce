import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ValidatorSet } from '../../node/chain/validator-set.ts';
import {
  nextPriorities,
  PROPOSER_ANCHOR_INTERVAL,
  proposerAnchor,
  proposerOfRound,
  startPriorities,
} from '../../node/consensus/core/proposer.ts';
import { ProposerSchedule } from '../../node/consensus/proposer-schedule.ts';
import { validators } from './votes.ts';

function turns(set: ValidatorSet, count: number): string[] {
  let state = startPriorities(set);
  const names: string[] = [];
  for (let height = 0; height < count; height++) {
    names.push(proposerOfRound(state, 0));
    state = nextPriorities(state, set);
  }
  return names;
}

test('equal powers take turns', () => {
  assert.equal(turns(validators(5n, 5n, 5n), 6), ['a', 'b', 'c', 'a', 'b', 'c']);
});

test('turns are in proportion to power and spread evenly', () => {
  const names = turns(validators(3n, 1n, 1n), 50);
  assert.is(names.filter((name) => name === 'a').length, 30);
  assert.is(names.filter((name) => name === 'b').length, 10);
  for (let at = 0; at + 5 <= names.length; at++)
    assert.ok(names.slice(at, at + 5).filter((name) => name === 'a').length <= 4);
});

test('rounds of a height go on where its first round stands', () => {
  const set = validators(1n, 1n, 1n, 1n);
  const state = startPriorities(set);
  assert.equal(
    [0, 1, 2, 3, 4].map((round) => proposerOfRound(state, round)),
    ['a', 'b', 'c', 'd', 'a'],
  );
  assert.is(proposerOfRound(nextPriorities(state, set), 0), 'b', 'rounds that failed do not move the next height');
});

test('a newcomer starts at -1.125 of the total power and so waits for its turn', () => {
  const old = validators(10n, 10n, 10n);
  const grown = validators(10n, 10n, 10n, 10n);
  let state = startPriorities(old);
  for (let height = 0; height < 3; height++) state = nextPriorities(state, old);
  state = nextPriorities(state, grown);
  const names: string[] = [];
  for (let height = 0; height < 8; height++) {
    names.push(proposerOfRound(state, 0));
    state = nextPriorities(state, grown);
  }
  assert.ok(names.indexOf('d') >= 3, names.join());
  assert.ok(names.includes('d'));
});

test('leaving and joining again gives no earlier turn than staying', () => {
  const all = validators(10n, 10n, 10n, 10n);
  const without = all.slice(0, 3);
  const firstTurn = (leave: boolean) => {
    let state = startPriorities(all);
    // d's turn is over after height 3; then it may leave for one height.
    for (let height = 0; height < 4; height++) state = nextPriorities(state, leave && height === 3 ? without : all);
    for (let height = 4; ; height++) {
      if (proposerOfRound(state, 0) === 'd') return height;
      state = nextPriorities(state, all);
    }
  };
  assert.ok(firstTurn(true) >= firstTurn(false));
});

test('priorities stay within twice the total power, whatever joins', () => {
  let state = startPriorities(validators(1n, 1n));
  const big = validators(1n, 1n, 1_000_000n);
  for (let height = 0; height < 20; height++)
    state = nextPriorities(state, height % 2 === 0 ? big : validators(1n, 1n));
  const spread =
    state.priorities.reduce((a, b) => (a > b ? a : b)) - state.priorities.reduce((a, b) => (a < b ? a : b));
  assert.ok(spread <= 2n * 2n + 2n, String(spread));
});

test('what a great power left behind does not keep the others waiting', () => {
  // A turn of the large set leaves its priorities 2000 apart; the small set would need 500 turns to make up for that.
  const large = validators(1000n, 1000n);
  const small = validators(1n, 1n);
  let state = nextPriorities(startPriorities(large), small);
  const names: string[] = [];
  for (let height = 0; height < 12; height++) {
    names.push(proposerOfRound(state, 0));
    state = nextPriorities(state, small);
  }
  assert.ok(names.includes('a') && names.includes('b'), names.join(' '));
});

test('the schedule is the same whether a node was there from the start, or begins anywhere', () => {
  const setAt = (height: number) => (height % 7 < 4 ? validators(3n, 2n, 2n) : validators(3n, 2n, 2n, 5n));
  const known = { validators: (height: number) => (height >= 1 ? setAt(height) : undefined) };
  const always = new ProposerSchedule(known);
  const last = 2 * PROPOSER_ANCHOR_INTERVAL + 40;
  for (let height = 1; height <= last; height++) {
    const here = always.at(height);
    assert.ok(here);
    if (height % 37 === 0 || height === PROPOSER_ANCHOR_INTERVAL || height === last)
      assert.equal(new ProposerSchedule(known).at(height), here);
  }
});

test('a node that does not know the sets since the anchor says so', () => {
  const since = PROPOSER_ANCHOR_INTERVAL + 10;
  const schedule = new ProposerSchedule({ validators: (height) => (height >= since ? validators(1n) : undefined) });
  assert.is(schedule.at(since + 5), undefined);
  assert.ok(schedule.at(proposerAnchor(2 * PROPOSER_ANCHOR_INTERVAL) + 3));
});

test.run();
