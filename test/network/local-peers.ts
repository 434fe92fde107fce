/** Peers on loopback for tests: started, tracked and stopped together. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { gossipsub } from '@libp2p/gossipsub';
import { identify } from '@libp2p/identify';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { SILENT_LOG } from '../../node/network/log.ts';
import { handshakePrologue, libp2pProtocolPrefix } from '../../node/network/names.ts';
import { createNetwork, type Network, type NetworkOptions } from '../../node/network/network.ts';

export const NETWORK = 'testnet';

/** Seed of a test peer, by name: peers are the same in every run. */
export function seedOf(name: string): Uint8Array {
  return createHash('sha256').update(`test peer ${name}`).digest();
}

/** Waits for a condition; fails with what was awaited when it does not come in time. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs = 10_000,
): Promise<void> {
  const start = performance.now();
  while (!(await condition())) {
    if (performance.now() - start > limitMs) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A TCP port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

/** Things that are stopped at the end of a test, the last one first. */
export class Cleanup {
  readonly #stops: (() => Promise<void>)[] = [];

  add(stop: () => Promise<void>): void {
    this.#stops.push(stop);
  }

  async run(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) await stop();
  }

  /** A peer that is not started yet. */
  async peer(name: string, options: Partial<NetworkOptions> = {}): Promise<Network> {
    const network = await createNetwork({
      networkName: NETWORK,
      privateKeySeed: seedOf(name),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      log: SILENT_LOG,
      privateNetwork: true,
      ...options,
    });
    this.add(() => network.stop());
    return network;
  }

  /** A running peer. */
  async started(name: string, options: Partial<NetworkOptions> = {}): Promise<Network> {
    const network = await this.peer(name, options);
    await network.start();
    return network;
  }

  /** A bare libp2p node that passes as a peer of the network and follows none of our rules. */
  async rawPeer(name: string) {
    const protocolPrefix = libp2pProtocolPrefix(NETWORK);
    const node = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', seedOf(name)),
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise({ prologueBytes: handshakePrologue(NETWORK) })],
      streamMuxers: [yamux()],
      // It would end connections that an attack keeps on purpose.
      connectionMonitor: { enabled: false },
      services: {
        identify: identify({ protocolPrefix }),
        pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, globalSignaturePolicy: 'StrictNoSign' }),
      },
    });
    this.add(async () => node.stop());
    return node;
  }
}

/** Wraps a test so that its peers are stopped whatever happens. */
export function withPeers(body: (peers: Cleanup) => Promise<void>): () => Promise<void> {
  return async () => {
    const peers = new Cleanup();
    try {
      await body(peers);
    } finally {
      await peers.run();
    }
  };
}

/** The `code` of what a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return 'resolved';
}
