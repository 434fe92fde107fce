/**
 * Whose turn it is: weighted round robin. Each turn every validator's priority grows by its power, the highest proposes
 * and pays the total power; so over time everyone proposes in proportion to power, evenly spread. Pure.
 *
 * Who joins starts at -1.125 of the total power, so that leaving and joining again never gives an earlier turn
 * (CometBFT's rule and constant). Priorities are a function of the validator sets since the last anchor height, where
 * all start at zero: a node that restarts, or joins from a snapshot, computes them from what is in the chain.
 */
import type { AccountId } from '../../chain/account.ts';
import { totalPower, type ValidatorSet } from '../../chain/validator-set.ts';

/** Heights between two anchors. Long against a turn of the wheel, short enough to recompute at start-up. */
export const PROPOSER_ANCHOR_INTERVAL = 256;

/** Priorities may differ by at most this many times the total power; larger gaps are scaled down (CometBFT: 2). */
const PRIORITY_WINDOW = 2n;

/** Priorities of a validator set, ready for the first round of a height. */
export interface ProposerPriorities {
  readonly validators: ValidatorSet;
  /** In the order of `validators`. */
  readonly priorities: readonly bigint[];
}

/** Height at which the computation for `height` begins. */
export function proposerAnchor(height: number): number {
  return height - (height % PROPOSER_ANCHOR_INTERVAL);
}

/** Division that rounds towards negative infinity, so that shifts are the same for both signs. */
function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? quotient - 1n : quotient;
}

function centered(priorities: readonly bigint[]): bigint[] {
  const average = floorDivide(
    priorities.reduce((sum, priority) => sum + priority, 0n),
    BigInt(priorities.length),
  );
  return priorities.map((priority) => priority - average);
}

/** All equal: where the wheel stands at an anchor. */
export function startPriorities(validators: ValidatorSet): ProposerPriorities {
  return { validators, priorities: validators.map(() => 0n) };
}

/** Index of the one with the highest priority; the lowest account wins a tie. */
function leader(priorities: readonly bigint[]): number {
  let best = 0;
  for (let index = 1; index < priorities.length; index++) if (priorities[index] > priorities[best]) best = index;
  return best;
}

/** Gives everyone its power, lets the leader pay. Returns who led and what remains. */
function turn(state: ProposerPriorities): { proposer: AccountId; next: ProposerPriorities } {
  const raised = state.priorities.map((priority, index) => priority + state.validators[index].power);
  const index = leader(raised);
  raised[index] -= totalPower(state.validators);
  return { proposer: state.validators[index].account, next: { ...state, priorities: raised } };
}

/** Proposers of the rounds of a height, from round 0 on, without an end. */
export function* proposersFrom(start: ProposerPriorities): Generator<AccountId, never> {
  let { proposer, next } = turn(start);
  for (;;) {
    yield proposer;
    ({ proposer, next } = turn(next));
  }
}

/** The proposer of a round, from the priorities of its height. Takes time in proportion to `round`: bound it first. */
export function proposerOfRound(start: ProposerPriorities, round: number): AccountId {
  const proposers = proposersFrom(start);
  for (let turns = 0; turns < round; turns++) proposers.next();
  return proposers.next().value;
}

/** Priorities of the next height, whose validators may be others. */
export function nextPriorities(state: ProposerPriorities, validators: ValidatorSet): ProposerPriorities {
  const after = turn(state).next;
  const known = new Map(after.validators.map(({ account }, index) => [account, after.priorities[index]]));
  const total = totalPower(validators);
  const joinerPriority = -(total + (total >> 3n));
  let priorities = validators.map(({ account }) => known.get(account) ?? joinerPriority);
  const spread = priorities.reduce((a, b) => (a > b ? a : b)) - priorities.reduce((a, b) => (a < b ? a : b));
  const window = PRIORITY_WINDOW * total;
  if (spread > window) {
    const ratio = (spread + window - 1n) / window;
    priorities = priorities.map((priority) => priority / ratio);
  }
  return { validators, priorities: centered(priorities) };
}
