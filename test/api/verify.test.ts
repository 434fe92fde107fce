import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ApiServer } from '../../node/api/server.ts';
import type { NodeStatus } from '../../node/api/status.ts';
import type { Blockchain } from '../../node/blockchain/blockchain.ts';
import { addressOf } from '../../node/chain/account.ts';
import { blockId } from '../../node/chain/block.ts';
import { registerMiner } from '../../node/chain/calls.ts';
import { advance, chainGenesis, openChain, signed, testSigner } from '../blockchain/harness.ts';
import { testParameters } from '../ledger/harness.ts';

const MINER = testSigner(1);
const ADDRESS = addressOf(MINER.account);

/** Runs the command line; its exit code and what it printed. */
function alice(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['bin/alice.ts', ...args], (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

/** Stake takes ten years to leave, so that the fixed time of the chain's genesis stays within the trusting period. */
const GENESIS = chainGenesis(testParameters({ staking: { unbondingMs: 315_360_000_000 } }));

const folder = mkdtempSync(join(tmpdir(), 'alice-verify-'));
const NETWORK = join(folder, 'network.json');
test.before(() => writeFileSync(NETWORK, JSON.stringify({ genesis: GENESIS, bootstrap: [] })));
test.after(() => rmSync(folder, { recursive: true }));

async function withNode(body: (chain: Blockchain, api: string) => Promise<void>): Promise<void> {
  const { chain, store } = openChain(':memory:', GENESIS);
  await chain.submit(signed(chain, MINER, registerMiner('test')));
  for (let height = 1; height <= 12; height++) await advance(chain);
  const server = new ApiServer(
    { host: '127.0.0.1', port: 0 },
    {
      status: () => ({}) as NodeStatus,
      account: () => ({ balance: 0n, registrationBond: 0n, nonce: 0 }),
      rpc: { chain, publish: () => {} },
      log: { error: () => {} },
    },
  );
  await server.start();
  try {
    await body(chain, server.url);
  } finally {
    await server.stop();
    store.close();
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

/** A node between the client and an honest one, which changes answers. */
async function withLiar(
  api: string,
  lie: (method: string, result: Record<string, unknown>) => object,
  body: (api: string) => Promise<void>,
) {
  const server = createServer(async (request, response) => {
    const text = await readBody(request);
    const honest = await fetch(`${api}/rpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: text,
    });
    const answer = (await honest.json()) as { result: Record<string, unknown> };
    const { method } = JSON.parse(text) as { method: string };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ ...answer, result: lie(method, answer.result) }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await body(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

const idAt = async (chain: Blockchain, height: number) => {
  const found = await chain.finalized(height);
  assert.ok(found);
  return `${height}:${blockId(found.block.header)}`;
};

const DAYS = ['--network', NETWORK, '--trust-days', '3600'];

test('a balance is verified from a trusted block, at the last height and at an earlier one', () =>
  withNode(async (chain, api) => {
    const trust = await idAt(chain, 2);
    const now = await alice('verify', 'balance', ADDRESS, '--trust', trust, '--rpc', api, '--json', ...DAYS);
    assert.is(now.code, 0, now.stderr);
    const answer = JSON.parse(now.stdout.trim().split('\n').at(-1) ?? '');
    assert.is(answer.verified, true);
    assert.is(answer.units, '0');
    assert.is(answer.nonce, 1);
    assert.is(answer.height, 12);
    assert.is(answer.state_root, chain.state.root);
    const then = await alice('verify', 'balance', ADDRESS, '--trust', trust, '--rpc', api, '--at', '5', ...DAYS);
    assert.is(then.code, 0, then.stderr);
    assert.match(then.stdout, /0\.000000000000 ALICE\n[\s\S]*to block 5/);
    const stranger = addressOf(testSigner(9).account);
    const none = await alice('verify', 'balance', stranger, '--trust', trust, '--rpc', api, ...DAYS);
    assert.match(none.stdout, /no such account/);
  }));

test('exit code 1 for what is not proven, 2 for mistakes', () =>
  withNode(async (chain, api) => {
    const other = `3:${'ab'.repeat(32)}`;
    const wrong = await alice('verify', 'balance', ADDRESS, '--trust', other, '--rpc', api, ...DAYS);
    assert.is(wrong.code, 1);
    assert.match(wrong.stderr, /not verified: block 3 is/);
    const trust = await idAt(chain, 2);
    const old = await alice('verify', 'balance', ADDRESS, '--trust', trust, '--rpc', api, ...DAYS, '--trust-days', '1');
    assert.is(old.code, 1);
    assert.match(old.stderr, /older than the trusting period/);
    const missing = await alice('verify', 'balance', ADDRESS, '--trust', trust, '--rpc', api, '--at', '99', ...DAYS);
    assert.is(missing.code, 1);
    const usage = await alice('verify', 'balance', ADDRESS, '--trust', 'latest', '--rpc', api);
    assert.is(usage.code, 2);
    assert.match(usage.stderr, /HEIGHT:HASH/);
    const nowhere = await alice('verify', 'balance', ADDRESS, '--trust', trust, '--rpc', api, '--dir', `${folder}x`);
    assert.is(nowhere.code, 2);
    assert.match(nowhere.stderr, /which network\?/);
    const late = await alice(
      'verify',
      'balance',
      ADDRESS,
      '--trust',
      trust,
      '--rpc',
      api,
      ...DAYS,
      '--trust-days',
      '3650',
    );
    assert.is(late.code, 2, late.stderr);
    assert.match(late.stderr, /not shorter than/);
  }));

/** Changes one hex digit in the middle. */
const bent = (hex: string) => {
  const at = hex.length >> 1;
  return hex.slice(0, at) + (hex[at] === '0' ? '1' : '0') + hex.slice(at + 1);
};

const LIES: Record<string, (method: string, result: Record<string, unknown>) => object> = {
  'a proof of something else': (method, result) =>
    method === 'proof' ? { ...result, proof: bent(result.proof as string) } : result,
  'a forged header': (method, result) =>
    method === 'lightBlock' && result.height === 12
      ? { ...result, lightBlock: bent(result.lightBlock as string) }
      : result,
  'no proof at all': (method, result) => (method === 'proof' ? {} : result),
};

for (const [name, lie] of Object.entries(LIES)) {
  test(`a node that gives ${name} is not believed`, () =>
    withNode(async (chain, api) => {
      const trust = await idAt(chain, 2);
      await withLiar(api, lie, async (liar) => {
        const { code, stderr } = await alice('verify', 'balance', ADDRESS, '--trust', trust, '--rpc', liar, ...DAYS);
        assert.is(code, 1, stderr);
        assert.match(stderr, /not verified/);
      });
    }));
}

test.run();
