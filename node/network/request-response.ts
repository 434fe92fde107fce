/**
 * Request and response: one stream, one request, one answer.
 *
 * On the wire the requester sends `length: u32 | request` and closes its side; the server answers
 * `status: u8 | length: u32 | answer` and closes. See {@link STATUS}. Anything else on the stream ends it.
 *
 * Defences of a server: the size is checked against the announced length before anything is stored; a token bucket and
 * a number of requests at a time per peer (refused with a status, so that a requester can tell "busy" from "gone");
 * a number of requests at a time in total; a time limit from the first byte to the last.
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
import { TokenBuckets } from './token-bucket.ts';

/** First byte of an answer. */
export const STATUS = { ok: 0, failed: 1, busy: 2, tooLarge: 3, malformed: 4 } as const;

/** Defaults of the optional limits: generous for an honest peer, small beside what a machine can do. */
export const DEFAULT_LIMITS = {
  requestsPerSecond: 200,
  burst: 400,
  maxConcurrentPerPeer: 16,
  maxConcurrent: 128,
} as const;

/** Time for the goodbye of a stream whose answer was already read or sent. */
const CLOSE_TIMEOUT_MS = 5_000;

/** Counters of one protocol. */
export interface ProtocolStats {
  served: number;
  refused: number;
  failed: number;
  requested: number;
  requestsFailed: number;
}

/** Implements {@link RequestResponse} over libp2p streams. */
export class StreamRequestResponse implements RequestResponse {
  readonly #libp2p: Libp2p;
  readonly #network: string;
  readonly #log: Log;
  readonly #stats = new Map<string, ProtocolStats>();

  constructor(components: { libp2p: Libp2p; network: string; log: Log }) {
    this.#libp2p = components.libp2p;
    this.#network = components.network;
    this.#log = components.log;
  }

  /** Counters by protocol name. */
  stats(): ReadonlyMap<string, Readonly<ProtocolStats>> {
    return this.#stats;
  }

  async handle(name: string, limits: ProtocolLimits, handler: RequestHandler): Promise<void> {
    const server = new ProtocolServer(name, limits, handler, this.#statsOf(name), this.#log);
    // Twice our own cap: over our cap the peer gets an answer that says so, over libp2p's the stream is just reset.
    const maxInboundStreams = 2 * (limits.maxConcurrentPerPeer ?? DEFAULT_LIMITS.maxConcurrentPerPeer);
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
      // Reading begins first: a server that refuses answers before it has read the request.
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

/** The serving side of one protocol. */
class ProtocolServer {
  readonly #name: string;
  readonly #limits: ProtocolLimits;
  readonly #handler: RequestHandler;
  readonly #stats: ProtocolStats;
  readonly #log: Log;
  readonly #buckets: TokenBuckets;
  readonly #maxPerPeer: number;
  readonly #maxTotal: number;
  /** Requests being served, by peer. Bounded by `#maxTotal`: entries go when they reach zero. */
  readonly #serving = new Map<string, number>();
  #total = 0;

  constructor(name: string, limits: ProtocolLimits, handler: RequestHandler, stats: ProtocolStats, log: Log) {
    this.#name = name;
    this.#limits = limits;
    this.#handler = handler;
    this.#stats = stats;
    this.#log = log;
    this.#buckets = new TokenBuckets(
      limits.requestsPerSecond ?? DEFAULT_LIMITS.requestsPerSecond,
      limits.burst ?? DEFAULT_LIMITS.burst,
    );
    this.#maxPerPeer = limits.maxConcurrentPerPeer ?? DEFAULT_LIMITS.maxConcurrentPerPeer;
    this.#maxTotal = limits.maxConcurrent ?? DEFAULT_LIMITS.maxConcurrent;
  }

  /** Serves one stream. Never throws: libp2p would turn that into a reset without a trace. */
  async onStream(stream: Stream, connection: Connection): Promise<void> {
    const peer = connection.remotePeer.toString() as PeerIdText;
    // A requester that is gone is not waited for, whatever its handler does.
    const gone = new AbortController();
    stream.addEventListener('close', () => gone.abort(new StreamClosedError('the requester is gone')), { once: true });
    const limit = deadline(this.#limits.timeoutMs, gone.signal);
    try {
      if (!this.#admit(peer)) {
        this.#stats.refused += 1;
        await answer(stream, STATUS.busy, NOTHING, limit.signal);
        return;
      }
      await this.#serve(stream, peer, limit.signal);
    } catch (error) {
      // Its own fault or the connection's: nothing to tell the peer, and too frequent under attack to log loudly.
      this.#log.debug({ protocol: this.#name, peer, error: String(error) }, 'request stream broke');
      stream.abort(new Error('request stream broke'));
    } finally {
      limit.clear();
    }
  }

  async #serve(stream: Stream, peer: PeerIdText, signal: AbortSignal): Promise<void> {
    let work: Promise<Uint8Array> | undefined;
    try {
      const request = await readFrame(stream, { maxBytes: this.#limits.maxRequestBytes, signal });
      work = (async () => this.#handler(request.body, peer))();
      // The slot is held until the handler has really ended, also when we stop waiting for it.
      work.then(nothing, nothing).finally(() => this.#release(peer));
      const body = await raceAbort(work, signal);
      if (body.length > this.#limits.maxResponseBytes) {
        throw new MessageTooLargeError(`an answer of ${body.length} bytes, at most ${this.#limits.maxResponseBytes}`);
      }
      await answer(stream, STATUS.ok, body, signal);
      this.#stats.served += 1;
    } catch (error) {
      if (work === undefined) this.#release(peer);
      this.#stats.failed += 1;
      if (error instanceof StreamClosedError || stream.status !== 'open') throw error;
      if (error instanceof MessageTooLargeError && work === undefined) return refuse(stream, STATUS.tooLarge);
      if (error instanceof MalformedMessageError) return refuse(stream, STATUS.malformed);
      if (work === undefined) throw error;
      this.#log.debug({ protocol: this.#name, peer, error: String(error) }, 'request failed');
      return refuse(stream, STATUS.failed);
    }
  }

  #admit(peer: string): boolean {
    if (this.#total >= this.#maxTotal || (this.#serving.get(peer) ?? 0) >= this.#maxPerPeer) return false;
    if (!this.#buckets.take(peer)) return false;
    this.#total += 1;
    this.#serving.set(peer, (this.#serving.get(peer) ?? 0) + 1);
    return true;
  }

  #release(peer: string): void {
    this.#total -= 1;
    const left = (this.#serving.get(peer) ?? 1) - 1;
    if (left <= 0) this.#serving.delete(peer);
    else this.#serving.set(peer, left);
  }
}

const NOTHING = new Uint8Array(0);
const nothing = () => {};

/** Sends a request and the end of our side, which tells the server that nothing follows. */
async function send(stream: Stream, request: Uint8Array, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, request, { signal });
  await stream.close({ signal });
}

async function answer(stream: Stream, status: number, body: Uint8Array, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, body, { prefix: Uint8Array.of(status), signal });
  await stream.close({ signal });
  leave(stream);
}

/** Says no, with a fresh time limit because the request's own may be what ran out. */
async function refuse(stream: Stream, status: number): Promise<void> {
  const limit = deadline(CLOSE_TIMEOUT_MS);
  try {
    await answer(stream, status, NOTHING, limit.signal);
  } finally {
    limit.clear();
  }
}

/** Makes sure that a stream whose work is done goes away, also when the other side never closes its half. */
function leave(stream: Stream): void {
  if (stream.status === 'closed' || stream.status === 'aborted' || stream.status === 'reset') return;
  const timer = setTimeout(() => stream.abort(new Error('the other side did not close')), CLOSE_TIMEOUT_MS);
  timer.unref();
  stream.addEventListener('close', () => clearTimeout(timer), { once: true });
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
