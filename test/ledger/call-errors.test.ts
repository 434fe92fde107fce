/** Every code by which the ledger refuses a call or a transaction, provoked. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Call } from '../../node/chain/transaction.ts';
import { CALL_ERRORS, INCLUSION_ERRORS, InvalidBlockError } from '../../node/ledger/errors.ts';
import { executeBlock, inclusionError, MAX_VALIDITY_BLOCKS } from '../../node/ledger/execute.ts';
import {
  alice,
  LedgerHarness,
  namedAccount,
  namedCid,
  namedHash,
  register,
  SALT,
  scored,
  testParameters,
  transferCall,
  withBalances,
} from './harness.ts';

const seen = new Set<string>();

/** Asserts that a call fails with a code and changes nothing but the nonce. */
function refused(
  ledger: LedgerHarness,
  signer: Parameters<LedgerHarness['try']>[0],
  call: Call,
  code: keyof typeof CALL_ERRORS,
) {
  const before = ledger.state;
  assert.is(ledger.try(signer, call), code);
  seen.add(code);
  assert.is(ledger.state.account(signer).nonce, before.account(signer).nonce + 1);
  assert.is(ledger.state.account(signer).balance, before.account(signer).balance);
  const changed = [...ledger.last!.changes.keys()].sort();
  assert.equal(changed, [`account/${signer}`, 'chain']);
}

test('transfer', () => {
  const ledger = new LedgerHarness();
  const [a, b] = [namedAccount('a'), namedAccount('b')];
  ledger.state = withBalances(ledger.state, new Map([[a, alice(5)]]));
  refused(ledger, a, transferCall(b, 0n), 'ERR_ZERO_AMOUNT');
  refused(ledger, a, transferCall(b, alice(5) + 1n), 'ERR_INSUFFICIENT_BALANCE');
  refused(ledger, a, transferCall(a, alice(6)), 'ERR_INSUFFICIENT_BALANCE');
  assert.is(ledger.try(a, transferCall(a, alice(5))), undefined);
  assert.is(ledger.state.account(a).balance, alice(5));
  assert.is(ledger.try(a, transferCall(b, alice(2))), undefined);
  assert.equal([ledger.state.account(a).balance, ledger.state.account(b).balance], [alice(3), alice(2)]);
  assert.is(ledger.state.account(b).nonce, 0);
});

test('registerMiner', () => {
  const ledger = new LedgerHarness();
  const a = namedAccount('a');
  refused(ledger, a, register('x'.repeat(65)), 'ERR_DEVICE_TEXT_TOO_LONG');
  refused(ledger, a, register('ü'.repeat(33)), 'ERR_DEVICE_TEXT_TOO_LONG');
  assert.is(ledger.try(a, register('x'.repeat(64))), undefined);
  refused(ledger, a, register(), 'ERR_ALREADY_REGISTERED');
});

test('commitSubmission', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ rounds: { maxSubmissions: 2 } }) });
  const [first, second, third] = ledger.miners;
  ledger.start();
  refused(ledger, namedAccount('stranger'), ledger.commitCall(namedAccount('stranger')), 'ERR_NOT_REGISTERED');
  refused(
    ledger,
    first,
    { tag: 'commitSubmission', value: { round: 2, commitment: namedHash('x') } },
    'ERR_WRONG_ROUND',
  );
  refused(
    ledger,
    first,
    { tag: 'commitSubmission', value: { round: 0, commitment: namedHash('x') } },
    'ERR_WRONG_ROUND',
  );
  const late = namedAccount('late');
  assert.is(ledger.try(late, register()), undefined);
  refused(ledger, late, ledger.commitCall(late), 'ERR_REGISTERED_TOO_LATE');
  const commit = ledger.commitCall(first);
  assert.is(ledger.try(first, commit), undefined);
  refused(ledger, first, commit, 'ERR_ALREADY_COMMITTED');
  const receipts = ledger.block([
    [second, ledger.commitCall(second)],
    [third, ledger.commitCall(third)],
  ]);
  assert.equal(
    receipts.map(({ error }) => error),
    [undefined, 'ERR_TOO_MANY_SUBMISSIONS'],
  );
  seen.add('ERR_TOO_MANY_SUBMISSIONS');
  assert.is(ledger.state.round.phase, 'reveal');
  refused(ledger, third, ledger.commitCall(third), 'ERR_WRONG_PHASE');
});

test('revealSubmission', () => {
  const ledger = new LedgerHarness();
  const [first, second, third] = ledger.miners;
  ledger.start();
  refused(ledger, first, ledger.revealCall(first), 'ERR_WRONG_PHASE');
  ledger.block([
    [first, ledger.commitCall(first)],
    [second, ledger.commitCall(second, 'short')],
  ]);
  ledger.block([], 60_000);
  assert.is(ledger.state.round.phase, 'reveal');
  refused(ledger, third, ledger.revealCall(third), 'ERR_NOT_COMMITTED');
  refused(ledger, second, ledger.revealCall(second, 'short'), 'ERR_INVALID_CID');
  refused(ledger, second, ledger.revealCall(second, `${namedCid('a')} `), 'ERR_INVALID_CID');
  refused(ledger, first, ledger.revealCall(first, namedCid('another blob')), 'ERR_COMMITMENT_MISMATCH');
  const good = ledger.revealCall(first);
  if (good.tag !== 'revealSubmission') throw new Error('unreachable');
  const change = (value: Partial<typeof good.value>): Call => ({
    tag: 'revealSubmission',
    value: { ...good.value, ...value },
  });
  refused(ledger, first, change({ sizeBytes: 0 }), 'ERR_INVALID_SIZE');
  refused(ledger, first, change({ salt: new Uint8Array(32) }), 'ERR_COMMITMENT_MISMATCH');
  refused(ledger, first, change({ round: 2 }), 'ERR_WRONG_ROUND');
  assert.is(ledger.try(first, good), undefined);
  refused(ledger, first, good, 'ERR_ALREADY_REVEALED');
});

test('a commitment of an earlier round, or of another account, opens nothing', () => {
  const ledger = new LedgerHarness();
  const [first, second] = ledger.miners;
  ledger.start();
  const old = ledger.commitCall(first, namedCid('blob'));
  ledger.playRound();
  if (old.tag !== 'commitSubmission') throw new Error('unreachable');
  // The same blob under the old nonce: the commit is taken, since nobody can look into it, but it does not open.
  ledger.block([
    [first, { tag: 'commitSubmission', value: { ...old.value, round: 2 } }],
    [second, ledger.commitCall(first, namedCid('blob'))],
  ]);
  ledger.block([], 60_000);
  refused(ledger, first, ledger.revealCall(first, namedCid('blob')), 'ERR_COMMITMENT_MISMATCH');
  refused(ledger, second, ledger.revealCall(second, namedCid('blob')), 'ERR_COMMITMENT_MISMATCH');
});

/** A ledger whose first round is being scored. */
function scoring(): LedgerHarness {
  const ledger = new LedgerHarness();
  ledger.start();
  ledger.block(ledger.miners.map((miner) => [miner, ledger.commitCall(miner)] as const));
  ledger.block(ledger.miners.map((miner) => [miner, ledger.revealCall(miner)] as const));
  assert.is(ledger.state.round.phase, 'score');
  return ledger;
}

test('commitScores and revealScores', () => {
  const ledger = scoring();
  const [v0, v1, v2, v3] = ledger.validators;
  const good = () => scored(10);
  refused(ledger, ledger.miners[0], ledger.commitScoresCall(v0, good), 'ERR_NOT_VALIDATOR');
  refused(ledger, v0, ledger.revealScoresCall(good), 'ERR_WRONG_PHASE');
  refused(ledger, v0, { tag: 'commitScores', value: { round: 7, commitment: namedHash('x') } }, 'ERR_WRONG_ROUND');
  const commit = ledger.commitScoresCall(v0, good);
  assert.is(ledger.try(v0, commit), undefined);
  refused(ledger, v0, commit, 'ERR_ALREADY_COMMITTED');
  ledger.block([
    [v1, ledger.commitScoresCall(v0, good)],
    [v2, ledger.commitScoresCall(v2, good)],
  ]);
  ledger.block([], 30_000);
  assert.is(ledger.state.round.phase, 'scoreReveal');
  refused(ledger, v3, ledger.commitScoresCall(v3, good), 'ERR_WRONG_PHASE');
  refused(ledger, v3, ledger.revealScoresCall(good), 'ERR_NOT_COMMITTED');
  refused(ledger, ledger.miners[0], ledger.revealScoresCall(good), 'ERR_NOT_VALIDATOR');
  refused(ledger, v1, ledger.revealScoresCall(good), 'ERR_COMMITMENT_MISMATCH');
  const reveal = ledger.revealScoresCall(good);
  if (reveal.tag !== 'revealScores') throw new Error('unreachable');
  const { scores } = reveal.value;
  const change = (value: Partial<typeof reveal.value>): Call => ({
    tag: 'revealScores',
    value: { ...reveal.value, ...value },
  });
  for (const wrong of [
    scores.slice(1),
    [...scores, scores[2]],
    [scores[1], scores[0], scores[2]],
    [scores[0], scores[0], scores[2]],
    [],
  ]) {
    refused(ledger, v0, change({ scores: wrong }), 'ERR_SCORES_MISMATCH');
  }
  refused(
    ledger,
    v0,
    change({ scores: scores.map((item) => ({ ...item, verdict: scored(11) })) }),
    'ERR_COMMITMENT_MISMATCH',
  );
  refused(ledger, v0, change({ heldOutLoss: 4n }), 'ERR_COMMITMENT_MISMATCH');
  refused(ledger, v0, change({ salt: new Uint8Array(32) }), 'ERR_COMMITMENT_MISMATCH');
  assert.is(ledger.try(v0, reveal), undefined);
  refused(ledger, v0, reveal, 'ERR_ALREADY_REVEALED');
});

test('attestModel', () => {
  const ledger = scoring();
  const good = () => scored(10);
  ledger.block(ledger.validators.map((v) => [v, ledger.commitScoresCall(v, good)] as const));
  refused(ledger, ledger.validators[0], ledger.attestCall(), 'ERR_WRONG_PHASE');
  ledger.block(ledger.validators.map((v) => [v, ledger.revealScoresCall(good)] as const));
  const [v0] = ledger.validators;
  refused(ledger, ledger.miners[0], ledger.attestCall(), 'ERR_NOT_VALIDATOR');
  refused(ledger, v0, ledger.attestCall(namedHash('w'), namedCid('c')), 'ERR_CHECKPOINT_NOT_DUE');
  refused(
    ledger,
    v0,
    { tag: 'attestModel', value: { round: 2, modelRoot: namedHash('w'), checkpoint: '' } },
    'ERR_WRONG_ROUND',
  );
  assert.is(ledger.try(v0, ledger.attestCall(namedHash('wrong'))), undefined);
  refused(ledger, v0, ledger.attestCall(namedHash('wrong')), 'ERR_ALREADY_ATTESTED');
  // A validator that computed something wrong corrects itself.
  assert.is(ledger.try(v0, ledger.attestCall()), undefined);
  assert.is(ledger.state.round.attestations.length, 1);
  ledger.block(ledger.validators.slice(1).map((v) => [v, ledger.attestCall()] as const));
  for (let round = 2; round <= 3; round++) ledger.playRound();
  const { validators, miners } = ledger;
  ledger.block(miners.map((m) => [m, ledger.commitCall(m)] as const));
  ledger.block(miners.map((m) => [m, ledger.revealCall(m)] as const));
  ledger.block(validators.map((v) => [v, ledger.commitScoresCall(v, good)] as const));
  ledger.block(validators.map((v) => [v, ledger.revealScoresCall(good)] as const));
  assert.ok(ledger.state.round.checkpointDue);
  refused(ledger, v0, ledger.attestCall(namedHash('w'), ''), 'ERR_CHECKPOINT_MISSING');
  refused(ledger, v0, ledger.attestCall(namedHash('w'), 'no/cid/at/all'), 'ERR_INVALID_CID');
});

test('what no block may hold', () => {
  const ledger = new LedgerHarness();
  const parameters = testParameters();
  const a = namedAccount('a');
  const body = { version: 1, signer: a, nonce: 5, validUntil: 100, tip: 0, call: register() };
  const at = { height: 50, nonce: 5, included: 0 };
  const check = (change: Partial<typeof body>, where: Partial<typeof at> = {}) =>
    inclusionError({ body: { ...body, ...change }, signature: SALT }, { ...at, ...where }, parameters);
  assert.is(check({}), undefined);
  assert.is(check({ validUntil: 50 }), undefined);
  assert.is(check({ validUntil: 50 + MAX_VALIDITY_BLOCKS }), undefined);
  const codes = {
    ERR_UNSUPPORTED_VERSION: check({ version: 2 }),
    ERR_TIP_NOT_SUPPORTED: check({ tip: 1 }),
    ERR_EXPIRED: check({ validUntil: 49 }),
    ERR_VALID_TOO_LONG: check({ validUntil: 51 + MAX_VALIDITY_BLOCKS }),
    ERR_NONCE_TOO_LOW: check({ nonce: 4 }),
    ERR_NONCE_GAP: check({ nonce: 6 }),
    ERR_ACCOUNT_LIMIT: check({}, { included: parameters.economics.transactionsPerAccountPerBlock }),
  };
  for (const [expected, code] of Object.entries(codes)) assert.is(code, expected);
  assert.equal(Object.keys(codes).sort(), Object.keys(INCLUSION_ERRORS).sort());

  const empty = { height: 1, timeMs: ledger.state.timeMs + 1n, beacon: namedHash('b'), proposer: a, transactions: [] };
  const transaction = {
    id: namedHash('t'),
    transaction: { body: { ...body, nonce: 1, validUntil: 9 }, signature: SALT },
  };
  const isInvalid = (error: unknown) => error instanceof InvalidBlockError;
  assert.throws(() => executeBlock(ledger.state, { ...empty, transactions: [transaction] }), isInvalid);
  assert.throws(() => executeBlock(ledger.state, { ...empty, height: 2 }), isInvalid);
  assert.throws(() => executeBlock(ledger.state, { ...empty, height: 0 }), isInvalid);
  assert.throws(() => executeBlock(ledger.state, { ...empty, timeMs: ledger.state.timeMs }), isInvalid);
  assert.throws(() => executeBlock(ledger.state, { ...empty, transactions: Array(501).fill(transaction) }), isInvalid);
  const flood = Array.from({ length: 17 }, () => [a, transferCall(a, 1n)] as const);
  assert.throws(() => ledger.block(flood), isInvalid);
});

test('every code was provoked', () => {
  assert.equal([...seen].sort(), Object.keys(CALL_ERRORS).sort());
});

test.run();
