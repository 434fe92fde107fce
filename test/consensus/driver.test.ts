/** The driver: which rule fires when, in rounds played by hand. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  advance,
  type DriverEffect,
  type DriverInput,
  type DriverState,
  isProposalWanted,
  MAX_FUTURE_PROPOSAL_ROUNDS,
  newHeight,
} from '../../node/consensus/core/driver.ts';
import { proposerOfRound, startPriorities } from '../../node/consensus/core/proposer.ts';
import { seededRandom } from '../simulation/random.ts';
import { account, HEIGHT, proposal, validators, value, vote, votes } from './votes.ts';

const X = value('x');
const Y = value('y');
const SET = validators(1n, 1n, 1n, 1n);
/** With equal powers the turns go a, b, c, d. */
const start = (self: string | null = 'd'): DriverState =>
  newHeight(HEIGHT, SET, startPriorities(SET), self === null ? undefined : account(self));

/** Feeds inputs; own votes come back as they would from the host. */
function play(state: DriverState, ...inputs: DriverInput[]): { state: DriverState; effects: DriverEffect[] } {
  const effects: DriverEffect[] = [];
  let next = state;
  const queue = [...inputs];
  for (let input = queue.shift(); input !== undefined; input = queue.shift()) {
    const step = advance(next, input);
    next = step.state;
    effects.push(...step.effects);
    for (const effect of step.effects) {
      if (effect.type === 'vote' && next.self !== undefined)
        queue.unshift({ type: 'vote', vote: vote(next.self, effect.vote, effect.round, effect.value) });
    }
  }
  return { state: next, effects };
}

const sent = (effects: readonly DriverEffect[]) =>
  effects.flatMap((effect) =>
    effect.type === 'vote' ? [`${effect.vote} ${effect.round} ${effect.value ?? 'nil'}`] : [],
  );
const timeouts = (effects: readonly DriverEffect[]) =>
  effects.flatMap((effect) => (effect.type === 'scheduleTimeout' ? [`${effect.kind} ${effect.round}`] : []));
const decisions = (effects: readonly DriverEffect[]) => effects.filter((effect) => effect.type === 'decide');
const BEGIN: DriverInput = { type: 'start' };
const fire = (kind: 'propose' | 'prevote' | 'precommit', round: number): DriverInput => ({
  type: 'timeout',
  kind,
  round,
});

test('a height in one round: proposal, prevotes, precommits, decision with its precommits', () => {
  const { state, effects } = play(
    start(),
    BEGIN,
    proposal(0, X),
    ...votes('ab', 'prevote', 0, X),
    ...votes('ab', 'precommit', 0, X),
  );
  assert.equal(sent(effects), ['prevote 0 x', 'precommit 0 x']);
  const [decision] = decisions(effects);
  assert.ok(decision?.type === 'decide');
  assert.equal(
    decision.precommits.map(({ validator }) => validator),
    ['a', 'b', 'd'],
  );
  assert.is(state.machine.step, 'commit');
});

test('the same inputs in any order lead to the same decision', () => {
  const inputs = [proposal(0, X), ...votes('abc', 'prevote', 0, X), ...votes('abc', 'precommit', 0, X)];
  const random = seededRandom(3);
  for (let run = 0; run < 100; run++) {
    const shuffled = inputs.map((item) => ({ item, key: random.next() })).sort((a, b) => a.key - b.key);
    const { effects } = play(start(), BEGIN, ...shuffled.map(({ item }) => item));
    assert.is(decisions(effects).length, 1);
    assert.ok(sent(effects).every((line) => line.endsWith('x') || line.endsWith('nil')));
  }
});

test('equal states and inputs give equal results', () => {
  const inputs = [BEGIN, proposal(0, X), ...votes('abc', 'prevote', 0, Y), fire('prevote', 0)];
  assert.equal(play(start(), ...inputs), play(start(), ...inputs));
});

test('only the proposer of a round is asked for a value, and the turns go round', () => {
  const asked = (self: string) =>
    play(start(self), BEGIN).effects.some((effect) => effect.type === 'getValue' && effect.round === 0);
  assert.ok(asked('a'));
  assert.not(asked('b'));
  const later = play(start('b'), BEGIN, ...votes('cd', 'prevote', 1, undefined)).effects;
  assert.ok(later.some((effect) => effect.type === 'getValue' && effect.round === 1));
});

test('an observer sends nothing and decides all the same', () => {
  const { effects } = play(
    start(null),
    BEGIN,
    proposal(0, X),
    ...votes('abc', 'prevote', 0, X),
    ...votes('abc', 'precommit', 0, X),
  );
  assert.equal(sent(effects), []);
  assert.is(decisions(effects).length, 1);
});

test('who is not in the set is an observer', () => {
  assert.is(start('z').self, undefined);
});

test('L22: an untimely new block gets nil; one that comes back with a quorum does not', () => {
  const untimely = { timely: false };
  assert.equal(sent(play(start(), BEGIN, proposal(0, X, -1, untimely)).effects), ['prevote 0 nil']);
  const again = play(
    start(),
    BEGIN,
    ...votes('abc', 'prevote', 0, X),
    ...votes('abc', 'precommit', 1, undefined),
    proposal(1, X, 0, untimely),
  );
  assert.equal(sent(again.effects), ['prevote 1 x']);
});

test('L28: a proposal with a valid round waits for that quorum', () => {
  const waiting = play(
    start(),
    BEGIN,
    ...votes('ab', 'prevote', 1, undefined),
    proposal(1, X, 0),
    ...votes('ab', 'prevote', 0, X),
  );
  assert.equal(sent(waiting.effects), []);
  assert.equal(sent(play(waiting.state, ...votes('c', 'prevote', 0, X)).effects), ['prevote 1 x']);
});

test('L28: a quorum for another value, or in another round, does not do', () => {
  const inputs = [
    BEGIN,
    ...votes('abc', 'prevote', 2, undefined),
    ...votes('abc', 'prevote', 1, X),
    ...votes('abc', 'prevote', 0, Y),
  ];
  assert.equal(sent(play(start(), ...inputs, proposal(2, X, 0)).effects), []);
  assert.equal(sent(play(start(), ...inputs, proposal(2, X, 1)).effects).slice(0, 1), ['prevote 2 x']);
});

test('a lock holds through rounds until a later quorum', () => {
  // Locked on x in round 0; no decision there.
  let { state } = play(start(), BEGIN, proposal(0, X), ...votes('ab', 'prevote', 0, X));
  assert.equal(state.machine.locked, { value: X, round: 0 });
  let effects: DriverEffect[];
  ({ state } = play(state, ...votes('abc', 'precommit', 0, undefined), fire('precommit', 0)));
  ({ state, effects } = play(state, proposal(1, Y)));
  assert.equal(sent(effects), ['prevote 1 nil'], 'another new value is refused');
  // The others lock y in round 1, which this node only hears of now.
  ({ state, effects } = play(state, ...votes('abc', 'prevote', 1, Y)));
  assert.equal(state.machine.locked, { value: Y, round: 1 });
  assert.equal(sent(effects), ['precommit 1 y']);
});

test('L36: the valid value is set in the precommit step too, and is what this node proposes next', () => {
  let { state } = play(start('b'), BEGIN, fire('propose', 0), ...votes('ac', 'prevote', 0, undefined));
  assert.is(state.machine.step, 'precommit');
  // The proposal and d's prevote come late: with a byzantine c showing both faces, there is a quorum for x as well.
  const crowd = validators(1n, 1n, 1n, 1n, 1n, 1n, 1n);
  state = newHeight(HEIGHT, crowd, startPriorities(crowd), account('b'));
  ({ state } = play(state, BEGIN, ...votes('acdef', 'prevote', 0, X), fire('propose', 0), fire('prevote', 0)));
  assert.is(state.machine.step, 'precommit');
  assert.is(state.machine.valid, undefined);
  ({ state } = play(state, proposal(0, X)));
  assert.equal(state.machine.valid, { value: X, round: 0 });
  assert.is(state.machine.locked, undefined);
  const { effects } = play(state, ...votes('acdef', 'precommit', 0, undefined), fire('precommit', 0));
  assert.ok(
    effects.some(
      (effect) => effect.type === 'propose' && effect.round === 1 && effect.value === X && effect.validRound === 0,
    ),
  );
});

test('L34 and L47 arm their timeouts once a round', () => {
  const { state, effects } = play(
    start(),
    BEGIN,
    fire('propose', 0),
    ...votes('a', 'prevote', 0, X),
    ...votes('b', 'prevote', 0, Y),
  );
  assert.equal(timeouts(effects), ['propose 0', 'prevote 0']);
  const more = play(
    state,
    ...votes('c', 'prevote', 0, X),
    ...votes('abc', 'precommit', 0, undefined),
    ...votes('d', 'precommit', 0, undefined),
  );
  assert.equal(timeouts(more.effects), ['precommit 0']);
  const next = play(
    more.state,
    fire('precommit', 0),
    fire('propose', 1),
    ...votes('ab', 'prevote', 1, X),
    ...votes('ab', 'precommit', 1, X),
  );
  assert.equal(timeouts(next.effects), ['propose 1', 'prevote 1']);
});

test('L44: a quorum for nil is not waited out', () => {
  const { effects } = play(start(), BEGIN, fire('propose', 0), ...votes('ab', 'prevote', 0, undefined));
  assert.equal(sent(effects), ['prevote 0 nil', 'precommit 0 nil']);
  assert.equal(timeouts(effects), ['propose 0']);
});

test('L49: a decision of an older round is taken in a later one', () => {
  const { state } = play(start(), BEGIN, ...votes('abc', 'precommit', 0, X), fire('precommit', 0));
  assert.is(state.machine.round, 1);
  const { effects } = play(state, proposal(0, X));
  assert.is(decisions(effects).length, 1);
});

test('L49: a decision of a later round than this node has reached', () => {
  const { effects } = play(start(), BEGIN, ...votes('abc', 'precommit', 3, X), proposal(3, X));
  assert.is(decisions(effects).length, 1);
});

test('L50: an invalid value is never decided', () => {
  const { effects } = play(start(), BEGIN, proposal(0, X, -1, { valid: false }), ...votes('abc', 'precommit', 0, X));
  assert.is(decisions(effects).length, 0);
});

test('L55: a third of the power in a higher round moves there at once, and no fewer', () => {
  const one = play(start(), BEGIN, ...votes('a', 'prevote', 7, undefined), ...votes('a', 'precommit', 7, undefined));
  assert.is(one.state.machine.round, 0);
  const two = play(one.state, ...votes('b', 'prevote', 7, undefined));
  assert.is(two.state.machine.round, 7);
  assert.equal(timeouts(two.effects), ['propose 7']);
});

test('several rules at once: a decision comes before a skipped round, that before a vote', () => {
  let { state } = play(
    start(),
    proposal(0, X),
    ...votes('abc', 'precommit', 0, X),
    ...votes('ab', 'prevote', 2, undefined),
  );
  let { effects } = play(state, BEGIN);
  // The decision stood before the height began; nothing was voted.
  assert.equal(sent(effects), []);
  ({ state, effects } = play(start(), BEGIN, ...votes('ab', 'prevote', 2, undefined), proposal(0, X)));
  assert.is(state.machine.round, 2);
  assert.equal(sent(effects), []);
});

test('proposals: the first of a round counts; another only where a third voted for it; bounds on rounds', () => {
  let { state } = play(start(), BEGIN, proposal(0, X), proposal(0, Y));
  assert.equal(
    state.proposals.get(0)?.map((kept) => kept.value),
    [X],
  );
  ({ state } = play(state, ...votes('ab', 'precommit', 0, Y)));
  assert.ok(isProposalWanted(state, 0, Y));
  ({ state } = play(state, proposal(0, Y)));
  assert.equal(
    state.proposals.get(0)?.map((kept) => kept.value),
    [X, Y],
  );
  assert.is(decisions(play(state, ...votes('c', 'precommit', 0, Y)).effects).length, 1);
  assert.not(isProposalWanted(state, MAX_FUTURE_PROPOSAL_ROUNDS + 1, X));
  assert.ok(isProposalWanted(state, MAX_FUTURE_PROPOSAL_ROUNDS, X));
  assert.not(isProposalWanted(state, -1, X));
  assert.is(play(state, proposal(1, X, 1)).state.proposals.has(1), false, 'a valid round that is not below the round');
});

test('a value that was judged is not judged again: its id names every byte of its block', () => {
  for (const valid of [true, false]) {
    const { state } = play(start(), BEGIN, proposal(0, X, -1, { valid }), ...votes('ab', 'prevote', 0, X));
    assert.not(isProposalWanted(state, 0, X));
    assert.is(play(state, proposal(0, X, -1, { valid: !valid })).state, state);
  }
});

test('equivocation is told once, with both votes', () => {
  const { effects } = play(
    start(),
    BEGIN,
    ...votes('a', 'prevote', 0, X),
    ...votes('a', 'prevote', 0, Y),
    ...votes('a', 'prevote', 0, undefined),
  );
  const evidence = effects.filter((effect) => effect.type === 'evidence');
  assert.is(evidence.length, 1);
});

test('votes of another height are nothing', () => {
  const state = start();
  const other = advance(state, { type: 'vote', vote: vote('a', 'prevote', 0, X, HEIGHT + 1) });
  assert.is(other.state.votes.rounds.size, 0);
});

test('property: one node never votes twice in a step, whatever it is fed', () => {
  const random = seededRandom(11);
  for (let run = 0; run < 300; run++) {
    const seen = new Set<string>();
    let state = start('b');
    let rounds = 0;
    const inputs: DriverInput[] = [BEGIN];
    for (let step = 0; step < 120; step++) {
      const input = inputs.shift() ?? randomInput(random);
      const result = advance(state, input);
      assert.ok(result.state.machine.round >= state.machine.round, 'rounds only grow');
      rounds = Math.max(rounds, result.state.machine.round);
      const { locked, valid } = result.state.machine;
      assert.ok((locked?.round ?? -1) <= (valid?.round ?? -1), 'the lock is never later than the valid value');
      state = result.state;
      for (const effect of result.effects) {
        if (effect.type !== 'vote') continue;
        const key = `${effect.vote} ${effect.round}`;
        assert.not(seen.has(key), key);
        seen.add(key);
        inputs.push({ type: 'vote', vote: vote('b', effect.vote, effect.round, effect.value) });
      }
    }
    assert.ok(proposerOfRound(state.proposers, rounds) !== undefined);
  }
});

function randomInput(random: ReturnType<typeof seededRandom>): DriverInput {
  const round = random.below(4);
  const voted = random.pick([X, Y, undefined]);
  if (random.chance(0.2)) return proposal(round, random.pick([X, Y]), random.below(round + 1) - 1);
  if (random.chance(0.15)) return fire(random.pick(['propose', 'prevote', 'precommit'] as const), round);
  return {
    type: 'vote',
    vote: vote(random.pick(['a', 'c', 'd']), random.pick(['prevote', 'precommit'] as const), round, voted),
  };
}

test.run();
