/** What a stranger's few bytes cost a node that serves states and headers. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Block } from '../../node/chain/block.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import { StateTree } from '../../node/ledger/tree.ts';
import type { PeerIdText, RequestHandler } from '../../node/network/interface.ts';
import { chunkRequestCodec, STATE_CHUNK_PROTOCOL, StateSyncServer } from '../../node/state-sync/protocol.ts';
import { advance, openChain } from '../blockchain/harness.ts';
import { codeOf } from '../network/local-peers.ts';

const peer = 'stranger' as PeerIdText;

/** A server over one state of 4 MB that says which heights it was asked for. */
async function served(height: number) {
  const value = new Uint8Array(1_000);
  const entries = Array.from({ length: 4_000 }, (_, index) => [`key/${index}`, value] as const);
  const state = new LedgerState(StateTree.empty.with(entries));
  const asked: number[] = [];
  const chain = {
    height,
    stateAt: (at: number) => {
      asked.push(at);
      return state;
    },
    lightBlock: () => undefined,
  };
  let handler: RequestHandler | undefined;
  const server = new StateSyncServer(chain);
  await server.serve({
    handle: async (name, _limits, given) => {
      if (name === STATE_CHUNK_PROTOCOL) handler = given;
    },
  });
  const ask = (at: number, depth: number) => handler!(chunkRequestCodec.enc({ height: at, depth, position: 0 }), peer);
  return { ask, asked, chain, server };
}

test('who asks for the whole state in one piece gets nothing, and soon', async () => {
  const { ask } = await served(1_024);
  assert.is(await codeOf(ask(1_024, 0)), 'ERR_STATE_CHUNK_TOO_LARGE');
  assert.ok((await ask(1_024, 5)).length > 50_000);
});

test('states that nobody was offered are not rebuilt for a stranger; those that were offered are served on', async () => {
  const { ask, asked, chain, server } = await served(1_100);
  for (let height = 128; height <= 768; height += 128) assert.is(await codeOf(ask(height, 5)), 'ERR_NOT_SERVED');
  assert.equal(asked, []);
  assert.is(await codeOf(ask(896, 5)), 'resolved');
  assert.is((await server.offer()).height, 1_024);
  chain.height = 1_700;
  assert.is(await codeOf(ask(1_024, 5)), 'resolved');
  assert.is(await codeOf(ask(1_152, 5)), 'ERR_NOT_SERVED');
});

test('a header is read without the body of its block', async () => {
  const { chain, store } = openChain();
  for (let height = 1; height <= 3; height++) await advance(chain);
  const template = store.block(3)!;
  const block: Block = {
    ...template.block,
    header: { ...template.block.header, height: 4 },
    transactions: Array.from({ length: 900 }, () => new Uint8Array(1_000)),
  };
  const nothing = { changes: new Map(), receipts: [], events: [], validatorSets: new Map() };
  store.writeBlock({ block, commit: { ...template.commit, height: 4 }, ...nothing });
  assert.equal(store.header(4)?.header, block.header);
  assert.equal(store.header(3), { header: template.block.header, commit: template.commit });
  assert.is(store.header(5), undefined);
  const fastest = (work: () => unknown) => {
    const times = Array.from({ length: 7 }, () => {
      const start = performance.now();
      work();
      return performance.now() - start;
    });
    return Math.min(...times);
  };
  const headerMs = fastest(() => store.header(4));
  const blockMs = fastest(() => store.block(4));
  assert.ok(headerMs < blockMs / 4, `${headerMs.toFixed(2)} ms, the block ${blockMs.toFixed(2)} ms`);
  store.close();
});

test.run();
