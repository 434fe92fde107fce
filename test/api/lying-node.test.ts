/** A node that lies about its network gets nothing signed; what else it says can only fail, and nothing is believed unread. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OtherNetworkError, sendThroughNode, UnusableAnswerError } from '../../node/api/remote-sender.ts';
import { networkId } from '../../node/chain/genesis.ts';
import { InvalidTrustError, trustingPeriod } from '../../node/consensus/light-client/trust.ts';
import type { AccountSigner } from '../../node/identity/signatures.ts';
import { chainGenesis, PROPOSER, testSigner } from '../blockchain/harness.ts';
import { transferCall } from '../ledger/harness.ts';

const OWN = networkId(chainGenesis());
const OTHER = 'ee'.repeat(8);

/** A node that answers as it is told, and what was handed in to it. */
async function fakeNode(answers: Record<string, unknown>) {
  const submitted: string[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      const { method, params } = JSON.parse(body);
      if (method === 'submit') submitted.push(params.transaction);
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, result: answers[method] ?? {} }));
    });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const close = () => new Promise((closed) => server.close(closed));
  return { api, submitted, close };
}

/** A signer that remembers what it signed. */
function watched(signer: AccountSigner): { signer: AccountSigner; signed: Uint8Array[] } {
  const signed: Uint8Array[] = [];
  const sign = (message: Uint8Array) => {
    signed.push(message);
    return signer.sign(message);
  };
  return { signer: { ...signer, account: signer.account, sign } as AccountSigner, signed };
}

async function outcome(answers: Record<string, unknown>): Promise<{ error: unknown; signed: Uint8Array[] }> {
  const node = await fakeNode({
    transaction: { status: 'done', receipt: { height: 6, error: null } },
    ...answers,
  });
  const { signer, signed } = watched(testSigner(1));
  const call = transferCall(PROPOSER.account, 5n);
  try {
    await sendThroughNode({ endpoint: node, signer, call, lifetimeBlocks: 10, networkId: OWN });
    return { error: undefined, signed };
  } catch (error) {
    return { error, signed };
  } finally {
    await node.close();
  }
}

test('a node of another network gets no signature', async () => {
  const { error, signed } = await outcome({ chain: { height: 5, networkId: OTHER }, account: { nextNonce: 3 } });
  assert.equal(signed, []);
  assert.instance(error, OtherNetworkError);
  assert.match((error as Error).message, /eeeeeeeeeeeeeeee.*nothing was signed/);
});

test('what is signed is for the network of the file, whatever the node says', async () => {
  const chain = { height: 5, networkId: Buffer.from(OWN).toString('hex') };
  const { error, signed } = await outcome({ chain, account: { nextNonce: 3 } });
  assert.is(error, undefined);
  assert.is(signed.length, 1);
  assert.ok(Buffer.from(signed[0]).includes(Buffer.from(OWN)));
});

test('answers that no node gives are an error before anything is signed', async () => {
  const chain = { height: 5, networkId: Buffer.from(OWN).toString('hex') };
  for (const answers of [
    { chain: { height: '5', networkId: chain.networkId } },
    { chain: { height: -1, networkId: chain.networkId } },
    { chain: {} },
    { chain, account: { nextNonce: 2 ** 40 } },
    { chain, account: { nextNonce: 0.5 } },
    { chain, account: {} },
  ]) {
    const { error, signed } = await outcome(answers);
    assert.equal(signed, []);
    assert.instance(error, UnusableAnswerError, JSON.stringify(answers));
  }
});

test('nobody trusts a block for as long as stake takes to leave', () => {
  const day = 24 * 3600 * 1000;
  assert.is(trustingPeriod(undefined, 21 * day), 14 * day);
  assert.is(trustingPeriod(undefined, 3 * day), 2 * day);
  assert.is(trustingPeriod(20, 21 * day), 20 * day);
  for (const days of [21, 22]) {
    assert.throws(
      () => trustingPeriod(days, 21 * day),
      (error: unknown) => error instanceof InvalidTrustError && /not shorter/.test(error.message),
    );
  }
});

test.run();
