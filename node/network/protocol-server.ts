/**
 * The serving side of one request/response protocol: reads a request, decides whether to serve it, answers.
 *
 * What a peer can hold here, and for how long:
 * - a stream that says nothing: a place in the {@link ReadingRoom}, for a few seconds;
 * - a request that was read: a token of its peer, as a stranger also of its address and of all strangers; if there are such, a place in the protocol's
 *   {@link FairShare} until the handler has ended, and room for the largest answer among the {@link HeldAnswers} until the
 *   answer has been taken off our hands: some protocols have few places, and slow readers are not to fill them. Who gets none is told so ("busy"), which costs six bytes;
 * - an answer that it does not read: until it is too slow, at once when another needs the room.
 */
import type { Connection, PeerId, Stream } from '@libp2p/interface';
import { addressGroup } from './address-group.ts';
import { deadline, raceAbort } from './deadline.ts';
import { MalformedMessageError, MessageTooLargeError, StreamClosedError } from './errors.ts';
import { type Claimant, FairShare } from './fair-share.ts';
import { readFrame, writeFrame } from './frames.ts';
import { type HeldAnswer, HeldAnswers } from './held-answers.ts';
import type { PeerIdText, ProtocolLimits, RequestHandler } from './interface.ts';
import type { Log } from './log.ts';
import type { PeerStandings } from './peer-standings.ts';
import { ReadingRoom } from './reading-room.ts';
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

/** Time for a request to arrive once its stream is open: slow round trips, on machines that train. All requests are a few KiB at most. */
const READ_TIMEOUT_MS = 8_000;

/** An answer has to be read within the grace, and a second for each so many bytes. */
const DRAIN_GRACE_MS = 5_000;
const MIN_DRAIN_BYTES_PER_SECOND = 64 * 1024;

/** Time for the goodbye of a stream whose answer was already read or sent. */
const CLOSE_TIMEOUT_MS = 5_000;

/** Part of a protocol's places that strangers never get, and that strangers of one address get at most. */
const RESERVED_PART = 1 / 4;
const ADDRESS_PART = 1 / 4;

/** Strangers of one address together, and all strangers together, may ask as often as so many peers. */
const PEERS_PER_ADDRESS = 4;
const PEERS_OF_STRANGERS = 16;

/** Counters of one protocol. */
export interface ProtocolStats {
  served: number;
  refused: number;
  failed: number;
  requested: number;
  requestsFailed: number;
}

/** What all protocols of a node share out together, and what tells peers apart. */
export class ServingShares {
  readonly reading = new ReadingRoom();
  readonly answers = new HeldAnswers();
  readonly #standings: PeerStandings;
  readonly #privateNetwork: boolean;

  constructor(standings: PeerStandings, privateNetwork: boolean) {
    this.#standings = standings;
    this.#privateNetwork = privateNetwork;
  }

  /** Who is at the other end. */
  claimant(connection: Connection): Claimant {
    return claimantOf(connection.remotePeer, connection, this.#standings, this.#privateNetwork);
  }
}

/** Who a peer is, as far as sharing out goes. Without a connection, its address is not known. */
export function claimantOf(
  id: PeerId,
  connection: Connection | undefined,
  standings: PeerStandings,
  privateNetwork: boolean,
): Claimant {
  const peer = id.toString() as PeerIdText;
  const address = connection === undefined ? undefined : addressGroup(connection.remoteAddr, privateNetwork);
  return { peer, address, known: standings.isKnown(peer) };
}

/** What an admitted request holds. */
interface Admission {
  readonly answer: HeldAnswer;
  /** The handler has ended: others may have its place. */
  handled(): void;
  release(): void;
}

/** See the head of this file. */
export class ProtocolServer {
  readonly #name: string;
  readonly #limits: ProtocolLimits;
  readonly #handler: RequestHandler;
  readonly #stats: ProtocolStats;
  readonly #log: Log;
  readonly #shares: ServingShares;
  readonly #places: FairShare;
  readonly #byPeer: TokenBuckets;
  readonly #byAddress: TokenBuckets;
  readonly #strangers: TokenBuckets;

  constructor(parts: {
    name: string;
    limits: ProtocolLimits;
    handler: RequestHandler;
    stats: ProtocolStats;
    shares: ServingShares;
    log: Log;
  }) {
    const { limits } = parts;
    this.#name = parts.name;
    this.#limits = limits;
    this.#handler = parts.handler;
    this.#stats = parts.stats;
    this.#log = parts.log;
    this.#shares = parts.shares;
    const total = limits.maxConcurrent ?? DEFAULT_LIMITS.maxConcurrent;
    this.#places = new FairShare({
      total,
      reserved: Math.floor(total * RESERVED_PART),
      perPeer: limits.maxConcurrentPerPeer ?? DEFAULT_LIMITS.maxConcurrentPerPeer,
      perAddress: Math.ceil(total * ADDRESS_PART),
    });
    const rate = limits.requestsPerSecond ?? DEFAULT_LIMITS.requestsPerSecond;
    const burst = limits.burst ?? DEFAULT_LIMITS.burst;
    this.#byPeer = new TokenBuckets(rate, burst);
    this.#byAddress = new TokenBuckets(PEERS_PER_ADDRESS * rate, PEERS_PER_ADDRESS * burst);
    this.#strangers = new TokenBuckets(PEERS_OF_STRANGERS * rate, PEERS_OF_STRANGERS * burst);
  }

  /** Serves one stream. Never throws: libp2p would turn that into a reset without a trace. */
  async onStream(stream: Stream, connection: Connection): Promise<void> {
    const claimant = this.#shares.claimant(connection);
    // A requester that is gone is not waited for, whatever its handler does.
    const gone = new AbortController();
    stream.addEventListener('close', () => gone.abort(new StreamClosedError('the requester is gone')), { once: true });
    const limit = deadline(this.#limits.timeoutMs, gone.signal);
    try {
      const request = await this.#read(stream, claimant, limit.signal);
      if (request === undefined) return;
      const admission = this.#admit(stream, claimant);
      if (admission === undefined) {
        this.#stats.refused += 1;
        await refuse(stream, STATUS.busy);
        return;
      }
      await this.#serve(stream, claimant.peer, request, admission, limit.signal);
    } catch (error) {
      // Its own fault or the connection's: nothing to tell the peer, and too frequent under attack to log loudly.
      this.#log.debug({ protocol: this.#name, peer: claimant.peer, error: String(error) }, 'request stream broke');
      stream.abort(new Error('request stream broke'));
    } finally {
      limit.clear();
    }
  }

  /** The request; undefined when it was none and the peer has been told so. Throws when the stream is to be ended. */
  async #read(stream: Stream, claimant: Claimant, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const limit = deadline(READ_TIMEOUT_MS, signal);
    const leave = this.#shares.reading.enter(claimant, () => stream.abort(new Error('others wait to be read')));
    try {
      return (await readFrame(stream, { maxBytes: this.#limits.maxRequestBytes, signal: limit.signal })).body;
    } catch (error) {
      this.#stats.failed += 1;
      if (stream.status !== 'open') throw error;
      if (error instanceof MessageTooLargeError) await refuse(stream, STATUS.tooLarge);
      else if (error instanceof MalformedMessageError) await refuse(stream, STATUS.malformed);
      else throw error;
      return undefined;
    } finally {
      leave();
      limit.clear();
    }
  }

  #admit(stream: Stream, claimant: Claimant): Admission | undefined {
    const { peer, address, known } = claimant;
    if (!this.#byPeer.take(peer)) return undefined;
    if (!known && address !== undefined && !this.#byAddress.take(address)) return undefined;
    if (!known && !this.#strangers.take('')) return undefined;
    let admission = this.#tryAdmit(stream, claimant);
    // Who holds nothing here is not refused for the sake of those who do not read.
    while (admission === undefined && !this.#holds(peer) && this.#shares.answers.endStalled())
      admission = this.#tryAdmit(stream, claimant);
    return admission;
  }

  #holds(peer: PeerIdText): boolean {
    return this.#places.holds(peer) || this.#shares.answers.holds(peer);
  }

  #tryAdmit(stream: Stream, claimant: Claimant): Admission | undefined {
    const leave = this.#places.take(claimant, 1);
    if (leave === undefined) return undefined;
    const end = () => {
      leave();
      stream.abort(new Error('others wait for an answer'));
    };
    const answer = this.#shares.answers.hold(claimant, this.#limits.maxResponseBytes, end);
    if (answer === undefined) {
      leave();
      return undefined;
    }
    return {
      answer,
      handled: leave,
      release: () => {
        leave();
        answer.release();
      },
    };
  }

  async #serve(
    stream: Stream,
    peer: PeerIdText,
    request: Uint8Array,
    admission: Admission,
    signal: AbortSignal,
  ): Promise<void> {
    const work = (async () => this.#handler(request, peer))();
    let body: Uint8Array;
    try {
      body = await raceAbort(work, signal);
      if (body.length > this.#limits.maxResponseBytes) {
        throw new MessageTooLargeError(`an answer of ${body.length} bytes, at most ${this.#limits.maxResponseBytes}`);
      }
    } catch (error) {
      // The place is held until the handler has really ended, also when we stop waiting for it.
      work.then(nothing, nothing).finally(() => admission.release());
      this.#stats.failed += 1;
      if (stream.status !== 'open') throw error;
      this.#log.debug({ protocol: this.#name, peer, error: String(error) }, 'request failed');
      await refuse(stream, STATUS.failed);
      return;
    }
    admission.handled();
    const seconds = body.length / MIN_DRAIN_BYTES_PER_SECOND;
    const limit = deadline(DRAIN_GRACE_MS + seconds * 1_000, signal);
    try {
      admission.answer.shrink(body.length);
      admission.answer.progress();
      await answer(stream, STATUS.ok, body, limit.signal, () => admission.answer.progress());
      this.#stats.served += 1;
    } catch (error) {
      this.#stats.failed += 1;
      throw error;
    } finally {
      limit.clear();
      admission.release();
    }
  }
}

const NOTHING = new Uint8Array(0);
const nothing = () => {};

async function answer(
  stream: Stream,
  status: number,
  body: Uint8Array,
  signal: AbortSignal,
  onProgress: () => void = nothing,
): Promise<void> {
  await writeFrame(stream, body, { prefix: Uint8Array.of(status), signal, onProgress });
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
export function leave(stream: Stream): void {
  if (stream.status === 'closed' || stream.status === 'aborted' || stream.status === 'reset') return;
  const timer = setTimeout(() => stream.abort(new Error('the other side did not close')), CLOSE_TIMEOUT_MS);
  timer.unref();
  stream.addEventListener('close', () => clearTimeout(timer), { once: true });
}
