/**
 * What a hostile peer can do with sockets of its own: each is a bare libp2p node that passes as a peer of the network and
 * follows none of its rules.
 */
import { connect, type Socket } from 'node:net';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import type { Connection, Stream } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { dhtProtocolId, handshakePrologue, protocolId } from '../../node/network/names.ts';
import { NETWORK, seedOf } from './local-peers.ts';

/** The part of a bare node that the attacks use. */
export type RawPeer = Pick<Libp2p, 'dial' | 'dialProtocol'>;

/** A request as it goes over the wire: length, then bytes. */
export function framed(request: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(4 + request.length);
  bytes.writeUInt32BE(request.length);
  bytes.set(request, 4);
  return bytes;
}

/** Streams of one protocol on which nothing is ever said. Those that the other side refuses are left out. */
export async function silentStreams(
  raw: RawPeer,
  address: string,
  name: string,
  count: number,
  network = NETWORK,
): Promise<Stream[]> {
  const connection = await raw.dial(multiaddr(address));
  const opened = await Promise.allSettled(
    Array.from({ length: count }, () =>
      connection.newStream(protocolId(network, name), {
        maxOutboundStreams: 100_000,
        signal: AbortSignal.timeout(20_000),
      }),
    ),
  );
  return opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
}

/** Stops taking anything from the socket of a connection, so that its sender's buffers fill. */
export function stopReading(connection: Connection): void {
  (connection as unknown as { maConn: { pause(): void } }).maConn.pause();
}

/**
 * Sends so many requests and reads nothing more once they are on their way. Resolves when all are sent.
 */
export async function unreadRequests(
  raw: RawPeer,
  address: string,
  name: string,
  request: Uint8Array,
  count: number,
  network = NETWORK,
): Promise<Connection> {
  const connection = await raw.dial(multiaddr(address));
  const streams = await silentStreams(raw, address, name, count, network);
  for (const stream of streams) stream.send(framed(request));
  stopReading(connection);
  return connection;
}

/**
 * Fresh identities that connect, and again whenever they are thrown out, until stopped. They do nothing else: there is no
 * gossip and no DHT in them. Resolves to a function that ends it once all have dialled.
 */
export async function connectionFlood(
  address: string,
  count: number,
  options: { readonly name?: string; readonly againMs?: number; readonly network?: string } = {},
): Promise<() => Promise<void>> {
  const { name = 'flood', againMs = 100, network = NETWORK } = options;
  const stop = new AbortController();
  const nodes = await Promise.all(
    Array.from({ length: count }, async (_, index) =>
      createLibp2p({
        privateKey: await generateKeyPairFromSeed('Ed25519', seedOf(`${name} ${index}`)),
        transports: [tcp()],
        connectionEncrypters: [noise({ prologueBytes: handshakePrologue(network) })],
        streamMuxers: [yamux()],
        connectionManager: { reconnectRetries: 0 },
      }),
    ),
  );
  const loops = nodes.map(async (node) => {
    while (!stop.signal.aborted) {
      await node.dial(multiaddr(address), { signal: AbortSignal.timeout(5_000) }).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, againMs));
    }
  });
  return async () => {
    stop.abort();
    await Promise.all(loops);
    await Promise.all(nodes.map((node) => node.stop()));
  };
}

/** TCP connections on which nothing is ever said. Opened in groups smaller than the queue of a listening socket. */
export async function silentSockets(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const group = Array.from({ length: Math.min(50, count - sockets.length) }, () => silentSocket(port));
    sockets.push(...(await Promise.all(group)));
  }
  return sockets;
}

function silentSocket(port: number): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket));
    socket.on('error', () => {}).resume();
  });
}

/** Types of DHT messages, as they stand on the wire. */
export const DHT = { putValue: 0, getValue: 1, addProvider: 2, getProviders: 3, findNode: 4, ping: 5 } as const;

/** A DHT message with its length before it: type, key, and a record where a value is put. */
export function dhtMessage(type: number, key: Uint8Array, record?: Uint8Array): Uint8Array {
  const field = (number: number, bytes: Uint8Array) => [(number << 3) | 2, ...lengthOf(bytes.length), ...bytes];
  const body = [8, type, ...field(2, key), ...(record === undefined ? [] : field(3, record))];
  return Uint8Array.from([...lengthOf(body.length), ...body]);
}

function lengthOf(length: number): number[] {
  return length < 128 ? [length] : [(length & 127) | 128, length >> 7];
}

/** Sends bytes on one DHT stream; resolves to what came back when the other side ends it, or after `ms`. */
export async function dhtStream(raw: RawPeer, address: string, bytes: Uint8Array, ms: number): Promise<Uint8Array> {
  const stream = await raw.dialProtocol(multiaddr(address), dhtProtocolId(NETWORK));
  const got: Uint8Array[] = [];
  stream.addEventListener('message', (event) => got.push(event.data.subarray()));
  const ended = new Promise<void>((resolve) => stream.addEventListener('close', () => resolve(), { once: true }));
  for (let at = 0; at < bytes.length; at += 16_384) stream.send(bytes.subarray(at, at + 16_384));
  await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, ms))]);
  stream.abort(new Error('done'));
  return Buffer.concat(got);
}

/** yamux below any protocol: its class has these methods, its type does not. */
interface RawMuxer {
  handlePingResponse: (id: number) => void;
  sendPing(id: number): void;
  sendFrame(header: { type: number; flag: number; streamID: number; length: number }): void;
}

function muxerOf(connection: Connection): RawMuxer {
  return (connection as unknown as { muxer: RawMuxer }).muxer;
}

/** Pings of the multiplexer, all at once. */
export function pingFlood(connection: Connection, count: number): void {
  // Else the answers to pings that it does not know of end it on this side.
  muxerOf(connection).handlePingResponse = () => {};
  for (let id = 0; id < count && connection.status === 'open'; id++) muxerOf(connection).sendPing(id + 1_000);
}

/** Streams that are opened and reset in the same breath. */
export async function rapidResets(connection: Connection, count: number): Promise<void> {
  const [windowUpdate, syn, rst] = [1, 1, 8];
  for (let index = 0; index < count && connection.status === 'open'; index++) {
    const streamID = 100_001 + 2 * index;
    muxerOf(connection).sendFrame({ type: windowUpdate, flag: syn, streamID, length: 0 });
    muxerOf(connection).sendFrame({ type: windowUpdate, flag: rst, streamID, length: 0 });
    if (index % 100 === 99) await new Promise((resolve) => setImmediate(resolve));
  }
}
