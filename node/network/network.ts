/**
 * One peer on the network: libp2p put together, and the three interfaces that the rest of the node uses.
 */
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { type GossipSub, gossipsub } from '@libp2p/gossipsub';
import { type Identify, identify } from '@libp2p/identify';
import type { Connection, PeerId } from '@libp2p/interface';
import { type KadDHT, kadDHT, type SingleKadDHT } from '@libp2p/kad-dht';
import { noise } from '@libp2p/noise';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { type Ping, ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { addressGroup } from './address-group.ts';
import { BanList } from './ban-list.ts';
import { BoundedDatastore } from './bounded-datastore.ts';
import { ConnectionGuard } from './connection-guard.ts';
import { ContentDirectory } from './content-directory.ts';
import { datastoreOwner } from './datastore-owner.ts';
import { deadline, raceAbort } from './deadline.ts';
import { guardDht } from './dht-guard.ts';
import {
  AddressInUseError,
  InvalidNetworkOptionError,
  ListenError,
  NetworkStoppedError,
  NoConnectionError,
} from './errors.ts';
import { GossipTopics, TOPIC_LIMITS, type TopicStats } from './gossip.ts';
import { GossipIntake, type IntakeStats } from './gossip-intake.ts';
import { boundGossipMemory } from './gossip-memory.ts';
import { gossipsubInternals } from './gossipsub-internals.ts';
import { InboundGate } from './inbound-gate.ts';
import {
  type Discovery,
  type Gossip,
  type PeerIdText,
  type ProtocolLimits,
  type RequestHandler,
  type RequestResponse,
  TOPICS,
  type Topic,
} from './interface.ts';
import { type Log, quietLibp2pLogger } from './log.ts';
import { checkNetworkName, handshakePrologue, libp2pProtocolPrefix, topicName } from './names.ts';
import { PeerKeeper } from './peer-keeper.ts';
import { PeerStandings } from './peer-standings.ts';
import { claimantOf, type ProtocolStats, ServingShares } from './protocol-server.ts';
import { parsePeerId, StreamRequestResponse } from './request-response.ts';
import {
  connectionSettings,
  dhtSettings,
  GRAYLIST_THRESHOLD,
  gossipSettings,
  PRIVATE_TIMINGS,
  PUBLIC_TIMINGS,
  type Timings,
  yamuxSettings,
} from './settings.ts';
import { TrafficMeter, type TrafficTotals } from './traffic.ts';

/** What a network is made of. */
export interface NetworkOptions {
  /** First 8 bytes of the genesis hash in base32 (DESIGN 4); peers of another name cannot connect. */
  readonly networkName: string;
  /** 32-byte ed25519 seed of the peer's identity on the network. */
  readonly privateKeySeed: Uint8Array;
  /** Multiaddrs to listen on, such as `/ip4/127.0.0.1/tcp/0` (0 = a free port). None: dial only. */
  readonly listen: readonly string[];
  /** Multiaddrs to tell others instead of those listened on. */
  readonly announce?: readonly string[];
  /** Multiaddrs of bootstrap peers, with or without `/p2p/<id>`. Own addresses are skipped. */
  readonly bootstrap: readonly string[];
  /** Peers that stay connected at most; newcomers may stay above it for some seconds. Default 64. */
  readonly maxPeers?: number;
  /** Connections to strive for. Default: two thirds of `maxPeers`, at most 24. */
  readonly targetPeers?: number;
  readonly log: Log;
  /** True on one machine or LAN: private addresses are used and many peers may share one. */
  readonly privateNetwork: boolean;
  /** Waiting times to change from the defaults for private and public networks. */
  readonly timings?: Partial<Timings>;
}

/** A peer came or went. */
export interface PeerEvent {
  readonly type: 'connected' | 'disconnected';
  readonly peer: PeerIdText;
}

/** What a dashboard or a log line wants to know. */
export interface NetworkStatus extends TrafficTotals {
  readonly peerId: PeerIdText;
  readonly multiaddrs: readonly string[];
  readonly peers: number;
  readonly connections: number;
  /** Peers in the DHT routing table. */
  readonly routingTable: number;
  readonly gossip: Readonly<Record<Topic, Readonly<TopicStats>>>;
  readonly gossipIntake: Readonly<IntakeStats>;
  readonly protocols: ReadonlyMap<string, Readonly<ProtocolStats>>;
  /** Bytes of answers that are being made or wait to be read. */
  readonly answerBytesHeld: number;
}

const DEFAULT_MAX_PEERS = 64;
const DEFAULT_TARGET_PEERS = 24;

/** Time for a graceful stop before the remaining connections are cut. */
const STOP_TIMEOUT_MS = 3_000;

/** Addresses and peers are remembered this long; must outlast provider records, or lookups lose their addresses. */
const PEER_MEMORY_MS = 48 * 60 * 60_000;

type Services = { identify: Identify; ping: Ping; dht: KadDHT; pubsub: GossipSub };

/** Makes a network; nothing is opened before `start()`. Throws `ERR_INVALID_NETWORK_OPTION`. */
export async function createNetwork(options: NetworkOptions): Promise<Network> {
  const { networkName, privateNetwork } = options;
  checkNetworkName(networkName);
  if (options.privateKeySeed.length !== 32) {
    throw new InvalidNetworkOptionError(`a network key seed has 32 bytes, got ${options.privateKeySeed.length}`);
  }
  const listen = parseAddresses('listen', options.listen);
  const announce = parseAddresses('announce', options.announce ?? []);
  const bootstrap = parseAddresses('bootstrap', options.bootstrap);
  const maxPeers = options.maxPeers ?? DEFAULT_MAX_PEERS;
  const targetPeers = options.targetPeers ?? Math.min(DEFAULT_TARGET_PEERS, Math.ceil((maxPeers * 2) / 3));
  if (maxPeers < 1 || targetPeers > maxPeers) {
    throw new InvalidNetworkOptionError(`maxPeers ${maxPeers}, targetPeers ${targetPeers}: not 1 <= target <= max`);
  }
  const timings = { ...(privateNetwork ? PRIVATE_TIMINGS : PUBLIC_TIMINGS), ...options.timings };
  const privateKey = await generateKeyPairFromSeed('Ed25519', options.privateKeySeed);
  const peerId = peerIdFromPrivateKey(privateKey);
  const meter = new TrafficMeter();
  const bans = new BanList();
  const protocolPrefix = libp2pProtocolPrefix(networkName);
  const standings = new PeerStandings();
  const gate = new InboundGate({ standings, bans, privateNetwork, maxPeers });
  const libp2p: Libp2p<Services> = await createLibp2p<Services>({
    start: false,
    privateKey,
    nodeInfo: { name: 'alice', version: '0.1.0', userAgent: 'alice' },
    logger: quietLibp2pLogger(),
    metrics: () => meter,
    datastore: new BoundedDatastore(
      datastoreOwner({
        self: peerId,
        standings,
        privateNetwork,
        connections: (peer) => libp2p.getConnections(peer),
        log: options.log,
      }),
    ),
    addresses: { listen: listen.map(String), announce: announce.map(String) },
    transports: [tcp({ backlog: 128 })],
    connectionEncrypters: [noise({ prologueBytes: handshakePrologue(networkName) })],
    streamMuxers: [yamux(yamuxSettings())],
    connectionManager: connectionSettings(maxPeers, privateNetwork),
    connectionGater: gate,
    // Peers share cores with training: a late answer to a ping must not cost the connection.
    connectionMonitor: { pingInterval: 20_000, pingTimeout: { minTimeout: 20_000 }, protocolPrefix },
    peerStore: { maxAddressAge: PEER_MEMORY_MS, maxPeerAge: PEER_MEMORY_MS },
    services: {
      identify: identify({ protocolPrefix, maxInboundStreams: 4, maxOutboundStreams: 4, timeout: 10_000 }),
      ping: ping({ protocolPrefix, maxInboundStreams: 8, maxOutboundStreams: 8, timeout: 10_000 }),
      dht: kadDHT(dhtSettings(networkName, privateNetwork, timings)),
      pubsub: gossipsub(gossipSettings(networkName, timings.seenTtlMs)),
    },
  });
  gate.attach(() => libp2p.getConnections());
  guardDht(libp2p.services.dht, (peer) => claimantOf(peer, libp2p.getConnections(peer)[0], standings, privateNetwork));
  return new Network({
    libp2p,
    meter,
    bans,
    log: options.log,
    network: networkName,
    bootstrap,
    maxPeers,
    targetPeers,
    timings,
    privateNetwork,
    standings,
  });
}

/** A peer: {@link Gossip}, {@link RequestResponse} and {@link Discovery} over libp2p. Made by {@link createNetwork}. */
export class Network implements Gossip, RequestResponse, Discovery {
  /** Identity on the network, derived from the key seed. */
  readonly peerId: PeerIdText;
  /** Who is more than a stranger: whoever follows the ledger keeps it up to date. */
  readonly standings: PeerStandings;
  readonly #libp2p: Libp2p<Services>;
  readonly #meter: TrafficMeter;
  readonly #bans: BanList;
  readonly #privateNetwork: boolean;
  readonly #log: Log;
  readonly #intake: GossipIntake;
  readonly #gossip: GossipTopics;
  readonly #requests: StreamRequestResponse;
  readonly #shares: ServingShares;
  readonly #directory: ContentDirectory;
  readonly #keeper: PeerKeeper;
  readonly #guard: ConnectionGuard;
  readonly #dht: KadDHT & SingleKadDHT;
  readonly #listeners = new Set<(event: PeerEvent) => void>();
  #state: 'new' | 'started' | 'stopped' = 'new';
  #stopping: Promise<void> | undefined;

  /** Use {@link createNetwork}. */
  constructor(parts: {
    libp2p: Libp2p<Services>;
    meter: TrafficMeter;
    bans: BanList;
    log: Log;
    network: string;
    bootstrap: readonly Multiaddr[];
    maxPeers: number;
    targetPeers: number;
    timings: Timings;
    privateNetwork: boolean;
    standings: PeerStandings;
  }) {
    const { libp2p, log, network } = parts;
    this.#libp2p = libp2p;
    this.#meter = parts.meter;
    this.#bans = parts.bans;
    this.#privateNetwork = parts.privateNetwork;
    this.#log = log;
    this.peerId = libp2p.peerId.toString() as PeerIdText;
    // kadDHT() returns the class; its declared type leaves out the routing table.
    this.#dht = libp2p.services.dht as KadDHT & SingleKadDHT;
    const pubsub = libp2p.services.pubsub;
    this.standings = parts.standings;
    const internals = gossipsubInternals(pubsub);
    boundGossipMemory(internals, parts.timings.seenTtlMs);
    this.#intake = new GossipIntake({
      pubsub: internals,
      topicBytes: new Map(TOPICS.map((topic) => [topicName(network, topic), TOPIC_LIMITS[topic].maxBytes])),
      graylistThreshold: GRAYLIST_THRESHOLD,
      isKnown: (peer) => this.standings.isKnown(peer),
      onGraylisted: (peer) => this.#ban(peer),
    });
    this.#gossip = new GossipTopics({ pubsub, intake: this.#intake, network, log });
    this.#shares = new ServingShares(this.standings, parts.privateNetwork);
    this.#requests = new StreamRequestResponse({ libp2p, network, log, shares: this.#shares });
    this.#directory = new ContentDirectory({ libp2p, dht: this.#dht, network });
    this.#keeper = new PeerKeeper(
      {
        libp2p,
        dht: this.#dht,
        directory: this.#directory,
        log,
        gossips: (peer) => isGossiping(pubsub, peer),
        standings: this.standings,
      },
      { bootstrap: parts.bootstrap, maxPeers: parts.maxPeers, targetPeers: parts.targetPeers, timings: parts.timings },
    );
    this.#guard = new ConnectionGuard(({ remotePeer }, reason) => {
      log.info({ peer: remotePeer.toString(), reason }, 'a connection was abused; ended');
      this.#ban(remotePeer.toString() as PeerIdText);
    });
    libp2p.addEventListener('connection:open', (event) => this.#guard.guard(event.detail));
    libp2p.addEventListener('peer:connect', (event) => this.#emit('connected', event.detail));
    libp2p.addEventListener('peer:disconnect', (event) => this.#emit('disconnected', event.detail));
  }

  /**
   * Listens and begins to look for peers; resolves when listening, without waiting for any peer. Throws
   * `ERR_ADDRESS_IN_USE` when a port is taken, `ERR_LISTEN` when an address cannot be used. A network starts once.
   */
  async start(): Promise<void> {
    if (this.#state !== 'new') throw new NetworkStoppedError(`a network that is ${this.#state} cannot be started`);
    this.#state = 'started';
    try {
      await this.#libp2p.start();
    } catch (cause) {
      this.#state = 'stopped';
      throw listenError(cause);
    }
    this.#gossip.start();
    this.#guard.start();
    this.#keeper.start();
    this.#log.info({ peerId: this.peerId, multiaddrs: this.multiaddrs() }, 'network started');
  }

  /** Closes everything. Safe to call at any time and more than once. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Addresses for others to dial, each ending in `/p2p/<own id>`. Empty before `start()`. */
  multiaddrs(): string[] {
    return this.#libp2p.getMultiaddrs().map(String);
  }

  /** Bytes on all connections since the start, encryption included. */
  traffic(): TrafficTotals {
    return this.#meter.totals();
  }

  /** A snapshot of all counters. */
  status(): NetworkStatus {
    return {
      peerId: this.peerId,
      multiaddrs: this.multiaddrs(),
      peers: this.#libp2p.getPeers().length,
      connections: this.#libp2p.getConnections().length,
      routingTable: this.#dht.routingTable.size,
      gossip: this.#gossip.stats(),
      gossipIntake: { ...this.#intake.stats },
      protocols: this.#requests.stats(),
      answerBytesHeld: this.#shares.answers.bytes,
      ...this.#meter.totals(),
    };
  }

  /** Calls back whenever a peer connects or disconnects. Returns a function that unsubscribes. */
  onPeer(listener: (event: PeerEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Gossipsub's score of a peer: 0 when nothing is known, negative when it misbehaved. */
  score(peer: PeerIdText): number {
    const pubsub: unknown = this.#libp2p.services.pubsub;
    return isScoring(pubsub) ? pubsub.getScore(peer) : 0;
  }

  /**
   * Connected peers that take part in a topic and can be sent to. A peer's subscription is known a moment before our own
   * stream to it is open; what is published in between does not reach it.
   */
  subscribers(topic: Topic): PeerIdText[] {
    const { pubsub } = this.#libp2p.services;
    return this.#gossip.subscribers(topic).filter((peer) => canSendGossip(pubsub, peer));
  }

  /** How often gossip handlers gave each `Ignore` or `Reject` code, keyed `<topic> <code>`. */
  verdictCodes(): ReadonlyMap<string, number> {
    return this.#gossip.codes();
  }

  /** Connects to a peer by id (its address must be known) or multiaddr. Throws `ERR_NO_CONNECTION`. */
  async connect(target: PeerIdText | string, { signal }: { signal?: AbortSignal } = {}): Promise<PeerIdText> {
    const limit = deadline(10_000, signal);
    try {
      const to = target.startsWith('/') ? multiaddr(target) : parsePeerId(target);
      const connection: Connection = await raceAbort(this.#libp2p.dial(to, { signal: limit.signal }), limit.signal);
      return connection.remotePeer.toString() as PeerIdText;
    } catch (cause) {
      throw new NoConnectionError(`cannot connect to ${target}`, { cause });
    } finally {
      limit.clear();
    }
  }

  /** Ends all connections to a peer. Discovery may connect again. */
  async disconnect(peer: PeerIdText): Promise<void> {
    await this.#libp2p.hangUp(parsePeerId(peer));
  }

  publish(topic: Topic, data: Uint8Array): Promise<void> {
    return this.#gossip.publish(topic, data);
  }

  subscribe(topic: Topic, handler: (data: Uint8Array, from: PeerIdText) => void | Promise<void>): () => void {
    return this.#gossip.subscribe(topic, handler);
  }

  handle(name: string, limits: ProtocolLimits, handler: RequestHandler): Promise<void> {
    return this.#requests.handle(name, limits, handler);
  }

  request(
    peer: PeerIdText,
    name: string,
    request: Uint8Array,
    options: { limits: ProtocolLimits; signal?: AbortSignal },
  ): Promise<Uint8Array> {
    return this.#requests.request(peer, name, request, options);
  }

  peers(): readonly PeerIdText[] {
    return this.#libp2p.getPeers().map((peer) => peer.toString() as PeerIdText);
  }

  provide(cid: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#directory.provide(cid, options);
  }

  /** Stops announcing a content; records that others hold expire by themselves. */
  withdraw(cid: string): Promise<void> {
    return this.#directory.withdraw(cid);
  }

  findProviders(cid: string, options: { signal?: AbortSignal } = {}): AsyncIterable<PeerIdText> {
    return this.#directory.findProviders(cid, options);
  }

  async #stop(): Promise<void> {
    if (this.#state === 'new') this.#state = 'stopped';
    if (this.#state === 'stopped') return;
    this.#state = 'stopped';
    this.#gossip.stop();
    const limit = deadline(STOP_TIMEOUT_MS);
    // Parts of libp2p wait for the other side of a stream without a limit of their own. Cutting the connections frees
    // them.
    limit.signal.addEventListener('abort', () => {
      for (const connection of this.#libp2p.getConnections()) connection.abort(new Error('stopping'));
    });
    try {
      await this.#keeper.stop();
      await this.#libp2p.stop();
    } finally {
      this.#guard.stop();
      limit.clear();
    }
    this.#listeners.clear();
  }

  /** Cuts off a peer for what it did, for a time. One that has something to lose is only not heard. */
  #ban(peer: PeerIdText): void {
    if (this.standings.isKnown(peer) || this.#bans.has(peer)) return;
    const connections = this.#libp2p.getConnections(parsePeerId(peer));
    const address = connections[0] && addressGroup(connections[0].remoteAddr, this.#privateNetwork);
    this.#bans.ban(peer, address);
    this.#log.info({ peer, score: this.score(peer) }, 'a peer is cut off');
    for (const connection of connections) connection.abort(new Error('cut off'));
  }

  #emit(type: PeerEvent['type'], peer: PeerId): void {
    for (const listener of this.#listeners) {
      try {
        listener({ type, peer: peer.toString() as PeerIdText });
      } catch (err) {
        this.#log.error({ err }, 'peer listener failed');
      }
    }
  }
}

function parseAddresses(what: string, texts: readonly string[]): Multiaddr[] {
  return texts.map((text) => {
    try {
      return multiaddr(text);
    } catch (cause) {
      throw new InvalidNetworkOptionError(`${what}: not a multiaddr: "${text.slice(0, 120)}"`, { cause });
    }
  });
}

/** libp2p reports all failed addresses in one error, as text. */
function listenError(cause: unknown): Error {
  const text = cause instanceof Error ? cause.message : String(cause);
  const taken = /EADDRINUSE: address already in use (\S+)/.exec(text);
  if (taken !== null) return new AddressInUseError(`the address ${taken[1]} is in use by another program`, { cause });
  const reason = /\b(EADDRNOTAVAIL|EACCES|ENOTFOUND)\b[^\n]*/.exec(text)?.[0] ?? text.split('\n')[0];
  return new ListenError(`cannot listen: ${reason}`, { cause });
}

function isScoring(pubsub: unknown): pubsub is { getScore(peer: string): number } {
  return typeof pubsub === 'object' && pubsub !== null && 'getScore' in pubsub;
}

/** True when gossipsub has an open stream to the peer: what is published reaches it. */
function canSendGossip(pubsub: unknown, peer: string): boolean {
  return hasEntry(pubsub, 'streamsOutbound', peer);
}

/** True when gossipsub has a stream in each direction. */
function isGossiping(pubsub: unknown, peer: string): boolean {
  return hasEntry(pubsub, 'streamsOutbound', peer) && hasEntry(pubsub, 'streamsInbound', peer);
}

/** Looks into a map that gossipsub's class shows and its interface does not; true when there is no such map. */
function hasEntry(pubsub: unknown, name: 'streamsOutbound' | 'streamsInbound', peer: string): boolean {
  const map: unknown = typeof pubsub === 'object' && pubsub !== null ? Reflect.get(pubsub, name) : undefined;
  return !(map instanceof Map) || map.has(peer);
}
