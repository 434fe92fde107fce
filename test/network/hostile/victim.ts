/**
 * A peer that is attacked, as a process of its own, so that nothing of the attackers is in what it measures: a real network,
 * a mempool with real signatures, and a handler of votes that has no use for any. Started by `fork`; told `report`, it says
 * how it has fared since it was last told `begin`.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { blockchain } from '../../../node/blockchain/blockchain.ts';
import { relayTransactions } from '../../../node/blockchain/transaction-relay.ts';
import { genesisHash } from '../../../node/chain/genesis.ts';
import { Ignore } from '../../../node/network/interface.ts';
import { SILENT_LOG } from '../../../node/network/log.ts';
import { createNetwork, type NetworkStatus } from '../../../node/network/network.ts';
import { ThreadedVerifier } from '../../../node/signature-checks/threaded-verifier.ts';
import { Store } from '../../../node/store/store.ts';
import { chainGenesis } from '../../blockchain/harness.ts';
import { NETWORK, seedOf } from '../local-peers.ts';

/** What the victim says of itself. */
export type VictimReport =
  | { readonly type: 'ready'; readonly multiaddr: string }
  | {
      readonly type: 'report';
      /** CPU time of the event loop's thread in its longest turn and in its 99th of 100. */
      readonly longestTurnMs: number;
      readonly p99TurnMs: number;
      readonly rssMib: number;
      readonly waitingTransactions: number;
      readonly peers: readonly string[];
      readonly gossip: NetworkStatus['gossip'];
      readonly intake: NetworkStatus['gossipIntake'];
      readonly codes: readonly (readonly [string, number])[];
    };

/** Between two looks at the event loop. */
const SAMPLE_MS = 5;

/** Milliseconds of CPU that this thread has used: what a busy machine takes from it does not count. */
function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** What the victim is told. */
export type VictimOrder = 'begin' | 'report';

let samples: number[] = [];
let last = threadCpuMs();
function sample(): void {
  const now = threadCpuMs();
  samples.push(now - last);
  last = now;
  setTimeout(sample, SAMPLE_MS).unref();
}

const genesis = chainGenesis();
const store = Store.open({ path: ':memory:', genesisHash: genesisHash(genesis) });
const verifier = new ThreadedVerifier(SILENT_LOG);
const chain = blockchain({ genesis })({ store, verifier });
const network = await createNetwork({
  networkName: NETWORK,
  privateKeySeed: seedOf('victim'),
  listen: ['/ip4/127.0.0.1/tcp/0'],
  bootstrap: [],
  log: SILENT_LOG,
  privateNetwork: true,
});
relayTransactions(network, chain);
network.subscribe('votes', async () => {
  await nextTurn();
  throw new Ignore('old-height');
});
await network.start();

function report(): VictimReport {
  globalThis.gc?.();
  const turns = samples.toSorted((a, b) => a - b);
  const { gossip, gossipIntake } = network.status();
  return {
    type: 'report',
    longestTurnMs: turns.at(-1) ?? 0,
    p99TurnMs: turns[Math.floor(turns.length * 0.99)] ?? 0,
    rssMib: process.memoryUsage.rss() / 2 ** 20,
    waitingTransactions: chain.waiting.transactions,
    peers: network.peers(),
    gossip,
    intake: gossipIntake,
    codes: [...network.verdictCodes()],
  };
}

process.on('message', (order: VictimOrder) => {
  if (order === 'begin') samples = [];
  else process.send?.(report());
});
process.on('disconnect', () => process.exit());
sample();
process.send?.({ type: 'ready', multiaddr: network.multiaddrs()[0] ?? '' } satisfies VictimReport);
