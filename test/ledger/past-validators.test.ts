/** Who decided earlier heights, told by the state alone. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import type { ValidatorSet } from '../../node/chain/validator-set.ts';
import { Draft, need } from '../../node/ledger/draft.ts';
import { CHAIN } from '../../node/ledger/parameters.ts';
import {
  forgetPastValidators,
  isForgotten,
  pastValidators,
  rememberValidators,
} from '../../node/ledger/past-validators.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import { namedAccount, testGenesis } from './harness.ts';
import { Random } from './random.ts';

const GENESIS = testGenesis([{ account: namedAccount('validator'), weight: 1n }]);
const KEPT = 20;
const key = (index: number, version = 0) => `${index.toString(16)}${version.toString(16)}`.repeat(32) as AccountId;

/** Any set of some of eight accounts. */
function anySet(random: Random): ValidatorSet {
  return Array.from({ length: 8 }, (_, index) => index)
    .filter((index) => index === 0 || random.chance(60))
    .map((index) => ({
      account: key(index + 1),
      sessionKey: key(index + 1, random.below(2)) as never,
      power: BigInt(1 + random.below(3)),
    }));
}

function nextState(state: LedgerState, change: (draft: Draft, height: number) => void): LedgerState {
  const draft = new Draft(state);
  const chain = need(draft, CHAIN);
  change(draft, chain.height + 1);
  draft.set(CHAIN, { ...chain, height: chain.height + 1 });
  return new LedgerState(state.tree.with(draft.changes()));
}

test('property: each height within the time of evidence has the set that decided it, and older ones leave nothing', () => {
  for (let seed = 1; seed <= 10; seed++) {
    const random = new Random(seed);
    let state = LedgerState.genesis(GENESIS);
    const entries = () => [...state.tree.entries()].filter(([name]) => name.startsWith('pastValidators')).length;
    const sets: ValidatorSet[] = [[], anySet(random)];
    for (let height = 1; height <= 120; height++) {
      const decided = sets[height];
      const next = random.chance(40) ? anySet(random) : decided;
      sets.push(next);
      state = nextState(state, (draft) => rememberValidators(draft, height, { decided, next }, KEPT));
      // What the block after this one may hold evidence about.
      for (let about = Math.max(1, height + 2 - KEPT); about <= height; about++) {
        assert.not(isForgotten(state, about));
        assert.equal(pastValidators(state, about, next), sets[about], `seed ${seed}: ${about} at ${height}`);
      }
      assert.is(pastValidators(state, height + 1, next), undefined);
      assert.is(pastValidators(state, 0, next), undefined);
      for (let about = 1; about < height - KEPT; about++)
        if (isForgotten(state, about)) assert.is(pastValidators(state, about, next), undefined);
        else assert.equal(pastValidators(state, about, next), sets[about]);
      assert.ok(entries() <= KEPT + 1, `${entries()} records`);
    }
    state = nextState(state, (draft) => forgetPastValidators(draft));
    assert.is(entries(), 0);
  }
});

test('where nothing changes, nothing is kept', () => {
  const set = anySet(new Random(1));
  let state = LedgerState.genesis(GENESIS);
  const before = [...state.tree.entries()].length;
  for (let height = 1; height <= 50; height++)
    state = nextState(state, (draft) => rememberValidators(draft, height, { decided: set, next: set }, KEPT));
  assert.is([...state.tree.entries()].length, before);
  assert.equal(pastValidators(state, 3, set), set);
});

test.run();
