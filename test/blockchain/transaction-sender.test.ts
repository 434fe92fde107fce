import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Blockchain } from '../../node/blockchain/blockchain.ts';
import { TransactionExpiredError, TransactionSender } from '../../node/blockchain/transaction-sender.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { TransactionRefusedError } from '../../node/mempool/errors.ts';
import { namedHash, register, testParameters, transferCall } from '../ledger/harness.ts';
import { advance, chainGenesis, openChain, openFundedChain, PROPOSER, signed, testSigner } from './harness.ts';

const SIGNER = testSigner(1);

function senderOn(chain: Blockchain, published: Uint8Array[] = []): TransactionSender {
  return new TransactionSender({
    chain,
    signer: SIGNER,
    publish: async (encoded) => {
      published.push(encoded);
    },
  });
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('did not reject');
}

/** Lets everything that waits on promises go on. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A chain on which calls cost a unit and the sender has some. */
function payingChain(mempool?: { maxPerAccount: number }) {
  return openFundedChain(new Map([[SIGNER.account, 100n]]), testParameters({ economics: { baseFee: 1 } }), mempool)
    .chain;
}

test('receipts, for what worked and for what the ledger refused, in the order of sending', async () => {
  const chain = payingChain();
  const published: Uint8Array[] = [];
  const sender = senderOn(chain, published);
  const first = sender.send(register());
  const second = sender.send(transferCall(PROPOSER.account, 500n));
  await settle();
  await advance(chain);
  assert.equal([(await first).error, (await first).nonce], [undefined, 0]);
  assert.equal([(await second).error, (await second).nonce], ['ERR_INSUFFICIENT_BALANCE', 1]);
  assert.is(published.length, 2);
});

test('a free call that the ledger refuses is an error at once and uses no nonce', async () => {
  const { chain } = openChain();
  const sender = senderOn(chain);
  const first = sender.send(register());
  await settle();
  await advance(chain);
  assert.is((await first).nonce, 0);
  const error = await rejection(sender.send(register()));
  assert.is((error as TransactionRefusedError).code, 'ERR_ALREADY_REGISTERED');
  assert.is(chain.account(SIGNER.account).nextNonce, 1);
});

test('a free call whose time is over ends with an error, and what waited behind it takes its nonce', async () => {
  const genesis = chainGenesis(testParameters({ rounds: { trainDeadlineMs: 10_000 } }));
  const { chain } = openChain(':memory:', genesis);
  const { chain: elsewhere } = openChain(':memory:', genesis);
  const follow = async (afterMs: number) => {
    const block = await advance(elsewhere, afterMs);
    await chain.commit(block, (await elsewhere.finalized(block.header.height))!.commit);
    await settle();
  };
  const other = testSigner(2);
  for (const signer of [SIGNER, other]) await elsewhere.submit(signed(elsewhere, signer, register()));
  await follow(100);
  await follow(5000);
  assert.is(chain.state.round.seats.length, 2);
  const { round, attempt } = chain.state.round;
  const commit = (number: number): Call => ({
    tag: 'commitSubmission',
    value: { round: number, attempt: number === round ? attempt : 1, slot: 0, commitment: namedHash('c') },
  });
  const sender = senderOn(chain);
  const late = rejection(sender.send(commit(round)));
  const next = sender.send(commit(round + 1), { lifetimeBlocks: 50 });
  await settle();
  assert.is(chain.account(SIGNER.account).nextNonce, 3);
  // Proposers never heard of the first, and the training phase ends without it.
  await elsewhere.submit(signed(elsewhere, other, commit(round)));
  await follow(100);
  await follow(10_000);
  assert.is(chain.state.round.phase, 'reveal');
  assert.is(((await late) as TransactionRefusedError).code, 'ERR_WRONG_PHASE');
  await follow(100);
  assert.is(chain.account(SIGNER.account).nextNonce, 2);
  // Nobody reveals: the next round opens, and the second call goes in under the nonce of the first.
  await follow(60_000);
  assert.is(chain.state.round.round, round + 1);
  await advance(chain);
  assert.is((await next).nonce, 1);
});

test('expires when no block takes it, and its nonce is free again', async () => {
  const { chain } = openChain();
  const { chain: elsewhere } = openChain();
  const sender = senderOn(chain);
  const sent = rejection(sender.send(register(), { lifetimeBlocks: 3 }));
  await settle();
  for (let index = 0; index < 3; index++) {
    // Blocks of a proposer that never heard of the transaction.
    const block = await advance(elsewhere);
    await chain.commit(block, (await elsewhere.finalized(block.header.height))!.commit);
    await settle();
  }
  assert.instance(await sent, TransactionExpiredError);
  const again = sender.send(register());
  await settle();
  await advance(chain);
  assert.is((await again).nonce, 0);
});

test('publishes again, under new bytes and the same id, while it is not included', async () => {
  const { chain } = openChain();
  const { chain: elsewhere } = openChain();
  const published: Uint8Array[] = [];
  const sent = senderOn(chain, published).send(register());
  await settle();
  assert.is(published.length, 1);
  for (let index = 0; index < 3; index++) {
    const block = await advance(elsewhere);
    await chain.commit(block, (await elsewhere.finalized(block.header.height))!.commit);
    await settle();
  }
  assert.is(published.length, 2);
  assert.not.equal(published[0], published[1]);
  // The other node gets it now, and a block with its signature counts for the sender.
  await elsewhere.submit(published[1]);
  const block = await advance(elsewhere);
  await chain.commit(block, (await elsewhere.finalized(block.header.height))!.commit);
  assert.is((await sent).height, 4);
});

test('another program with the same key took the nonce: sends again with the next', async () => {
  const chain = payingChain();
  const elsewhere = payingChain();
  const sent = senderOn(chain).send(transferCall(PROPOSER.account, 5n));
  await settle();
  await elsewhere.submit(signed(elsewhere, SIGNER, register()));
  const block = await advance(elsewhere);
  await chain.commit(block, (await elsewhere.finalized(block.header.height))!.commit);
  await settle();
  await advance(chain);
  assert.is((await sent).nonce, 1);
  assert.is((await sent).call, 'transfer');
});

test('its own transactions from before a restart wait already: goes behind them', async () => {
  const chain = payingChain();
  await chain.submit(signed(chain, SIGNER, register()));
  await chain.submit(signed(chain, SIGNER, transferCall(PROPOSER.account, 1n)));
  const sent = senderOn(chain).send(transferCall(PROPOSER.account, 2n));
  await settle();
  await advance(chain);
  assert.is((await sent).nonce, 2);
});

test('waits for room, and keeps many sends going at once', async () => {
  const chain = payingChain({ maxPerAccount: 4 });
  const sender = senderOn(chain);
  const sent = Promise.all(Array.from({ length: 15 }, () => sender.send(transferCall(PROPOSER.account, 1n))));
  for (let index = 0; index < 12; index++) {
    await settle();
    await advance(chain);
  }
  const receipts = await sent;
  assert.equal(
    receipts.map(({ nonce }) => nonce).sort((a, b) => a - b),
    Array.from({ length: 15 }, (_, index) => index),
  );
});

test('stops at once when aborted, before and while waiting', async () => {
  const { chain } = openChain();
  const sender = senderOn(chain);
  assert.is(((await rejection(sender.send(register(), { signal: AbortSignal.abort() }))) as Error).name, 'AbortError');
  const controller = new AbortController();
  const sent = rejection(sender.send(register(), { signal: controller.signal }));
  await settle();
  const reason = new Error('enough');
  controller.abort(reason);
  assert.is(await sent, reason);
});

test('a transaction that can never be taken is an error at once', async () => {
  const { chain } = openChain();
  const error = await rejection(senderOn(chain).send(register(), { lifetimeBlocks: 100_000 }));
  assert.instance(error, TransactionRefusedError);
  assert.is((error as TransactionRefusedError).code, 'ERR_VALID_TOO_LONG');
});

test('a failing publisher is made up for', async () => {
  const { chain } = openChain();
  const sender = new TransactionSender({ chain, signer: SIGNER, publish: () => Promise.reject(new Error('no peers')) });
  const sent = sender.send(register());
  await settle();
  await advance(chain);
  assert.is((await sent).error, undefined);
});

test.run();
