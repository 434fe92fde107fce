/**
 * What a peer may do to a connection below any protocol. yamux answers every ping, opens whatever stream is asked for and
 * queues what the other side does not take; libp2p sets no rate and no end to any of it. Whoever does too much loses the
 * connection, and is not let in again for a while. A stream brings no more than its protocol needs: libp2p echoes any
 * number of pings and keeps up to 4 MiB that nobody reads of each stream, and 512 of them have room on a connection.
 */
import type { Connection, MessageStream, Stream } from '@libp2p/interface';
import { TokenBuckets } from './token-bucket.ts';

/** What one connection may do, each second and at once after a pause. */
const RATES = {
  /** Pings of the multiplexer itself. Honest peers send one every half minute. */
  pings: { perSecond: 2, burst: 40 },
  /** Streams: one for each request. A peer that pulls 500 MiB/s of chunks opens 500. */
  streams: { perSecond: 500, burst: 2_000 },
  /** Streams that the other side resets: downloads that end, requests that are given up. */
  resets: { perSecond: 50, burst: 500 },
} as const;

/**
 * Bytes that wait below the streams for a socket that is full. What one stream waits to send is in its own buffer and
 * accounted for there; this is only what others had on the way when the socket filled.
 */
const MAX_UNSENT_BYTES = 2 * 1024 * 1024;

/** A socket that took nothing for so long is ended: its peer does not read. At 16 KiB/s it takes some every four. */
const STUCK_MS = 12_000;
const LOOK_MS = 2_000;

/**
 * Bytes that a stream may bring besides a request: the naming of its protocol, and the messages of libp2p's own protocols,
 * of which the DHT has the largest (dht-guard.ts).
 */
const MAX_STREAM_BYTES = 16 * 1024;

/** What is guarded of a multiplexer; its class has it, its type does not. */
interface Muxer {
  readonly maConn: MessageStream;
  handlePing(header: unknown): void;
  incomingStream(id: number): void;
  abort(error: Error): void;
}

function muxerOf(connection: Connection): Muxer {
  const muxer: unknown = Reflect.get(connection, 'muxer');
  if (
    typeof muxer === 'object' &&
    muxer !== null &&
    ['handlePing', 'incomingStream', 'maConn'].every((name) => name in muxer)
  )
    return muxer as Muxer;
  // Not to be found out in the field: it would leave connections open.
  throw new Error('yamux no longer has the methods that are guarded here');
}

/** Why a connection was ended. */
export class ConnectionAbusedError extends Error {
  static readonly code = 'ERR_CONNECTION_ABUSED';
  readonly code = ConnectionAbusedError.code;
  override readonly name = 'ConnectionAbusedError';
}

interface Watched {
  readonly connection: Connection;
  readonly sender: MessageStream;
  /** Since when its socket takes nothing; undefined while it does. */
  fullSince: number | undefined;
}

/** What a {@link ConnectionGuard} works with. */
export interface GuardComponents {
  /** Told of each connection that is ended. */
  onAbuse(connection: Connection, reason: string): void;
  /** Bytes that a stream of a protocol may bring in its life; undefined for those of which nothing is said. */
  maxStreamBytes(protocol: string): number | undefined;
}

/** Guards the connections that it is shown. */
export class ConnectionGuard {
  /** Bounded by the connections that there are. */
  readonly #watched = new Map<Connection, Watched>();
  readonly #components: GuardComponents;
  readonly #now: () => number;
  #timer: NodeJS.Timeout | undefined;

  /** `now` is in milliseconds. */
  constructor(components: GuardComponents, now: () => number = () => performance.now()) {
    this.#components = components;
    this.#now = now;
  }

  /** Begins to look for sockets that are stuck. */
  start(): void {
    this.#timer = setInterval(() => this.endStuck(), LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#watched.clear();
  }

  /** Guards a new connection. */
  guard(connection: Connection): void {
    const muxer = muxerOf(connection);
    const sender = muxer.maConn;
    sender.maxWriteBufferLength = MAX_UNSENT_BYTES;
    const watched: Watched = { connection, sender, fullSince: undefined };
    this.#watched.set(connection, watched);
    sender.addEventListener('drain', () => {
      watched.fullSince = undefined;
    });
    connection.addEventListener('close', () => this.#watched.delete(connection), { once: true });
    this.#limitCalls(connection, muxer);
  }

  /** Ends the connections whose sockets have taken nothing for long. Called by the timer. */
  endStuck(): void {
    const now = this.#now();
    for (const watched of [...this.#watched.values()]) {
      if (!watched.sender.writableNeedsDrain) watched.fullSince = undefined;
      else watched.fullSince ??= now;
      if (watched.fullSince !== undefined && now - watched.fullSince >= STUCK_MS)
        this.#end(watched.connection, 'it does not read');
    }
  }

  #limitCalls(connection: Connection, muxer: Muxer): void {
    const allowed = (rate: { perSecond: number; burst: number }) => {
      const bucket = new TokenBuckets(rate.perSecond, rate.burst, this.#now);
      return () => bucket.take('');
    };
    const [ping, open, reset] = [allowed(RATES.pings), allowed(RATES.streams), allowed(RATES.resets)];
    const { handlePing, incomingStream } = muxer;
    // What is thrown here ends the multiplexer in the middle of what it reads, which may hold thousands more of these.
    muxer.handlePing = (header) => {
      if (!ping()) throw this.#end(connection, 'too many pings');
      handlePing.call(muxer, header);
    };
    muxer.incomingStream = (id) => {
      if (!open()) throw this.#end(connection, 'too many streams');
      incomingStream.call(muxer, id);
      const stream = connection.streams.at(-1);
      if (stream?.id !== String(id)) return;
      this.#limitBytes(stream);
      stream.addEventListener(
        'close',
        (event) => {
          if (event.error !== undefined && event.local !== true && !reset()) this.#end(connection, 'too many resets');
        },
        { once: true },
      );
    };
  }

  /** Resets a stream that brings more than its protocol needs, before anything of that is kept. */
  #limitBytes(stream: Stream): void {
    if (!hasOnData(stream)) throw new Error('yamux streams no longer have the method that is guarded here');
    const onData = stream.onData.bind(stream);
    let bytes = 0;
    stream.onData = (data) => {
      bytes += data.byteLength;
      if (bytes > MAX_STREAM_BYTES + (this.#components.maxStreamBytes(stream.protocol) ?? 0))
        stream.abort(new ConnectionAbusedError('too many bytes on one stream'));
      else onData(data);
    };
  }

  #end(connection: Connection, reason: string): Error {
    const error = new ConnectionAbusedError(reason);
    if (this.#watched.delete(connection)) this.#components.onAbuse(connection, reason);
    connection.abort(error);
    return error;
  }
}

function hasOnData(stream: Stream): stream is Stream & { onData(data: { readonly byteLength: number }): void } {
  return 'onData' in stream && typeof stream.onData === 'function';
}
