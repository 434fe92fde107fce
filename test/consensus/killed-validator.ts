/**
 * A network of one validator, on real files: write-ahead log, signer guard, evidence and blocks. Kills itself with
 * SIGKILL at the n-th write; an append is half done then. `node killed-validator.ts FOLDER N`. One line on standard
 * output for each message that leaves it (`vote HEIGHT/ROUND/TYPE VALUE`), each block it calls final (`final HEIGHT ID`),
 * and at the start for the block it stands on (`start HEIGHT ID`).
 */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { blockchain } from '../../node/blockchain/blockchain.ts';
import { blockId, decodeProposal, decodeVote } from '../../node/chain/block.ts';
import { genesisHash } from '../../node/chain/genesis.ts';
import { silentLogger } from '../../node/consensus/logger.ts';
import { consensus } from '../../node/consensus/service.ts';
import { type AppendFile, type Directory, diskDirectory } from '../../node/consensus/storage.ts';
import { accountSigner, sessionSigner, signaturesReady } from '../../node/identity/signatures.ts';
import type { Gossip } from '../../node/network/interface.ts';
import { Store } from '../../node/store/store.ts';
import { testGenesis, testParameters } from '../ledger/harness.ts';

const [folder, count] = process.argv.slice(2);
let writesLeft = Number(count);
const say = (line: string) => writeSync(1, `${line}\n`);

/** Counts one write; true when this is the one to die at. */
const isLast = () => {
  writesLeft -= 1;
  return writesLeft === 0;
};
/** SIGKILL takes effect when the call returns to the event loop at the latest: nothing may happen until then. */
const die = (): Promise<never> => {
  process.kill(process.pid, 'SIGKILL');
  return new Promise<never>(() => {});
};

function mortalFile(file: AppendFile): AppendFile {
  const before = async (write: () => Promise<void>) => {
    if (isLast()) await die();
    await write();
  };
  return {
    read: () => file.read(),
    append: async (bytes) => {
      if (isLast()) {
        await file.append(bytes.subarray(0, bytes.length >> 1));
        await die();
      }
      await file.append(bytes);
    },
    sync: () => before(() => file.sync()),
    truncate: (length) => before(() => file.truncate(length)),
    close: () => file.close(),
  };
}

function mortalDirectory(directory: Directory): Directory {
  return {
    open: async (name) => mortalFile(await directory.open(name)),
    replace: async (name, content) => {
      if (isLast()) await die();
      return mortalFile(await directory.replace(name, content));
    },
  };
}

await signaturesReady();
const account = accountSigner(new Uint8Array(32).fill(1));
const session = sessionSigner(new Uint8Array(32).fill(2));
const founder = { account: account.account, sessionKey: session.sessionKey, weight: 10n };
const parameters = testParameters({ consensus: { blockIntervalMs: 5, emptyBlockIntervalMs: 10 } });
const genesis = testGenesis([founder], parameters);
const store = Store.open({
  path: join(folder, 'chain.sqlite'),
  genesisHash: genesisHash(genesis),
  onWrite: () => {
    // The store is synchronous: the signal is delivered before the next statement touches the file.
    if (isLast()) {
      process.kill(process.pid, 'SIGKILL');
      for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }
  },
});
const application = blockchain({ genesis })({ store });
say(`start ${application.height} ${application.lastBlockId}`);

const gossip: Gossip = {
  subscribe: () => () => {},
  publish: async (topic, data) => {
    const body = topic === 'votes' ? decodeVote(data).body : decodeProposal(data).body;
    say(`vote ${body.height}/${body.round}/${'type' in body ? body.type : 'proposal'} ${body.blockId ?? 'nil'}`);
  },
};
const service = consensus({
  networkId: application.networkId,
  parameters: parameters.consensus,
  signer: { account, session },
  directory: mortalDirectory(diskDirectory(join(folder, 'consensus'))),
})({
  application,
  gossip,
  requests: { handle: async () => {}, request: () => Promise.reject(new Error('nobody is there')) },
  discovery: { peers: () => [] },
  logger: silentLogger,
});
service.on('finalized', ({ block }) => say(`final ${block.header.height} ${blockId(block.header)}`));
await service.start();
