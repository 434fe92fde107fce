/**
 * A peer that speaks gossip at the wire and keeps no rule: it sends whatever RPCs it is given, one by one, as fast as the
 * other side reads. Bare libp2p without a gossip router; each has an identity and a connection of its own.
 */
import { createHash } from 'node:crypto';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { RPC } from '@libp2p/gossipsub/message';
import { identify } from '@libp2p/identify';
import type { Connection, PeerId, Stream } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import type { Topic } from '../../../node/network/interface.ts';
import { handshakePrologue, libp2pProtocolPrefix, topicName } from '../../../node/network/names.ts';

/** The gossip protocol that a node prefers. */
const MESHSUB = '/meshsub/1.2.0';

/** What goes into one RPC; whatever is left out is empty. */
export interface HostileRpc {
  readonly subscriptions?: RPC['subscriptions'];
  readonly messages?: RPC['messages'];
  readonly control?: Partial<NonNullable<RPC['control']>>;
}

/** See the file comment. */
export class HostileGossipPeer {
  readonly peerId: PeerId;
  readonly #node: Libp2p;
  readonly #network: string;
  #connection: Connection | undefined;
  #stream: Stream | undefined;
  /** Bytes that the other side sent on its gossip streams. */
  received = 0;

  private constructor(node: Libp2p, network: string) {
    this.#node = node;
    this.#network = network;
    this.peerId = node.peerId;
  }

  /** A peer whose identity follows from `name`, that listens nowhere and is connected to nobody yet. */
  static async start(network: string, name: string): Promise<HostileGossipPeer> {
    const protocolPrefix = libp2pProtocolPrefix(network);
    const node = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', createHash('sha256').update(`hostile ${name}`).digest()),
      transports: [tcp()],
      connectionEncrypters: [noise({ prologueBytes: handshakePrologue(network) })],
      streamMuxers: [yamux()],
      services: { identify: identify({ protocolPrefix }) },
    });
    const peer = new HostileGossipPeer(node, network);
    // Reads what it is sent: a peer that does not read is another attack.
    await node.handle(MESHSUB, async (stream) => {
      try {
        for await (const chunk of stream) peer.received += chunk.byteLength;
      } catch {
        // Cut: so is its connection, which `connected` shows.
      }
    });
    return peer;
  }

  /** True while the connection of the last {@link connect} is open. */
  get connected(): boolean {
    return this.#connection?.status === 'open';
  }

  /** Connects to a node and opens a gossip stream. Rejects when the node does not let it. */
  async connect(address: string): Promise<void> {
    this.#connection = await this.#node.dial(multiaddr(address), { force: true });
    this.#stream = await this.#connection.newStream(MESHSUB);
  }

  /** Ends the connection. */
  async disconnect(): Promise<void> {
    await this.#connection?.close();
  }

  /** Opens one more gossip stream on the connection; {@link send} uses the last one. */
  async openStream(): Promise<void> {
    this.#stream = await this.#connection?.newStream(MESHSUB);
  }

  /** A message on a topic of the network, as gossip carries it. */
  message(topic: Topic, data: Uint8Array): RPC['messages'][number] {
    return { topic: topicName(this.#network, topic), data };
  }

  /** Sends an RPC. Resolves with false once the other side has cut the stream. */
  send({ subscriptions = [], messages = [], control }: HostileRpc): Promise<boolean> {
    const rpc: RPC = { subscriptions, messages };
    if (control !== undefined) rpc.control = { ihave: [], iwant: [], graft: [], prune: [], idontwant: [], ...control };
    return this.sendFrame(RPC.encode(rpc));
  }

  /** Sends bytes as one RPC frame, whatever they are. */
  sendFrame(frame: Uint8Array): Promise<boolean> {
    return this.sendBytes(Buffer.concat([varint(frame.length), frame]));
  }

  /** Sends raw bytes on the gossip stream, and waits while the other side reads nothing. */
  async sendBytes(bytes: Uint8Array): Promise<boolean> {
    const stream = this.#stream;
    if (stream === undefined || stream.status !== 'open') return false;
    try {
      if (stream.send(bytes)) return true;
      const { promise, resolve } = Promise.withResolvers<void>();
      stream.addEventListener('drain', () => resolve(), { once: true });
      stream.addEventListener('close', () => resolve(), { once: true });
      await promise;
    } catch {
      return false;
    }
    return stream.status === 'open';
  }

  async stop(): Promise<void> {
    await this.#node.stop();
  }
}

/** An unsigned LEB128 number, as length-prefixed frames begin with. */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
