/** What is offered to others of a round, and when it is taken back. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RoundBlobs } from '../../roles/replica/round-blobs.ts';
import { LedgerHarness, namedCid, scored, testParameters } from '../ledger/harness.ts';

/** A ledger that keeps four rounds, a store, and records in the DHT. */
function parts() {
  const rounds = { checkpointEveryRounds: 2, idleRounds: 100 };
  const harness = new LedgerHarness({ parameters: testParameters({ rounds }) });
  const listeners = new Set<() => void>();
  const records = new Set<string>();
  const stored = new Set<string>();
  const firstToGo: string[] = [];
  const roundBlobs = new RoundBlobs({
    ledger: {
      get state() {
        return harness.state;
      },
      onBlock(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    store: { has: (cid) => stored.has(cid), evictFirst: (cid) => firstToGo.push(cid) },
    announcer: { announce: (cid) => records.add(cid), withdraw: (cid) => records.delete(cid) },
  });
  /** As a validator does with each revealed submission. */
  const fetched = (round: number, cid: string) => {
    roundBlobs.expect(round, cid);
    stored.add(cid);
    roundBlobs.offer(round, cid);
  };
  /** Plays a round; of the submissions, the first miner's is the only good one. */
  const play = (best = 10) => {
    harness.playRound((miner) => scored(miner === harness.miners[0] ? best : -1));
    for (const listener of listeners) listener();
  };
  return { harness, roundBlobs, records, stored, firstToGo, fetched, play };
}

test('rejected submissions go with the round, accepted ones and checkpoints when the ledger forgets it', () => {
  const { harness, roundBlobs, records, firstToGo, fetched, play } = parts();
  const good = harness.miners[0]!;
  harness.start();
  const accepted: string[] = [];
  for (let round = 1; round <= 3; round++) {
    for (const miner of harness.miners) fetched(round, harness.cidOf(miner));
    accepted.push(harness.cidOf(good));
    if (harness.state.round.checkpointDue) roundBlobs.offer(round, namedCid(`checkpoint ${round}`), 'checkpoint');
    assert.is(records.size, accepted.length + 2 + (round >= 2 ? 1 : 0));
    play();
    assert.ok(accepted.every((cid) => records.has(cid)));
  }
  assert.equal([...records].sort(), [...accepted, namedCid('checkpoint 2')].sort());
  assert.is(firstToGo.length, 6, 'two rejected ones in each round');
  // The second checkpoint makes the first rounds needless.
  let rounds = 3;
  while (harness.state.roundResult(1) !== undefined) {
    play();
    rounds += 1;
    assert.ok(rounds < 12, 'the ledger forgets');
  }
  for (const [i, cid] of accepted.entries()) {
    const kept = harness.state.roundResult(i + 1) !== undefined;
    assert.is(records.has(cid), kept, `round ${i + 1}`);
    assert.is(firstToGo.includes(cid), !kept);
  }
  for (let i = 0; i < 8; i++) play();
  assert.equal([...records], [], 'nothing is announced for ever');
  roundBlobs.stop();
});

test('the latest checkpoint stays, however old', () => {
  const { harness, roundBlobs, records, stored, firstToGo, play } = parts();
  harness.start();
  play();
  stored.add(namedCid('checkpoint 2'));
  assert.ok(harness.state.round.checkpointDue);
  roundBlobs.offer(2, namedCid('checkpoint 2'), 'checkpoint');
  play();
  assert.is(harness.state.checkpoint.cid, namedCid('checkpoint 2'));
  // Rounds that change nothing publish none.
  for (let i = 0; i < 8; i++) play(-1);
  assert.is(harness.state.roundResult(2), undefined, 'its round is forgotten');
  assert.ok(records.has(namedCid('checkpoint 2')));
  play();
  play();
  assert.is.not(harness.state.checkpoint.cid, namedCid('checkpoint 2'));
  assert.not.ok(records.has(namedCid('checkpoint 2')), 'there is a newer one');
  assert.ok(firstToGo.includes(namedCid('checkpoint 2')), 'its publisher needs the room');
});

test('what the store had for another reason is not made to go because a stranger revealed it', () => {
  const { harness, stored, firstToGo, fetched, play } = parts();
  harness.start();
  const shard = namedCid('a shard');
  stored.add(shard);
  fetched(1, shard);
  play();
  assert.not.ok(firstToGo.includes(shard));
});

test('after a start, what others need and the store has is offered again', () => {
  const { harness, roundBlobs, records, stored, play } = parts();
  harness.start();
  const [good, bad] = harness.miners;
  const [held, rejected] = [harness.cidOf(good!), harness.cidOf(bad!)];
  play();
  for (const cid of [held, rejected]) stored.add(cid);
  roundBlobs.offerHeld();
  assert.equal([...records], [held]);
});

test.run();
