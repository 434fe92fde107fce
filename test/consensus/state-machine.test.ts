/** The state machine, line by line of arXiv 1807.04938. Each test names the lines that it holds. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  applyRule,
  initialRoundState,
  type RoundState,
  type RuleEffect,
  type RuleInput,
} from '../../node/consensus/core/state-machine.ts';
import { HEIGHT, value } from './votes.ts';

const X = value('x');
const Y = value('y');

function at(step: RoundState['step'], round: number, more: Partial<RoundState> = {}): RoundState {
  return { ...initialRoundState(HEIGHT), step, round, ...more };
}

function expectRule(state: RoundState, input: RuleInput, next: Partial<RoundState>, effects: RuleEffect[]): void {
  const result = applyRule(state, input);
  assert.equal(result.effects, effects);
  assert.equal(result.state, { ...state, ...next });
}

const prevote = (round: number, voted: typeof X | undefined): RuleEffect => ({
  type: 'vote',
  vote: 'prevote',
  round,
  value: voted,
});
const precommit = (round: number, voted: typeof X | undefined): RuleEffect => ({
  type: 'vote',
  vote: 'precommit',
  round,
  value: voted,
});
const timeout = (kind: 'propose' | 'prevote' | 'precommit', round: number): RuleEffect => ({
  type: 'scheduleTimeout',
  kind,
  round,
});

test('L1-L9: a height begins without round, lock and valid value', () => {
  assert.equal(initialRoundState(7), {
    height: 7,
    round: -1,
    step: 'unstarted',
    locked: undefined,
    valid: undefined,
  });
});

test('L11-L13, L21: who is not the proposer waits for the proposal', () => {
  expectRule(at('unstarted', -1), { type: 'newRound', round: 0, proposer: false }, { round: 0, step: 'propose' }, [
    timeout('propose', 0),
  ]);
});

test('L14-L18: a proposer without valid value asks for one', () => {
  expectRule(at('unstarted', 1), { type: 'newRound', round: 2, proposer: true }, { round: 2, step: 'propose' }, [
    timeout('propose', 2),
    { type: 'getValue', round: 2 },
  ]);
});

test('L15-L16, L19: a proposer with a valid value proposes that, with its round', () => {
  const valid = { value: X, round: 1 };
  expectRule(
    at('unstarted', 2, { valid }),
    { type: 'newRound', round: 3, proposer: true },
    { round: 3, step: 'propose' },
    [timeout('propose', 3), { type: 'propose', round: 3, value: X, validRound: 1 }],
  );
});

test('L19: the value that was asked for is proposed with valid round -1', () => {
  expectRule(at('propose', 2), { type: 'proposeValue', value: X }, {}, [
    { type: 'propose', round: 2, value: X, validRound: -1 },
  ]);
});

test('L19: a value that comes after the propose step is not proposed', () => {
  expectRule(at('prevote', 2), { type: 'proposeValue', value: X }, {}, []);
});

test('a round is never entered again, nor one below it', () => {
  for (const round of [0, 1, 2]) expectRule(at('prevote', 2), { type: 'newRound', round, proposer: true }, {}, []);
});

test('L22-L24: without a lock, a valid proposal is prevoted', () => {
  expectRule(at('propose', 0), { type: 'proposal', value: X, acceptable: true }, { step: 'prevote' }, [prevote(0, X)]);
});

test('L23: locked on the same value, it is prevoted', () => {
  const locked = { value: X, round: 0 };
  expectRule(at('propose', 1, { locked }), { type: 'proposal', value: X, acceptable: true }, { step: 'prevote' }, [
    prevote(1, X),
  ]);
});

test('L23, L26: locked on another value, nil is prevoted', () => {
  const locked = { value: Y, round: 0 };
  expectRule(at('propose', 1, { locked }), { type: 'proposal', value: X, acceptable: true }, { step: 'prevote' }, [
    prevote(1, undefined),
  ]);
});

test('L23, L26: an invalid proposal gets nil, even the locked one', () => {
  const locked = { value: X, round: 0 };
  expectRule(at('propose', 1, { locked }), { type: 'proposal', value: X, acceptable: false }, { step: 'prevote' }, [
    prevote(1, undefined),
  ]);
});

test('L22: no proposal is prevoted after the propose step', () => {
  for (const step of ['prevote', 'precommit'] as const)
    expectRule(at(step, 0), { type: 'proposal', value: X, acceptable: true }, {}, []);
});

const previous = (voted: typeof X, validRound: number, valid = true): RuleInput => ({
  type: 'proposalAndPolkaPrevious',
  value: voted,
  validRound,
  valid,
});

test('L28-L30: a later quorum than the lock frees from it', () => {
  const locked = { value: Y, round: 1 };
  expectRule(at('propose', 4, { locked }), previous(X, 2), { step: 'prevote' }, [prevote(4, X)]);
});

test('L29: a quorum of the very round of the lock frees from it', () => {
  const locked = { value: Y, round: 2 };
  expectRule(at('propose', 4, { locked }), previous(X, 2), { step: 'prevote' }, [prevote(4, X)]);
});

test('L29, L32: an earlier quorum than the lock does not free from it', () => {
  const locked = { value: Y, round: 3 };
  expectRule(at('propose', 4, { locked }), previous(X, 2), { step: 'prevote' }, [prevote(4, undefined)]);
});

test('L29: an earlier quorum for the locked value itself is good', () => {
  const locked = { value: X, round: 3 };
  expectRule(at('propose', 4, { locked }), previous(X, 2), { step: 'prevote' }, [prevote(4, X)]);
});

test('L29, L32: an invalid value gets nil whatever its quorum', () => {
  expectRule(at('propose', 4), previous(X, 2, false), { step: 'prevote' }, [prevote(4, undefined)]);
});

test('L28: the valid round must lie below the round', () => {
  expectRule(at('propose', 2), previous(X, 2), {}, []);
  expectRule(at('propose', 2), previous(X, 3), {}, []);
  expectRule(at('propose', 2), previous(X, -1), {}, []);
});

test('L34-L35: a quorum of prevotes arms the timeout in the prevote step only', () => {
  expectRule(at('prevote', 1), { type: 'polkaAny' }, {}, [timeout('prevote', 1)]);
  expectRule(at('propose', 1), { type: 'polkaAny' }, {}, []);
  expectRule(at('precommit', 1), { type: 'polkaAny' }, {}, []);
});

test('L36-L43: in the prevote step a quorum locks, precommits, and makes the value valid', () => {
  const here = { value: X, round: 1 };
  expectRule(
    at('prevote', 1, { locked: { value: Y, round: 0 }, valid: { value: Y, round: 0 } }),
    { type: 'proposalAndPolkaCurrent', value: X },
    { step: 'precommit', locked: here, valid: here },
    [precommit(1, X)],
  );
});

test('L36, L42-L43: in the precommit step a quorum sets the valid value and leaves the lock', () => {
  const locked = { value: Y, round: 0 };
  expectRule(
    at('precommit', 1, { locked, valid: locked }),
    { type: 'proposalAndPolkaCurrent', value: X },
    { valid: { value: X, round: 1 } },
    [],
  );
});

test('L36: nothing of that in the propose step', () => {
  expectRule(at('propose', 1), { type: 'proposalAndPolkaCurrent', value: X }, {}, []);
});

test('L44-L46: a quorum for nil is precommitted as nil, in the prevote step only', () => {
  expectRule(at('prevote', 1), { type: 'polkaNil' }, { step: 'precommit' }, [precommit(1, undefined)]);
  expectRule(at('propose', 1), { type: 'polkaNil' }, {}, []);
  expectRule(at('precommit', 1), { type: 'polkaNil' }, {}, []);
});

test('L47-L48: a quorum of precommits arms the timeout in every step of a round', () => {
  for (const step of ['propose', 'prevote', 'precommit'] as const)
    expectRule(at(step, 1), { type: 'precommitAny' }, {}, [timeout('precommit', 1)]);
});

test('L49-L51: a quorum of precommits decides, also one of an older round', () => {
  for (const round of [0, 1, 2, 5])
    expectRule(at('propose', 2), { type: 'proposalAndPrecommitValue', round, value: X }, { step: 'commit' }, [
      { type: 'decide', round, value: X },
    ]);
});

test('after a decision nothing changes any more', () => {
  const inputs: RuleInput[] = [
    { type: 'newRound', round: 9, proposer: true },
    { type: 'proposal', value: X, acceptable: true },
    { type: 'polkaNil' },
    { type: 'skipRound', round: 9 },
    { type: 'timeout', kind: 'precommit', round: 2 },
    { type: 'proposalAndPrecommitValue', round: 2, value: Y },
  ];
  for (const input of inputs) expectRule(at('commit', 2), input, {}, []);
});

test('L55-L56: a third of the power in a higher round starts it', () => {
  expectRule(at('prevote', 1), { type: 'skipRound', round: 4 }, { step: 'unstarted' }, [
    { type: 'startRound', round: 4 },
  ]);
  expectRule(at('prevote', 4), { type: 'skipRound', round: 4 }, {}, []);
});

test('L57-L60: the propose timeout prevotes nil, in its own round and step only', () => {
  const fired: RuleInput = { type: 'timeout', kind: 'propose', round: 1 };
  expectRule(at('propose', 1), fired, { step: 'prevote' }, [prevote(1, undefined)]);
  expectRule(at('prevote', 1), fired, {}, []);
  expectRule(at('propose', 2), fired, {}, []);
});

test('L61-L64: the prevote timeout precommits nil, in its own round and step only', () => {
  const fired: RuleInput = { type: 'timeout', kind: 'prevote', round: 1 };
  expectRule(at('prevote', 1), fired, { step: 'precommit' }, [precommit(1, undefined)]);
  expectRule(at('propose', 1), fired, {}, []);
  expectRule(at('precommit', 1), fired, {}, []);
  expectRule(at('prevote', 2), fired, {}, []);
});

test('L65-L67: the precommit timeout starts the next round, from every step of its own round', () => {
  const fired: RuleInput = { type: 'timeout', kind: 'precommit', round: 1 };
  for (const step of ['propose', 'prevote', 'precommit'] as const)
    expectRule(at(step, 1), fired, { step: 'unstarted' }, [{ type: 'startRound', round: 2 }]);
  expectRule(at('precommit', 2), fired, {}, []);
});

test.run();
