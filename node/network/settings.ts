/**
 * How libp2p's parts are set, and why. The defaults of several of them are wrong for us (DESIGN 4 lists the pitfalls).
 */
import type { GossipsubOpts } from '@libp2p/gossipsub';
import type { PeerScoreParams, TopicScoreParams } from '@libp2p/gossipsub/score';
import { type KadDHTInit, passthroughMapper, removePrivateAddressesMapper } from '@libp2p/kad-dht';
import type { YamuxMuxerInit } from '@libp2p/yamux';
import type { ConnectionManagerInit } from 'libp2p';
import { probationPlaces } from './connection-policy.ts';
import { messageId, TOPIC_LIMITS } from './gossip.ts';
import { ANNOUNCED_BYTES, MAX_ASKED_BYTES, MAX_MESSAGES_PER_RPC } from './gossip-intake.ts';
import { TOPICS } from './interface.ts';
import { dhtProtocolId, topicName } from './names.ts';

/** Waiting times that differ between a network on one machine or LAN, which should form at once, and the Internet. */
export interface Timings {
  /** Pause after a failed dial of a bootstrap address: from, to. It grows by 1.7 each time. */
  readonly bootstrapRetryMs: readonly [first: number, longest: number];
  /** Pause between searches for more peers: from, to. It doubles each time and starts over when a peer is lost. */
  readonly searchMs: readonly [first: number, longest: number];
  /** Pause before a peer that could not be reached is dialled again: from, to. Doubles. */
  readonly redialMs: readonly [first: number, longest: number];
  /** Provider records are believed for this long, and renewed this often. */
  readonly providerValidityMs: number;
  readonly reprovideMs: number;
  /** How long gossip remembers a message. */
  readonly seenTtlMs: number;
}

/** Dialling costs nothing and processes come and go quickly. */
export const PRIVATE_TIMINGS: Timings = {
  bootstrapRetryMs: [100, 2_000],
  searchMs: [100, 15_000],
  redialMs: [250, 5_000],
  providerValidityMs: 30 * 60_000,
  reprovideMs: 2 * 60_000,
  // A message is gossiped for 3 heartbeats of 1 s per hop; a private network has 2 hops or so.
  seenTtlMs: 10_000,
};

export const PUBLIC_TIMINGS: Timings = {
  bootstrapRetryMs: [1_000, 60_000],
  searchMs: [1_000, 120_000],
  redialMs: [5_000, 10 * 60_000],
  providerValidityMs: 24 * 60 * 60_000,
  reprovideMs: 60 * 60_000,
  // Six hops or more of 3 heartbeats each, twice over.
  seenTtlMs: 60_000,
};

/** gossipsub's heartbeat. Shorter makes the mesh heal faster and costs CPU in every process on the machine. */
export const HEARTBEAT_MS = 1_000;

/**
 * Largest gossip RPC that is read: what we asked for, with room for what comes with it. A peer that sends more is dropped
 * from gossip, and then reconnected by discovery.
 */
const MAX_RPC_BYTES = MAX_ASKED_BYTES + 256 * 1024;

/** Queue of unsent gossip to one peer; over it the stream is reset, and discovery reconnects the peer. Room for one RPC. */
const MAX_OUTBOUND_BYTES = MAX_RPC_BYTES + 256 * 1024;

/** Score below which a peer is not heard: three messages that were wrong. */
export const GRAYLIST_THRESHOLD = -80;

/** Largest window, and so largest amount in flight, of one stream: about 250 MB/s at 16 ms of round trip. */
const MAX_STREAM_WINDOW_BYTES = 4 * 1024 * 1024;

/** Stream multiplexer: windows that hold a 1 MiB chunk, and a finite write queue (infinite by default). */
export function yamuxSettings(): YamuxMuxerInit {
  return {
    maxInboundStreams: 512,
    maxOutboundStreams: 512,
    streamOptions: {
      initialStreamWindowSize: 1024 * 1024,
      maxStreamWindowSize: MAX_STREAM_WINDOW_BYTES,
      maxReadBufferLength: MAX_STREAM_WINDOW_BYTES,
      maxWriteBufferLength: MAX_OUTBOUND_BYTES,
    },
  };
}

/** Handshakes that libp2p lets begin; the {@link InboundGate} ends those that hang, at a lower number. */
const MAX_HANDSHAKES = 1_024;

/** Time for a whole handshake, and for naming the protocol of a stream: four slow round trips on a busy machine. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** Connections: limits by host are for the Internet; on one machine every peer has the same address. */
export function connectionSettings(maxPeers: number, privateNetwork: boolean): ConnectionManagerInit {
  return {
    // Which peers are too many is decided by `connection-policy.ts`, as soon as one is. libp2p refuses before it knows
    // who comes, so it must never come to that: two connections of each peer, and as many that are just being ended.
    maxConnections: 4 * (maxPeers + probationPlaces(maxPeers)),
    maxParallelDials: 16,
    maxIncomingPendingConnections: MAX_HANDSHAKES,
    // Default 5/s per host: a local network of ten nodes starting at once would lock itself out.
    inboundConnectionThreshold: privateNetwork ? 1_000 : 10,
    inboundUpgradeTimeout: HANDSHAKE_TIMEOUT_MS,
    inboundStreamProtocolNegotiationTimeout: HANDSHAKE_TIMEOUT_MS,
    maxPeerAddrsToDial: 8,
    // Discovery reconnects; libp2p's own queue for tagged peers would only get in its way.
    reconnectRetries: 0,
  };
}

/**
 * DHT in server mode. Private networks keep private addresses, which the default mapper drops. Queries run at once
 * rather than after a first self-query: our own code waits for peers where it must.
 */
export function dhtSettings(network: string, privateNetwork: boolean, timings: Timings): KadDHTInit {
  return {
    protocol: dhtProtocolId(network),
    clientMode: false,
    allowQueryWithZeroPeers: true,
    peerInfoMapper: privateNetwork ? passthroughMapper : removePrivateAddressesMapper,
    // Half of the default parallelism: a query asks everyone in a small network, and all share two cores.
    alpha: 5,
    reprovide: {
      validity: timings.providerValidityMs,
      threshold: timings.providerValidityMs - timings.reprovideMs,
      interval: Math.min(60_000, timings.reprovideMs),
      concurrency: 4,
      maxQueueSize: 4_096,
    },
    networkDialTimeout: { minTimeout: 5_000, maxTimeout: 20_000 },
  };
}

/** Decay per second after which a counter is at a tenth after so many seconds. */
function decayTo10PercentIn(seconds: number): number {
  return 0.1 ** (1 / seconds);
}

const TOPIC_SCORE: TopicScoreParams = {
  topicWeight: 1,
  // P1, P2: small rewards for staying and for delivering first; together they outweigh no second invalid message.
  timeInMeshWeight: 0.01,
  timeInMeshQuantum: 1_000,
  timeInMeshCap: 300,
  firstMessageDeliveriesWeight: 0.1,
  firstMessageDeliveriesDecay: decayTo10PercentIn(60),
  firstMessageDeliveriesCap: 20,
  // P3, P3b: off. They punish a peer for delivering too few messages, and our topics are silent for long times.
  meshMessageDeliveriesWeight: 0,
  meshMessageDeliveriesDecay: 0.5,
  meshMessageDeliveriesCap: 1,
  meshMessageDeliveriesThreshold: 1,
  meshMessageDeliveriesWindow: 10,
  meshMessageDeliveriesActivation: 5_000,
  meshFailurePenaltyWeight: 0,
  meshFailurePenaltyDecay: 0.5,
  // P4: the square of the rejected messages, forgotten over ten minutes. One leaves the mesh, three are ignored.
  invalidMessageDeliveriesWeight: -10,
  invalidMessageDeliveriesDecay: decayTo10PercentIn(600),
};

function scoreSettings(network: string): Partial<PeerScoreParams> {
  return {
    topics: Object.fromEntries(TOPICS.map((topic) => [topicName(network, topic), TOPIC_SCORE])),
    topicScoreCap: 8,
    // P6: off. Who is below the threshold is cut off, and with four such peers its address is: thirteen in one household or
    // behind one provider's address would have all of them cut off, for whatever one of them does. How many there may be of
    // an address is for the door to say (inbound-gate.ts), and how much they get is for shares of addresses.
    IPColocationFactorWeight: 0,
    // P7: broken promises happen to honest peers on a busy machine; only a habit counts.
    behaviourPenaltyWeight: -5,
    behaviourPenaltyThreshold: 6,
    behaviourPenaltyDecay: decayTo10PercentIn(60),
    decayInterval: 1_000,
    decayToZero: 0.05,
    // Scores of peers that left are kept this long; a bound on what many short visits cost.
    retainScore: 10 * 60_000,
  };
}

/**
 * gossipsub: validation first, everything finite.
 *
 * No author signs: a gossip signature is one of a free identity, and checking it would cost the event loop 0.2 ms before
 * anything else can be judged. What travels is signed by an account or a session key.
 */
export function gossipSettings(network: string, seenTtlMs: number): Partial<GossipsubOpts> {
  return {
    globalSignaturePolicy: 'StrictNoSign',
    fallbackToFloodsub: false,
    emitSelf: false,
    // Own messages go to all peers at once: votes arrive one hop earlier.
    floodPublish: true,
    allowPublishToZeroTopicPeers: true,
    ignoreDuplicatePublishError: true,
    doPX: false,
    idontwantMinDataSize: ANNOUNCED_BYTES,
    idontwantMaxMessages: 256,
    // One RPC of a peer at a time: gossip-intake.ts lets it wait.
    awaitRpcHandler: true,
    heartbeatInterval: HEARTBEAT_MS,
    seenTTL: seenTtlMs,
    allowedTopics: TOPICS.map((topic) => topicName(network, topic)),
    msgIdFn: (message) => Buffer.from(messageId(message.topic, message.data), 'hex'),
    fastMsgIdFn: (message) => messageId(message.topic, message.data ?? new Uint8Array(0)),
    msgIdToStrFn: (id) => Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('hex'),
    maxInboundDataLength: MAX_RPC_BYTES,
    maxOutboundBufferSize: MAX_OUTBOUND_BYTES,
    maxTopicBytesPerPeer: 16 * 1024,
    maxInboundStreams: 4,
    maxOutboundStreams: 4,
    // Over a limit the whole RPC is discarded and its sender blamed. docs/measuring.md says what honest peers send.
    decodeRpcLimits: {
      maxSubscriptions: 4 * TOPICS.length,
      maxMessages: MAX_MESSAGES_PER_RPC,
      // What passed in three seconds: more than the busiest network's.
      maxIhaveMessageIDs: 4_096,
      maxIwantMessageIDs: MAX_MESSAGES_PER_RPC,
      maxIdontwantMessageIDs: 64,
      maxControlMessages: 4 * TOPICS.length,
      maxPeerInfos: 0,
    },
    scoreParams: scoreSettings(network),
    scoreThresholds: {
      gossipThreshold: -20,
      publishThreshold: -50,
      graylistThreshold: GRAYLIST_THRESHOLD,
      acceptPXThreshold: 1_000,
      opportunisticGraftThreshold: 1,
    },
  };
}

/** Largest message of any topic: what a gossip RPC must at least carry. */
export const MAX_GOSSIP_MESSAGE_BYTES = Math.max(...TOPICS.map((topic) => TOPIC_LIMITS[topic].maxBytes));
