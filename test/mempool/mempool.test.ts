import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { encodeTransaction, type TransactionBody } from '../../node/chain/transaction.ts';
import type { RefusalCode } from '../../node/mempool/errors.ts';
import { TransactionRefusedError } from '../../node/mempool/errors.ts';
import { type AccountClass, Mempool, type MempoolLimits } from '../../node/mempool/mempool.ts';
import { Ignore, Reject } from '../../node/network/interface.ts';
import { VerifierBusyError } from '../../node/signature-checks/verifier.ts';
import { namedAccount, register, testParameters, transferCall } from '../ledger/harness.ts';
import { Random } from '../ledger/random.ts';

/** A mempool over a made-up chain; a signature is valid unless its first byte is 0xff. */
function setUp(limits: Partial<MempoolLimits> = {}, maxTransactionsPerBlock = 500) {
  const chain = {
    height: 10,
    nonces: new Map<AccountId, number>(),
    classes: new Map<AccountId, AccountClass>(),
    /** Accounts that cannot pay a fee. */
    penniless: new Set<AccountId>(),
    verified: 0,
    /** True: the verifier takes no more. */
    busy: false,
  };
  const pool = new Mempool(
    { maxTransactions: 100, maxBytes: 100_000, maxPerAccount: 8, ...limits },
    {
      nonce: (account) => chain.nonces.get(account) ?? 0,
      height: () => chain.height,
      parameters: () =>
        testParameters({ consensus: { maxTransactionsPerBlock }, economics: { transactionsPerAccountPerBlock: 4 } }),
      classOf: (account) => chain.classes.get(account) ?? 0,
      canPay: ({ body }) => !chain.penniless.has(body.signer),
      verify: async (transaction) => {
        if (chain.busy) throw new VerifierBusyError('busy');
        chain.verified += 1;
        return transaction.signature[0] !== 0xff;
      },
    },
  );
  return { chain, pool };
}

function encoded(name: string, nonce: number, override: Partial<TransactionBody> = {}, signatureByte = 1): Uint8Array {
  const body = { version: 1, signer: namedAccount(name), nonce, validUntil: 50, tip: 0, call: register(), ...override };
  return encodeTransaction({ body, signature: new Uint8Array(64).fill(signatureByte) });
}

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
  chain.penniless.add(namedAccount('poor'));
  expected.push(['ERR_CANNOT_PAY_FEE', false, encoded('poor', 0)]);
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
  const { pool, chain } = setUp({ maxTransactions: 3 });
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
  assert.is(await turn(encoded('c', 0), () => chain.penniless.add(namedAccount('c'))), 'ERR_CANNOT_PAY_FEE');
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
  chain.penniless.add(namedAccount('c'));
  pool.prune([first.id]);
  assert.is(pool.size, 0);
  assert.is(pool.bytes, 0);
});

test('bounded in number and bytes; higher classes push out the newest of the lowest', async () => {
  const { pool, chain } = setUp({ maxTransactions: 6 });
  chain.classes.set(namedAccount('validator'), 2);
  chain.classes.set(namedAccount('miner'), 1);
  for (let index = 0; index < 6; index++) await pool.add(encoded(`spam ${index}`, 0));
  assert.is((await refusal(() => pool.add(encoded('spam 7', 0)))).code, 'ERR_MEMPOOL_FULL');
  await pool.add(encoded('validator', 0));
  await pool.add(encoded('miner', 0));
  assert.is(pool.size, 6);
  assert.equal(
    pool.select(1_000_000).map(({ transaction }) => transaction.body.signer),
    ['validator', 'miner', 'spam 0', 'spam 1', 'spam 2', 'spam 3'].map(namedAccount),
  );
  for (let index = 1; index < 5; index++) await pool.add(encoded('validator', index));
  assert.is((await refusal(() => pool.add(encoded('miner', 1)))).code, 'ERR_MEMPOOL_FULL');
  // A forged signature pushes nobody out.
  assert.is((await refusal(() => pool.add(encoded('validator', 5, {}, 0xff)))).code, 'ERR_BAD_SIGNATURE');
  assert.is(pool.size, 6);

  const small = setUp({ maxBytes: 1000 });
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

test('a line that loses one to make room loses its last', async () => {
  const { pool, chain } = setUp({ maxTransactions: 3 });
  chain.classes.set(namedAccount('validator'), 2);
  await pool.add(encoded('a', 2));
  await pool.add(encoded('a', 1));
  await pool.add(encoded('a', 0));
  await pool.add(encoded('validator', 0));
  assert.equal(nonces(pool), [0, 0, 1]);
});

test('a block holds what fits, and never a later nonce without the earlier', async () => {
  const { pool } = setUp({}, 3);
  // The long one comes first but belongs after the short ones of its account.
  await pool.add(encoded('a', 1, { call: register('x'.repeat(60)) }));
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
  const { pool, chain } = setUp({ maxTransactions: 50, maxBytes: 9000, maxPerAccount: 6 }, 20);
  const random = new Random(4);
  const names = Array.from({ length: 30 }, (_, index) => `n${index}`);
  for (const [index, name] of names.entries()) chain.classes.set(namedAccount(name), (index % 3) as AccountClass);
  for (let step = 0; step < 20_000; step++) {
    const name = random.pick(names);
    const nonce = (chain.nonces.get(namedAccount(name)) ?? 0) + random.below(9) - 1;
    try {
      if (random.chance(5)) await pool.add(random.bytes(random.below(300)));
      else
        await pool.add(
          encoded(
            name,
            Math.max(0, nonce),
            { validUntil: chain.height + random.below(30) },
            random.chance(5) ? 0xff : 1,
          ),
        );
    } catch (error) {
      assert.instance(error, TransactionRefusedError);
    }
    assert.ok(pool.size <= 50 && pool.bytes <= 9000 && pool.bytes >= 0);
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
