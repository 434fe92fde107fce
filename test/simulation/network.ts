/** A network of peers in one thread: delay, loss, duplication, partitions, all by seed. */
import {
  type Discovery,
  type Gossip,
  Ignore,
  type PeerIdText,
  type ProtocolLimits,
  Reject,
  type RequestHandler,
  type RequestResponse,
  type Topic,
} from '../../node/network/interface.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

/** How the network treats messages. */
export interface Weather {
  minDelayMs: number;
  maxDelayMs: number;
  loss: number;
  duplication: number;
}

/** What the network did, by kind. */
export interface NetworkCounts {
  sent: number;
  lost: number;
  duplicated: number;
  reordered: number;
  /** Took at least {@link LONG_DELAY_MS}. */
  delayed: number;
  cut: number;
  rejected: number;
}

/** A message this late has missed most of a round's step. */
const LONG_DELAY_MS = 100;

type GossipHandler = (data: Uint8Array, from: PeerIdText) => void | Promise<void>;

/** One peer's end of the network, for one life of its process. */
export interface Endpoint {
  readonly peer: PeerIdText;
  readonly gossip: Gossip;
  readonly requests: RequestResponse;
  readonly discovery: Pick<Discovery, 'peers'>;
}

interface Station {
  /** Its messages, and those to it, take no time. */
  readonly near: boolean;
  readonly topics: Map<Topic, GossipHandler>;
  readonly protocols: Map<string, RequestHandler>;
}

/** See the head of this file. */
export class SimulatedNetwork {
  readonly counts: NetworkCounts = { sent: 0, lost: 0, duplicated: 0, delayed: 0, reordered: 0, cut: 0, rejected: 0 };
  weather: Weather;
  readonly #world: World;
  readonly #random: Random;
  readonly #stations = new Map<PeerIdText, Station>();
  #groups = new Map<PeerIdText, number>();
  readonly #lastArrivalMs = new Map<string, number>();
  /** Sees every gossip message when it is sent. */
  onSend: ((topic: Topic, data: Uint8Array, from: PeerIdText) => void) | undefined;
  /** Sees every answer to a request when it is given. */
  onAnswer: ((protocol: string, data: Uint8Array, from: PeerIdText) => void) | undefined;

  constructor(world: World, random: Random, weather: Weather) {
    this.#world = world;
    this.#random = random;
    this.weather = weather;
  }

  /** Peers of different groups cannot reach each other. No groups: all can. */
  partition(groups: ReadonlyMap<PeerIdText, number>): void {
    this.#groups = new Map(groups);
  }

  /** Takes a peer off the network. */
  leave(peer: PeerIdText): void {
    this.#stations.delete(peer);
  }

  /** Sends one message to one peer, as byzantine actors do. */
  sendTo(from: PeerIdText, to: PeerIdText, topic: Topic, data: Uint8Array): void {
    this.#deliver(from, to, () => this.#receive(to, topic, data, from));
    if (this.#random.chance(this.weather.duplication)) {
      this.counts.duplicated += 1;
      this.#deliver(from, to, () => this.#receive(to, topic, data, from));
    }
  }

  /** Puts a peer on the network. `near`: what it sends and is sent takes no time. */
  join(peer: PeerIdText, { near = false }: { readonly near?: boolean } = {}): Endpoint {
    const station: Station = { near, topics: new Map(), protocols: new Map() };
    this.#stations.set(peer, station);
    const present = () => this.#stations.get(peer) === station;
    return {
      peer,
      discovery: {
        peers: () => [...this.#stations.keys()].filter((other) => other !== peer && this.#linked(peer, other)),
      },
      gossip: {
        publish: async (topic, data) => {
          if (!present()) return;
          this.onSend?.(topic, data, peer);
          for (const other of this.#stations.keys()) if (other !== peer) this.sendTo(peer, other, topic, data);
        },
        subscribe: (topic, handler) => {
          station.topics.set(topic, handler);
          return () => station.topics.delete(topic);
        },
      },
      requests: {
        handle: async (name, _limits, handler) => {
          station.protocols.set(name, handler);
        },
        request: (to, name, request, { limits, signal }) =>
          present() ? this.#request(peer, to, name, request, limits, signal) : new Promise<never>(() => {}),
      },
    };
  }

  #linked(a: PeerIdText, b: PeerIdText): boolean {
    return (this.#groups.get(a) ?? 0) === (this.#groups.get(b) ?? 0);
  }

  #delay(): number {
    const { minDelayMs, maxDelayMs } = this.weather;
    return minDelayMs + this.#random.next() * (maxDelayMs - minDelayMs);
  }

  #deliver(from: PeerIdText, to: PeerIdText, callback: () => void): void {
    this.counts.sent += 1;
    if (!this.#linked(from, to)) {
      this.counts.cut += 1;
      return;
    }
    if (this.#random.chance(this.weather.loss)) {
      this.counts.lost += 1;
      return;
    }
    const near = [from, to].some((peer) => this.#stations.get(peer)?.near === true);
    const delayMs = near ? 0 : this.#delay();
    if (delayMs >= LONG_DELAY_MS) this.counts.delayed += 1;
    const link = `${from}>${to}`;
    const arrivalMs = this.#world.nowMs + delayMs;
    const lastMs = this.#lastArrivalMs.get(link) ?? 0;
    if (arrivalMs < lastMs) this.counts.reordered += 1;
    this.#lastArrivalMs.set(link, Math.max(arrivalMs, lastMs));
    this.#world.after(delayMs, callback);
  }

  #receive(to: PeerIdText, topic: Topic, data: Uint8Array, from: PeerIdText): void {
    const handler = this.#stations.get(to)?.topics.get(topic);
    try {
      void handler?.(data, from);
    } catch (error) {
      if (error instanceof Reject) this.counts.rejected += 1;
      else if (!(error instanceof Ignore)) throw error;
    }
  }

  #request(
    from: PeerIdText,
    to: PeerIdText,
    name: string,
    request: Uint8Array,
    limits: ProtocolLimits,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new Error('aborted')));
      this.#world.after(limits.timeoutMs, () => reject(new Error('timed out')));
      if (request.length > limits.maxRequestBytes) reject(new Error('request too large'));
      this.#deliver(from, to, () => {
        const handler = this.#stations.get(to)?.protocols.get(name);
        if (handler === undefined) {
          reject(new Error('refused'));
          return;
        }
        handler(request, from).then(
          (answer) => {
            this.onAnswer?.(name, answer, to);
            this.#deliver(to, from, () =>
              answer.length > limits.maxResponseBytes ? reject(new Error('answer too large')) : resolve(answer),
            );
          },
          (error: unknown) => this.#deliver(to, from, () => reject(error)),
        );
      });
    });
  }
}
