/**
 * A real node that is attacked or helps the attacked one, in a process of its own. `node node-process.ts SETUP` with the
 * setup as JSON. What a test wants to know of it goes over the process line; the node itself has nothing of the kind.
 */
import { stopSignal } from '../../../node/api/parent-link.ts';
import type { Role } from '../../../node/api/status.ts';
import type { AccountId } from '../../../node/chain/account.ts';
import { encodeBlock } from '../../../node/chain/block.ts';
import { readNetworkFile } from '../../../node/chain/network-file.ts';
import type { Call } from '../../../node/chain/transaction.ts';
import { DataFolder } from '../../../node/data-folder.ts';
import { loadIdentity } from '../../../node/identity/identity.ts';
import { isEnlisted } from '../../../node/ledger/standing.ts';
import { createLogger } from '../../../node/log/logger.ts';
import type { PeerIdText } from '../../../node/network/interface.ts';
import { AliceNode } from '../../../node/node.ts';
import { EventLoopLag, type Lag } from './event-loop-lag.ts';
import { ProcessLine } from './process-line.ts';

/** What a node is started with. */
export interface NodeSetup {
  readonly role: Role;
  readonly dir: string;
  readonly networkFile: string;
  readonly port: number;
  /** Addresses to tell others; empty for the real one. */
  readonly announce: readonly string[];
}

/** A look at a node. */
export interface NodeLook {
  readonly height: number;
  readonly peers: number;
  readonly connections: number;
  readonly multiaddrs: readonly string[];
  readonly peerId: PeerIdText;
  readonly waitingTransactions: number;
  readonly waitingBytes: number;
  readonly residentMib: number;
  readonly heapMib: number;
  readonly lag: Lag;
  /** Gossip verdicts, as `<topic> <code>`. */
  readonly verdicts: Readonly<Record<string, number>>;
  readonly gossip: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly liars: readonly PeerIdText[];
}

/** What a node process can be asked. */
export interface NodeOffers {
  look(options: { collect: boolean }): Promise<NodeLook>;
  resetLag(nothing: null): Promise<void>;
  /** Stores and announces a blob; its CID. */
  publish(bytes: Uint8Array): Promise<string>;
  /** Fetches a blob as a validator does: bytes, or the code of the error. */
  fetch(what: { cid: string; timeoutMs: number }): Promise<{ bytes: number } | { code: string }>;
  /** Whether an account is registered as a miner. */
  enlisted(account: AccountId): Promise<boolean>;
  score(peer: PeerIdText): Promise<number>;
  connected(peer: PeerIdText): Promise<boolean>;
  connect(multiaddr: string): Promise<void>;
  /** Sends a call of this node's account; resolves with the milliseconds until a block held it. */
  send(call: Call): Promise<number>;
  /** Bytes of the blocks from a height on, and of the whole state. */
  sizes(fromHeight: number): Promise<{ blockBytes: number; transactions: number; stateBytes: number }>;
}

/** What a node process, or an honest one, can ask of the process that started it. */
export interface ParentOffers {
  /** It runs. */
  ready(nothing: null): Promise<void>;
}

const MIB = 1024 ** 2;

const setup = JSON.parse(process.argv[2] ?? '') as NodeSetup;
const stopping = stopSignal();
const folder = await DataFolder.open(setup.dir);
const log = createLogger(
  { level: 'info', components: {}, format: 'json' },
  { file: folder.join('alice.log'), fields: {} },
);
const node = await AliceNode.start({
  role: setup.role,
  name: setup.role,
  networkFile: await readNetworkFile(setup.networkFile),
  folder,
  identity: await loadIdentity(folder.join('keys')),
  listen: [`/ip4/127.0.0.1/tcp/${setup.port}`],
  announce: setup.announce,
  maxPeers: 64,
  api: { host: '127.0.0.1', port: 0 },
  blobCapacityBytes: 256 * MIB,
  log,
});
const lag = new EventLoopLag();

function look({ collect }: { collect: boolean }): NodeLook {
  const measured = lag.read();
  // Only in these processes, started with --expose-gc: what is garbage is not growth.
  if (collect) globalThis.gc?.();
  const status = node.network.status();
  const { rss, heapUsed } = process.memoryUsage();
  return {
    height: node.blockchain.height,
    peers: status.peers,
    connections: status.connections,
    multiaddrs: status.multiaddrs,
    peerId: status.peerId,
    waitingTransactions: node.blockchain.waiting.transactions,
    waitingBytes: node.blockchain.waiting.bytes,
    residentMib: rss / MIB,
    heapMib: heapUsed / MIB,
    lag: measured,
    verdicts: Object.fromEntries(node.network.verdictCodes()),
    gossip: Object.fromEntries(Object.entries(status.gossip).map(([topic, stats]) => [topic, { ...stats }])),
    liars: node.blobs.liars(),
  };
}

const offers: NodeOffers = {
  look: async (options) => look(options),
  resetLag: async () => lag.reset(),
  publish: (bytes) => node.blobs.publish(bytes),
  fetch: async ({ cid, timeoutMs }) => {
    try {
      return { bytes: (await node.blobs.fetch(cid, { timeoutMs })).length };
    } catch (error) {
      return { code: (error as { code?: string }).code ?? String(error) };
    }
  },
  enlisted: async (account) => isEnlisted(node.blockchain.state, account),
  score: async (peer) => node.network.score(peer),
  connected: async (peer) => node.network.peers().includes(peer),
  connect: async (multiaddr) => {
    await node.network.connect(multiaddr);
  },
  send: async (call) => {
    const fromMs = performance.now();
    await node.send(call, { signal: stopping });
    return performance.now() - fromMs;
  },
  sizes: async (fromHeight) => {
    let [blockBytes, transactions, stateBytes] = [0, 0, 0];
    for (let height = fromHeight; height <= node.blockchain.height; height++) {
      const found = node.store.block(height);
      if (found === undefined) continue;
      blockBytes += encodeBlock(found.block).length;
      transactions += found.block.transactions.length;
    }
    for (const [key, value] of node.blockchain.state.tree.entries()) stateBytes += key.length + value.length;
    return { blockBytes, transactions, stateBytes };
  },
};
const parent = new ProcessLine<ParentOffers>(process, { ...offers });
await parent.ask('ready', null);
await new Promise<void>((done) => stopping.addEventListener('abort', () => done(), { once: true }));
await node.stop();
log.close();
await folder.release();
process.exit(0);
