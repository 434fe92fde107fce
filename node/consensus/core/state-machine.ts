/**
 * The Tendermint state machine of one height (arXiv 1807.04938, Algorithm 1): what a node does when the preconditions of
 * one rule of the paper hold. It does not know votes or validators: the driver finds out which rule holds and names it
 * here. Pure: `(state, input) -> (state, effects)`. L-numbers in comments are lines of the paper.
 */
import type { VoteType } from '../../chain/block.ts';
import type { Hash } from '../../chain/hash.ts';

/** The paper's -1: no round, no valid round. */
export const NO_ROUND = -1;

/** `unstarted`: between two rounds, or before the first. `commit`: decided; nothing changes any more. */
export type Step = 'unstarted' | 'propose' | 'prevote' | 'precommit' | 'commit';

/** The three timeouts of a round. */
export type TimeoutKind = 'propose' | 'prevote' | 'precommit';

/** A value and the round in which it was locked, or became valid. */
export interface RoundValue {
  readonly value: Hash;
  readonly round: number;
}

/** The variables of the paper for one height. Values are block ids. */
export interface RoundState {
  readonly height: number;
  /** {@link NO_ROUND} before the first round. */
  readonly round: number;
  readonly step: Step;
  /** lockedValue and lockedRound. */
  readonly locked: RoundValue | undefined;
  /** validValue and validRound. */
  readonly valid: RoundValue | undefined;
}

/** Which rule of the paper holds. Rules without a round of their own speak of the current round. */
export type RuleInput =
  /** L11: enter a round; `proposer`: it is this node's turn. */
  | { readonly type: 'newRound'; readonly round: number; readonly proposer: boolean }
  /** L18: the value that `getValue` asked for. */
  | { readonly type: 'proposeValue'; readonly value: Hash }
  /** L22: a proposal without valid round. `acceptable`: valid, and its time is acceptable. */
  | { readonly type: 'proposal'; readonly value: Hash; readonly acceptable: boolean }
  /** L28: a proposal with a valid round below the current one, and a quorum of prevotes for it in that round. */
  | {
      readonly type: 'proposalAndPolkaPrevious';
      readonly value: Hash;
      readonly validRound: number;
      readonly valid: boolean;
    }
  /** L34: a quorum of prevotes, whatever they are for. */
  | { readonly type: 'polkaAny' }
  /** L36: a valid proposal and a quorum of prevotes for it. */
  | { readonly type: 'proposalAndPolkaCurrent'; readonly value: Hash }
  /** L44: a quorum of prevotes for nil. */
  | { readonly type: 'polkaNil' }
  /** L47: a quorum of precommits, whatever they are for. */
  | { readonly type: 'precommitAny' }
  /** L49: a valid proposal of any round and a quorum of precommits for it in that round. */
  | { readonly type: 'proposalAndPrecommitValue'; readonly round: number; readonly value: Hash }
  /** L55: more than a third of the power votes in a higher round. */
  | { readonly type: 'skipRound'; readonly round: number }
  /** L57, L61, L65. */
  | { readonly type: 'timeout'; readonly kind: TimeoutKind; readonly round: number };

/** What the node has to do. */
export type RuleEffect =
  /** L18: find a value to propose and answer with `proposeValue`. */
  | { readonly type: 'getValue'; readonly round: number }
  /** L19: sign and send a proposal. */
  | { readonly type: 'propose'; readonly round: number; readonly value: Hash; readonly validRound: number }
  /** Sign and send a vote; `value` undefined is nil. */
  | { readonly type: 'vote'; readonly vote: VoteType; readonly round: number; readonly value: Hash | undefined }
  | { readonly type: 'scheduleTimeout'; readonly kind: TimeoutKind; readonly round: number }
  /** The driver answers with `newRound`. */
  | { readonly type: 'startRound'; readonly round: number }
  /** L51: the height is over. */
  | { readonly type: 'decide'; readonly round: number; readonly value: Hash };

/** A new state and what follows from it. */
export interface Transition {
  readonly state: RoundState;
  readonly effects: readonly RuleEffect[];
}

/** The state in which a height begins (L1-L9, and L53 after a decision). */
export function initialRoundState(height: number): RoundState {
  return { height, round: NO_ROUND, step: 'unstarted', locked: undefined, valid: undefined };
}

function unchanged(state: RoundState): Transition {
  return { state, effects: [] };
}

function prevote(state: RoundState, value: Hash | undefined): Transition {
  return {
    state: { ...state, step: 'prevote' },
    effects: [{ type: 'vote', vote: 'prevote', round: state.round, value }],
  };
}

function precommitNil(state: RoundState): Transition {
  return {
    state: { ...state, step: 'precommit' },
    effects: [{ type: 'vote', vote: 'precommit', round: state.round, value: undefined }],
  };
}

/** L11-L21. A proposer arms the timeout as well, so that a value that never comes does not hold it up. */
function startRound(state: RoundState, round: number, proposer: boolean): Transition {
  const next: RoundState = { ...state, round, step: 'propose' }; // L12-L13
  const timeout: RuleEffect = { type: 'scheduleTimeout', kind: 'propose', round }; // L21
  if (!proposer) return { state: next, effects: [timeout] };
  if (state.valid === undefined) return { state: next, effects: [timeout, { type: 'getValue', round }] }; // L18
  const { value, round: validRound } = state.valid;
  return { state: next, effects: [timeout, { type: 'propose', round, value, validRound }] }; // L16, L19
}

/** Applies one rule. An input whose rule does not fit the state changes nothing. */
export function applyRule(state: RoundState, input: RuleInput): Transition {
  if (state.step === 'commit') return unchanged(state);
  switch (input.type) {
    case 'newRound':
      return input.round > state.round ? startRound(state, input.round, input.proposer) : unchanged(state);

    case 'proposeValue':
      if (state.step !== 'propose') return unchanged(state);
      return {
        state,
        effects: [{ type: 'propose', round: state.round, value: input.value, validRound: NO_ROUND }], // L19
      };

    case 'proposal': {
      if (state.step !== 'propose') return unchanged(state); // L22
      const free = state.locked === undefined || state.locked.value === input.value; // L23
      return prevote(state, input.acceptable && free ? input.value : undefined); // L24-L27
    }

    case 'proposalAndPolkaPrevious': {
      const inOrder = input.validRound >= 0 && input.validRound < state.round;
      if (state.step !== 'propose' || !inOrder) return unchanged(state); // L28
      const free =
        state.locked === undefined || state.locked.round <= input.validRound || state.locked.value === input.value; // L29
      return prevote(state, input.valid && free ? input.value : undefined); // L30-L33
    }

    case 'polkaAny':
      if (state.step !== 'prevote') return unchanged(state); // L34
      return { state, effects: [{ type: 'scheduleTimeout', kind: 'prevote', round: state.round }] }; // L35

    case 'proposalAndPolkaCurrent': {
      const here: RoundValue = { value: input.value, round: state.round };
      if (state.step === 'prevote') {
        return {
          state: { ...state, step: 'precommit', locked: here, valid: here }, // L38-L39, L41-L43
          effects: [{ type: 'vote', vote: 'precommit', round: state.round, value: input.value }], // L40
        };
      }
      if (state.step === 'precommit') return unchanged({ ...state, valid: here }); // L42-L43
      return unchanged(state); // L36: step >= prevote
    }

    case 'polkaNil':
      return state.step === 'prevote' ? precommitNil(state) : unchanged(state); // L44-L46

    case 'precommitAny':
      if (state.step === 'unstarted') return unchanged(state);
      return { state, effects: [{ type: 'scheduleTimeout', kind: 'precommit', round: state.round }] }; // L47-L48

    case 'proposalAndPrecommitValue':
      return {
        state: { ...state, step: 'commit' },
        effects: [{ type: 'decide', round: input.round, value: input.value }], // L49-L54
      };

    case 'skipRound':
      if (input.round <= state.round) return unchanged(state); // L55
      return { state: { ...state, step: 'unstarted' }, effects: [{ type: 'startRound', round: input.round }] }; // L56

    case 'timeout':
      if (input.round !== state.round || state.step === 'unstarted') return unchanged(state);
      if (input.kind === 'propose') return state.step === 'propose' ? prevote(state, undefined) : unchanged(state); // L57-L60
      if (input.kind === 'prevote') return state.step === 'prevote' ? precommitNil(state) : unchanged(state); // L61-L64
      return { state: { ...state, step: 'unstarted' }, effects: [{ type: 'startRound', round: state.round + 1 }] }; // L65-L67
  }
}
