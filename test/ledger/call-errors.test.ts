/** Every code by which the ledger refuses a call or a transaction, provoked. */
import { peerIdFromString } from '@libp2p/peer-id';
import { base58btc } from 'multiformats/bases/base58';
import { CID } from 'multiformats/cid';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { amount } from '../../node/chain/amount.ts';
import {
  approve,
  bond,
  registerMiner,
  registerWithBond,
  transferFrom,
  unbond,
  unjail,
  voteParameters,
  withdraw,
} from '../../node/chain/calls.ts';
import { type Call, MAX_VALIDITY_BLOCKS } from '../../node/chain/transaction.ts';
import { allowanceRecord } from '../../node/ledger/allowances.ts';
import { MAX_UNBONDING } from '../../node/ledger/bonding.ts';
import { CALL_ERRORS, INCLUSION_ERRORS, InvalidBlockError } from '../../node/ledger/errors.ts';
import { executeBlock, inclusionError } from '../../node/ledger/execute.ts';
import { MAX_SCHEDULED } from '../../node/ledger/parameter-votes.ts';
import {
  alice,
  certificate,
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

/** Asserts that a free call fails with a code and changes nothing: it is in no block, and its nonce is free. */
function refused(
  ledger: LedgerHarness,
  signer: Parameters<LedgerHarness['try']>[0],
  call: Call,
  code: keyof typeof CALL_ERRORS,
) {
  const before = ledger.state;
  assert.is(ledger.try(signer, call), code);
  seen.add(code);
  assert.is(ledger.state.account(signer).nonce, before.account(signer).nonce);
  assert.is(ledger.state.account(signer).balance, before.account(signer).balance);
  assert.equal([...ledger.last!.changes.keys()], ['chain']);
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

test('transfer, approve, transferFrom: dust and allowances', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ economics: { existentialDeposit: 100 } }) });
  const [a, b, c, poor] = ['a', 'b', 'c', 'poor'].map(namedAccount);
  ledger.state = withBalances(
    ledger.state,
    new Map([
      [a, 1000n],
      [poor, 99n],
    ]),
  );
  refused(ledger, a, transferCall(b, 99n), 'ERR_BELOW_EXISTENTIAL_DEPOSIT');
  refused(ledger, a, transferCall(b, 901n), 'ERR_WOULD_LEAVE_DUST');
  refused(ledger, poor, approve(b, amount(1n)), 'ERR_BELOW_EXISTENTIAL_DEPOSIT');
  assert.is(ledger.try(poor, approve(b, amount(0n))), undefined);
  // What is below the deposit can still be moved as a whole, to where it is not dust.
  assert.is(ledger.try(poor, transferCall(a, 99n)), undefined);
  refused(ledger, b, transferFrom(a, c, amount(100n)), 'ERR_INSUFFICIENT_ALLOWANCE');
  assert.is(ledger.try(a, approve(b, amount(300n))), undefined);
  assert.is(ledger.state.allowance(a, b), 300n);
  assert.is(ledger.state.allowance(b, a), 0n);
  assert.is(ledger.try(b, transferFrom(a, c, amount(200n))), undefined);
  assert.is(ledger.state.allowance(a, b), 100n);
  refused(ledger, b, transferFrom(a, c, amount(101n)), 'ERR_INSUFFICIENT_ALLOWANCE');
  refused(ledger, b, transferFrom(a, c, amount(0n)), 'ERR_ZERO_AMOUNT');
  assert.is(ledger.try(b, transferFrom(a, c, amount(100n))), undefined);
  assert.is(ledger.state.tree.get(allowanceRecord(a, b).key), undefined);
  assert.equal([ledger.state.account(a).balance, ledger.state.account(c).balance], [799n, 300n]);
});

test('staking', () => {
  const ledger = new LedgerHarness({ parameters: testParameters({ economics: { existentialDeposit: 100 } }) });
  const a = namedAccount('a');
  ledger.state = withBalances(ledger.state, new Map([[a, alice(10)]]));
  const certify = (seed: number, account = a) => certificate(ledger, account, seed);
  refused(ledger, a, certify(1), 'ERR_NOTHING_BONDED');
  refused(ledger, a, withdraw(), 'ERR_NOTHING_TO_WITHDRAW');
  refused(ledger, a, unbond(amount(1n)), 'ERR_INSUFFICIENT_BOND');
  refused(ledger, a, unbond(amount(0n)), 'ERR_ZERO_AMOUNT');
  refused(ledger, a, bond(amount(0n)), 'ERR_ZERO_AMOUNT');
  refused(ledger, a, bond(amount(alice(1) - 1n)), 'ERR_BELOW_MINIMUM_BOND');
  refused(ledger, a, bond(amount(alice(10) - 99n)), 'ERR_WOULD_LEAVE_DUST');
  refused(ledger, a, bond(amount(alice(11))), 'ERR_INSUFFICIENT_BALANCE');
  assert.is(ledger.try(a, bond(amount(alice(2)))), undefined);
  refused(ledger, a, unbond(amount(alice(1) + 1n)), 'ERR_BELOW_MINIMUM_BOND');
  refused(ledger, a, certificate(ledger, namedAccount('other'), 1), 'ERR_BAD_SESSION_PROOF');
  assert.is(ledger.try(a, certify(1)), undefined);
  // The set moves on in the next block.
  ledger.block();
  refused(ledger, a, certify(1), 'ERR_SESSION_KEY_TAKEN');
  const founder = ledger.validators[0];
  refused(ledger, founder, certify(1, founder), 'ERR_SESSION_KEY_TAKEN');
  refused(ledger, a, unjail(), 'ERR_NOT_JAILED');
  assert.is(ledger.try(a, bond(amount(alice(1)))), undefined);
  for (let entry = 0; entry < MAX_UNBONDING; entry++) assert.is(ledger.try(a, unbond(amount(1n))), undefined);
  ledger.block();
  refused(ledger, a, unbond(amount(1n)), 'ERR_UNBONDING_QUEUE_FULL');
});

test('jail and tombstone', () => {
  const ledger = new LedgerHarness({
    parameters: testParameters({ staking: { absentRoundsToJail: 1, jailMs: 100_000 } }),
  });
  const [absent, liar] = ledger.validators;
  ledger.start();
  const miner = ledger.miners[0];
  const scorers = ledger.validators.filter((validator) => validator !== absent);
  ledger.block(ledger.miners.map((m) => [m, ledger.commitCall(m)] as const));
  ledger.block([[miner, ledger.revealCall(miner)]], 11_000);
  ledger.block(
    scorers.map((v) => [v, ledger.commitScoresCall(v, () => scored(1))] as const),
    31_000,
  );
  ledger.block(scorers.map((v) => [v, ledger.revealScoresCall(() => scored(1))] as const));
  assert.ok(ledger.state.stake(absent).jailedUntilMs !== undefined);
  ledger.block();
  refused(ledger, absent, unjail(), 'ERR_STILL_JAILED');
  ledger.block([], 1, [ledger.equivocation(liar)]);
  ledger.block();
  refused(ledger, liar, unjail(), 'ERR_TOMBSTONED');
  refused(ledger, liar, bond(amount(alice(1))), 'ERR_TOMBSTONED');
  refused(ledger, liar, certificate(ledger, liar, 9), 'ERR_TOMBSTONED');
});

test('voteParameters', () => {
  const ledger = new LedgerHarness({ validators: 1 });
  const [validator] = ledger.validators;
  const height = 1000;
  refused(ledger, namedAccount('stranger'), voteParameters({ economics: { baseFee: 1 } }, height), 'ERR_NOT_VALIDATOR');
  refused(ledger, validator, voteParameters({ economics: { baseFee: 1 } }, 2), 'ERR_CHANGE_HEIGHT');
  refused(ledger, validator, voteParameters({ economics: { baseFee: 1 } }, 10_000_010), 'ERR_CHANGE_HEIGHT');
  const invalid = [
    '',
    '{',
    'null',
    '[]',
    '{}',
    '{ "economics":{"baseFee":1}}',
    '{"economics":{"baseFee":1},"economics":{"baseFee":1}}',
    '{"economics":null}',
    '{"economics":{"baseFee":-1}}',
    '{"economics":{"baseFee":0}}',
    '{"economics":{"baseFee":"1"}}',
    '{"economics":{"nothing":1}}',
    '{"economics":{"minerSharePpm":1}}',
    '{"consensus":{"blockIntervalMs":1}}',
    '{"__proto__":{"baseFee":1}}',
    '{"staking":{"maxValidators":257}}',
    `{"economics":{"baseFee":1${'0'.repeat(5000)}}}`,
  ];
  for (const change of invalid) {
    refused(ledger, validator, { tag: 'voteParameters', value: { change, height } }, 'ERR_INVALID_CHANGE');
  }
  for (let index = 0; index < MAX_SCHEDULED; index++) {
    assert.is(ledger.try(validator, voteParameters({ economics: { baseFee: index + 1 } }, height)), undefined);
  }
  refused(ledger, validator, voteParameters({ economics: { baseFee: 99 } }, height), 'ERR_TOO_MANY_CHANGES');
});

test('registerMiner', () => {
  const ledger = new LedgerHarness();
  const a = namedAccount('a');
  refused(ledger, a, register('x'.repeat(65)), 'ERR_DEVICE_TEXT_TOO_LONG');
  refused(ledger, a, register('ü'.repeat(33)), 'ERR_DEVICE_TEXT_TOO_LONG');
  assert.is(ledger.try(a, register('x'.repeat(64))), undefined);
  refused(ledger, a, register(), 'ERR_ALREADY_REGISTERED');
});

test('registerMiner, where it has a price', () => {
  const registration = { ...testParameters().registration, baseWork: 100, maxPerBlock: 1 };
  const ledger = new LedgerHarness({ parameters: testParameters({ registration }) });
  const [a, b] = [namedAccount('a'), namedAccount('b')];
  const challenge = ledger.state.registration.challenges[0]!.beacon;
  const worked = (work: bigint) => registerMiner('d', { challenge, solution: 0n, work });
  refused(ledger, a, worked(99n), 'ERR_TOO_LITTLE_WORK');
  refused(
    ledger,
    a,
    registerMiner('d', { challenge: namedHash('old'), solution: 0n, work: 100n }),
    'ERR_OLD_CHALLENGE',
  );
  const receipts = ledger.block([
    [a, worked(100n)],
    [b, worked(100n)],
  ]);
  assert.equal(
    receipts.map(({ error }) => error),
    [undefined, 'ERR_TOO_MANY_REGISTRATIONS'],
  );
  seen.add('ERR_TOO_MANY_REGISTRATIONS');
});

test('registerWithBond', () => {
  const a = namedAccount('a');
  refused(new LedgerHarness(), a, registerWithBond('d'), 'ERR_NO_BONDED_REGISTRATION');
  const ledger = new LedgerHarness({ parameters: testParameters({ registration: { bond: 100 } }) });
  refused(ledger, a, registerWithBond('d'), 'ERR_INSUFFICIENT_BALANCE');
  ledger.state = withBalances(ledger.state, new Map([[a, 100n]]));
  refused(ledger, a, registerWithBond('x'.repeat(65)), 'ERR_DEVICE_TEXT_TOO_LONG');
  assert.is(ledger.try(a, registerWithBond('d')), undefined);
  refused(ledger, a, registerWithBond('d'), 'ERR_INSUFFICIENT_BALANCE');
});

test('commitSubmission', () => {
  const ledger = new LedgerHarness();
  const [first, second, third] = ledger.miners;
  ledger.start();
  refused(ledger, namedAccount('stranger'), ledger.commitCall(namedAccount('stranger')), 'ERR_NOT_SEATED');
  refused(ledger, first, ledger.commitCall(first, 'cid', 1), 'ERR_NOT_SEATED');
  refused(
    ledger,
    first,
    { tag: 'commitSubmission', value: { round: 2, attempt: 1, slot: 0, commitment: namedHash('x') } },
    'ERR_WRONG_ROUND',
  );
  refused(
    ledger,
    first,
    { tag: 'commitSubmission', value: { round: 0, attempt: 1, slot: 0, commitment: namedHash('x') } },
    'ERR_WRONG_ROUND',
  );
  const another = ledger.commitCall(first);
  if (another.tag !== 'commitSubmission') throw new Error('unreachable');
  refused(ledger, first, { ...another, value: { ...another.value, attempt: 9 } }, 'ERR_WRONG_ATTEMPT');
  const late = namedAccount('late');
  assert.is(ledger.try(late, register()), undefined);
  refused(ledger, late, ledger.commitCall(late), 'ERR_NOT_SEATED');
  const commit = ledger.commitCall(first);
  assert.is(ledger.try(first, commit), undefined);
  refused(ledger, first, commit, 'ERR_ALREADY_COMMITTED');
  const receipts = ledger.block([
    [second, ledger.commitCall(second)],
    [third, ledger.commitCall(third)],
  ]);
  assert.equal(
    receipts.map(({ error }) => error),
    [undefined, undefined],
  );
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
  refused(ledger, first, ledger.revealCall(first, undefined, 1), 'ERR_NOT_COMMITTED');
  refused(ledger, second, ledger.revealCall(second, 'short'), 'ERR_INVALID_CID');
  refused(ledger, second, ledger.revealCall(second, `${namedCid('a')} `), 'ERR_INVALID_CID');
  refused(ledger, second, ledger.revealCall(second, CID.parse(namedCid('a')).toString(base58btc)), 'ERR_INVALID_CID');
  refused(ledger, first, ledger.revealCall(first, namedCid('another blob')), 'ERR_COMMITMENT_MISMATCH');
  const good = ledger.revealCall(first);
  if (good.tag !== 'revealSubmission') throw new Error('unreachable');
  const change = (value: Partial<typeof good.value>): Call => ({
    tag: 'revealSubmission',
    value: { ...good.value, ...value },
  });
  refused(ledger, first, change({ sizeBytes: 0 }), 'ERR_INVALID_SIZE');
  const wrongProviders = [
    '',
    good.value.provider.slice(0, -1),
    `${good.value.provider}1`,
    // Right letters, another value: above what 32 bytes of key can make of the prefix.
    `12D3KooW${'z'.repeat(44)}`,
    '/ip4/192.0.2.1/tcp/4001',
    // The same peer as a CID, and an RSA peer.
    peerIdFromString(good.value.provider).toCID().toString(),
    'QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN',
  ];
  for (const provider of wrongProviders) refused(ledger, first, change({ provider }), 'ERR_INVALID_PROVIDER');
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
    [first, { tag: 'commitSubmission', value: { ...old.value, round: 2, attempt: 1 } }],
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
    [{ ...scores[0], slot: 1 }, scores[1], scores[2]],
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
  // Whether the fee can be paid is for fees.test.ts, how often what is free may be there for free-calls.test.ts.
  const elsewhere = ['ERR_CANNOT_PAY_FEE', 'ERR_FREE_CALL_LIMIT'];
  assert.equal([...Object.keys(codes), ...elsewhere].sort(), Object.keys(INCLUSION_ERRORS).sort());

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
  ledger.state = withBalances(ledger.state, new Map([[a, alice(1)]]));
  const flood = Array.from({ length: 17 }, () => [a, transferCall(a, 1n)] as const);
  assert.throws(() => ledger.block(flood), isInvalid);
});

test('every code was provoked', () => {
  assert.equal([...seen].sort(), Object.keys(CALL_ERRORS).sort());
});

test.run();
