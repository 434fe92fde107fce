import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Blockchain } from '../../node/blockchain/blockchain.ts';
import { blockchain } from '../../node/blockchain/blockchain.ts';
import { TransactionExpiredError, TransactionSender } from '../../node/blockchain/transaction-sender.ts';
import { genesisHash } from '../../node/chain/genesis.ts';
import { TransactionRefusedError } from '../../node/mempool/errors.ts';
import { Store } from '../../node/store/store.ts';
import { register, transferCall } from '../ledger/harness.ts';
import { advance, chainGenesis, openChain, PROPOSER, signed, testSigner } from './harness.ts';

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

test('receipts, for what worked and for what the ledger refused, in the order of sending', async () => {
  const { chain } = openChain();
  const published: Uint8Array[] = [];
  const sender = senderOn(chain, published);
  const first = sender.send(register());
  const second = sender.send(transferCall(PROPOSER.account, 5n));
  await settle();
  await advance(chain);
  assert.equal([(await first).error, (await first).nonce], [undefined, 0]);
  assert.equal([(await second).error, (await second).nonce], ['ERR_INSUFFICIENT_BALANCE', 1]);
  assert.is(published.length, 2);
  const third = sender.send(register());
  await settle();
  await advance(chain);
  assert.equal([(await third).error, (await third).nonce], ['ERR_ALREADY_REGISTERED', 2]);
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
  const { chain } = openChain();
  const { chain: elsewhere } = openChain();
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
  const { chain } = openChain();
  await chain.submit(signed(chain, SIGNER, register()));
  await chain.submit(signed(chain, SIGNER, transferCall(PROPOSER.account, 1n)));
  const sent = senderOn(chain).send(transferCall(PROPOSER.account, 2n));
  await settle();
  await advance(chain);
  assert.is((await sent).nonce, 2);
});

test('waits for room, and keeps many sends going at once', async () => {
  const genesis = chainGenesis();
  const store = Store.open({ path: ':memory:', genesisHash: genesisHash(genesis) });
  const chain = blockchain({ genesis, mempool: { maxPerAccount: 4 } })({ store });
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
