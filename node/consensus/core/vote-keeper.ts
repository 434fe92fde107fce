/**
 * Counts the votes of one height by round, type and value, in integers, and notices who votes twice. Pure: `addVote`
 * returns a new keeper. Signatures, heights and membership are checked before a vote comes here.
 */
import type { AccountId } from '../../chain/account.ts';
import { VOTE_TYPES, type Vote, type VoteType } from '../../chain/block.ts';
import type { Hash } from '../../chain/hash.ts';
import { isQuorum, totalPower, type ValidatorSet } from '../../chain/validator-set.ts';

/**
 * Rounds above the current one whose votes are kept for each validator. An honest validator that is ahead needs one or
 * two; a byzantine one can fill no more than its own.
 */
export const MAX_FUTURE_ROUNDS_PER_VALIDATOR = 4;

/**
 * Future rounds of one validator that may take the place of its earlier ones while this node stays in a round. An honest
 * one needs a few when this node hears of a round late; one that counts upwards for ever would make each number of 32
 * bits cost a signature check, a record in the log, and a message to every peer.
 */
export const MAX_REPLACED_ROUNDS = 32;

/** Rounds below the current one that are kept: for a polka of an older valid round (L28), late decisions (L49). */
export const MAX_PAST_ROUNDS = 256;

/** Votes of one type in one round. */
interface Tally {
  /** First vote of each validator. */
  readonly first: ReadonlyMap<AccountId, Vote>;
  /** Further, conflicting votes that are counted for their own value as well: see {@link addVote}. */
  readonly further: readonly Vote[];
  /** Validators that are known to have voted twice. */
  readonly equivocators: ReadonlySet<AccountId>;
  /** Power for each value; the key of nil is {@link NIL}. */
  readonly power: ReadonlyMap<Hash | typeof NIL, bigint>;
  /** Power of all who voted. */
  readonly voted: bigint;
}

interface RoundVotes {
  readonly prevote: Tally;
  readonly precommit: Tally;
  /** Power of all who sent either. */
  readonly present: bigint;
}

/** Votes of one height. */
export interface VoteKeeper {
  readonly powers: ReadonlyMap<AccountId, bigint>;
  readonly total: bigint;
  readonly rounds: ReadonlyMap<number, RoundVotes>;
  /** Who spoke of rounds above the current one. */
  readonly ahead: ReadonlyMap<AccountId, Ahead>;
}

/** What one validator said of rounds above the current one. */
interface Ahead {
  /** Its highest ones, ascending; some may have come to be current or past since. */
  readonly rounds: readonly number[];
  /** Rounds that gave way to higher ones since this node's round began. */
  readonly replaced: number;
}

/** Key of nil in tallies. */
const NIL = 'nil';

const EMPTY_TALLY: Tally = {
  first: new Map(),
  further: [],
  equivocators: new Set(),
  power: new Map(),
  voted: 0n,
};
const EMPTY_ROUND: RoundVotes = { prevote: EMPTY_TALLY, precommit: EMPTY_TALLY, present: 0n };

/** What became of a vote. `conflict` is set once for each validator, round and type. */
export interface VoteResult {
  readonly keeper: VoteKeeper;
  readonly counted: boolean;
  readonly conflict: { readonly first: Vote; readonly second: Vote } | undefined;
}

/** A keeper without votes. */
export function newVoteKeeper(validators: ValidatorSet): VoteKeeper {
  return {
    powers: new Map(validators.map(({ account, power }) => [account, power])),
    total: totalPower(validators),
    rounds: new Map(),
    ahead: new Map(),
  };
}

/** True when `power` is strictly more than one third of `total`, in integers: at least one honest validator is in it. */
export function isHonestShare(power: bigint, total: bigint): boolean {
  return power * 3n > total;
}

function tallyOf(keeper: VoteKeeper, round: number, type: VoteType): Tally {
  return keeper.rounds.get(round)?.[type] ?? EMPTY_TALLY;
}

function typeOf(vote: Vote): VoteType | undefined {
  return VOTE_TYPES[vote.body.type];
}

function holds(tally: Tally, vote: Vote): boolean {
  const known = tally.first.get(vote.validator);
  if (known === undefined) return false;
  if (known.body.blockId === vote.body.blockId) return true;
  return tally.further.some((other) => other.validator === vote.validator && other.body.blockId === vote.body.blockId);
}

/**
 * A second, different vote of one validator is evidence, and only the first counts, with one exception: where more than
 * a third of the power already votes for the second value, it counts there too. Otherwise an equivocator could show its
 * two faces to two halves, and one half would never see the quorum on which the other has locked. Counting it twice is
 * safe: two quorums still share an honest validator, who votes once. It is bounded: fewer than four values can have more
 * than a third each, equivocators included.
 */
function countsAsFurther(keeper: VoteKeeper, tally: Tally, vote: Vote): boolean {
  return isHonestShare(tally.power.get(vote.body.blockId ?? NIL) ?? 0n, keeper.total);
}

const NOT_AHEAD: Ahead = { rounds: [], replaced: 0 };

/** What a validator said of rounds above the current one: a few numbers, however many rounds there are. */
function aheadOf(keeper: VoteKeeper, validator: AccountId, currentRound: number): Ahead {
  const { rounds, replaced } = keeper.ahead.get(validator) ?? NOT_AHEAD;
  return { rounds: rounds.filter((round) => round > currentRound), replaced };
}

/** The first vote of the same validator, round and type, when it is for something else. */
export function contradicted(keeper: VoteKeeper, vote: Vote): Vote | undefined {
  const type = typeOf(vote);
  const first = type && tallyOf(keeper, vote.body.round, type).first.get(vote.validator);
  return first?.body.blockId === vote.body.blockId ? undefined : first;
}

/** True when the keeper would do something with the vote: worth the check of a signature. */
export function isWanted(keeper: VoteKeeper, vote: Vote, currentRound: number): boolean {
  const type = typeOf(vote);
  if (type === undefined || !keeper.powers.has(vote.validator)) return false;
  const { round } = vote.body;
  if (round < currentRound - MAX_PAST_ROUNDS) return false;
  const tally = tallyOf(keeper, round, type);
  if (holds(tally, vote)) return false;
  if (tally.first.has(vote.validator))
    return !tally.equivocators.has(vote.validator) || countsAsFurther(keeper, tally, vote);
  if (round <= currentRound) return true;
  const { rounds, replaced } = aheadOf(keeper, vote.validator, currentRound);
  if (rounds.includes(round) || rounds.length < MAX_FUTURE_ROUNDS_PER_VALIDATOR) return true;
  return round > rounds[0] && replaced < MAX_REPLACED_ROUNDS;
}

function withRound(keeper: VoteKeeper, round: number, votes: RoundVotes): VoteKeeper {
  return { ...keeper, rounds: new Map(keeper.rounds).set(round, votes) };
}

function addToTally(tally: Tally, vote: Vote, power: bigint, first: boolean): Tally {
  const key = vote.body.blockId ?? NIL;
  return {
    ...tally,
    first: first ? new Map(tally.first).set(vote.validator, vote) : tally.first,
    further: first ? tally.further : [...tally.further, vote],
    power: new Map(tally.power).set(key, (tally.power.get(key) ?? 0n) + power),
    voted: first ? tally.voted + power : tally.voted,
  };
}

/** Takes the votes of one validator out of a round that it will not be remembered for. */
function withoutValidator(keeper: VoteKeeper, round: number, validator: AccountId): VoteKeeper {
  let rebuilt: VoteKeeper = { ...keeper, rounds: new Map([...keeper.rounds].filter(([other]) => other !== round)) };
  for (const vote of votesOf(keeper, round)) {
    if (vote.validator !== validator) rebuilt = countVote(rebuilt, vote).keeper;
  }
  return rebuilt;
}

function countVote(keeper: VoteKeeper, vote: Vote): VoteResult {
  const type = typeOf(vote);
  const power = keeper.powers.get(vote.validator);
  if (type === undefined || power === undefined) return { keeper, counted: false, conflict: undefined };
  const votes = keeper.rounds.get(vote.body.round) ?? EMPTY_ROUND;
  const tally = votes[type];
  if (holds(tally, vote)) return { keeper, counted: false, conflict: undefined };
  const known = tally.first.get(vote.validator);
  if (known === undefined) {
    const seen = votes.prevote.first.has(vote.validator) || votes.precommit.first.has(vote.validator);
    const next = {
      ...votes,
      [type]: addToTally(tally, vote, power, true),
      present: seen ? votes.present : votes.present + power,
    };
    return { keeper: withRound(keeper, vote.body.round, next), counted: true, conflict: undefined };
  }
  const conflict = tally.equivocators.has(vote.validator) ? undefined : { first: known, second: vote };
  const counted = countsAsFurther(keeper, tally, vote);
  if (!counted && conflict === undefined) return { keeper, counted, conflict };
  const next = counted ? addToTally(tally, vote, power, false) : tally;
  const marked = { ...next, equivocators: new Set(next.equivocators).add(vote.validator) };
  return { keeper: withRound(keeper, vote.body.round, { ...votes, [type]: marked }), counted, conflict };
}

/**
 * Counts a vote. Votes of unknown validators, duplicates, and rounds out of bounds change nothing. A validator that is
 * ahead by more than {@link MAX_FUTURE_ROUNDS_PER_VALIDATOR} rounds is remembered for its highest ones, until it has
 * replaced {@link MAX_REPLACED_ROUNDS}.
 */
export function addVote(keeper: VoteKeeper, vote: Vote, currentRound: number): VoteResult {
  if (!isWanted(keeper, vote, currentRound)) return { keeper, counted: false, conflict: undefined };
  const { validator, body } = vote;
  const { rounds, replaced } = aheadOf(keeper, validator, currentRound);
  if (body.round <= currentRound || rounds.includes(body.round)) return countVote(keeper, vote);
  const full = rounds.length >= MAX_FUTURE_ROUNDS_PER_VALIDATOR;
  const base = full ? withoutValidator(keeper, rounds[0], validator) : keeper;
  const highest = [...rounds.slice(full ? 1 : 0), body.round].sort((a, b) => a - b);
  const ahead = new Map(keeper.ahead).set(validator, { rounds: highest, replaced: replaced + (full ? 1 : 0) });
  return countVote({ ...base, ahead }, vote);
}

/** Forgets rounds that lie too far back. Call when a round starts: validators may be ahead of it anew. */
export function pruneRounds(keeper: VoteKeeper, currentRound: number): VoteKeeper {
  const oldest = currentRound - MAX_PAST_ROUNDS;
  const ahead = new Map<AccountId, Ahead>();
  for (const [validator, { rounds }] of keeper.ahead) {
    const still = rounds.filter((round) => round > currentRound);
    if (still.length > 0) ahead.set(validator, { rounds: still, replaced: 0 });
  }
  return { ...keeper, ahead, rounds: new Map([...keeper.rounds].filter(([round]) => round >= oldest)) };
}

/** True when more than two thirds of the power cast this type of vote for the value (undefined: nil) in the round. */
export function hasQuorum(keeper: VoteKeeper, round: number, type: VoteType, value: Hash | undefined): boolean {
  return isQuorum(tallyOf(keeper, round, type).power.get(value ?? NIL) ?? 0n, keeper.total);
}

/** True when more than two thirds of the power cast this type of vote in the round, for whatever. */
export function hasQuorumAny(keeper: VoteKeeper, round: number, type: VoteType): boolean {
  return isQuorum(tallyOf(keeper, round, type).voted, keeper.total);
}

/** True when more than a third of the power cast either type of vote for the value in the round. */
export function hasSupport(keeper: VoteKeeper, round: number, value: Hash): boolean {
  return VOTE_TYPES.some((type) => isHonestShare(tallyOf(keeper, round, type).power.get(value) ?? 0n, keeper.total));
}

/** Highest round above `round` in which more than a third of the power voted (L55). */
export function skipTarget(keeper: VoteKeeper, round: number): number | undefined {
  let target: number | undefined;
  for (const [other, votes] of keeper.rounds) {
    if (other > (target ?? round) && isHonestShare(votes.present, keeper.total)) target = other;
  }
  return target;
}

/** Counted precommits for a value in a round, ascending by validator: the signatures of a commit. */
export function precommitsFor(keeper: VoteKeeper, round: number, value: Hash): Vote[] {
  const { first, further } = tallyOf(keeper, round, 'precommit');
  return [...first.values(), ...further]
    .filter((vote) => vote.body.blockId === value)
    .sort((a, b) => (a.validator < b.validator ? -1 : 1));
}

/** All counted votes of a round. */
export function votesOf(keeper: VoteKeeper, round: number): Vote[] {
  const votes = keeper.rounds.get(round);
  if (votes === undefined) return [];
  return VOTE_TYPES.flatMap((type) => [...votes[type].first.values(), ...votes[type].further]);
}

/** Rounds with votes, highest first. */
export function roundsWithVotes(keeper: VoteKeeper): number[] {
  return [...keeper.rounds.keys()].sort((a, b) => b - a);
}
