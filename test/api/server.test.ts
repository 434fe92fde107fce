import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ChainView } from '../../node/api/rpc/chain-view.ts';
import { ApiServer } from '../../node/api/server.ts';
import type { NodeStatus } from '../../node/api/status.ts';
import { accountFromAddress } from '../../node/chain/account.ts';

/** //Alice under prefix 300. */
const ADDRESS = 'a2xVnE6ZjQ8zwMi2h4HAUN6nnUWxakh1xMLZ3ScBtmkUTt9V3';

const status = {
  peers: 7,
  bytesSent: 11,
  bytesReceived: 12,
  residentBytes: 13,
  chain: { height: 42, waitingTransactions: 3 },
  training: { round: 5, seats: 7, waitingForSeats: 2, rounds: [{ round: 4, heldOutLoss: 6.25, submissions: [] }] },
  work: { activity: '', tokensPerSecond: null, trainingLoss: null },
} as unknown as NodeStatus;

const components = {
  status: () => status,
  account: (account: string) => ({
    balance: account === accountFromAddress(ADDRESS) ? 2n ** 70n : 0n,
    registrationBond: 3n,
    nonce: 9,
  }),
  rpc: { chain: {} as ChainView, publish: () => {} },
  log: { error: () => {} },
};

test('serves status, exact balances and metrics on loopback', async () => {
  const server = new ApiServer({ host: '127.0.0.1', port: 0 }, components);
  await server.start();
  try {
    assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/);
    assert.is(((await (await fetch(`${server.url}/status`)).json()) as NodeStatus).chain.height, 42);
    const account = await (await fetch(`${server.url}/accounts/${ADDRESS}`)).json();
    assert.equal(account, { address: ADDRESS, balance: (2n ** 70n).toString(), registrationBond: '3', nonce: 9 });
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    assert.match(metrics, /^alice_height 42$/m);
    assert.match(metrics, /^alice_seats 7$/m);
    assert.match(metrics, /^alice_waiting_for_seats 2$/m);
    assert.match(metrics, /^alice_held_out_loss_nats 6\.25$/m);
    assert.not.match(metrics, /^alice_tokens_per_second \d/m);
  } finally {
    await server.stop();
  }
});

test('an address of another network is a 400 that says so; writing is not offered', async () => {
  const server = new ApiServer({ host: '127.0.0.1', port: 0 }, components);
  await server.start();
  try {
    const wrong = await fetch(`${server.url}/accounts/5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY`);
    assert.is(wrong.status, 400);
    assert.is(((await wrong.json()) as { code: string }).code, 'ERR_INVALID_ACCOUNT');
    assert.is((await fetch(`${server.url}/status`, { method: 'POST' })).status, 404);
  } finally {
    await server.stop();
  }
});

test('a taken port is a typed error that says what to do', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as AddressInfo;
  const server = new ApiServer({ host: '127.0.0.1', port }, components);
  try {
    await server.start();
    assert.unreachable();
  } catch (error) {
    assert.is((error as { code?: string }).code, 'ERR_API_PORT');
    assert.match((error as Error).message, /--api-port/);
  } finally {
    await server.stop();
    await new Promise((resolve) => other.close(resolve));
  }
});

test.run();
