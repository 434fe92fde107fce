/**
 * What the rest of the node needs of the network. `network/` implements it over libp2p; tests over memory.
 */

/** libp2p peer id in text form. */
export type PeerIdText = string & { readonly __brand: 'PeerIdText' };

/** Gossip topics (DESIGN 4), each with its own cap on message size. */
export const TOPICS = ['transactions', 'proposals', 'votes', 'evidence'] as const;
export type Topic = (typeof TOPICS)[number];

/** Thrown by a gossip validator: drop the message, do not hold it against the sender (late, duplicate, unknown yet). */
export class Ignore extends Error {
  readonly code: string;
  override readonly name = 'Ignore';
  constructor(code: string, message = code) {
    super(message);
    this.code = code;
  }
}

/**
 * Thrown by a gossip validator that did not come to judge the message, for a reason that is not the message's own (too much
 * to do, its deliverer is not heard any more): like {@link Ignore}, but whoever brings the message next is heard. Otherwise a
 * peer that brings it first, at the right moment, could keep everybody else's copy from being heard.
 */
export class NotJudged extends Ignore {}

/** Thrown by a gossip validator: drop the message and lower the sender's score (malformed, forged). */
export class Reject extends Error {
  readonly code: string;
  override readonly name = 'Reject';
  constructor(code: string, message = code) {
    super(message);
    this.code = code;
  }
}

/** Publishes and receives small messages that every peer should see. */
export interface Gossip {
  /**
   * Sends to the mesh; resolves once handed to the transport, also when no peer is there to take it. The sender's own
   * handler does not get it. Throws a NetworkError when the message is over the topic's cap or the network is stopped.
   *
   * Equal bytes on a topic are one message: published again within `seenTtlMs` they go nowhere, later they travel anew.
   * To rebroadcast (a vote that may have been lost) wait at least `seenTtlMs` plus two heartbeats.
   */
  publish(topic: Topic, data: Uint8Array): Promise<void>;
  /**
   * Registers the one handler of a topic. It runs before the message is passed on; returning accepts the message,
   * throwing {@link Ignore} or {@link Reject} does not; anything else thrown counts as Ignore and is logged. `from` is
   * the neighbour that delivered the message, not its author. Returns a function that removes the handler.
   */
  subscribe(topic: Topic, handler: (data: Uint8Array, from: PeerIdText) => void | Promise<void>): () => void;
}

/** Limits of a request/response protocol. */
export interface ProtocolLimits {
  readonly maxRequestBytes: number;
  readonly maxResponseBytes: number;
  /** Longest time from opening the stream to the last byte of the answer, the handler's work included. */
  readonly timeoutMs: number;
  /** Requests that a server takes from one peer: sustained rate, and how many at once after a pause. */
  readonly requestsPerSecond?: number;
  readonly burst?: number;
  /** Requests that a server works on at a time: for one peer, and in total. More are refused (ERR_RATE_LIMITED). */
  readonly maxConcurrentPerPeer?: number;
  readonly maxConcurrent?: number;
}

/** Answers a request. Whatever it throws, the requester learns only that it failed (ERR_REMOTE_FAILURE). */
export type RequestHandler = (request: Uint8Array, from: PeerIdText) => Promise<Uint8Array>;

/** Asks one peer, gets one answer. */
export interface RequestResponse {
  /** Serves `/alice/<network>/<name>/1`. A handler that throws makes the requester's call fail. */
  handle(name: string, limits: ProtocolLimits, handler: RequestHandler): Promise<void>;
  /**
   * Connects first when there is no connection. Throws a NetworkError (`code`) on no connection, refusal, time-out or an
   * answer over the limit. Never retries.
   */
  request(
    peer: PeerIdText,
    name: string,
    request: Uint8Array,
    options: { limits: ProtocolLimits; signal?: AbortSignal },
  ): Promise<Uint8Array>;
}

/** Peers and content known through the DHT. */
export interface Discovery {
  /** Peers that are connected now. */
  peers(): readonly PeerIdText[];
  /** Announces that this peer has the content (32-byte sha2-256 key of its CID). Resolves once records were sent. */
  provide(cid: string, options?: { signal?: AbortSignal }): Promise<void>;
  /** Yields peers that announced the content, connecting is up to the caller. */
  findProviders(cid: string, options?: { signal?: AbortSignal }): AsyncIterable<PeerIdText>;
}
