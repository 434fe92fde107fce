/**
 * A bare libp2p peer that passes as one of the network, follows none of our rules and bounds nothing of its own.
 */
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { identify } from '@libp2p/identify';
import type { Connection, PrivateKey, Stream } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { type TCPSocketOptions, tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { readFrame, writeFrame } from '../../../node/network/frames.ts';
import type { PeerIdText } from '../../../node/network/interface.ts';
import { quietLibp2pLogger } from '../../../node/network/log.ts';
import { handshakePrologue, libp2pProtocolPrefix, protocolId } from '../../../node/network/names.ts';

export interface RawPeerOptions {
  /** Network whose member it pretends to be. */
  readonly networkName: string;
  /** Decides the key. */
  readonly name: string;
  /** Address of the loopback that it comes from, so that hosts with several addresses can be played. */
  readonly from?: string;
  /** Protocols that it claims to speak, with what it does with a stream. */
  readonly serves?: Readonly<Record<string, (stream: Stream, connection: Connection) => void>>;
}

/** Time for one of its own requests. */
const REQUEST_MS = 15_000;

/** See the head of this file. */
export class RawPeer {
  readonly libp2p: Libp2p;
  readonly key: PrivateKey;
  readonly peerId: PeerIdText;
  readonly networkName: string;
  /** Streams that are kept open because nothing else holds them. */
  readonly streams: Stream[] = [];

  private constructor(libp2p: Libp2p, key: PrivateKey, networkName: string) {
    this.libp2p = libp2p;
    this.key = key;
    this.peerId = peerIdFromPrivateKey(key).toString() as PeerIdText;
    this.networkName = networkName;
  }

  static async start({ networkName, name, from, serves = {} }: RawPeerOptions): Promise<RawPeer> {
    const privateKey = await generateKeyPairFromSeed('Ed25519', createHash('sha256').update(`raw ${name}`).digest());
    const protocolPrefix = libp2pProtocolPrefix(networkName);
    // What node:net takes and libp2p passes on, though its type does not say so.
    const dialOpts: TCPSocketOptions & { localAddress?: string } = from === undefined ? {} : { localAddress: from };
    const libp2p = await createLibp2p({
      privateKey,
      logger: quietLibp2pLogger(),
      addresses: { listen: [`/ip4/127.0.0.1/tcp/0`] },
      transports: [tcp({ dialOpts })],
      connectionEncrypters: [noise({ prologueBytes: handshakePrologue(networkName) })],
      streamMuxers: [
        yamux({
          maxInboundStreams: 100_000,
          maxOutboundStreams: 100_000,
          streamOptions: { maxStreamWindowSize: 16 * 1024 * 1024, maxReadBufferLength: 64 * 1024 * 1024 },
        }),
      ],
      connectionManager: { maxConnections: 10_000, inboundConnectionThreshold: 10_000, reconnectRetries: 0 },
      connectionMonitor: { enabled: false },
      services: { identify: identify({ protocolPrefix }) },
    });
    for (const [protocol, serve] of Object.entries(serves)) {
      await libp2p.handle(protocol, serve, { maxInboundStreams: 10_000, maxOutboundStreams: 10_000 });
    }
    return new RawPeer(libp2p, privateKey, networkName);
  }

  /** Connects; an open connection is used again. */
  connect(address: string, signal: AbortSignal = AbortSignal.timeout(REQUEST_MS)): Promise<Connection> {
    return this.libp2p.dial(multiaddr(address), { signal });
  }

  /** Opens a stream with any protocol id. */
  async open(address: string, id: string, signal: AbortSignal = AbortSignal.timeout(REQUEST_MS)): Promise<Stream> {
    const connection = await this.connect(address, signal);
    return connection.newStream(id, { signal, maxOutboundStreams: 100_000 });
  }

  /** Opens a stream of one of the network's request protocols. */
  openRequest(address: string, name: string, signal?: AbortSignal): Promise<Stream> {
    return this.open(address, protocolId(this.networkName, name), signal);
  }

  /** Asks as an honest peer would, and gives the status byte and the answer. */
  async ask(address: string, name: string, request: Uint8Array): Promise<{ status: number; body: Uint8Array }> {
    const signal = AbortSignal.timeout(REQUEST_MS);
    const stream = await this.openRequest(address, name, signal);
    try {
      const reading = readFrame(stream, { maxBytes: 16 * 1024 * 1024, extraHeaderBytes: 1, signal });
      await writeFrame(stream, request, { signal });
      void stream.close({ signal }).catch(() => {});
      const { header, body } = await reading;
      return { status: header[0] ?? 255, body };
    } catch (error) {
      stream.abort(new Error('over'));
      throw error;
    }
  }

  /** True while a connection to the address's peer is open. */
  connected(peer: PeerIdText): boolean {
    return this.libp2p.getConnections().some((connection) => connection.remotePeer.toString() === peer);
  }

  async stop(): Promise<void> {
    for (const stream of this.streams) stream.abort(new Error('over'));
    for (const connection of this.libp2p.getConnections()) connection.abort(new Error('over'));
    await this.libp2p.stop();
  }
}

/** Sends without waiting for room; false when the stream is over or takes no more, which an attacker does not mind. */
export function push(stream: Stream, bytes: Uint8Array): boolean {
  if (stream.status !== 'open' || stream.writeStatus !== 'writable') return false;
  try {
    return stream.send(bytes);
  } catch {
    return false;
  }
}

/** Sends and waits for room, for at most a few seconds; false when the stream is over. */
export async function pushAll(stream: Stream, bytes: Uint8Array): Promise<boolean> {
  if (stream.status !== 'open') return false;
  try {
    if (!stream.send(bytes)) await stream.onDrain({ signal: AbortSignal.timeout(3_000) });
    // Sockets get their turn, also where a stream always says that it has room.
    await nextTurn();
    return true;
  } catch {
    return stream.status === 'open';
  }
}
