/** What accounts that cost nothing can do to a round, and what they cannot. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import * as calls from '../../node/chain/calls.ts';
import { checkNetworkFile } from '../../node/chain/genesis.ts';
import { checkParameters } from '../../node/chain/parameters.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { decodeTransaction, encodeTransaction, MAX_SCORES } from '../../node/chain/transaction.ts';
import { admissionOf } from '../../node/ledger/admission.ts';
import {
  LedgerHarness,
  namedAccount,
  namedCid,
  namedHash,
  register,
  scored,
  testGenesis,
  testParameters,
} from './harness.ts';

const good = () => scored(10);

/** That many accounts, registered now. */
function crowd(ledger: LedgerHarness, count: number, name = 'stranger'): AccountId[] {
  const accounts = Array.from({ length: count }, (_, index) => namedAccount(`${name} ${index}`));
  ledger.block(accounts.map((account) => [account, register()] as const));
  return accounts;
}

/** Scores, reveals and attests whatever was revealed. */
function finish(ledger: LedgerHarness): void {
  ledger.block(ledger.validators.map((v) => [v, ledger.commitScoresCall(v, good)] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.revealScoresCall(good)] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.attestCall()] as const));
}

test('64 accounts that commit in the first block do not close the phase: nor refuse who works', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const strangers = crowd(ledger, 64);
  ledger.playRound();
  assert.is(ledger.round, 3);
  ledger.block(strangers.map((account) => [account, ledger.commitCall(account)] as const));
  assert.is(ledger.state.round.phase, 'train');
  const receipts = ledger.block(ledger.miners.map((miner) => [miner, ledger.commitCall(miner)] as const));
  assert.equal(
    receipts.map(({ error }) => error),
    [undefined, undefined, undefined],
  );
});

test('a registration in every round makes training an eighth longer, and no more', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  for (let round = 1; round <= 12; round++) {
    assert.is(ledger.round, round);
    const before = ledger.state.timeMs;
    crowd(ledger, 1, `round ${round}`);
    ledger.block(
      ledger.miners.map((miner) => [miner, ledger.commitCall(miner)] as const),
      12_000,
    );
    if (ledger.seated.length > ledger.miners.length) ledger.block([], 1600);
    assert.is(ledger.state.round.phase, 'reveal', `round ${round}`);
    ledger.block(ledger.miners.map((miner) => [miner, ledger.revealCall(miner)] as const));
    finish(ledger);
    assert.ok(ledger.state.timeMs - before <= 14_200n, `${ledger.state.timeMs - before} ms`);
  }
});

test('200 registrations leave shards that nobody was given: half of them, whoever registers', () => {
  const ledger = new LedgerHarness({ miners: 200 });
  ledger.start();
  const { trainingShards } = ledger.state.chain;
  assert.ok(ledger.state.unassignedShards.length >= trainingShards / 2, `${ledger.state.unassignedShards.length}`);
});

test('a stranger that commits and never reveals does not cost the others the deadline', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const [stranger] = crowd(ledger, 1);
  ledger.playRound();
  ledger.block([...ledger.miners, stranger].map((miner) => [miner, ledger.commitCall(miner)] as const));
  assert.is(ledger.state.round.phase, 'reveal');
  ledger.block(
    ledger.miners.map((miner) => [miner, ledger.revealCall(miner)] as const),
    2500,
  );
  ledger.block([], 400);
  assert.is(ledger.state.round.phase, 'score');
});

test('who commits the blob of another first makes it no copy: only what scored is an original', () => {
  const ledger = new LedgerHarness({ miners: 2 });
  ledger.start();
  const [thief, author] = ledger.miners;
  const cid = namedCid('work');
  ledger.block([
    [thief, ledger.commitCall(thief, cid)],
    [author, ledger.commitCall(author, cid)],
  ]);
  ledger.block([
    [thief, ledger.revealCall(thief, cid)],
    [author, ledger.revealCall(author, cid)],
  ]);
  const verdict = (miner: AccountId) =>
    miner === author ? scored(10) : { tag: 'malformed' as const, value: undefined };
  ledger.block(ledger.validators.map((v) => [v, ledger.commitScoresCall(v, verdict)] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.revealScoresCall(verdict)] as const));
  const reasons = ledger.state.roundResult(1)!.submissions.map(({ account, reason }) => [account, reason]);
  assert.equal(Object.fromEntries(reasons), { [thief]: 'malformed', [author]: 'accepted' });
});

test('weights that nobody agrees on: after a deadline the round ends with those before, and training goes on', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  const before = ledger.state.modelRoot;
  ledger.block(ledger.miners.map((miner) => [miner, ledger.commitCall(miner)] as const));
  ledger.block(ledger.miners.map((miner) => [miner, ledger.revealCall(miner)] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.commitScoresCall(v, good)] as const));
  ledger.block(ledger.validators.map((v) => [v, ledger.revealScoresCall(good)] as const));
  assert.is(ledger.state.round.phase, 'aggregate');
  for (let block = 0; block < 40; block++) ledger.block([], 1000);
  assert.is(ledger.round, 2);
  assert.is(ledger.state.modelRoot, before);
});

test('newcomers that gain next to nothing do not decide how little is enough', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.playRound();
  const idle = crowd(ledger, 4);
  ledger.playRound(() => scored(100));
  const verdict = (miner: AccountId) => scored(idle.includes(miner) ? 1 : 100);
  const { round } = ledger;
  ledger.playRound(verdict, 100, [...ledger.miners, ...idle]);
  const { submissions } = ledger.state.roundResult(round)!;
  assert.is(submissions.length, 7, 'newcomers are more than half');
  for (const { account, reason } of submissions) assert.is(reason, idle.includes(account) ? 'belowFloor' : 'accepted');
});

test('a pool keeps early commits and reveals of seats and of accepted work, and none of who merely registered', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  const admission = (signer: AccountId, call: Call) => {
    const body = { version: 1, signer, nonce: 0, validUntil: 9, tip: 0, call };
    return admissionOf(ledger.state, { body, signature: new Uint8Array(64) });
  };
  const commit = (ahead: number, attempt = ahead === 0 ? ledger.state.round.attempt : 1) =>
    calls.commitSubmission({ round: ledger.round + ahead, attempt }, 0, namedHash('c'));
  const [miner] = ledger.miners;
  const [stranger] = crowd(ledger, 1);
  assert.is(admission(miner!, commit(0)), 'now');
  assert.is(admission(miner!, ledger.revealCall(miner!)), 'later');
  assert.is(admission(miner!, commit(1)), 'later');
  const { attempt } = ledger.state.round;
  assert.is(admission(miner!, commit(0, attempt + 1)), 'later', 'the phase may have opened again');
  assert.is(admission(miner!, commit(0, attempt + 2)), 'ERR_WRONG_ATTEMPT');
  assert.is(admission(miner!, commit(0, attempt - 1)), 'ERR_WRONG_ATTEMPT');
  assert.is(admission(stranger!, commit(0, attempt + 1)), 'ERR_WRONG_ATTEMPT');
  assert.is(admission(stranger!, commit(0)), 'ERR_NOT_SEATED');
  assert.is(admission(stranger!, ledger.revealCall(stranger!)), 'ERR_WRONG_PHASE');
  assert.is(admission(stranger!, commit(1)), 'ERR_WRONG_ROUND');
  assert.is(admission(miner!, commit(2)), 'ERR_WRONG_ROUND');
});

test('parameters with more seats than a score sheet holds verdicts are refused; one verdict for each fits', () => {
  const change = (maxSeats: number) => {
    const parameters = testParameters();
    return { ...parameters, rounds: { ...parameters.rounds, maxSeats } };
  };
  assert.is(checkParameters(change(MAX_SCORES)).rounds.maxSeats, MAX_SCORES);
  assert.throws(() => checkParameters(change(MAX_SCORES + 1)), /score sheet/);
  const encoded = (verdicts: number) => {
    const scores = Array.from({ length: verdicts }, () => ({
      miner: namedAccount('m'),
      slot: 255,
      verdict: scored(1),
    }));
    const call = calls.revealScores(1, new Uint8Array(32), -1n, scores);
    const body = { version: 1, signer: namedAccount('v'), nonce: 9, validUntil: 9, tip: 0, call };
    return encodeTransaction({ body, signature: new Uint8Array(64) });
  };
  decodeTransaction(encoded(MAX_SCORES));
  assert.throws(() => decodeTransaction(encoded(MAX_SCORES + 1)), /at most/);
});

test('a genesis whose corpus has no room for two seats is refused', () => {
  const genesis = testGenesis([{ account: namedAccount('v'), weight: 1n }]);
  const file = (trainingShards: number) => ({
    genesis: { ...genesis, corpus: { ...genesis.corpus, trainingShards } },
    bootstrap: [],
  });
  assert.is(checkNetworkFile(file(8)).genesis.corpus.trainingShards, 8);
  assert.throws(() => checkNetworkFile(file(7)), /room for two seats/);
});

test.run();
