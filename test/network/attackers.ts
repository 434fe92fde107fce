/**
 * What a hostile peer can do with sockets of its own: each is a bare libp2p node that passes as a peer of the network and
 * follows none of its rules.
 */
import { connect, type Socket } from 'node:net';
import type { Connection, Stream } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import type { Libp2p } from 'libp2p';
import { protocolId } from '../../node/network/names.ts';
import { NETWORK } from './local-peers.ts';

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

/** TCP connections on which nothing is ever said. */
export async function silentSockets(port: number, count: number): Promise<Socket[]> {
  return Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<Socket>((resolve) => {
          const socket = connect(port, '127.0.0.1', () => resolve(socket));
          socket.on('error', () => {});
        }),
    ),
  );
}
