import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { assignedShards, scoringDraw, unassignedShards } from '../../node/ledger/draw.ts';
import { namedAccount, namedHash } from './harness.ts';

const BEACON = namedHash('beacon');

const seat = (name: string, slot = 0) => ({ account: namedAccount(name), slot });

test('shards are different, in range, as many as asked, and the same for everyone who asks', () => {
  for (const [shards, each] of [
    [1, 1],
    [10, 10],
    [10, 20],
    [1000, 7],
    [60_001, 64],
  ] as const) {
    const drawn = assignedShards(BEACON, seat('a'), shards, each);
    assert.is(drawn.length, Math.min(shards, each));
    assert.is(new Set(drawn).size, drawn.length);
    assert.ok(drawn.every((shard) => Number.isInteger(shard) && shard >= 0 && shard < shards));
    assert.equal(drawn, assignedShards(BEACON, seat('a'), shards, each));
  }
});

test('beacon, account and slot each change the draw, and shards come up evenly', () => {
  const base = assignedShards(BEACON, seat('a'), 1000, 20);
  assert.not.equal(base, assignedShards(namedHash('other'), seat('a'), 1000, 20));
  assert.not.equal(base, assignedShards(BEACON, seat('b'), 1000, 20));
  assert.not.equal(base, assignedShards(BEACON, seat('a', 1), 1000, 20));
  const counts = new Array(50).fill(0);
  for (let index = 0; index < 2000; index++) {
    for (const shard of assignedShards(namedHash(`b${index}`), seat('a'), 50, 5)) counts[shard] += 1;
  }
  // 200 expected each, standard deviation 13.4: six of them.
  assert.ok(
    counts.every((count) => Math.abs(count - 200) < 80),
    counts.join(' '),
  );
});

test('unassigned shards are exactly those that nobody has', () => {
  const seats = ['a', 'b', 'c'].map((name) => seat(name));
  const free = unassignedShards(BEACON, seats, 40, 6);
  const taken = new Set(seats.flatMap((each) => assignedShards(BEACON, each, 40, 6)));
  assert.equal(
    free,
    Array.from({ length: 40 }, (_, shard) => shard).filter((shard) => !taken.has(shard)),
  );
  assert.equal(unassignedShards(BEACON, [], 3, 6), [0, 1, 2]);
  assert.equal(unassignedShards(BEACON, seats, 6, 6), []);
});

test('a validator scores half on held-out shards, half on shards nobody had; held-out only when all were given', () => {
  const pool = { heldOutShards: 5, unassigned: [3, 9, 27], sequences: 129 };
  const draw = scoringDraw(BEACON, namedAccount('v'), pool);
  assert.is(draw.length, 129);
  assert.is(draw.filter(({ source }) => source === 'heldOut').length, 65);
  for (const { source, shard, offsetSeed } of draw) {
    assert.ok(source === 'heldOut' ? shard >= 0 && shard < 5 : pool.unassigned.includes(shard));
    assert.ok(Number.isInteger(offsetSeed) && offsetSeed >= 0 && offsetSeed < 2 ** 32);
  }
  assert.equal(draw, scoringDraw(BEACON, namedAccount('v'), pool));
  assert.not.equal(draw, scoringDraw(BEACON, namedAccount('w'), pool));
  assert.not.equal(draw, scoringDraw(namedHash('later'), namedAccount('v'), pool));
  const all = scoringDraw(BEACON, namedAccount('v'), { ...pool, unassigned: [] });
  assert.ok(all.every(({ source }) => source === 'heldOut'));
});

test('known answers: the draw is part of the protocol', () => {
  // Computed by an independent program from the definition.
  assert.equal(assignedShards(BEACON, seat('a'), 1000, 4), [520, 949, 73, 42]);
  assert.equal(scoringDraw(BEACON, namedAccount('v'), { heldOutShards: 5, unassigned: [3, 9, 27], sequences: 2 }), [
    { source: 'heldOut', shard: 4, offsetSeed: 596498461 },
    { source: 'training', shard: 27, offsetSeed: 2080993373 },
  ]);
});

test.run();
