/**
 * Holds the consensus core against traces of Malachite's Quint model of Tendermint (`consensus-itf/` of the shared
 * vectors), on three levels: the vote keeper's thresholds, the state machine rule by rule, and the whole driver, whose
 * step, round, locked and valid value must be the model's wherever the model has nothing left to do.
 *
 * Two differences are known and right ({@link KNOWN_DIFFERENCES}): they are recognized by rule, counted by name, and the
 * replay goes on from the model's state.
 */
import type { AccountId } from '../../node/chain/account.ts';
import { VOTE_TYPES, type Vote } from '../../node/chain/block.ts';
import type { Hash } from '../../node/chain/hash.ts';
import type { ValidatorSet } from '../../node/chain/validator-set.ts';
import {
  type Advance,
  advance,
  type DriverInput,
  type DriverState,
  newHeight,
} from '../../node/consensus/core/driver.ts';
import { startPriorities } from '../../node/consensus/core/proposer.ts';
import {
  applyRule,
  initialRoundState,
  NO_ROUND,
  type RoundState,
  type RuleInput,
} from '../../node/consensus/core/state-machine.ts';
import {
  addVote,
  hasQuorum,
  hasQuorumAny,
  newVoteKeeper,
  skipTarget,
  type VoteKeeper,
} from '../../node/consensus/core/vote-keeper.ts';
import { type ItfRecord, type ItfValue, integer, list, map, readTrace, record, tagged, text } from './itf.ts';

/**
 * Where this program does at once what the paper says, and the model's driver does not look before its next input. It
 * looks again when the step has changed, and from the propose step of one round to that of the next it has not.
 */
export const KNOWN_DIFFERENCES = {
  L22: 'prevotes at once when it skips to a round whose proposal it holds',
  L28: 'prevotes at once when an old prevote, or a skip, completes the quorum that the held proposal names',
} as const;
export type KnownDifference = keyof typeof KNOWN_DIFFERENCES;

/** What replaying one file found. */
export interface ReplayResult {
  /** Comparisons made. */
  readonly steps: number;
  /** In words, with the index of the state. */
  readonly mismatches: readonly string[];
  /** How often each known difference was met; those that were not met are absent. */
  readonly known?: Readonly<Partial<Record<KnownDifference, number>>>;
}

const STEPS: Record<string, RoundState['step']> = {
  NoStep: 'unstarted',
  UnstartedStep: 'unstarted',
  ProposeStep: 'propose',
  PrevoteStep: 'prevote',
  PrecommitStep: 'precommit',
  CommitStep: 'commit',
};
const TIMEOUTS = { ProposeTimeout: 'propose', PrevoteTimeout: 'prevote', PrecommitTimeout: 'precommit' } as const;
const NO_BYTES = new Uint8Array(0);
/** The value that the model's validity predicate refuses. */
const INVALID_VALUE = 'invalid';

/** Replays one trace file, whichever level it is of. Throws InvalidTraceError when it has another form. */
export function replayTrace(path: string): ReplayResult {
  const states = readTrace(path);
  if (states.length > 0 && 'bookkeeper' in states[0]) return replayVoteKeeper(states);
  if (states.length > 0 && 'state' in states[0]) return replayStateMachine(states);
  return replaySystem(states);
}

function describe(state: RoundState): string {
  const { height, round, step, locked, valid } = state;
  return `height ${height} round ${round} ${step} locked ${locked?.value}@${locked?.round} valid ${valid?.value}@${valid?.round}`;
}

/** The model's state in this program's form. */
function modelState(cs: ItfRecord): RoundState {
  const optional = (value: ItfValue | undefined, round: ItfValue | undefined) => {
    const { tag, value: inner } = tagged(value);
    return tag === 'Val' ? { value: text(inner) as Hash, round: integer(round) } : undefined;
  };
  return {
    height: integer(cs.height),
    round: integer(cs.round),
    step: STEPS[tagged(cs.step).tag] ?? 'unstarted',
    locked: optional(cs.lockedValue, cs.lockedRound),
    valid: optional(cs.validValue, cs.validRound),
  };
}

/** A rule of the model in this program's form; undefined for inputs that are none. */
function ruleOf(input: ItfValue | undefined): RuleInput | undefined {
  const { tag, value } = tagged(input);
  const named = (item: ItfValue | undefined) => (typeof item === 'string' ? item : text(tagged(item).value)) as Hash;
  switch (tag) {
    case 'NewRoundCInput':
      return { type: 'newRound', round: integer(value), proposer: false };
    case 'NewRoundProposerCInput':
      return { type: 'newRound', round: integer(value), proposer: true };
    case 'ProposeValueCInput':
      return { type: 'proposeValue', value: named(value) };
    case 'ProposalCInput':
      return { type: 'proposal', value: named(list(value)[1]), acceptable: true };
    case 'ProposalInvalidCInput':
      return { type: 'proposal', value: INVALID_VALUE as Hash, acceptable: false };
    case 'ProposalAndPolkaPreviousAndValidCInput': {
      const [proposed, round] = list(value);
      return { type: 'proposalAndPolkaPrevious', value: named(proposed), validRound: integer(round), valid: true };
    }
    case 'ProposalAndPolkaAndValidCInput':
      return { type: 'proposalAndPolkaCurrent', value: named(value) };
    case 'ProposalAndPolkaAndInvalidCInput':
      // The model prevotes nil here in the propose step; in this program that is the rule for an invalid proposal.
      return { type: 'proposal', value: named(value), acceptable: false };
    case 'PolkaAnyCInput':
      return { type: 'polkaAny' };
    case 'PolkaNilCInput':
      return { type: 'polkaNil' };
    case 'PrecommitAnyCInput':
      return { type: 'precommitAny' };
    case 'ProposalAndCommitAndValidCInput': {
      const [round, decided] = list(value);
      return { type: 'proposalAndPrecommitValue', round: integer(round), value: named(decided) };
    }
    case 'RoundSkipCInput':
      return { type: 'skipRound', round: integer(value) };
    case 'TimeoutProposeCInput':
      return { type: 'timeout', kind: 'propose', round: integer(list(value)[1]) };
    case 'TimeoutPrevoteCInput':
      return { type: 'timeout', kind: 'prevote', round: integer(list(value)[1]) };
    case 'TimeoutPrecommitCInput':
      return { type: 'timeout', kind: 'precommit', round: integer(list(value)[1]) };
    default:
      return undefined;
  }
}

function compare(mismatches: string[], where: string, got: RoundState, expected: RoundState): void {
  if (describe(got) !== describe(expected))
    mismatches.push(`${where}: ${describe(got)}, expected ${describe(expected)}`);
}

/** Traces of the state machine alone: `{ state, input, output }`. */
function replayStateMachine(states: readonly ItfRecord[]): ReplayResult {
  const mismatches: string[] = [];
  let state = modelState(record(states[0].state));
  /** A round was left and the next not begun: this program calls that a step, the model keeps the last one. */
  let between = false;
  for (const [index, { state: expected, input }] of states.entries()) {
    // The model writes each transition twice: once with the input applied and once more without a change.
    const rule = index === 0 ? undefined : ruleOf(input);
    if (rule !== undefined) {
      const { state: next, effects } = applyRule(state, rule);
      between = effects.length > 0 ? effects.some(({ type }) => type === 'startRound') : between;
      state = next;
    }
    const model = modelState(record(expected));
    compare(mismatches, `state ${index}`, state, between ? { ...model, step: state.step } : model);
  }
  return { steps: states.length, mismatches };
}

function voteOf(value: ItfValue | undefined): Vote {
  const { height, round, srcAddress, valueId, voteType } = record(value);
  const { tag, value: inner } = tagged(valueId);
  return {
    body: {
      type: VOTE_TYPES.indexOf(tagged(voteType).tag === 'Prevote' ? 'prevote' : 'precommit'),
      height: integer(height),
      round: integer(round),
      blockId: tag === 'Val' ? (text(inner) as Hash) : undefined,
    },
    validator: text(srcAddress) as AccountId,
    signature: new Uint8Array(64),
  };
}

function validatorsOf(value: ItfValue | undefined): ValidatorSet {
  return [...map(value)]
    .map(([account, power]) => ({
      account: text(account) as AccountId,
      sessionKey: text(account) as Hash,
      power: BigInt(integer(power)),
    }))
    .sort((a, b) => (a.account < b.account ? -1 : 1));
}

/** The thresholds that a keeper shows for a round, named as the model's outputs. */
function thresholds(keeper: VoteKeeper, round: number, currentRound: number): Set<string> {
  const values = new Set(
    [
      ...(keeper.rounds.get(round)?.prevote.first.values() ?? []),
      ...(keeper.rounds.get(round)?.precommit.first.values() ?? []),
    ]
      .map(({ body }) => body.blockId)
      .filter((value) => value !== undefined),
  );
  const names = new Set<string>();
  for (const value of values) {
    if (hasQuorum(keeper, round, 'prevote', value)) names.add(`PolkaValueVKOutput ${round} ${value}`);
    if (hasQuorum(keeper, round, 'precommit', value)) names.add(`PrecommitValueVKOutput ${round} ${value}`);
  }
  if (hasQuorum(keeper, round, 'prevote', undefined)) names.add(`PolkaNilVKOutput ${round}`);
  if (hasQuorumAny(keeper, round, 'prevote')) names.add(`PolkaAnyVKOutput ${round}`);
  if (hasQuorumAny(keeper, round, 'precommit')) names.add(`PrecommitAnyVKOutput ${round}`);
  const target = skipTarget(keeper, currentRound);
  if (target !== undefined) names.add(`SkipVKOutput ${target}`);
  return names;
}

/** Traces of the vote keeper: each vote with what the model's keeper emitted for it. */
function replayVoteKeeper(states: readonly ItfRecord[]): ReplayResult {
  const mismatches: string[] = [];
  let keeper = newVoteKeeper(validatorsOf(record(states[0].bookkeeper).validatorSet));
  let last = '';
  for (const [index, { weightedVote, lastEmitted, bookkeeper }] of states.entries()) {
    const { tag, value } = tagged(weightedVote);
    if (tag !== 'WV') continue;
    const [voted, , currentRound] = list(value);
    const vote = voteOf(voted);
    const before = thresholds(keeper, vote.body.round, integer(currentRound));
    keeper = addVote(keeper, vote, integer(currentRound)).keeper;
    const emitted = [...thresholds(keeper, vote.body.round, integer(currentRound))].filter((name) => !before.has(name));
    const output = tagged(lastEmitted);
    const name = [output.tag, ...(Array.isArray(output.value) ? output.value : [output.value])].join(' ').trim();
    const repeated = JSON.stringify([...[weightedVote]]) === last;
    last = JSON.stringify([...[weightedVote]]);
    const agrees = name === 'NoVKOutput' ? emitted.length === 0 : repeated || emitted.includes(name);
    if (!agrees) mismatches.push(`state ${index}: emitted ${emitted.join(', ') || 'nothing'}, expected ${name}`);
    for (const [round, expected] of map(record(bookkeeper).rounds)) {
      for (const type of VOTE_TYPES) {
        const tally = record(record(expected)[`${type}s`]);
        for (const [key, weight] of map(tally.valuesWeights)) {
          const { tag: kind, value: voted } = tagged(key);
          const id = kind === 'Val' ? text(voted) : 'nil';
          const got = keeper.rounds.get(integer(round))?.[type].power.get(id as Hash) ?? 0n;
          if (got !== BigInt(integer(weight)))
            mismatches.push(`state ${index}: ${type} ${id} has ${got}, expected ${weight}`);
        }
      }
    }
  }
  return { steps: states.length, mismatches };
}

/** What this program knows of one node of the model. */
interface ReplayedNode {
  machine: RoundState;
  executed: number;
  driver: DriverState;
  /** The last round that it came to by a skip (L55), and the last in which it was given a prevote of an older one. */
  skippedTo: number;
  oldPrevoteIn: number;
  /** The node in the state before, to tell repeated states of the model from repeated inputs. */
  before: string;
}

function startNode(name: string, es: ItfRecord): ReplayedNode {
  const height = integer(record(es.cs).height);
  const validators = validatorsOf(es.valset);
  return {
    machine: initialRoundState(height),
    executed: 0,
    driver: newHeight(height, validators, startPriorities(validators), name as AccountId),
    skippedTo: NO_ROUND,
    oldPrevoteIn: NO_ROUND,
    before: '',
  };
}

/** Does nothing but make the driver look at what it holds: a vote of no height. */
const LOOK: DriverInput = {
  type: 'vote',
  vote: {
    body: { type: 0, height: -1, round: 0, blockId: undefined },
    validator: '' as AccountId,
    signature: NO_BYTES,
  },
};

/** Takes an input, and notes what may make the model look too late. */
function give(node: ReplayedNode, input: DriverInput): void {
  const { round } = node.driver.machine;
  if (input.type === 'vote' && input.vote.body.type === 0 && input.vote.body.round < round) node.oldPrevoteIn = round;
  node.driver = advance(node.driver, input).state;
}

/**
 * Which known difference is between this program and the model: from the model's state, with what this node was given,
 * the first thing to do is to prevote for the proposal of the round, and that leads to where this program is.
 */
function knownDifference(node: ReplayedNode, expected: RoundState): KnownDifference | undefined {
  const { driver, skippedTo, oldPrevoteIn } = node;
  if (expected.step !== 'propose') return undefined;
  const { state, effects }: Advance = advance({ ...driver, machine: expected }, LOOK);
  const [first] = effects;
  if (first?.type !== 'vote' || first.vote !== 'prevote' || first.round !== expected.round) return undefined;
  if (describe(state.machine) !== describe(driver.machine)) return undefined;
  const isNew = driver.proposals.get(expected.round)?.[0]?.validRound === NO_ROUND;
  if (skippedTo === expected.round) return isNew ? 'L22' : 'L28';
  return !isNew && oldPrevoteIn === expected.round ? 'L28' : undefined;
}

function driverInput(input: ItfValue | undefined, node: ReplayedNode): DriverInput | undefined {
  const { tag, value } = tagged(input);
  const { round } = node.driver.machine;
  switch (tag) {
    case 'StartDInput':
      return { type: 'start' };
    case 'ProposeValueDInput':
      return { type: 'value', round, value: text(value) as Hash };
    case 'ProposalDInput': {
      const { proposal, round: proposed, validRound } = record(value);
      const valid = text(proposal) !== INVALID_VALUE;
      return {
        type: 'proposal',
        proposal: {
          round: integer(proposed),
          value: text(proposal) as Hash,
          validRound: integer(validRound),
          valid,
          timely: true,
        },
      };
    }
    case 'VoteDInput':
      return { type: 'vote', vote: voteOf(value) };
    case 'TimeoutDInput':
      return { type: 'timeout', kind: TIMEOUTS[tagged(value).tag as keyof typeof TIMEOUTS], round };
    default:
      return undefined;
  }
}

/** Votes that the model's keeper holds; when a node starts late, it takes all that waited for it at once. */
function votesHeld(es: ItfRecord): Vote[] {
  return [...map(record(es.bk).rounds).values()].flatMap((round) =>
    VOTE_TYPES.flatMap((type) => list(record(record(round)[`${type}s`]).receivedVotes).map(voteOf)),
  );
}

function fingerprint(value: ItfValue): string {
  return JSON.stringify(value, (_, item: unknown) => (item instanceof Map ? [...item] : item));
}

/** Traces of whole systems: each state has all nodes, and what one of them was just given. */
function replaySystem(states: readonly ItfRecord[]): ReplayResult {
  const mismatches: string[] = [];
  const known: Partial<Record<KnownDifference, number>> = {};
  let steps = 0;
  const nodes = new Map<string, ReplayedNode>();
  for (const [index, state] of states.entries()) {
    for (const [variable, value] of Object.entries(state)) {
      if (variable !== 'system' && !variable.endsWith('::system')) continue;
      const prefix = variable.slice(0, -'system'.length);
      const history = state[`${prefix}_hist`];
      const [actor, input] = Array.isArray(history) ? history : [record(history).validator, record(history).input];
      for (const [name, nodeState] of map(value)) {
        const es = record(record(nodeState).es);
        const cs = record(es.cs);
        const expected = modelState(cs);
        const executed = list(es.executedInputs);
        const key = `${prefix}${text(name)}`;
        let node = nodes.get(key);
        if (node === undefined || node.machine.height !== expected.height || executed.length < node.executed)
          node = startNode(text(name), es);
        nodes.set(key, node);

        for (const entry of executed.slice(node.executed)) {
          const rule = ruleOf(list(entry)[0]);
          if (rule === undefined) mismatches.push(`state ${index}: unknown rule ${JSON.stringify(entry)}`);
          else node.machine = applyRule(node.machine, rule).state;
          if (rule?.type === 'skipRound') node.skippedTo = rule.round;
        }
        node.executed = executed.length;
        compare(mismatches, `state ${index} ${key} rules`, node.machine, expected);
        steps += 1;

        const now = fingerprint(es);
        const repeated = now === node.before;
        node.before = now;
        const given = actor === name && !repeated ? driverInput(input, node) : undefined;
        if (given !== undefined) give(node, given);
        // Those that came as inputs are counted already and change nothing.
        if (!repeated) for (const vote of votesHeld(es)) give(node, { type: 'vote', vote });
        const quiet = list(es.pendingInputs).length === 0 && tagged(es.pendingStepChange).tag === 'NoStep';
        if (quiet) {
          const difference = knownDifference(node, expected);
          if (difference !== undefined) {
            known[difference] = (known[difference] ?? 0) + 1;
            node.driver = { ...node.driver, machine: expected };
          }
          compare(mismatches, `state ${index} ${key} driver`, node.driver.machine, expected);
          steps += 1;
        }
      }
    }
  }
  return { steps, mismatches, known };
}
