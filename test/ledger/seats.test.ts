/** Who is seated: fair among the proven, bounded for newcomers, the same for everyone who computes it. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { seatLimit } from '../../node/chain/parameters.ts';
import { AccountQueue } from '../../node/ledger/account-queue.ts';
import { Draft } from '../../node/ledger/draft.ts';
import { chooseSeats, type SeatRecord } from '../../node/ledger/seats.ts';
import { admitArrivals, enlist, isEnlisted, noteSeat, type SeatOutcome } from '../../node/ledger/standing.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import { namedAccount, namedHash, testGenesis, testParameters } from './harness.ts';
import { Random } from './random.ts';

const TRAINING_SHARDS = 10_000;

/** Openings of training phases and what became of their seats, without the rest of a ledger. */
class Openings {
  readonly parameters: ReturnType<typeof testParameters>;
  draft: Draft;
  opening = 0;

  constructor(rounds: Partial<ReturnType<typeof testParameters>['rounds']> = {}) {
    this.parameters = testParameters({ rounds: { maxSeats: 16, newcomerSeats: 4, ...rounds } });
    this.draft = new Draft(LedgerState.genesis(testGenesis([{ account: namedAccount('v'), weight: 1n }])));
  }

  register(...accounts: AccountId[]): void {
    for (const account of accounts) enlist(this.draft, account);
    admitArrivals(this.draft);
  }

  /** Opens a phase and ends it with those outcomes. */
  play(outcome: (account: AccountId) => SeatOutcome, beacon = namedHash(`opening ${this.opening}`)): SeatRecord[] {
    this.opening += 1;
    const at = { opening: this.opening, beacon, trainingShards: TRAINING_SHARDS };
    const seats = chooseSeats(this.draft, at, this.parameters);
    for (const { account } of seats) {
      noteSeat(this.draft, account, outcome(account), this.opening, this.parameters.rounds);
    }
    return seats;
  }
}

const names = (count: number, name: string) =>
  Array.from({ length: count }, (_, index) => namedAccount(`${name} ${index}`));

const kind = (seats: readonly SeatRecord[], proven: boolean) =>
  seats.filter((seat) => seat.proven === proven).map(({ account }) => account);

test('no account has two seats, whatever happens; seats ascend, and are as many as there is room for', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const rounds = {
      maxSeats: 2 + random.below(20),
      newcomerSeats: 1 + random.below(6),
      idleRounds: 1 + random.below(3),
      newcomerTries: 1 + random.below(4),
      noShowRounds: 1 + random.below(3),
    };
    const openings = new Openings(rounds);
    let registered = 0;
    for (let opening = 0; opening < 120; opening++) {
      const some = names(random.below(9), `${seed} ${opening}`);
      openings.register(...some);
      registered += some.length;
      const seats = openings.play(() => random.pick(['accepted', 'accepted', 'rejected', 'absent'] as const));
      const accounts = seats.map(({ account }) => account);
      assert.equal(accounts, [...new Set(accounts)].sort());
      assert.ok(accounts.length <= rounds.maxSeats);
      if (kind(seats, true).length > 0) {
        assert.ok(kind(seats, false).length <= Math.max(1, Math.floor(rounds.maxSeats / 2)));
      }
      if (opening > 20) assert.ok(accounts.length > 0, `seed ${seed}: ${registered} registered`);
    }
  }
});

test('equal histories give equal seats; another beacon gives others', () => {
  const run = (salt: string) => {
    const openings = new Openings();
    openings.register(...names(100, 'm'));
    const all: AccountId[][] = [];
    for (let opening = 0; opening < 30; opening++) {
      const outcome = (account: AccountId): SeatOutcome => (account < '8' ? 'accepted' : 'absent');
      all.push(openings.play(outcome, namedHash(`${salt} ${opening}`)).map(({ account }) => account));
    }
    return { all, root: [...openings.draft.changes()].map(([key, value]) => [key, value && Buffer.from(value)]) };
  };
  assert.equal(run('a'), run('a'));
  assert.not.equal(run('a').all, run('b').all);
});

test('of n proven accounts and s seats each sits in every ceil(n / s)th round', () => {
  for (const count of [5, 16, 17, 50, 200]) {
    const openings = new Openings({ newcomerSeats: 1 });
    const miners = names(count, 'miner');
    openings.register(...miners);
    const last = new Map<AccountId, number>();
    const proven = () => miners.filter((account) => last.has(account));
    while (proven().length < count) {
      for (const { account } of openings.play(() => 'accepted')) last.set(account, openings.opening);
    }
    const most = Math.ceil(count / 16);
    for (let round = 0; round < 6 * most; round++) {
      const seats = openings.play(() => 'accepted');
      assert.is(seats.length, Math.min(16, count));
      for (const { account } of seats) {
        // The first turn after all were proven may still come from the order in which they were.
        if (round >= 2 * most) assert.ok(openings.opening - (last.get(account) ?? 0) <= most, `${count}`);
        last.set(account, openings.opening);
      }
    }
    for (const miner of miners) assert.ok(openings.opening - (last.get(miner) ?? 0) <= most);
  }
});

test('splitting into names wins no seat of the proven: only accepted work does', () => {
  for (const many of [1, 10, 1000]) {
    const openings = new Openings();
    const honest = names(20, 'honest');
    openings.register(...honest);
    const isHonest = new Set(honest);
    const outcome = (account: AccountId): SeatOutcome => (isHonest.has(account) ? 'accepted' : 'rejected');
    for (let opening = 0; opening < 8; opening++) openings.play(outcome);
    openings.register(...names(many, 'attacker'));
    let seats = 0;
    for (let opening = 0; opening < 40; opening++) {
      const given = openings.play(outcome);
      assert.ok(kind(given, true).every((account) => isHonest.has(account)));
      assert.ok(kind(given, true).length >= 12);
      seats += kind(given, true).length;
    }
    assert.ok(seats >= 40 * 12);
  }
});

test('a newcomer is seated within its bound, whoever registers after it, and however often others fail', () => {
  for (const before of [0, 3, 40, 500]) {
    const openings = new Openings();
    const honest = names(3, 'honest');
    const isHonest = new Set(honest);
    const outcome = (account: AccountId): SeatOutcome => (isHonest.has(account) ? 'accepted' : 'absent');
    openings.register(...honest);
    openings.play(outcome);
    openings.register(...names(before, 'before'));
    const newcomer = namedAccount('newcomer');
    openings.register(newcomer);
    // Half of four seats go to who has waited for longest.
    const bound = Math.ceil((before + 1) / 2);
    let waited = 0;
    for (let seated = false; !seated; ) {
      openings.register(...names(50, `after ${waited}`));
      const seats = openings.play(outcome);
      assert.equal(kind(seats, true), [...honest].sort());
      assert.ok(kind(seats, false).length <= 4);
      seated = seats.some(({ account }) => account === newcomer);
      waited += 1;
      assert.ok(waited <= bound, `${before} before it: ${waited} of ${bound}`);
    }
  }
});

test('the lottery is even among those who were never seated', () => {
  // Of 10 in line and 2 seats, one goes to the first, one is drawn among the other nine.
  const wins = new Map<AccountId, number>();
  const line = names(10, 'line');
  for (let draw = 0; draw < 1800; draw++) {
    const openings = new Openings({ newcomerSeats: 2 });
    openings.register(namedAccount('proven'));
    openings.play(() => 'accepted');
    openings.register(...line);
    const seats = kind(
      openings.play(() => 'absent', namedHash(`draw ${draw}`)),
      false,
    );
    assert.is(seats.length, 2);
    assert.ok(seats.includes(line[0]));
    for (const account of seats) wins.set(account, (wins.get(account) ?? 0) + 1);
  }
  // 200 expected each, standard deviation 13.3: five of them.
  for (const account of line.slice(1)) assert.ok(Math.abs((wins.get(account) ?? 0) - 200) < 67, `${wins.get(account)}`);
});

test('a registration buys newcomerTries seats without accepted work, each further away than the last', () => {
  const openings = new Openings({ newcomerTries: 4, noShowRounds: 2 });
  const proven = namedAccount('proven');
  openings.register(proven);
  openings.play(() => 'accepted');
  const idle = namedAccount('idle');
  openings.register(idle);
  const seated: number[] = [];
  for (let round = 0; round < 60; round++) {
    const seats = openings.play((account) => (account === proven ? 'accepted' : 'rejected'));
    if (seats.some(({ account }) => account === idle)) seated.push(openings.opening);
  }
  const gaps = seated.slice(1).map((opening, index) => opening - seated[index]);
  assert.equal(gaps, [3, 5, 9]);
  assert.not(isEnlisted(openings.draft, idle));
});

test('room: at most half of the shards are assigned, and there are two seats even in a tiny corpus', () => {
  const { rounds } = testParameters({ rounds: { maxSeats: 64, shardsPerMiner: 4, assignedShardsPpm: 500_000 } });
  assert.is(seatLimit(rounds, 100), 12);
  assert.is(seatLimit(rounds, 60_000), 64);
  assert.is(seatLimit(rounds, 2), 2);
});

test('a queue: first come first served, whoever leaves in between, over many pages', () => {
  const random = new Random(5);
  const queue = new AccountQueue('test/');
  const draft = new Draft(LedgerState.genesis(testGenesis([{ account: namedAccount('v'), weight: 1n }])));
  let model: { place: number; account: AccountId }[] = [];
  let arrived = 0;
  for (let step = 0; step < 6000; step++) {
    const grows = random.chance(step < 3000 ? 65 : 30);
    if (grows || model.length === 0) {
      const account = namedAccount(`${arrived++}`);
      model.push({ place: queue.append(draft, account), account });
    } else {
      const { place } = random.chance(50) ? model[0]! : random.pick(model);
      queue.remove(draft, place);
      model = model.filter((entry) => entry.place !== place);
    }
    const { first, end, length } = queue.bounds(draft);
    assert.is(length, model.length);
    assert.is(first, model[0]?.place ?? end);
    assert.is(queue.at(draft, first), model[0]?.account);
  }
  for (const { place, account } of model) assert.is(queue.at(draft, place), account);
  // Empty pages leave nothing behind.
  for (const { place } of model) queue.remove(draft, place);
  const left = [...draft.changes()].filter(([key, value]) => key.startsWith('test/') && value !== undefined);
  assert.equal(
    left.map(([key]) => key),
    ['test/bounds'],
  );
});

test.run();
