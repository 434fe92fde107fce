import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { blockchain } from '../../node/blockchain/blockchain.ts';
import { genesisHash } from '../../node/chain/genesis.ts';
import {
  StoreDamagedError,
  StoreNetworkError,
  StoreOrderError,
  StoreUnavailableError,
  StoreVersionError,
} from '../../node/store/errors.ts';
import { Store } from '../../node/store/store.ts';
import {
  advance,
  chainGenesis,
  commitFor,
  openChain,
  openFundedChain,
  signed,
  testSigner,
} from '../blockchain/harness.ts';
import { namedHash, register, testParameters, transferCall } from '../ledger/harness.ts';

const test = suite<{ folder: string; path: string }>('store');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'alice-store-'));
  context.path = join(context.folder, 'node.sqlite');
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

const genesis = chainGenesis();
const reopen = (path: string) => Store.open({ path, genesisHash: genesisHash(genesis) });

/** Code of the error that opening throws. */
function openingError(path: string, hash = genesisHash(genesis)): { code?: string; message: string } {
  try {
    Store.open({ path, genesisHash: hash }).close();
  } catch (error) {
    return error as Error;
  }
  return { message: 'opened' };
}

test('what was committed is there after closing and opening: state, blocks, receipts, validator sets', async ({
  path,
}) => {
  const { chain, store } = openChain(path, genesis);
  await chain.submit(signed(chain, testSigner(1), register()));
  const other = await chain.submit(signed(chain, testSigner(2), register()));
  const block = await advance(chain);
  for (let height = 2; height <= 4; height++) await advance(chain);
  const root = chain.state.root;
  store.close();

  const second = reopen(path);
  const again = blockchain({ genesis })({ store: second });
  assert.is(again.height, 4);
  assert.is(again.state.root, root);
  assert.is(again.beacon, chain.beacon);
  assert.is(again.lastBlockId, chain.lastBlockId);
  assert.equal((await again.finalized(1))?.block, block);
  assert.equal((await again.finalized(1))?.commit, commitFor(block));
  assert.equal(again.receipt(other), {
    id: other,
    height: 1,
    position: 1,
    signer: testSigner(2).account,
    nonce: 0,
    call: 'registerMiner',
    error: undefined,
  });
  assert.is(second.receiptsAt(1).length, 2);
  assert.is(second.receiptsAt(2).length, 0);
  assert.is(again.receipt(namedHash('none')), undefined);
  assert.is(second.heightOf(again.lastBlockId), 4);
  assert.equal(again.validators(2), chain.state.nextValidators);
  assert.is((await again.replay()).root, root);
  await advance(again);
  assert.is(again.height, 5);
  second.close();
});

test('why the ledger refused what was paid for is there after closing and opening', async ({ path }) => {
  const balances = new Map([[testSigner(1).account, 5n]]);
  const parameters = testParameters({ economics: { baseFee: 1 } });
  const { chain, store } = openFundedChain(balances, parameters, {}, path);
  const failing = await chain.submit(signed(chain, testSigner(1), transferCall(testSigner(2).account, 100n)));
  await advance(chain);
  store.close();
  const second = Store.open({ path, genesisHash: chain.genesisHash });
  assert.equal(blockchain({ genesis: chain.genesis })({ store: second }).receipt(failing), {
    id: failing,
    height: 1,
    position: 0,
    signer: testSigner(1).account,
    nonce: 0,
    call: 'transfer',
    error: 'ERR_INSUFFICIENT_BALANCE',
  });
  second.close();
});

test('a block out of order is refused and changes nothing', async ({ path }) => {
  const { chain, store } = openChain(path, genesis);
  const block = await advance(chain);
  const empty = { changes: new Map(), receipts: [], events: [], validatorSets: new Map() };
  assert.throws(
    () => store.writeBlock({ block, commit: commitFor(block), ...empty }),
    (error: unknown) => error instanceof StoreOrderError,
  );
  assert.is(store.height, 1);
  store.close();
});

test('another network, a newer schema, a foreign file, no folder: one error each, saying what to do', async ({
  path,
  folder,
}) => {
  const { store } = openChain(path, genesis);
  store.close();
  const network = openingError(path, namedHash('another genesis'));
  assert.is(network.code, StoreNetworkError.code);
  assert.match(network.message, /another network/);

  const db = new DatabaseSync(path);
  db.exec('PRAGMA user_version = 99');
  db.close();
  assert.is(openingError(path).code, StoreVersionError.code);
  assert.match(openingError(path).message, /update the program/);

  const foreign = join(folder, 'foreign.sqlite');
  const other = new DatabaseSync(foreign);
  other.exec('CREATE TABLE notes (text)');
  other.close();
  assert.is(openingError(foreign).code, StoreDamagedError.code);

  const text = join(folder, 'text.sqlite');
  writeFileSync(text, 'this is no database, but it is long enough to be looked at as one'.repeat(100));
  assert.is(openingError(text).code, StoreDamagedError.code);
  assert.is(openingError(join(folder, 'missing', 'node.sqlite')).code, StoreUnavailableError.code);
  assert.is(openingError(folder).code, StoreUnavailableError.code);
  for (const error of [network, openingError(path), openingError(text)]) assert.not.match(error.message, /\n/);
});

test('a second program cannot open a store in use', ({ path }) => {
  const { store } = openChain(path, genesis);
  assert.is(openingError(path).code, StoreUnavailableError.code);
  store.close();
  assert.is(openingError(path).message, 'opened');
});

test('damage anywhere in the file is found when the store or the chain is opened', async ({ path }) => {
  const { chain, store } = openChain(path, genesis);
  for (let index = 0; index < 6; index++) {
    await chain.submit(signed(chain, testSigner(index), register()));
    await advance(chain);
  }
  const pages = Math.floor((await pageCount(store, path)) - 1);
  assert.ok(pages > 5);
  let found = 0;
  for (let page = 0; page <= pages; page++) {
    const file = await open(path, 'r+');
    const original = Buffer.alloc(4096);
    await file.read(original, 0, 4096, page * 4096);
    // The header of a page, or the whole of the first.
    await file.write(Buffer.alloc(64, 0xa5), 0, 64, page * 4096);
    try {
      const damaged = reopen(path);
      try {
        blockchain({ genesis })({ store: damaged });
      } finally {
        damaged.close();
      }
    } catch (error) {
      assert.instance(error, StoreDamagedError, `page ${page}: ${error}`);
      found += 1;
    }
    await file.write(original, 0, 4096, page * 4096);
    await file.close();
  }
  assert.is(found, pages + 1);
  const restored = reopen(path);
  assert.is(blockchain({ genesis })({ store: restored }).height, 6);
  restored.close();
});

/** Closes the store, which moves the log into the file, and returns the file's size in pages. */
async function pageCount(store: Store, path: string): Promise<number> {
  store.close();
  const file = await open(path, 'r');
  const { size } = await file.stat();
  await file.close();
  return size / 4096;
}

test('a state that was tampered with is noticed by its root', async ({ path }) => {
  const { chain, store } = openChain(path, genesis);
  await advance(chain);
  store.close();
  const db = new DatabaseSync(path);
  db.exec(`UPDATE state SET value = x'00' WHERE key = 'supply'`);
  db.close();
  const opened = reopen(path);
  assert.throws(
    () => blockchain({ genesis })({ store: opened }),
    (error: unknown) => error instanceof StoreDamagedError,
  );
  opened.close();
});

test.run();
