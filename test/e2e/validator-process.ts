/**
 * One validator of a network that only makes blocks, as a process of its own: a real node with real sockets, disk and
 * keys, without a model. `node validator-process.ts FOLDER NETWORK-FILE PORT`; the test that started it gets what is
 * finalized, and can cut it off from the network. `ALICE_TEST_ADVERSARY=equivocate` makes it sign everything twice.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { stopSignal } from '../../node/api/parent-link.ts';
import { blockId } from '../../node/chain/block.ts';
import { decodeEvidence } from '../../node/chain/evidence.ts';
import { readNetworkFile } from '../../node/chain/network-file.ts';
import { DataFolder } from '../../node/data-folder.ts';
import { loadIdentity } from '../../node/identity/identity.ts';
import { createLogger } from '../../node/log/logger.ts';
import { AliceNode } from '../../node/node.ts';

/** What the process tells the test. */
export type ValidatorReport =
  | { readonly type: 'ready'; readonly height: number }
  | {
      readonly type: 'block';
      readonly height: number;
      readonly id: string;
      readonly stateRoot: string;
      /** Account and power of those who decide the block after it. */
      readonly validators: readonly (readonly [account: string, power: string])[];
      /** Whom the evidence in the block accuses. */
      readonly accused: readonly string[];
    };

/** What the test tells the process: end all connections and let no new one come about, or behave again. */
export type ValidatorOrder = 'cut' | 'mend';

/** Sockets of this process while they are open. Every one is announced here by Node itself, in either direction. */
const sockets = new Set<Socket>();
let cut = false;
for (const channel of ['net.client.socket', 'net.server.socket']) {
  subscribe(channel, (message) => {
    const { socket } = message as { socket: Socket };
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // A client socket is announced before it connects, which would make a destroyed one new again.
    if (cut) setImmediate(() => socket.destroy());
  });
}
process.on('message', (order: ValidatorOrder) => {
  cut = order === 'cut';
  if (cut) for (const socket of sockets) socket.destroy();
});

const [path, networkPath, port] = process.argv.slice(2);
const stopping = stopSignal();
const folder = await DataFolder.open(path);
const log = createLogger(
  { level: 'info', components: {}, format: 'json' },
  { file: folder.join('alice.log'), fields: {} },
);
const identity = await loadIdentity(folder.join('keys'));
const node = await AliceNode.start({
  role: 'validator',
  name: 'validator',
  networkFile: await readNetworkFile(networkPath),
  folder,
  identity,
  listen: [`/ip4/127.0.0.1/tcp/${port}`],
  announce: [],
  maxPeers: 16,
  api: { host: '127.0.0.1', port: 0 },
  blobCapacityBytes: 1024 ** 2,
  equivocate: process.env.ALICE_TEST_ADVERSARY === 'equivocate',
  log,
});
const report = (message: ValidatorReport) => process.send?.(message, undefined, {}, () => {});
node.blockchain.onBlock(({ height, header, state }) => {
  report({
    type: 'block',
    height,
    id: blockId(header),
    stateRoot: header.stateRoot,
    validators: state.nextValidators.map(({ account, power }) => [account, power.toString()] as const),
    accused: node.store.block(height)?.block.evidence.map((bytes) => decodeEvidence(bytes).first.validator) ?? [],
  });
});
report({ type: 'ready', height: node.blockchain.height });
await new Promise<void>((done) => stopping.addEventListener('abort', () => done(), { once: true }));
await node.stop();
log.close();
await folder.release();
process.exit(0);
