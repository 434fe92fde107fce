import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blockchain } from '../../node/blockchain/blockchain.ts';
import { readStateFile, StateFileError, writeStateFile } from '../../node/blockchain/state-file.ts';
import { voteParameters } from '../../node/chain/calls.ts';
import { type Genesis, genesisHash } from '../../node/chain/genesis.ts';
import { ForkedStateError, forkedState } from '../../node/ledger/forked-state.ts';
import { prove, verifyProof } from '../../node/ledger/proof.ts';
import { MIN_BLOCK_WINDOW, Store } from '../../node/store/store.ts';
import { advance, chainGenesis, openChain, PROPOSER, signed } from './harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'alice-history-'));
test.after(() => rmSync(folder, { recursive: true }));

/** A chain in which every block changes something of an account. */
async function grown(store: Store, genesis: Genesis, height: number) {
  const chain = blockchain({ genesis })({ store });
  const roots = [chain.state.root];
  while (chain.height < height) {
    const change = voteParameters({ economics: { vestingMs: chain.height + 1 } }, chain.height + 2);
    await chain.submit(signed(chain, PROPOSER, change));
    await advance(chain);
    roots.push(chain.state.root);
  }
  return { chain, roots };
}

const storeAt = (name: string, genesis: Genesis, stateWindowBlocks: number, blockWindowBlocks?: number) =>
  Store.open({
    path: join(folder, name),
    genesisHash: genesisHash(genesis),
    retention: { stateWindowBlocks, blockWindowBlocks },
  });

test('every state of the window is there, before and after a restart, and proves what its block says', async () => {
  const genesis = chainGenesis();
  const store = storeAt('window', genesis, 10);
  const { chain, roots } = await grown(store, genesis, 25);
  const check = (again: typeof chain) => {
    for (const height of [15, 24, 20, 17, 25]) {
      const state = again.stateAt(height);
      assert.is(state?.root, roots[height], `height ${height}`);
      assert.is(state?.account(PROPOSER.account).nonce, height);
      assert.is(again.lightBlock(height)?.header.stateRoot, roots[height]);
      const key = `account/${PROPOSER.account}`;
      assert.ok(state && verifyProof(roots[height], key, prove(state.tree, key)));
    }
    for (const height of [0, 14, 26]) assert.is(again.stateAt(height), undefined, `height ${height}`);
    assert.is(again.oldestState, 15);
  };
  check(chain);
  store.close();
  const reopened = storeAt('window', genesis, 10);
  check(blockchain({ genesis })({ store: reopened }));
  reopened.close();
});

test('the whole past is there while the window is longer, genesis included', async () => {
  const { chain, store } = openChain();
  const before = chain.state.root;
  await advance(chain);
  await advance(chain);
  assert.is(chain.stateAt(0)?.root, before);
  store.close();
});

test('blocks and receipts below the window go, those that consensus needs stay', async () => {
  const genesis = chainGenesis();
  const store = storeAt('blocks', genesis, 5, 1);
  const chain = blockchain({ genesis })({ store });
  for (let height = 1; height <= MIN_BLOCK_WINDOW + 3; height++) await advance(chain);
  assert.is(store.oldestBlock, 4);
  assert.is(await chain.finalized(3), undefined);
  assert.ok(await chain.finalized(4));
  assert.is(store.height, MIN_BLOCK_WINDOW + 3);
  store.close();
});

test('a state goes through a file and begins another network, which goes on from it', async () => {
  const genesis = chainGenesis();
  const { chain } = await grown(Store.open({ path: ':memory:', genesisHash: genesisHash(genesis) }), genesis, 6);
  const path = join(folder, 'state.jsonl');
  const written = await writeStateFile(path, chain.state, {
    genesisHash: chain.genesisHash,
    blockId: chain.lastBlockId,
  });
  const { head, entries } = await readStateFile(path);
  assert.equal(head, written);
  const initialState = { root: head.stateRoot, network: head.genesisHash, height: head.height };
  const founders = genesis.validators.map((founder) => ({ ...founder, weight: '77' }));
  const fork: Genesis = { ...genesis, name: 'fork', initialState, validators: founders };
  const state = forkedState(fork, entries);
  assert.is(state.account(PROPOSER.account).nonce, 6);
  assert.is(state.height, 0);
  const store = Store.open({ path: ':memory:', genesisHash: genesisHash(fork) });
  assert.throws(() => blockchain({ genesis: fork })({ store }), /alice state import/);
  store.writeGenesis(state.tree.entries(), new Map());
  const { chain: forked } = await grown(store, fork, 3);
  assert.is(forked.height, 3);
  assert.is(forked.state.account(PROPOSER.account).nonce, 9);
  assert.is(forked.state.timeMs, chain.state.timeMs + 300n);
  // The set is elected from the stakes: those of the old founders are gone, those of the new ones are there.
  assert.equal(forked.state.stakers, [PROPOSER.account]);
  assert.is(forked.state.stake(PROPOSER.account).genesisWeight, 77n);
  assert.equal(
    forked.validators(forked.height + 1)?.map(({ account }) => account),
    [PROPOSER.account],
  );
});

test('a state that is not the one that the genesis names is refused, and a file that is not whole', async () => {
  const genesis = chainGenesis();
  const { chain } = openChain();
  await advance(chain);
  const path = join(folder, 'other.jsonl');
  const head = await writeStateFile(path, chain.state, { genesisHash: chain.genesisHash, blockId: chain.lastBlockId });
  const { entries } = await readStateFile(path);
  const fork: Genesis = { ...genesis, initialState: { root: head.stateRoot, network: head.genesisHash, height: 1 } };
  const [first, ...rest] = entries;
  assert.throws(
    () => forkedState(fork, [[first[0], new Uint8Array([1, 2])], ...rest]),
    (error: unknown) => error instanceof ForkedStateError,
  );
  const { readFile, writeFile } = await import('node:fs/promises');
  const lines = (await readFile(path, 'utf8')).trim().split('\n');
  for (const broken of [lines.slice(0, -1), ['{}'], ['rubbish'], []]) {
    await writeFile(path, broken.join('\n'));
    const error = await readStateFile(path).catch((cause: unknown) => cause);
    assert.ok(error instanceof StateFileError, String(error));
  }
});

test.run();
