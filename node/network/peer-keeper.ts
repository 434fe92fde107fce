/**
 * Keeps this node connected: to the bootstrap addresses it was given, and through them to enough other peers.
 *
 * Two kinds of loops run while the node does. One per bootstrap address dials it until it answers, and again when the
 * connection is lost: for ever and quietly, because a bootstrap may start after us or restart. One searches: it asks the
 * DHT for the peers closest to us, for peers near random keys, and for the members that announced themselves under the
 * network's rendezvous key (so a small network finds all of its members in one lookup), until there are enough. Enough
 * means also that some of them were chosen by this node, whoever else came by himself; and validators whose peers are known
 * are dialled in any case.
 */
import type { KadDHT, SingleKadDHT } from '@libp2p/kad-dht';
import type { Multiaddr } from '@multiformats/multiaddr';
import type { Libp2p } from 'libp2p';
import { BoundedMap } from './bounded-map.ts';
import { type ConnectedPeer, minOutbound, surplusPeers } from './connection-policy.ts';
import type { ContentDirectory } from './content-directory.ts';
import { deadline, jittered, pause } from './deadline.ts';
import type { PeerIdText } from './interface.ts';
import type { Log } from './log.ts';
import type { PeerStandings } from './peer-standings.ts';
import { parsePeerId } from './request-response.ts';
import type { Timings } from './settings.ts';
import { DROPPED, WorkQueue } from './work-queue.ts';

/** Peers being dialled at a time, and waiting to be. */
const DIAL_CONCURRENCY = 8;
const MAX_QUEUED_DIALS = 64;

/** Peers whose failed dials are remembered. */
const MAX_REMEMBERED_FAILURES = 1_024;

/** Longest time of one dial and of one DHT search. */
const DIAL_TIMEOUT_MS = 10_000;
const SEARCH_TIMEOUT_MS = 15_000;

/** Two peers that discover each other at once would connect twice; the one with the larger id waits this long first. */
const YIELD_MS = 200;

/** A peer that is connected, but not in gossip, for this long is disconnected: the next connection mends it. */
const GOSSIP_GRACE_MS = 8_000;
const HEALTH_CHECK_MS = 2_000;

/** Share of `maxPeers` at which connections are given up to leave room for newcomers, and down to which. */
const TRIM_ABOVE = 0.9;
const TRIM_TO = 0.8;

/** Validators that this node connects to by itself: enough to follow consensus whatever the others do. */
const DIALLED_VALIDATORS = 16;

export interface PeerKeeperOptions {
  readonly bootstrap: readonly Multiaddr[];
  /** Connections to strive for. */
  readonly targetPeers: number;
  /** Connections at which the transport refuses more. */
  readonly maxPeers: number;
  readonly timings: Timings;
}

export interface PeerKeeperComponents {
  readonly libp2p: Libp2p;
  readonly directory: ContentDirectory;
  readonly dht: KadDHT & SingleKadDHT;
  readonly log: Log;
  /** True when gossip has its streams from and to the peer. */
  readonly gossips: (peer: PeerIdText) => boolean;
  readonly standings: PeerStandings;
}

/** Finds peers and keeps connections to them. */
export class PeerKeeper {
  readonly #options: PeerKeeperOptions;
  readonly #libp2p: Libp2p;
  readonly #directory: ContentDirectory;
  readonly #dht: KadDHT & SingleKadDHT;
  readonly #log: Log;
  readonly #gossips: (peer: PeerIdText) => boolean;
  readonly #standings: PeerStandings;
  readonly #minOutbound: number;
  readonly #self: string;
  readonly #dials = new WorkQueue(DIAL_CONCURRENCY, MAX_QUEUED_DIALS, 'newest');
  readonly #dialling = new Set<string>();
  readonly #failures = new BoundedMap<string, { count: number; until: number }>(MAX_REMEMBERED_FAILURES);
  /** Since when a connected peer is missing in gossip. Keys are connected peers, so it is bounded by `maxPeers`. */
  readonly #mute = new Map<string, number>();
  /** The peer found at each bootstrap address, last time. */
  readonly #bootstrapPeers = new Map<string, string>();
  #stop = new AbortController();
  #loops: Promise<void>[] = [];
  #wake = new AbortController();

  constructor(components: PeerKeeperComponents, options: PeerKeeperOptions) {
    this.#libp2p = components.libp2p;
    this.#directory = components.directory;
    this.#dht = components.dht;
    this.#log = components.log;
    this.#gossips = components.gossips;
    this.#standings = components.standings;
    this.#options = options;
    this.#minOutbound = minOutbound(options.targetPeers);
    this.#self = components.libp2p.peerId.toString();
  }

  /** Starts the loops. Call once libp2p runs. */
  start(): void {
    this.#stop = new AbortController();
    const signal = this.#stop.signal;
    this.#libp2p.addEventListener('connection:open', this.#onOpened);
    this.#libp2p.addEventListener('peer:discovery', this.#onDiscovered);
    this.#libp2p.addEventListener('peer:connect', this.#onConnected);
    this.#libp2p.addEventListener('peer:disconnect', this.#onDisconnected);
    const own = `/p2p/${this.#self}`;
    const others = this.#options.bootstrap.filter((address) => !address.toString().endsWith(own));
    this.#loops = [
      ...others.map((address) => this.#keepBootstrap(address, signal)),
      this.#search(signal),
      this.#watch(signal),
    ];
  }

  /** Ends the loops and waits for them. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake.abort();
    this.#dials.clear();
    this.#libp2p.removeEventListener('connection:open', this.#onOpened);
    this.#libp2p.removeEventListener('peer:discovery', this.#onDiscovered);
    this.#libp2p.removeEventListener('peer:connect', this.#onConnected);
    this.#libp2p.removeEventListener('peer:disconnect', this.#onDisconnected);
    await Promise.all(this.#loops);
    this.#mute.clear();
  }

  get #connected(): number {
    return this.#libp2p.getPeers().length;
  }

  /** True while there are too few peers, or too few that this node chose. */
  get #wantsPeers(): boolean {
    if (this.#connected < this.#options.targetPeers) return true;
    const own = new Set<string>();
    for (const { direction, remotePeer } of this.#libp2p.getConnections())
      if (direction === 'outbound') own.add(remotePeer.toString());
    return own.size < this.#minOutbound;
  }

  /** A newcomer may be one too many; whoever has to go for it goes at once, so that there is always a place to come to. */
  readonly #onOpened = () => {
    if (this.#connected <= this.#options.maxPeers) return;
    for (const peer of surplusPeers(this.#describe(), this.#limits)) this.#cut(peer);
  };

  readonly #onDiscovered = (event: CustomEvent<{ id: { toString(): string } }>) =>
    this.#consider(event.detail.id.toString());

  readonly #onConnected = (event: CustomEvent<{ toString(): string }>) => {
    this.#failures.delete(event.detail.toString());
    // The first peer is who we can ask for others.
    if (this.#connected === 1) this.#wake.abort();
  };

  readonly #onDisconnected = (event: CustomEvent<{ toString(): string }>) => {
    this.#mute.delete(event.detail.toString());
    this.#directory.forget(event.detail.toString());
    if (this.#wantsPeers) this.#wake.abort();
  };

  async #keepBootstrap(address: Multiaddr, signal: AbortSignal): Promise<void> {
    const [first, longest] = this.#options.timings.bootstrapRetryMs;
    let retryMs = first;
    let failed = false;
    while (!signal.aborted) {
      const limit = deadline(DIAL_TIMEOUT_MS, signal);
      try {
        const connection = await this.#libp2p.dial(address, { signal: limit.signal });
        this.#bootstrapPeers.set(address.toString(), connection.remotePeer.toString());
        this.#log.info({ address: address.toString(), peer: connection.remotePeer.toString() }, 'bootstrap connected');
        failed = false;
        const since = performance.now();
        await closed(connection, signal);
        // Thrown out at once means that it has no room: do not hammer it.
        retryMs = performance.now() - since < 1_000 ? Math.min(longest, retryMs * 2) : first;
        if (this.#connected >= this.#options.targetPeers) retryMs = longest;
      } catch (error) {
        if (!failed && !signal.aborted) {
          this.#log.info({ address: address.toString(), error: String(error) }, 'bootstrap not reachable, retrying');
        }
        failed = true;
        retryMs = Math.min(longest, retryMs * 1.7);
      } finally {
        limit.clear();
      }
      await pause(jittered(retryMs), signal);
    }
  }

  async #search(signal: AbortSignal): Promise<void> {
    const [first, longest] = this.#options.timings.searchMs;
    let intervalMs = first;
    let round = 0;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      const before = this.#connected;
      if (before > 0 && this.#wantsPeers) {
        await this.#searchOnce(round, signal);
        round += 1;
      }
      // Quick again while it finds someone; slower and slower when it does not.
      intervalMs = this.#connected > before ? first : Math.min(longest, intervalMs * 2);
      await pause(jittered(intervalMs), AbortSignal.any([this.#wake.signal, signal]));
      if (this.#wake.signal.aborted) intervalMs = first;
      // A peer lost or won usually comes with others; let them settle for a moment.
      if (this.#wake.signal.aborted) await pause(first, signal);
    }
  }

  async #searchOnce(round: number, signal: AbortSignal): Promise<void> {
    const limit = deadline(SEARCH_TIMEOUT_MS, signal);
    try {
      await Promise.all([
        this.#closestTo(this.#libp2p.peerId.toMultihash().bytes, limit.signal),
        this.#rendezvous(limit.signal),
        // Every third time somewhere else: finds peers that are far from us in the key space.
        round % 3 === 2 ? this.#closestTo(crypto.getRandomValues(new Uint8Array(32)), limit.signal) : undefined,
      ]);
    } catch (error) {
      if (!signal.aborted) this.#log.debug({ error: String(error) }, 'peer search failed');
    } finally {
      limit.clear();
    }
  }

  async #closestTo(key: Uint8Array, signal: AbortSignal): Promise<void> {
    for await (const event of this.#dht.getClosestPeers(key, { signal })) {
      if (event.name !== 'PEER_RESPONSE') continue;
      for (const peer of event.closer) this.#consider(peer.id.toString());
    }
  }

  async #rendezvous(signal: AbortSignal): Promise<void> {
    await this.#directory.announceMembership(signal);
    for await (const peer of this.#directory.members(signal)) this.#consider(peer);
  }

  #wants(peer: string): boolean {
    return this.#wantsPeers || this.#standings.of(peer as PeerIdText) === 'validator';
  }

  /** Dials a peer that was heard of, unless there is a reason not to. */
  #consider(peer: string): void {
    if (this.#stop.signal.aborted || peer === this.#self || this.#dialling.has(peer)) return;
    if (this.#dialling.size >= MAX_QUEUED_DIALS) return;
    if (!this.#wants(peer)) return;
    if ((this.#failures.get(peer)?.until ?? 0) > performance.now()) return;
    const id = parsePeerId(peer);
    if (this.#libp2p.getConnections(id).length > 0) return;
    this.#dialling.add(peer);
    this.#dials
      .run(() => this.#dial(peer))
      .then((outcome) => outcome === DROPPED)
      .catch((error: unknown) => this.#log.debug({ peer, error: String(error) }, 'dial failed'))
      .finally(() => this.#dialling.delete(peer));
  }

  async #dial(peer: string): Promise<void> {
    const signal = this.#stop.signal;
    const id = parsePeerId(peer);
    if (this.#self > peer) await pause(jittered(YIELD_MS), signal);
    if (signal.aborted || this.#libp2p.getConnections(id).length > 0 || !this.#wants(peer)) return;
    const limit = deadline(DIAL_TIMEOUT_MS, signal);
    try {
      await this.#libp2p.dial(id, { signal: limit.signal });
    } catch (error) {
      const [first, longest] = this.#options.timings.redialMs;
      const count = (this.#failures.get(peer)?.count ?? 0) + 1;
      const waitMs = Math.min(longest, first * 2 ** Math.min(count - 1, 16));
      this.#failures.set(peer, { count, until: performance.now() + jittered(waitMs) });
      if (!signal.aborted) throw error;
    } finally {
      limit.clear();
    }
  }

  /** Mends what libp2p leaves broken, and makes room. */
  async #watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(jittered(HEALTH_CHECK_MS), signal);
      if (signal.aborted) return;
      await this.#reconnectMute();
      this.#dialValidators();
      await this.#trim();
    }
  }

  /**
   * gossipsub opens its stream to a peer once per connection. When that stream is reset (a full queue, an oversized
   * RPC), the peer stays connected and deaf for good. Ending the connection lets both sides start over.
   */
  async #reconnectMute(): Promise<void> {
    const now = performance.now();
    for (const id of this.#libp2p.getPeers()) {
      const peer = id.toString();
      if (this.#gossips(peer as PeerIdText)) {
        this.#mute.delete(peer);
        continue;
      }
      const since = this.#mute.get(peer) ?? now;
      this.#mute.set(peer, since);
      if (now - since < GOSSIP_GRACE_MS) continue;
      this.#log.warn({ peer }, 'peer is connected but not in gossip; reconnecting');
      this.#mute.delete(peer);
      await this.#hangUp(peer);
      this.#consider(peer);
    }
  }

  #dialValidators(): void {
    const connected = new Set(this.#libp2p.getPeers().map(String));
    const known = [...this.#standings.validators()].filter((peer) => peer !== this.#self);
    const missing = DIALLED_VALIDATORS - known.filter((peer) => connected.has(peer)).length;
    const absent = known.filter((peer) => !connected.has(peer));
    for (const peer of absent.slice(0, Math.max(0, missing))) this.#consider(peer);
  }

  /** A full node would refuse newcomers, and a full bootstrap would keep them out of the network. */
  async #trim(): Promise<void> {
    const { maxPeers, targetPeers } = this.#options;
    const peers = this.#libp2p.getPeers();
    if (peers.length <= maxPeers * TRIM_ABOVE || peers.length <= targetPeers) return;
    const values = new Map<string, number>();
    for (const id of peers) {
      const tags = (await this.#libp2p.peerStore.get(id).catch(() => undefined))?.tags ?? new Map();
      values.set(
        id.toString(),
        [...tags.values()].reduce((sum, tag) => sum + tag.value, 0),
      );
    }
    const room = Math.max(targetPeers, Math.floor(maxPeers * TRIM_TO));
    for (const peer of surplusPeers(this.#describe(values), this.#limits, room)) await this.#hangUp(peer);
  }

  get #limits() {
    return { maxPeers: this.#options.maxPeers, minOutbound: this.#minOutbound };
  }

  /** What the policy decides from. Without `values`, tags count nothing. */
  #describe(values: ReadonlyMap<string, number> = new Map()): ConnectedPeer[] {
    const bootstrap = new Set(this.#bootstrapPeers.values());
    const now = Date.now();
    const described = new Map<string, ConnectedPeer>();
    for (const { remotePeer, direction, timeline } of this.#libp2p.getConnections()) {
      const peer = remotePeer.toString() as PeerIdText;
      const other = described.get(peer);
      described.set(peer, {
        peer,
        direction: other?.direction === 'outbound' ? 'outbound' : direction,
        ageMs: Math.max(other?.ageMs ?? 0, now - timeline.open),
        standing: this.#standings.of(peer),
        bootstrap: bootstrap.has(peer),
        value: values.get(peer) ?? 0,
      });
    }
    return [...described.values()];
  }

  /** Ends all connections to a peer without a goodbye. */
  #cut(peer: string): void {
    for (const connection of this.#libp2p.getConnections(parsePeerId(peer)))
      connection.abort(new Error('too many peers'));
  }

  async #hangUp(peer: string): Promise<void> {
    const limit = deadline(2_000, this.#stop.signal);
    try {
      await this.#libp2p.hangUp(parsePeerId(peer), { signal: limit.signal });
    } catch (error) {
      this.#log.debug({ peer, error: String(error) }, 'hang-up failed');
    } finally {
      limit.clear();
    }
  }
}

/** Resolves when the connection is closed, or the signal fires. */
function closed(connection: { status: string } & EventTarget, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      connection.removeEventListener('close', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    connection.addEventListener('close', done);
    signal.addEventListener('abort', done);
    if (connection.status !== 'open' || signal.aborted) done();
  });
}
