/**
 * Request and response: one stream, one request, one answer.
 *
 * On the wire the requester sends `length: u32 | request` and closes its side; the server answers
 * `status: u8 | length: u32 | answer` and closes. See {@link STATUS}. Anything else on the stream ends it. What a server
 * takes and refuses is in `protocol-server.ts`.
 */
import type { Connection, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import type { Libp2p } from 'libp2p';
import { deadline, raceAbort } from './deadline.ts';
import {
  InvalidPeerError,
  MalformedMessageError,
  MessageTooLargeError,
  NetworkError,
  NetworkStoppedError,
  NoConnectionError,
  RateLimitedError,
  RemoteFailureError,
  RequestAbortedError,
  RequestTimeoutError,
  StreamClosedError,
  UnsupportedProtocolError,
} from './errors.ts';
import { readFrame, writeFrame } from './frames.ts';
import type { PeerIdText, ProtocolLimits, RequestHandler, RequestResponse } from './interface.ts';
import type { Log } from './log.ts';
import { protocolId } from './names.ts';
import {
  DEFAULT_LIMITS,
  leave,
  ProtocolServer,
  type ProtocolStats,
  type ServingShares,
  STATUS,
} from './protocol-server.ts';

/** Implements {@link RequestResponse} over libp2p streams. */
export class StreamRequestResponse implements RequestResponse {
  readonly #libp2p: Libp2p;
  readonly #network: string;
  readonly #log: Log;
  readonly #shares: ServingShares;
  readonly #stats = new Map<string, ProtocolStats>();
  /** By protocol id, what is served. */
  readonly #requestBytes = new Map<string, number>();

  constructor(components: { libp2p: Libp2p; network: string; log: Log; shares: ServingShares }) {
    this.#libp2p = components.libp2p;
    this.#network = components.network;
    this.#log = components.log;
    this.#shares = components.shares;
  }

  /** Counters by protocol name. */
  stats(): ReadonlyMap<string, Readonly<ProtocolStats>> {
    return this.#stats;
  }

  /** Largest request of a protocol that is served, by its id on the wire; undefined for others. */
  maxRequestBytes(id: string): number | undefined {
    return this.#requestBytes.get(id);
  }

  async handle(name: string, limits: ProtocolLimits, handler: RequestHandler): Promise<void> {
    const server = new ProtocolServer({
      name,
      limits,
      handler,
      stats: this.#statsOf(name),
      shares: this.#shares,
      log: this.#log,
    });
    // Twice our own cap: over our cap the peer gets an answer that says so, over libp2p's the stream is just reset.
    const maxInboundStreams = 2 * (limits.maxConcurrentPerPeer ?? DEFAULT_LIMITS.maxConcurrentPerPeer);
    this.#requestBytes.set(protocolId(this.#network, name), limits.maxRequestBytes);
    await this.#libp2p.handle(
      protocolId(this.#network, name),
      (stream, connection) => server.onStream(stream, connection),
      { maxInboundStreams, maxOutboundStreams: Number.MAX_SAFE_INTEGER },
    );
  }

  async request(
    peer: PeerIdText,
    name: string,
    request: Uint8Array,
    options: { limits: ProtocolLimits; signal?: AbortSignal },
  ): Promise<Uint8Array> {
    const stats = this.#statsOf(name);
    stats.requested += 1;
    try {
      return await this.#request(peer, name, request, options);
    } catch (error) {
      stats.requestsFailed += 1;
      throw error;
    }
  }

  async #request(
    peer: PeerIdText,
    name: string,
    request: Uint8Array,
    { limits, signal }: { limits: ProtocolLimits; signal?: AbortSignal },
  ): Promise<Uint8Array> {
    if (request.length > limits.maxRequestBytes) {
      throw new MessageTooLargeError(
        `${name}: a request of ${request.length} bytes, at most ${limits.maxRequestBytes}`,
      );
    }
    let stream: Stream | undefined;
    const limit = deadline(limits.timeoutMs, signal);
    try {
      stream = await this.#open(peer, name, limit.signal);
      // Reading begins first: a server that refuses the size answers before it has read the request.
      const reading = readFrame(stream, {
        maxBytes: limits.maxResponseBytes,
        extraHeaderBytes: 1,
        signal: limit.signal,
      });
      // When sending fails, the stream is over and the read fails too: its error is the one that counts.
      send(stream, request, limit.signal).catch(nothing);
      const { header, body } = await reading;
      throwUnlessOk(name, header[0] ?? STATUS.malformed);
      leave(stream);
      return body;
    } catch (error) {
      stream?.abort(new Error('request ended'));
      if (limit.expired()) throw new RequestTimeoutError(`${name}: no answer in ${limits.timeoutMs} ms`);
      if (signal?.aborted === true) throw new RequestAbortedError(`${name}: aborted`, { cause: signal.reason });
      if (error instanceof NetworkError) throw error;
      throw new StreamClosedError(`${name}: the stream broke`, { cause: error });
    } finally {
      limit.clear();
    }
  }

  async #open(peer: PeerIdText, name: string, signal: AbortSignal): Promise<Stream> {
    if (this.#libp2p.status !== 'started') throw new NetworkStoppedError('the network is not running');
    let connection: Connection;
    try {
      const id = parsePeerId(peer);
      connection =
        this.#libp2p.getConnections(id).find((candidate) => candidate.status === 'open') ??
        (await raceAbort(this.#libp2p.dial(id, { signal }), signal));
    } catch (cause) {
      if (cause instanceof NetworkError) throw cause;
      throw new NoConnectionError(`${name}: cannot reach ${peer}`, { cause });
    }
    try {
      return await raceAbort(
        connection.newStream(protocolId(this.#network, name), { signal, maxOutboundStreams: Number.MAX_SAFE_INTEGER }),
        signal,
      );
    } catch (cause) {
      if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') {
        throw new UnsupportedProtocolError(`${peer} does not serve ${name}`, { cause });
      }
      if (connection.status === 'open') throw new StreamClosedError(`${name}: ${peer} refused the stream`, { cause });
      throw new NoConnectionError(`${name}: the connection to ${peer} was lost`, { cause });
    }
  }

  #statsOf(name: string): ProtocolStats {
    let stats = this.#stats.get(name);
    if (stats === undefined) {
      stats = { served: 0, refused: 0, failed: 0, requested: 0, requestsFailed: 0 };
      this.#stats.set(name, stats);
    }
    return stats;
  }
}

const nothing = () => {};

/** Sends a request and the end of our side, which tells the server that nothing follows. */
async function send(stream: Stream, request: Uint8Array, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, request, { signal });
  await stream.close({ signal });
}

function throwUnlessOk(name: string, status: number): void {
  if (status === STATUS.ok) return;
  if (status === STATUS.busy) throw new RateLimitedError(`${name}: the peer is busy or we ask too often`);
  if (status === STATUS.tooLarge) throw new MessageTooLargeError(`${name}: too large for the peer`);
  if (status === STATUS.failed) throw new RemoteFailureError(`${name}: the peer could not answer`);
  throw new MalformedMessageError(`${name}: the peer answered with status ${status}`);
}

/** Reads a peer id. Throws {@link InvalidPeerError}. */
export function parsePeerId(text: string): ReturnType<typeof peerIdFromString> {
  try {
    return peerIdFromString(text);
  } catch (cause) {
    throw new InvalidPeerError(`not a peer id: "${String(text).slice(0, 80)}"`, { cause });
  }
}
