/**
 * The driver of one height: keeps proposals and votes, finds out which rules of the paper hold, and applies them in one
 * fixed order until none does. Pure: `advance(state, input) -> (state, effects)`; no clock, no I/O, no randomness.
 */
import type { AccountId } from '../../chain/account.ts';
import type { Vote } from '../../chain/block.ts';
import type { Hash } from '../../chain/hash.ts';
import type { ValidatorSet } from '../../chain/validator-set.ts';
import { type ProposerPriorities, proposerOfRound } from './proposer.ts';
import {
  applyRule,
  initialRoundState,
  NO_ROUND,
  type RoundState,
  type RuleEffect,
  type RuleInput,
  type TimeoutKind,
} from './state-machine.ts';
import {
  addVote,
  hasQuorum,
  hasQuorumAny,
  hasSupport,
  newVoteKeeper,
  precommitsFor,
  pruneRounds,
  skipTarget,
  type VoteKeeper,
} from './vote-keeper.ts';

/** Proposals are kept for at most this many rounds above the current one. */
export const MAX_FUTURE_PROPOSAL_ROUNDS = 4;

/** Rounds below the current one whose proposals are kept; that of the valid value always is. Blocks are large. */
export const MAX_PAST_PROPOSAL_ROUNDS = 16;

/** A proposal as the core sees it: authentic, by the proposer of its round, with a verdict on its value. */
export interface ProposalInput {
  readonly round: number;
  readonly value: Hash;
  readonly validRound: number;
  /** The application accepts the block. The same for all honest nodes. */
  readonly valid: boolean;
  /** The block's time was acceptable to this node's clock when it came. Nodes may differ; matters for new blocks only. */
  readonly timely: boolean;
}

/** All that can happen to a node within a height. */
export type DriverInput =
  /** Begin with round 0. Nothing once a round has started. */
  | { readonly type: 'start' }
  /** The answer to the effect `getValue`. */
  | { readonly type: 'value'; readonly round: number; readonly value: Hash }
  | { readonly type: 'proposal'; readonly proposal: ProposalInput }
  /** A vote of this height with a checked signature, of this node or of another. */
  | { readonly type: 'vote'; readonly vote: Vote }
  | { readonly type: 'timeout'; readonly kind: TimeoutKind; readonly round: number };

/** What the host has to do. Votes and proposals come back as inputs once they are signed and safe on disk. */
export type DriverEffect =
  | Exclude<RuleEffect, { type: 'startRound' } | { type: 'decide' }>
  | { readonly type: 'roundStarted'; readonly round: number; readonly proposer: AccountId }
  /** The height is decided; `precommits` prove it. */
  | { readonly type: 'decide'; readonly round: number; readonly value: Hash; readonly precommits: readonly Vote[] }
  /** One validator signed two different votes of one type in one round. Emitted once for each such case. */
  | { readonly type: 'evidence'; readonly first: Vote; readonly second: Vote };

/** Everything a node knows within a height. */
export interface DriverState {
  /** This node, if it is to vote and propose; effects of other nodes' turns are not emitted. */
  readonly self: AccountId | undefined;
  readonly proposers: ProposerPriorities;
  readonly machine: RoundState;
  readonly votes: VoteKeeper;
  /** By round; the first proposal of a round leads, others are there because a third of the power voted for them. */
  readonly proposals: ReadonlyMap<number, readonly ProposalInput[]>;
  /** L34 and L47 arm their timeouts once in a round. */
  readonly prevoteTimeoutArmed: boolean;
  readonly precommitTimeoutArmed: boolean;
}

/** A new state and what follows. */
export interface Advance {
  readonly state: DriverState;
  readonly effects: readonly DriverEffect[];
}

/** A height that has not started. `proposers`: priorities at its first round. */
export function newHeight(
  height: number,
  validators: ValidatorSet,
  proposers: ProposerPriorities,
  self: AccountId | undefined,
): DriverState {
  return {
    self: validators.some(({ account }) => account === self) ? self : undefined,
    proposers,
    machine: initialRoundState(height),
    votes: newVoteKeeper(validators),
    proposals: new Map(),
    prevoteTimeoutArmed: false,
    precommitTimeoutArmed: false,
  };
}

/** True when a proposal for the round would be kept: worth the check of a signature and of its block. */
export function isProposalWanted(state: DriverState, round: number, value: Hash): boolean {
  if (round < 0 || state.machine.step === 'commit') return false;
  if (round > Math.max(state.machine.round, 0) + MAX_FUTURE_PROPOSAL_ROUNDS) return false;
  if (round < state.machine.round - MAX_PAST_PROPOSAL_ROUNDS) return false;
  const known = state.proposals.get(round);
  if (known === undefined) return true;
  // A value names each byte of its block: the same again would have the same verdict.
  return known.every((proposal) => proposal.value !== value) && hasSupport(state.votes, round, value);
}

/** A second proposal of a round is kept only where the votes show that others have seen it. */
function withProposal(state: DriverState, proposal: ProposalInput): DriverState {
  const { round, value, validRound } = proposal;
  if (validRound >= round || validRound < NO_ROUND || !isProposalWanted(state, round, value)) return state;
  const known = state.proposals.get(round) ?? [];
  return { ...state, proposals: new Map(state.proposals).set(round, [...known, proposal]) };
}

/** The first rule that holds, in the order of this function, or undefined. */
function nextRule(state: DriverState): RuleInput | undefined {
  const { machine, votes } = state;
  if (machine.step === 'commit') return undefined;
  const { round } = machine;

  // L49: a decision of any round comes before everything else.
  for (const [proposalRound, proposals] of state.proposals) {
    for (const { value, valid } of proposals) {
      if (valid && hasQuorum(votes, proposalRound, 'precommit', value))
        return { type: 'proposalAndPrecommitValue', round: proposalRound, value };
    }
  }

  // L55. Before the first round this node is in round 0 like everybody (L2); beginning it is up to the host.
  const target = skipTarget(votes, Math.max(round, 0));
  if (target !== undefined) return { type: 'skipRound', round: target };
  if (machine.step === 'unstarted') return undefined;

  const proposals = state.proposals.get(round) ?? [];
  if (machine.step === 'propose') {
    const [proposal] = proposals;
    if (proposal?.validRound === NO_ROUND)
      return { type: 'proposal', value: proposal.value, acceptable: proposal.valid && proposal.timely }; // L22
    for (const { value, validRound, valid } of proposals) {
      if (validRound >= 0 && hasQuorum(votes, validRound, 'prevote', value))
        return { type: 'proposalAndPolkaPrevious', value, validRound, valid }; // L28
    }
  }

  if ((machine.step === 'prevote' || machine.step === 'precommit') && machine.valid?.round !== round) {
    for (const { value, valid } of proposals) {
      if (valid && hasQuorum(votes, round, 'prevote', value)) return { type: 'proposalAndPolkaCurrent', value }; // L36
    }
  }
  if (machine.step === 'prevote') {
    if (hasQuorum(votes, round, 'prevote', undefined)) return { type: 'polkaNil' }; // L44
    if (!state.prevoteTimeoutArmed && hasQuorumAny(votes, round, 'prevote')) return { type: 'polkaAny' }; // L34
  }
  if (!state.precommitTimeoutArmed && hasQuorumAny(votes, round, 'precommit')) return { type: 'precommitAny' }; // L47
  return undefined;
}

/** Forgets proposals that lie too far back, except of the values that the node may have to propose or decide. */
function recentProposals(state: DriverState, round: number): DriverState['proposals'] {
  const kept = [state.machine.valid?.value, state.machine.locked?.value];
  return new Map(
    [...state.proposals].filter(
      ([other, proposals]) =>
        other >= round - MAX_PAST_PROPOSAL_ROUNDS || proposals.some(({ value }) => kept.includes(value)),
    ),
  );
}

/** Applies one rule and whatever it starts. */
function apply(state: DriverState, input: RuleInput, effects: DriverEffect[]): DriverState {
  const transition = applyRule(state.machine, input);
  let next: DriverState = { ...state, machine: transition.state };
  if (input.type === 'polkaAny') next = { ...next, prevoteTimeoutArmed: true };
  if (input.type === 'precommitAny') next = { ...next, precommitTimeoutArmed: true };
  for (const effect of transition.effects) {
    if (effect.type === 'startRound') {
      const proposer = proposerOfRound(state.proposers, effect.round);
      effects.push({ type: 'roundStarted', round: effect.round, proposer });
      next = {
        ...next,
        votes: pruneRounds(next.votes, effect.round),
        proposals: recentProposals(next, effect.round),
        prevoteTimeoutArmed: false,
        precommitTimeoutArmed: false,
      };
      next = apply(next, { type: 'newRound', round: effect.round, proposer: proposer === state.self }, effects);
    } else if (effect.type === 'decide') {
      effects.push({ ...effect, precommits: precommitsFor(state.votes, effect.round, effect.value) });
    } else if (effect.type !== 'vote' || state.self !== undefined) {
      effects.push(effect); // those who do not vote have nothing to say
    }
  }
  return next;
}

/** Takes one input and everything that follows from it. Inputs that do not fit change nothing. */
export function advance(state: DriverState, input: DriverInput): Advance {
  const effects: DriverEffect[] = [];
  let next = state;
  switch (input.type) {
    case 'start':
      if (next.machine.round === NO_ROUND) next = apply(next, { type: 'skipRound', round: 0 }, effects);
      break;
    case 'value':
      if (input.round === next.machine.round) next = apply(next, { type: 'proposeValue', value: input.value }, effects);
      break;
    case 'proposal':
      next = withProposal(next, input.proposal);
      break;
    case 'vote': {
      if (input.vote.body.height !== next.machine.height) break;
      const result = addVote(next.votes, input.vote, next.machine.round);
      next = { ...next, votes: result.keeper };
      if (result.conflict !== undefined) effects.push({ type: 'evidence', ...result.conflict });
      break;
    }
    case 'timeout':
      next = apply(next, { type: 'timeout', kind: input.kind, round: input.round }, effects);
      break;
  }
  for (let rule = nextRule(next); rule !== undefined; rule = nextRule(next)) next = apply(next, rule, effects);
  return { state: next, effects };
}
