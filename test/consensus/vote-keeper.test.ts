import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VOTE_TYPES, type Vote } from '../../node/chain/block.ts';
import { isQuorum } from '../../node/chain/validator-set.ts';
import {
  addVote,
  hasQuorum,
  hasQuorumAny,
  isHonestShare,
  isWanted,
  MAX_FUTURE_ROUNDS_PER_VALIDATOR,
  MAX_PAST_ROUNDS,
  MAX_REPLACED_ROUNDS,
  newVoteKeeper,
  precommitsFor,
  pruneRounds,
  skipTarget,
  type VoteKeeper,
  votesOf,
} from '../../node/consensus/core/vote-keeper.ts';
import { seededRandom } from '../simulation/random.ts';
import { account, validators, value, vote } from './votes.ts';

const X = value('x');
const Y = value('y');

function keep(keeper: VoteKeeper, votes: readonly Vote[], currentRound = 0): VoteKeeper {
  return votes.reduce((state, cast) => addVote(state, cast, currentRound).keeper, keeper);
}

test('a quorum is strictly more than two thirds, a third strictly more than one third, in integers', () => {
  assert.not(isQuorum(2n, 3n));
  assert.ok(isQuorum(3n, 4n));
  assert.not(isQuorum(66n, 99n));
  assert.ok(isQuorum(67n, 99n));
  assert.not(isHonestShare(1n, 3n));
  assert.ok(isHonestShare(2n, 4n));
  const huge = 2n ** 62n;
  assert.not(isQuorum((huge * 2n) / 3n, huge - 1n + 1n));
});

test('power counts, not heads', () => {
  const keeper = keep(newVoteKeeper(validators(67n, 11n, 11n, 10n)), [vote('a', 'prevote', 0, X)]);
  assert.ok(hasQuorum(keeper, 0, 'prevote', X));
  assert.not(hasQuorum(keeper, 0, 'precommit', X));
});

test('two thirds exactly are not enough', () => {
  const cast = [vote('a', 'prevote', 0, X), vote('b', 'prevote', 0, X)];
  const keeper = keep(newVoteKeeper(validators(1n, 1n, 1n)), cast);
  assert.not(hasQuorum(keeper, 0, 'prevote', X));
  assert.not(hasQuorumAny(keeper, 0, 'prevote'));
});

test('votes of strangers, of unknown types and duplicates do not count', () => {
  let keeper = newVoteKeeper(validators(1n, 1n, 1n, 1n));
  keeper = keep(keeper, [vote('z', 'prevote', 0, X)]);
  assert.is(keeper.rounds.size, 0);
  const strange = vote('a', 'prevote', 0, X);
  keeper = keep(keeper, [{ ...strange, body: { ...strange.body, type: 7 } }]);
  assert.is(keeper.rounds.size, 0);
  for (let times = 0; times < 5; times++) keeper = keep(keeper, [vote('a', 'prevote', 0, X)]);
  assert.is(keeper.rounds.get(0)?.prevote.voted, 1n);
  assert.is(keeper.rounds.get(0)?.present, 1n);
});

test('nil and different values add up for "any", and not for each other', () => {
  const keeper = keep(newVoteKeeper(validators(1n, 1n, 1n, 1n)), [
    vote('a', 'prevote', 0, X),
    vote('b', 'prevote', 0, Y),
    vote('c', 'prevote', 0, undefined),
  ]);
  assert.ok(hasQuorumAny(keeper, 0, 'prevote'));
  for (const voted of [X, Y, undefined]) assert.not(hasQuorum(keeper, 0, 'prevote', voted));
});

test('a second, different vote is evidence once, and the first stays', () => {
  const keeper = keep(newVoteKeeper(validators(1n, 1n, 1n, 1n)), [vote('a', 'prevote', 0, X)]);
  const second = addVote(keeper, vote('a', 'prevote', 0, Y), 0);
  assert.equal(second.conflict?.first.body.blockId, X);
  assert.equal(second.conflict?.second.body.blockId, Y);
  assert.not(second.counted);
  const third = addVote(second.keeper, vote('a', 'prevote', 0, undefined), 0);
  assert.is(third.conflict, undefined);
  assert.is(third.keeper.rounds.get(0)?.prevote.voted, 1n);
  assert.equal(third.keeper.rounds.get(0)?.prevote.first.get(account('a'))?.body.blockId, X);
});

test('a prevote and a precommit, or votes in two rounds, are no evidence', () => {
  let keeper = newVoteKeeper(validators(1n, 1n, 1n, 1n));
  for (const cast of [vote('a', 'prevote', 0, X), vote('a', 'precommit', 0, Y), vote('a', 'prevote', 1, Y)]) {
    const result = addVote(keeper, cast, 1);
    assert.is(result.conflict, undefined);
    assert.ok(result.counted);
    keeper = result.keeper;
  }
});

test('the second vote of an equivocator counts for its value where a third of the power already does', () => {
  const keeper = keep(newVoteKeeper(validators(1n, 1n, 1n, 1n)), [
    vote('a', 'prevote', 0, undefined),
    vote('a', 'prevote', 0, X),
    vote('b', 'prevote', 0, X),
    vote('c', 'prevote', 0, X),
  ]);
  assert.not(hasQuorum(keeper, 0, 'prevote', X));
  assert.ok(isWanted(keeper, vote('a', 'prevote', 0, X), 0));
  const after = keep(keeper, [vote('a', 'prevote', 0, X)]);
  assert.ok(hasQuorum(after, 0, 'prevote', X));
  assert.is(after.rounds.get(0)?.prevote.voted, 3n, 'but only once for those who voted');
  assert.not(isWanted(after, vote('a', 'prevote', 0, X), 0));
});

test('the certificate of an equivocator names it once', () => {
  const keeper = keep(newVoteKeeper(validators(1n, 1n, 1n, 1n)), [
    vote('d', 'precommit', 0, Y),
    vote('a', 'precommit', 0, X),
    vote('b', 'precommit', 0, X),
    vote('d', 'precommit', 0, X),
  ]);
  assert.equal(
    precommitsFor(keeper, 0, X).map(({ validator }) => validator),
    ['a', 'b', 'd'],
  );
});

test('a round is skipped to by more than a third, prevotes and precommits together, each voter once', () => {
  let keeper = keep(newVoteKeeper(validators(1n, 1n, 1n, 1n)), [
    vote('a', 'prevote', 3, X),
    vote('a', 'precommit', 3, X),
  ]);
  assert.is(skipTarget(keeper, 0), undefined);
  keeper = keep(keeper, [vote('b', 'precommit', 3, undefined)]);
  assert.is(skipTarget(keeper, 0), 3);
  assert.is(skipTarget(keeper, 3), undefined);
  keeper = keep(keeper, [vote('c', 'prevote', 5, undefined), vote('d', 'prevote', 5, undefined)]);
  assert.is(skipTarget(keeper, 0), 5, 'the highest');
});

test('a validator fills only its own share of future rounds, and is remembered for its highest', () => {
  let keeper = keep(newVoteKeeper(validators(1n, 1n, 1n, 1n)), [vote('b', 'prevote', 1, X)]);
  for (let round = 1; round <= 30; round++) keeper = keep(keeper, [vote('a', 'prevote', round, X)]);
  const rounds = [...keeper.rounds]
    .filter(([, { prevote }]) => prevote.first.has(account('a')))
    .map(([round]) => round);
  assert.is(rounds.length, MAX_FUTURE_ROUNDS_PER_VALIDATOR);
  assert.is(Math.max(...rounds), 30);
  assert.ok(keeper.rounds.size <= MAX_FUTURE_ROUNDS_PER_VALIDATOR + 1);
  assert.ok(keeper.rounds.get(1)?.prevote.first.has(account('b')), 'others are not forgotten for it');
  assert.is(keeper.rounds.get(1)?.prevote.voted, 1n);
  assert.not(isWanted(keeper, vote('a', 'prevote', 2, X), 0));
});

test('a validator that counts its rounds upwards is heard for a while, and anew when this node moves on', () => {
  const set = validators(1n, 1n, 1n, 1n);
  let keeper = newVoteKeeper(set);
  const heard = (from: number, currentRound: number) => {
    let counted = 0;
    for (let round = from; round < from + 5_000; round++) {
      for (const type of VOTE_TYPES) {
        const result = addVote(keeper, vote('a', type, round, X), currentRound);
        if (result.counted) counted += 1;
        keeper = result.keeper;
      }
    }
    return counted;
  };
  const most = VOTE_TYPES.length * (MAX_FUTURE_ROUNDS_PER_VALIDATOR + MAX_REPLACED_ROUNDS);
  assert.is(heard(1, 0), most);
  assert.not(isWanted(keeper, vote('a', 'prevote', 2 ** 32 - 1, X), 0));
  // Others are heard as ever, and may lead on.
  keeper = keep(keeper, [vote('b', 'prevote', 2 ** 32 - 1, X), vote('c', 'prevote', 2 ** 32 - 1, X)]);
  assert.is(skipTarget(keeper, 0), 2 ** 32 - 1);
  keeper = pruneRounds(keeper, 1);
  const again = heard(10_000, 1);
  assert.ok(again > 0 && again <= most, `${again}`);
});

test('old rounds are forgotten beyond the bound', () => {
  let keeper = keep(newVoteKeeper(validators(1n, 1n, 1n, 1n)), [vote('a', 'prevote', 0, X)]);
  keeper = pruneRounds(keeper, MAX_PAST_ROUNDS);
  assert.is(keeper.rounds.size, 1);
  keeper = pruneRounds(keeper, MAX_PAST_ROUNDS + 1);
  assert.is(keeper.rounds.size, 0);
  assert.not(isWanted(keeper, vote('a', 'prevote', 0, X), MAX_PAST_ROUNDS + 1));
});

test('property: tallies equal a plain count, in whatever order honest votes arrive', () => {
  const random = seededRandom(7);
  for (let run = 0; run < 200; run++) {
    const count = 1 + random.below(10);
    const set = validators(...Array.from({ length: count }, () => BigInt(1 + random.below(1000))));
    const total = set.reduce((sum, { power }) => sum + power, 0n);
    const cast: Vote[] = [];
    for (const { account: name } of set)
      for (const type of VOTE_TYPES)
        for (const round of [0, 1])
          if (random.chance(0.8)) cast.push(vote(name, type, round, random.pick([X, Y, undefined])));
    const shuffled = cast.map((item) => ({ item, key: random.next() })).sort((a, b) => a.key - b.key);
    const keeper = keep(newVoteKeeper(set), [...shuffled.map(({ item }) => item), ...cast], 1);
    for (const type of VOTE_TYPES) {
      for (const round of [0, 1]) {
        const those = cast.filter(({ body }) => VOTE_TYPES[body.type] === type && body.round === round);
        const powerOf = (chosen: Vote[]) =>
          set
            .filter(({ account: name }) => chosen.some((one) => one.validator === name))
            .reduce((sum, { power }) => sum + power, 0n);
        assert.is(hasQuorumAny(keeper, round, type), isQuorum(powerOf(those), total));
        for (const voted of [X, Y, undefined])
          assert.is(
            hasQuorum(keeper, round, type, voted),
            isQuorum(powerOf(those.filter(({ body }) => body.blockId === voted)), total),
          );
      }
    }
  }
});

test('property: with less than a third equivocating, two values never both have a quorum', () => {
  const random = seededRandom(8);
  let both = 0;
  let quorums = 0;
  for (let run = 0; run < 500; run++) {
    const count = 4 + random.below(7);
    const set = validators(...Array.from({ length: count }, () => 1n));
    const byzantine = Math.floor((count - 1) / 3);
    let keeper = newVoteKeeper(set);
    const cast: Vote[] = [];
    const favourite = random.pick([X, Y]);
    for (const [index, { account: name }] of set.entries()) {
      if (index < byzantine) cast.push(vote(name, 'precommit', 0, X), vote(name, 'precommit', 0, Y));
      else cast.push(vote(name, 'precommit', 0, random.chance(0.8) ? favourite : random.pick([X, Y])));
    }
    // Each message may come several times, in any order.
    for (let step = 0; step < cast.length * 6; step++) keeper = keep(keeper, [random.pick(cast)]);
    const x = hasQuorum(keeper, 0, 'precommit', X);
    const y = hasQuorum(keeper, 0, 'precommit', Y);
    if (x && y) both += 1;
    if (x || y) quorums += 1;
    assert.ok(votesOf(keeper, 0).length <= count * 2);
  }
  assert.is(both, 0);
  assert.ok(quorums > 100, 'the property is not empty');
});

test.run();
