import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { amount } from '../../node/chain/amount.ts';
import { registerMiner, registerWithBond, transferFrom } from '../../node/chain/calls.ts';
import { type Call, encodeTransaction, type TransactionBody } from '../../node/chain/transaction.ts';
import type { Admission } from '../../node/ledger/admission.ts';
import { isDuty } from '../../node/ledger/fees.ts';
import type { RefusalCode } from '../../node/mempool/errors.ts';
import { TransactionRefusedError } from '../../node/mempool/errors.ts';
import type { Lane, LaneLimits } from '../../node/mempool/lanes.ts';
import { Mempool } from '../../node/mempool/mempool.ts';
import { Ignore, Reject } from '../../node/network/interface.ts';
import { VerifierBusyError } from '../../node/signature-checks/verifier.ts';
import { namedAccount, namedHash, register, testParameters, transferCall } from '../ledger/harness.ts';
import { Random } from '../ledger/random.ts';

/** Room for a few. */
const ROOM: LaneLimits = { maxTransactions: 100, maxBytes: 100_000 };

/** A mempool over a made-up chain; a signature is valid unless its first byte is 0xff. Duties are free, all else costs a unit. */
function setUp(
  limits: { maxPerAccount?: number; lanes?: Partial<Record<Lane, Partial<LaneLimits>>> } = {},
  maxTransactionsPerBlock = 500,
) {
  const chain = {
    height: 10,
    nonces: new Map<AccountId, number>(),
    validators: new Set<AccountId>(),
    /** Units with which accounts can pay; plenty where none is given. */
    spendable: new Map<AccountId, bigint>(),
    /** What the ledger says of free calls; `now` where nothing is given. */
    admissions: new Map<AccountId, Admission>(),
    verified: 0,
    /** True: the verifier takes no more. */
    busy: false,
  };
  const lane = (name: Lane) => ({ ...ROOM, ...limits.lanes?.[name] });
  const pool = new Mempool(
    {
      maxPerAccount: limits.maxPerAccount ?? 8,
      lanes: {
        validator: lane('validator'),
        miner: lane('miner'),
        registration: lane('registration'),
        bonded: lane('bonded'),
        paying: lane('paying'),
      },
    },
    {
      nonce: (account) => chain.nonces.get(account) ?? 0,
      height: () => chain.height,
      parameters: () =>
        testParameters({ consensus: { maxTransactionsPerBlock }, economics: { transactionsPerAccountPerBlock: 4 } }),
      isValidator: (account) => chain.validators.has(account),
      fee: ({ body }) => (isDuty(body.call.tag) ? 0n : 1n),
      spendable: (account) => chain.spendable.get(account) ?? 1000n,
      admission: ({ body }) => chain.admissions.get(body.signer) ?? 'now',
      hasWork: async ({ body }) => body.call.tag !== 'registerMiner' || body.call.value.solution !== 666n,
      verify: async (transaction) => {
        if (chain.busy) throw new VerifierBusyError('busy');
        chain.verified += 1;
        return transaction.signature[0] !== 0xff;
      },
    },
  );
  return { chain, pool };
}

const PAYMENT = transferCall(namedAccount('x'), 1n);

function encoded(name: string, nonce: number, override: Partial<TransactionBody> = {}, signatureByte = 1): Uint8Array {
  const body = { version: 1, signer: namedAccount(name), nonce, validUntil: 50, tip: 0, call: PAYMENT, ...override };
  return encodeTransaction({ body, signature: new Uint8Array(64).fill(signatureByte) });
}

const commit = (round: number): Call => ({
  tag: 'commitSubmission',
  value: { round, attempt: 1, slot: 0, commitment: namedHash('c') },
});
const scores = (round: number): Call => ({ tag: 'commitScores', value: { round, commitment: namedHash('c') } });

async function refusal(action: () => Promise<unknown>): Promise<TransactionRefusedError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof TransactionRefusedError) return error;
    throw error;
  }
  throw new Error('was taken');
}

const nonces = (pool: Mempool) => pool.select(1_000_000).map(({ transaction }) => transaction.body.nonce);

test('every refusal, and whether it blames the sender', async () => {
  const { pool, chain } = setUp({ maxPerAccount: 3 });
  chain.nonces.set(namedAccount('a'), 5);
  await pool.add(encoded('a', 5));
  const expected: [RefusalCode, boolean, Uint8Array][] = [
    ['ERR_MALFORMED', true, new Uint8Array(20)],
    ['ERR_MALFORMED', true, new Uint8Array(0)],
    ['ERR_MALFORMED', true, Uint8Array.from([...encoded('a', 6), 0])],
    ['ERR_BAD_SIGNATURE', true, encoded('a', 6, {}, 0xff)],
    ['ERR_TIP_NOT_SUPPORTED', true, encoded('a', 6, { tip: 1 })],
    ['ERR_UNSUPPORTED_VERSION', false, encoded('a', 6, { version: 9 })],
    ['ERR_EXPIRED', false, encoded('a', 6, { validUntil: 10 })],
    ['ERR_VALID_TOO_LONG', false, encoded('a', 6, { validUntil: 11 + 65_537 })],
    ['ERR_NONCE_TOO_LOW', false, encoded('a', 4)],
    ['ERR_NONCE_TOO_FAR', false, encoded('a', 8)],
    ['ERR_DUPLICATE', false, encoded('a', 5)],
    // The same transaction under another signature is the same transaction.
    ['ERR_DUPLICATE', false, encoded('a', 5, {}, 2)],
    ['ERR_NONCE_TAKEN', false, encoded('a', 5, { validUntil: 49 })],
  ];
  chain.spendable.set(namedAccount('poor'), 0n);
  expected.push(['ERR_CANNOT_PAY_FEE', false, encoded('poor', 0)]);
  chain.admissions.set(namedAccount('stranger'), 'ERR_NOT_VALIDATOR');
  expected.push(['ERR_NOT_VALIDATOR', false, encoded('stranger', 0, { call: scores(1) })]);
  // Larger than any call of its kind, and refused before it is looked at.
  expected.push(['ERR_MALFORMED', true, encoded('a', 6, { call: register('x'.repeat(200)) })]);
  for (const [code, blames, bytes] of expected) {
    const error = await refusal(() => pool.add(bytes));
    assert.is(error.code, code);
    assert.is(error.blamesSender, blames, code);
    const gossip = error.toGossip();
    assert.instance(gossip, blames ? Reject : Ignore);
    assert.is(gossip.code, code);
  }
  assert.is(pool.size, 1);
  await pool.add(encoded('a', 6));
  await pool.add(encoded('a', 7));
  chain.nonces.set(namedAccount('a'), 6);
  assert.is((await refusal(() => pool.add(encoded('a', 8)))).code, 'ERR_ACCOUNT_QUEUE_FULL');
});

test('a signature is checked only after everything that is cheap', async () => {
  const { pool, chain } = setUp();
  await pool.add(encoded('a', 0));
  assert.is(chain.verified, 1);
  await refusal(() => pool.add(encoded('a', 0)));
  await refusal(() => pool.add(encoded('a', 99)));
  await refusal(() => pool.add(encoded('a', 1, { validUntil: 3 })));
  assert.is(chain.verified, 1);
});

test('what changes while a signature is checked is looked at again', async () => {
  const { pool, chain } = setUp({ lanes: { paying: { maxTransactions: 3 } } });
  const turn = (bytes: Uint8Array, change: () => unknown): Promise<string> => {
    const added = pool.add(bytes).then(
      () => 'taken',
      (error: TransactionRefusedError) => error.code,
    );
    change();
    return added;
  };
  // Equal bodies under two signatures: the forged one does not keep the right one out, and the second right one is known.
  const both = [
    pool.add(encoded('a', 0, {}, 0xff)),
    pool.add(encoded('a', 0, {}, 1)),
    pool.add(encoded('a', 0, {}, 2)),
  ];
  const outcomes = await Promise.allSettled(both);
  assert.equal(
    outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'taken')),
    ['ERR_BAD_SIGNATURE', 'taken', 'ERR_DUPLICATE'],
  );
  assert.is(await turn(encoded('a', 1), () => chain.nonces.set(namedAccount('a'), 2)), 'ERR_NONCE_TOO_LOW');
  assert.is(await turn(encoded('b', 0, { validUntil: 11 }), () => (chain.height = 11)), 'ERR_EXPIRED');
  assert.is(await turn(encoded('c', 0), () => chain.spendable.set(namedAccount('c'), 0n)), 'ERR_CANNOT_PAY_FEE');
  chain.nonces.set(namedAccount('a'), 0);
  // Each passes alone; together they are one too many.
  const flood = await Promise.allSettled(['d', 'e', 'f', 'g'].map((name) => pool.add(encoded(name, 0))));
  assert.is(flood.filter(({ status }) => status === 'fulfilled').length, 2);
  assert.is(pool.size, 3);
});

test('too many checks: refused without blame, and nothing is known of the signature', async () => {
  const { pool, chain } = setUp();
  chain.busy = true;
  const error = await refusal(() => pool.add(encoded('a', 0)));
  assert.is(error.code, 'ERR_MEMPOOL_BUSY');
  assert.not(error.blamesSender);
  chain.busy = false;
  await pool.add(encoded('a', 0));
});

test('gaps wait until they are filled; nonces come in order, at most the share of an account', async () => {
  const { pool, chain } = setUp();
  for (const nonce of [2, 4, 1]) await pool.add(encoded('a', nonce));
  assert.not(pool.hasReady());
  assert.equal(nonces(pool), []);
  assert.is(pool.nextNonce(namedAccount('a')), 0);
  await pool.add(encoded('a', 0));
  assert.ok(pool.hasReady());
  assert.equal(nonces(pool), [0, 1, 2]);
  assert.is(pool.nextNonce(namedAccount('a')), 3);
  for (const nonce of [3, 5]) await pool.add(encoded('a', nonce));
  assert.equal(nonces(pool), [0, 1, 2, 3]);
  chain.nonces.set(namedAccount('a'), 4);
  pool.prune([]);
  assert.equal(nonces(pool), [4, 5]);
  assert.is(pool.size, 2);
});

test('included, overtaken and expired transactions go with the block', async () => {
  const { pool, chain } = setUp();
  const first = await pool.add(encoded('a', 0));
  await pool.add(encoded('a', 1, { validUntil: 11 }));
  await pool.add(encoded('b', 0));
  chain.height = 11;
  chain.nonces.set(namedAccount('a'), 1);
  chain.nonces.set(namedAccount('b'), 1);
  assert.equal(pool.select(1_000_000), []);
  await pool.add(encoded('c', 0));
  chain.spendable.set(namedAccount('c'), 0n);
  pool.prune([first.id]);
  assert.is(pool.size, 0);
  assert.is(pool.bytes, 0);
});

test('a flood of one lane leaves the others alone', async () => {
  const { pool, chain } = setUp({ lanes: { registration: { maxTransactions: 4 }, miner: { maxTransactions: 4 } } });
  // 128 accounts with all that they may send for nothing, which filled the pool for everybody.
  let refused = 0;
  for (let index = 0; index < 128; index++) {
    for (const [nonce, call] of [register(), commit(1), commit(2)].entries()) {
      try {
        await pool.add(encoded(`spam ${index}`, nonce, { call }));
      } catch (error) {
        assert.is((error as TransactionRefusedError).code, 'ERR_MEMPOOL_FULL');
        refused += 1;
      }
    }
  }
  assert.ok(refused > 300);
  assert.equal([pool.sizeOf('registration'), pool.sizeOf('miner')], [4, 4]);
  chain.validators.add(namedAccount('validator'));
  await pool.add(encoded('validator', 0, { call: scores(1) }));
  await pool.add(encoded('validator', 1));
  await pool.add(encoded('payer', 0));
  const lanes = pool.select(1_000_000).map(({ lane }) => lane);
  assert.equal(lanes.slice(0, 2), ['validator', 'validator']);
  assert.is(lanes.at(-1), 'paying');
  assert.is(pool.size, 11);
});

test('of what an account does once a round, one waits; an earlier nonce takes its place', async () => {
  const { pool } = setUp();
  const first = await pool.add(encoded('v', 3, { call: scores(7) }));
  assert.is(
    (await refusal(() => pool.add(encoded('v', 4, { call: scores(7), validUntil: 49 })))).code,
    'ERR_CALL_WAITING',
  );
  await pool.add(encoded('v', 4, { call: scores(8) }));
  // The nonce before it became free: the same call fills the gap, so that the line is not dead.
  await pool.add(encoded('v', 0, { call: scores(7) }));
  assert.not(pool.has(first.id));
  assert.is(pool.size, 2);
  assert.equal(nonces(pool), [0]);
});

test('an early call is kept, makes no work, and goes when it can never be', async () => {
  const { pool, chain } = setUp();
  chain.admissions.set(namedAccount('v'), 'later');
  const early = await pool.add(encoded('v', 0, { call: scores(1) }));
  assert.not(pool.hasReady());
  assert.equal(pool.select(1_000_000), []);
  chain.admissions.set(namedAccount('v'), 'now');
  pool.prune([]);
  assert.ok(pool.hasReady());
  assert.equal(
    pool.select(1_000_000).map(({ id }) => id),
    [early.id],
  );
  chain.admissions.set(namedAccount('v'), 'ERR_WRONG_ROUND');
  pool.prune([]);
  assert.is(pool.size, 0);
  assert.is(pool.nextNonce(namedAccount('v')), 0);
});

test('an account pays for all that it has waiting, or has less waiting', async () => {
  const { pool, chain } = setUp();
  chain.spendable.set(namedAccount('a'), 3n);
  for (const nonce of [0, 1, 2]) await pool.add(encoded('a', nonce));
  assert.is((await refusal(() => pool.add(encoded('a', 3)))).code, 'ERR_CANNOT_PAY_FEE');
  chain.spendable.set(namedAccount('a'), 1n);
  pool.prune([]);
  assert.equal(nonces(pool), [0]);
});

test('what pays: bounded, and the longest line gives way to shorter ones, its last first', async () => {
  const { pool, chain } = setUp({ lanes: { paying: { maxTransactions: 8 } } });
  for (let nonce = 0; nonce < 6; nonce++) await pool.add(encoded('rich', nonce));
  for (const name of ['b', 'c']) await pool.add(encoded(name, 0));
  await pool.add(encoded('d', 0));
  await pool.add(encoded('e', 0));
  assert.is(pool.size, 8);
  assert.is(pool.nextNonce(namedAccount('rich')), 4);
  // Nobody grows at the cost of those who have as little.
  assert.is((await refusal(() => pool.add(encoded('rich', 4)))).code, 'ERR_MEMPOOL_FULL');
  // A forged signature pushes nobody out.
  chain.verified = 0;
  assert.is((await refusal(() => pool.add(encoded('f', 0, {}, 0xff)))).code, 'ERR_BAD_SIGNATURE');
  assert.is(pool.nextNonce(namedAccount('rich')), 4);

  const small = setUp({ lanes: { paying: { maxBytes: 1000 } } });
  let taken = 0;
  while (taken < 100) {
    try {
      await small.pool.add(encoded(`a${taken}`, 0));
      taken += 1;
    } catch {
      break;
    }
  }
  assert.ok(taken > 2 && taken < 10);
  assert.ok(small.pool.bytes <= 1000);
});

const worked = (work: bigint, solution = 1n): Call => registerMiner('d', { challenge: namedHash('c'), solution, work });

test('registrations: most work first, a block takes a few, least work gives way, and one may do more', async () => {
  const { pool } = setUp({ lanes: { registration: { maxTransactions: 4 } } });
  for (const [index, work] of [50n, 20n, 40n, 30n].entries())
    await pool.add(encoded(`r${index}`, 0, { call: worked(work) }));
  const works = () =>
    pool
      .select(1_000_000)
      .map(({ transaction: { body } }) => body.call.tag === 'registerMiner' && body.call.value.work);
  assert.equal(works(), [50n, 40n, 30n, 20n]);
  assert.is((await refusal(() => pool.add(encoded('late', 0, { call: worked(20n) })))).code, 'ERR_MEMPOOL_FULL');
  await pool.add(encoded('late', 0, { call: worked(25n) }));
  assert.equal(works(), [50n, 40n, 30n, 25n]);
  // The same nonce again, for a quarter more at least.
  assert.is((await refusal(() => pool.add(encoded('late', 0, { call: worked(31n) })))).code, 'ERR_NONCE_TAKEN');
  await pool.add(encoded('late', 0, { call: worked(100n) }));
  assert.equal(works(), [100n, 50n, 40n, 30n]);
  assert.is(pool.size, 4);
});

test('registrations with a bond have room of their own, and a block takes one', async () => {
  const { pool } = setUp({ lanes: { registration: { maxTransactions: 2 }, bonded: { maxTransactions: 3 } } });
  for (const name of ['r1', 'r2']) await pool.add(encoded(name, 0, { call: worked(50n) }));
  for (const name of ['b1', 'b2', 'b3']) await pool.add(encoded(name, 0, { call: registerWithBond('d') }));
  const full = await refusal(() => pool.add(encoded('b4', 0, { call: registerWithBond('d') })));
  assert.is(full.code, 'ERR_MEMPOOL_FULL');
  assert.equal(
    pool.select(1_000_000).map(({ transaction: { body } }) => body.call.tag),
    ['registerMiner', 'registerMiner', 'registerWithBond'],
  );
  assert.not(pool.hasReady(), 'a registration waits for the next block: whoever floods must not set the pace');
  await pool.add(encoded('payer', 0));
  assert.ok(pool.hasReady());
});

test('work that was not done is refused, to the blame of its sender, before the signature is looked at', async () => {
  const { pool, chain } = setUp();
  const error = await refusal(() => pool.add(encoded('liar', 0, { call: worked(50n, 666n) })));
  assert.is(error.code, 'ERR_FALSE_WORK');
  assert.ok(error.blamesSender);
  assert.is(chain.verified, 0);
});

test('a block holds what fits, and never a later nonce without the earlier', async () => {
  const { pool } = setUp({}, 3);
  // The long one comes first but belongs after the short ones of its account.
  const long = transferFrom(namedAccount('p'), namedAccount('q'), amount(1n));
  await pool.add(encoded('a', 1, { call: long }));
  await pool.add(encoded('b', 0));
  await pool.add(encoded('a', 0));
  await pool.add(encoded('c', 0));
  const picked = (bytes: number) =>
    pool.select(bytes).map(({ transaction }) => [transaction.body.signer, transaction.body.nonce]);
  assert.equal(picked(1_000_000), [
    [namedAccount('b'), 0],
    [namedAccount('a'), 0],
    [namedAccount('a'), 1],
  ]);
  const one = encoded('b', 0).length + 4;
  assert.equal(picked(one * 2), [
    [namedAccount('b'), 0],
    [namedAccount('a'), 0],
  ]);
  assert.equal(picked(one * 3), [
    [namedAccount('b'), 0],
    [namedAccount('a'), 0],
    [namedAccount('c'), 0],
  ]);
  assert.equal(picked(0), []);
});

test('equal pools select equal blocks', async () => {
  const [first, second] = [setUp(), setUp()];
  const random = new Random(3);
  for (let index = 0; index < 80; index++) {
    const bytes = encoded(`a${random.below(20)}`, random.below(5), { call: transferCall(namedAccount('x'), 1n) });
    for (const { pool } of [first, second]) {
      try {
        await pool.add(bytes);
      } catch (error) {
        assert.instance(error, TransactionRefusedError);
      }
    }
  }
  assert.equal(
    first.pool.select(9000).map(({ id }) => id),
    second.pool.select(9000).map(({ id }) => id),
  );
});

test('20,000 random additions, blocks and arbitrary bytes: bounds hold, every selection is executable', async () => {
  const { pool, chain } = setUp(
    { maxPerAccount: 6, lanes: { paying: { maxTransactions: 40, maxBytes: 7000 }, miner: { maxTransactions: 10 } } },
    20,
  );
  const random = new Random(4);
  const names = Array.from({ length: 30 }, (_, index) => `n${index}`);
  const admissions = ['now', 'now', 'later', 'ERR_WRONG_ROUND'] as const;
  for (let step = 0; step < 20_000; step++) {
    const name = random.pick(names);
    chain.admissions.set(namedAccount(name), random.pick(admissions));
    const call = random.chance(30) ? commit(random.below(3)) : PAYMENT;
    const nonce = (chain.nonces.get(namedAccount(name)) ?? 0) + random.below(9) - 1;
    try {
      if (random.chance(5)) await pool.add(random.bytes(random.below(300)));
      else
        await pool.add(
          encoded(
            name,
            Math.max(0, nonce),
            { validUntil: chain.height + random.below(30), call },
            random.chance(5) ? 0xff : 1,
          ),
        );
    } catch (error) {
      assert.instance(error, TransactionRefusedError);
    }
    assert.ok(pool.sizeOf('paying') <= 40 && pool.sizeOf('miner') <= 10 && pool.bytes <= 9000 && pool.bytes >= 0);
    if (!random.chance(5)) continue;
    const block = pool.select(random.below(6000));
    assert.ok(block.length <= 20);
    for (const { transaction } of block) {
      const { signer, nonce: turn, validUntil } = transaction.body;
      assert.is(turn, chain.nonces.get(signer) ?? 0);
      assert.ok(validUntil > chain.height);
      chain.nonces.set(signer, turn + 1);
    }
    chain.height += 1;
    pool.prune(block.map(({ id }) => id));
    for (const { id } of block) assert.not(pool.has(id));
  }
});

test.run();
