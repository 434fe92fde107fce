/**
 * Gossip topics over gossipsub: validation before forwarding, verdicts, bounded work.
 *
 * Facts about gossipsub 17 that users of this file rely on:
 * - It never delivers a node's own messages to itself (`emitSelf` is off).
 * - A message is known by the hash of topic and data. It is remembered for `seenTtlMs` (swept once a heartbeat, so up to
 *   one heartbeat longer); publishing it again in that time sends nothing and is no error. `seenTtlMs` must be well over
 *   `mcacheGossip` heartbeats times the hops of the network, or a message could travel for ever; see settings.ts.
 * - A message that was ignored is remembered too: it is not seen again before `seenTtlMs` is over. One that nobody judged is
 *   not: see `NotJudged`.
 */
import { hash } from 'node:crypto';
import { type GossipSub, type Message, type TopicValidatorFn, TopicValidatorResult } from '@libp2p/gossipsub';
import { MAX_TRANSACTION_BYTES } from '../chain/transaction.ts';
import { BoundedMap } from './bounded-map.ts';
import { pause } from './deadline.ts';
import { MessageTooLargeError, NetworkStoppedError } from './errors.ts';
import { FairQueue, type FairQueueLimits } from './fair-queue.ts';
import type { GossipIntake } from './gossip-intake.ts';
import { type Gossip, Ignore, NotJudged, type PeerIdText, Reject, TOPICS, type Topic } from './interface.ts';
import type { Log } from './log.ts';
import { topicName } from './names.ts';
import { DROPPED } from './work-queue.ts';

/** Bounds of one topic: of a message, and of the queue before the handler, in which peers take turns. */
export interface TopicLimits extends FairQueueLimits {
  /** Largest message (DESIGN 4). */
  readonly maxBytes: number;
}

const KIB = 1024;
const MIB = 1024 * 1024;

/** Limits by topic, with the reason of each. One at a time where order of arrival helps the handler. */
export const TOPIC_LIMITS: Readonly<Record<Topic, TopicLimits>> = {
  // Handlers wait for signatures, which are checked in batches. A full queue means a flood; what is queued is as good as what
  // comes, and the sender resends.
  transactions: {
    maxBytes: MAX_TRANSACTION_BYTES,
    concurrency: 32,
    maxQueued: 1024,
    maxQueuedBytes: 4 * MIB,
    drop: 'newest',
  },
  // At most one or two are current; an old one that waited is worth less than a new one.
  proposals: { maxBytes: MIB, concurrency: 2, maxQueued: 16, maxQueuedBytes: 8 * MIB, drop: 'oldest' },
  // 200 bytes each. Votes of a round are many and small, and the newest decide.
  votes: { maxBytes: KIB, concurrency: 8, maxQueued: 2048, maxQueuedBytes: MIB, drop: 'oldest' },
  // Two votes each, and one piece about an offender is enough; what is dropped is sent again.
  evidence: { maxBytes: 4 * KIB, concurrency: 1, maxQueued: 256, maxQueuedBytes: MIB, drop: 'newest' },
};

/** A handler that takes longer is given up on; the message counts as ignored. Far above any honest validation. */
const HANDLER_TIMEOUT_MS = 30_000;

/**
 * How often our subscriptions are told to all peers again: about 200 bytes to each. gossipsub tells them once per stream;
 * a peer that forgets them (it happens when a connection ends while the next one is being set up) would otherwise never
 * send us anything of its own again.
 */
const RESUBSCRIBE_MS = 5_000;

/** Distinct verdict codes that are counted; handlers have a few dozen. */
const MAX_CODES = 256;

/** What became of a topic's messages. */
export interface TopicStats {
  published: number;
  accepted: number;
  ignored: number;
  rejected: number;
  /** Ignored because the queue was full. */
  dropped: number;
  /** Ignored because the handler failed or took too long. */
  failed: number;
}

/** Id of a message: sha2-256 over topic and data. Also gossipsub's fast id, so a duplicate costs one hash. */
export function messageId(topic: string, data: Uint8Array): string {
  return hash('sha256', Buffer.concat([Buffer.from(`${topic}\0`), data]), 'hex');
}

/** Implements {@link Gossip} over a gossipsub service whose messages come through an intake. */
export class GossipTopics implements Gossip {
  readonly #pubsub: GossipSub;
  readonly #intake: GossipIntake;
  readonly #log: Log;
  readonly #names: Readonly<Record<Topic, string>>;
  readonly #handlers = new Map<Topic, (data: Uint8Array, from: PeerIdText) => void | Promise<void>>();
  readonly #queues = new Map<Topic, FairQueue>();
  readonly #stats: Record<Topic, TopicStats>;
  readonly #codes = new BoundedMap<string, number>(MAX_CODES);
  #running = false;
  #resubscribing: NodeJS.Timeout | undefined;

  constructor(components: { pubsub: GossipSub; intake: GossipIntake; network: string; log: Log }) {
    this.#pubsub = components.pubsub;
    this.#intake = components.intake;
    this.#log = components.log;
    this.#names = byTopic((topic) => topicName(components.network, topic));
    this.#stats = byTopic(() => ({ published: 0, accepted: 0, ignored: 0, rejected: 0, dropped: 0, failed: 0 }));
  }

  /** Counters by topic. */
  stats(): Readonly<Record<Topic, Readonly<TopicStats>>> {
    return this.#stats;
  }

  /** How often each verdict code occurred, as `<topic> <code>`; the rarest-seen are forgotten past a bound. */
  codes(): ReadonlyMap<string, number> {
    return new Map(this.#codes.entries());
  }

  /** Peers known to take part in a topic. */
  subscribers(topic: Topic): PeerIdText[] {
    return this.#pubsub.getSubscribers(this.#names[topic]).map((peer) => peer.toString() as PeerIdText);
  }

  /** Call once libp2p runs: gossipsub forgets subscriptions whenever it stops. */
  start(): void {
    this.#running = true;
    for (const topic of this.#handlers.keys()) this.#join(topic);
    this.#resubscribing = setInterval(() => this.#resubscribe(), RESUBSCRIBE_MS);
  }

  /** Call before libp2p stops: lets go of everything that waits. */
  stop(): void {
    this.#running = false;
    clearInterval(this.#resubscribing);
    for (const queue of this.#queues.values()) queue.clear();
  }

  async publish(topic: Topic, data: Uint8Array): Promise<void> {
    const { maxBytes } = TOPIC_LIMITS[topic];
    if (data.length > maxBytes) {
      throw new MessageTooLargeError(`${topic}: a message of ${data.length} bytes, at most ${maxBytes} allowed`);
    }
    if (!this.#running) throw new NetworkStoppedError('the network is not running');
    this.#stats[topic].published += 1;
    // gossipsub keeps the array in its cache; callers may reuse theirs.
    await this.#pubsub.publish(this.#names[topic], data.slice());
  }

  subscribe(topic: Topic, handler: (data: Uint8Array, from: PeerIdText) => void | Promise<void>): () => void {
    if (this.#handlers.has(topic)) throw new Error(`the topic "${topic}" has a handler already`);
    this.#handlers.set(topic, handler);
    if (this.#running) this.#join(topic);
    return () => {
      if (this.#handlers.get(topic) !== handler) return;
      this.#handlers.delete(topic);
      this.#pubsub.topicValidators.delete(this.#names[topic]);
      this.#queues.get(topic)?.clear();
      if (this.#running) this.#pubsub.unsubscribe(this.#names[topic]);
    };
  }

  #join(topic: Topic): void {
    this.#queues.set(topic, new FairQueue(TOPIC_LIMITS[topic]));
    this.#pubsub.topicValidators.set(this.#names[topic], this.#validator(topic));
    this.#pubsub.subscribe(this.#names[topic]);
  }

  #resubscribe(): void {
    const pubsub: unknown = this.#pubsub;
    if (!canResubscribe(pubsub)) return;
    const topics = this.#pubsub.getTopics();
    if (topics.length === 0) return;
    for (const peer of this.#pubsub.getPeers()) pubsub.sendSubscriptions(peer.toString(), topics, true);
  }

  /** The one place that turns what a handler does into gossipsub's verdict, which moves the score, and our counters. */
  #validator(topic: Topic): TopicValidatorFn {
    const stats = this.#stats[topic];
    return async (peer, message: Message) => {
      const from = peer.toString() as PeerIdText;
      try {
        if (message.data.length > TOPIC_LIMITS[topic].maxBytes) throw new Reject('ERR_MESSAGE_TOO_LARGE');
        const id = messageId(message.topic, message.data);
        if (!(await this.#judge(topic, message.data, id, from))) {
          stats.dropped += 1;
          this.#intake.forget(id);
          return TopicValidatorResult.Ignore;
        }
        stats.accepted += 1;
        this.#intake.accepted(message, id, from);
        return TopicValidatorResult.Accept;
      } catch (error) {
        if (error instanceof Reject) {
          stats.rejected += 1;
          this.#intake.rejected(from);
          this.#count(topic, error.code);
          this.#log.debug({ topic, peer: from, code: error.code, error: error.message }, 'gossip message rejected');
          return TopicValidatorResult.Reject;
        }
        if (error instanceof Ignore) {
          stats.ignored += 1;
          this.#intake.chargeUseless(from);
          if (error instanceof NotJudged) this.#intake.forget(messageId(message.topic, message.data));
          this.#count(topic, error.code);
          return TopicValidatorResult.Ignore;
        }
        stats.failed += 1;
        this.#log.error({ topic, peer: from, err: error }, 'gossip handler failed');
        return TopicValidatorResult.Ignore;
      }
    };
  }

  /**
   * Has a message judged in its sender's turn, and where that comes to nothing in the turn of another who brought it
   * meanwhile. False when it had to make room in each of their lines. Throws what the handler throws.
   */
  async #judge(topic: Topic, data: Uint8Array, id: string, sender: PeerIdText): Promise<boolean> {
    const asked = new Set<PeerIdText>();
    let notJudged: NotJudged | undefined;
    for (let from: PeerIdText | undefined = sender; from !== undefined; ) {
      const deliverer: PeerIdText = from;
      asked.add(deliverer);
      try {
        const work = () => this.#handle(topic, data, deliverer);
        if ((await this.#queues.get(topic)?.run(deliverer, data.length, work)) !== DROPPED) return true;
      } catch (error) {
        if (!(error instanceof NotJudged)) throw error;
        notJudged = error;
      }
      from = this.#intake.otherDeliverers(id).find((peer) => !asked.has(peer));
    }
    if (notJudged !== undefined) throw notJudged;
    return false;
  }

  async #handle(topic: Topic, data: Uint8Array, from: PeerIdText): Promise<void> {
    const handler = this.#handlers.get(topic);
    if (handler === undefined) throw new NotJudged('ERR_NO_HANDLER');
    // While it waited its sender was found out.
    if (this.#intake.isGraylisted(from)) throw new NotJudged('ERR_SENDER_GRAYLISTED');
    const work = handler(data, from);
    if (work === undefined) return;
    const done = new AbortController();
    try {
      await Promise.race([
        work,
        pause(HANDLER_TIMEOUT_MS, done.signal).then(() => {
          if (!done.signal.aborted) throw new Error(`the handler of "${topic}" took over ${HANDLER_TIMEOUT_MS} ms`);
        }),
      ]);
    } finally {
      done.abort();
    }
  }

  #count(topic: Topic, code: string): void {
    const key = `${topic} ${code}`;
    this.#codes.set(key, (this.#codes.get(key) ?? 0) + 1);
  }
}

/** gossipsub's own way to tell a peer our topics, which its interface does not show. */
function canResubscribe(
  pubsub: unknown,
): pubsub is { sendSubscriptions(peer: string, topics: string[], subscribe: boolean): void } {
  return typeof pubsub === 'object' && pubsub !== null && 'sendSubscriptions' in pubsub;
}

function byTopic<T>(make: (topic: Topic) => T): Record<Topic, T> {
  return Object.fromEntries(TOPICS.map((topic) => [topic, make(topic)])) as Record<Topic, T>;
}
