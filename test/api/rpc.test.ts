import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CallRejectedError, callNode } from '../../node/api/client.ts';
import { sendThroughNode } from '../../node/api/remote-sender.ts';
import { ApiServer } from '../../node/api/server.ts';
import type { NodeStatus } from '../../node/api/status.ts';
import { addressOf } from '../../node/chain/account.ts';
import { registerMiner } from '../../node/chain/calls.ts';
import { decodeTransaction, encodeTransaction, transactionId } from '../../node/chain/transaction.ts';
import { decodeProof, verifyProof } from '../../node/ledger/proof.ts';
import {
  advance,
  chainGenesis,
  openChain,
  openFundedChain,
  PROPOSER,
  signed,
  testSigner,
} from '../blockchain/harness.ts';
import { testParameters } from '../ledger/harness.ts';

const MINER = testSigner(1);

/** A chain behind an API, and what it handed to peers. */
async function serve({ chain, store } = openChain(':memory:', chainGenesis())): Promise<{
  chain: ReturnType<typeof openChain>['chain'];
  endpoint: { api: string };
  published: Uint8Array[];
  logged: object[];
  close(): Promise<void>;
}> {
  const published: Uint8Array[] = [];
  const logged: object[] = [];
  const server = new ApiServer(
    { host: '127.0.0.1', port: 0 },
    {
      status: () => ({}) as NodeStatus,
      account: () => ({ balance: 0n, registrationBond: 0n, nonce: 0 }),
      rpc: { chain, publish: (encoded) => published.push(encoded) },
      log: { error: (details) => logged.push(details) },
    },
  );
  await server.start();
  const close = async () => {
    await server.stop();
    store.close();
  };
  return { chain, endpoint: { api: server.url }, published, logged, close };
}

const register = registerMiner('test');

async function rejection(call: Promise<unknown>): Promise<CallRejectedError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof CallRejectedError) return error;
    throw error;
  }
  throw new Error('the call was not rejected');
}

/** Raw answer of POST /rpc. */
async function post(api: string, body: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${api}/rpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
}

test('a transaction goes in signed, is published, and is found again in its block, by id, and as an event', async () => {
  const { chain, endpoint, published, close } = await serve();
  try {
    const encoded = signed(chain, MINER, register);
    const { id } = await callNode<{ id: string }>(endpoint, 'submit', {
      transaction: Buffer.from(encoded).toString('hex'),
    });
    assert.is(id, transactionId(decodeTransaction(encoded)));
    assert.equal(published, [encoded]);
    assert.is((await callNode<{ status: string }>(endpoint, 'transaction', { id })).status, 'waiting');
    await advance(chain);
    const found = await callNode<{ status: string; receipt: { height: number; signer: string } }>(
      endpoint,
      'transaction',
      { id: `0x${id.toUpperCase()}` },
    );
    assert.is(found.status, 'done');
    assert.is(found.receipt.signer, addressOf(MINER.account));
    const block = await callNode<{
      id: string;
      height: number;
      transactions: { id: string; call: { name: string } }[];
    }>(endpoint, 'block', { height: found.receipt.height });
    assert.equal(
      block.transactions.map((transaction) => [transaction.id, transaction.call.name]),
      [[id, 'registerMiner']],
    );
    const byId = await callNode<{ height: number }>(endpoint, 'block', { id: block.id });
    assert.is(byId.height, 1);
    const { events } = await callNode<{ events: { type: string; account?: string }[] }>(endpoint, 'events', {
      types: ['minerRegistered'],
    });
    assert.equal(
      events.map(({ type, account }) => [type, account]),
      [['minerRegistered', addressOf(MINER.account)]],
    );
  } finally {
    await close();
  }
});

test('sendThroughNode waits for the block and says what the ledger answered', async () => {
  const parameters = testParameters({ economics: { baseFee: 1 } });
  const { chain, endpoint, close } = await serve(openFundedChain(new Map([[MINER.account, 3n]]), parameters));
  try {
    const blocks = new AbortController();
    const submitted = Promise.withResolvers<void>();
    const sending = (async () => {
      const receipt = await sendThroughNode(
        {
          endpoint,
          signer: MINER,
          call: { tag: 'transfer', value: { to: PROPOSER.account, amount: 5n } },
          lifetimeBlocks: 10,
          networkId: chain.networkId,
        },
        { onSubmitted: () => submitted.resolve() },
      );
      blocks.abort();
      return receipt;
    })();
    await submitted.promise;
    await advance(chain);
    const receipt = await sending;
    assert.is(receipt.height, 1);
    assert.is(receipt.error, 'ERR_INSUFFICIENT_BALANCE');
  } finally {
    await close();
  }
});

test('sendThroughNode ends when another transaction took the nonce, instead of waiting for its last height', async () => {
  const { chain, endpoint, close } = await serve();
  try {
    const submitted = Promise.withResolvers<void>();
    const call = registerMiner('mine');
    const send = { endpoint, signer: MINER, call, lifetimeBlocks: 1000, networkId: chain.networkId };
    const sending = rejection(sendThroughNode(send, { onSubmitted: () => submitted.resolve() }));
    await submitted.promise;
    // Another program with the same key was faster, through another node.
    const { chain: elsewhere } = openChain(':memory:', chainGenesis());
    await elsewhere.submit(signed(elsewhere, MINER, register));
    const block = await advance(elsewhere);
    await chain.commit(block, (await elsewhere.finalized(1))!.commit);
    assert.is((await sending).code, 'ERR_NONCE_TOO_LOW');
  } finally {
    await close();
  }
});

test('a wallet that wraps raw bytes in <Bytes> signs a valid transaction; other wrappings do not', async () => {
  const { chain, endpoint, close } = await serve();
  try {
    const { body } = decodeTransaction(signed(chain, MINER, register));
    const bodyHex = Buffer.from(encodeTransaction({ body, signature: new Uint8Array(64) }).slice(0, -64)).toString(
      'hex',
    );
    const { bytes } = await callNode<{ bytes: string }>(endpoint, 'signBytes', { body: bodyHex });
    const send = (prefix: string, suffix: string) => {
      const message = Buffer.concat([Buffer.from(prefix), Buffer.from(bytes, 'hex'), Buffer.from(suffix)]);
      const transaction = encodeTransaction({ body, signature: MINER.sign(message) });
      return callNode(endpoint, 'submit', { transaction: Buffer.from(transaction).toString('hex') });
    };
    assert.is((await rejection(send('<Bytes >', '</Bytes>'))).code, 'ERR_BAD_SIGNATURE');
    await send('<Bytes>', '</Bytes>');
    await advance(chain);
    assert.is(chain.account(MINER.account).nonce, 1);
  } finally {
    await close();
  }
});

test('validators, parameters, chain, account and a proof that verifies', async () => {
  const { chain, endpoint, close } = await serve();
  try {
    await advance(chain);
    const set = await callNode<{ height: number; validators: { address: string; share: number }[] }>(
      endpoint,
      'validators',
    );
    assert.is(set.height, 2);
    assert.equal(
      set.validators.map(({ address, share }) => [address, share]),
      [[addressOf(PROPOSER.account), 1]],
    );
    assert.ok((await callNode<{ consensus: object }>(endpoint, 'parameters')).consensus);
    const view = await callNode<{ height: number; stateRoot: string }>(endpoint, 'chain');
    assert.is(view.stateRoot, chain.state.root);
    const proven = await callNode<{ stateRoot: string; value: string; proof: string }>(endpoint, 'proof', {
      key: 'chain',
    });
    const proof = decodeProof(new Uint8Array(Buffer.from(proven.proof, 'hex')));
    const value = verifyProof(chain.state.root, 'chain', proof);
    assert.is(Buffer.from(value ?? []).toString('hex'), proven.value);
  } finally {
    await close();
  }
});

test('each mistake gets its own answer, and none gets further than the interface', async () => {
  const { endpoint, logged, close } = await serve();
  const { api } = endpoint;
  try {
    assert.match((await rejection(callNode(endpoint, 'account', { address: 'nobody' }))).code, /ERR_INVALID_ACCOUNT/);
    assert.match((await rejection(callNode(endpoint, 'account', {}))).message, /address/);
    assert.match((await rejection(callNode(endpoint, 'account', { address: 'a', more: 1 }))).message, /more/);
    assert.is((await rejection(callNode(endpoint, 'submit', { transaction: 'ff' }))).code, 'ERR_MALFORMED');
    assert.match((await rejection(callNode(endpoint, 'submit', { transaction: 'xyz' }))).message, /hex/);
    assert.is((await rejection(callNode(endpoint, 'block', { height: 99 }))).code, 'ERR_NOT_FOUND');
    assert.is((await rejection(callNode(endpoint, 'events', { after: 'soon' }))).code, 'ERR_INVALID_CURSOR');
    assert.match((await rejection(callNode(endpoint, 'steal'))).message, /not found/i);
    for (const name of ['constructor', '__proto__', 'toString'])
      assert.match((await rejection(callNode(endpoint, name))).message, /not found/i);
    assert.is((await post(api, '{')).status, 400);
    assert.is((await post(api, '"text"')).status, 400);
    const call = { jsonrpc: '2.0', id: 1, method: 'chain' };
    assert.is((await post(api, JSON.stringify(Array(21).fill(call)))).status, 400);
    assert.is((await post(api, JSON.stringify([call, call]))).body.length, 2);
    assert.is((await post(api, JSON.stringify({ ...call, id: undefined }))).status, 204);
    assert.is((await post(api, JSON.stringify({ ...call, params: { x: 'y'.repeat(200_000) } }))).status, 413);
    assert.is((await post(api, JSON.stringify(call), { 'content-type': 'text/plain' })).status, 400);
    assert.equal(logged, []);
  } finally {
    await close();
  }
});

test('the stream goes on after a cursor, filters, and turns pages of other origins away', async () => {
  const { chain, endpoint, close } = await serve();
  try {
    for (let i = 0; i < 3; i++) await advance(chain);
    const url = `${endpoint.api.replace('http', 'ws')}/events`;
    const socket = new WebSocket(`${url}?types=block,minerRegistered&after=1:0`);
    const received: { type: string; height?: number }[] = [];
    const got = Promise.withResolvers<void>();
    socket.addEventListener('message', ({ data }) => {
      received.push(JSON.parse(String(data)));
      if (received.length === 2) {
        // Caught up: the next ones are live.
        chain
          .submit(signed(chain, MINER, register))
          .then(() => advance(chain))
          .catch(got.reject);
      }
      if (received.length === 4) got.resolve();
    });
    await got.promise;
    assert.equal(
      received.map(({ type, height }) => [type, height]),
      [
        ['block', 2],
        ['block', 3],
        ['block', 4],
        ['minerRegistered', undefined],
      ],
    );
    socket.close();
    // Node's WebSocket sends no origin; a browser's page would.
    const { WebSocket: Client } = await import('ws');
    const page = new Client(url, { origin: 'https://example.com' });
    const [code] = await once(page, 'close');
    assert.is(code, 1008);
    const wrong = new Client(`${url}?after=nonsense`);
    assert.is((await once(wrong, 'close'))[0], 1008);
  } finally {
    await close();
  }
});

test('a name that somebody made resolve to this machine is turned away', async () => {
  const { endpoint, close } = await serve();
  try {
    const { request } = await import('node:http');
    const { port } = new URL(endpoint.api);
    const asked = request({ host: '127.0.0.1', port, path: '/status', headers: { host: 'evil.example' } }).end();
    const [response] = await once(asked, 'response');
    assert.is(response.statusCode, 403);
    response.resume();
  } finally {
    await close();
  }
});

test.run();
