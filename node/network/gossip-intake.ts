/**
 * The way in for gossip: what peers send is taken at a pace, a little at a time, before gossipsub spends anything on it.
 *
 * gossipsub 17 decodes what a peer sends as fast as it comes, and takes all messages of an RPC in one turn of the event loop.
 * Here
 * - a peer that has sent more than its budget is not read until it has paid: its connection fills up, not our memory;
 * - the work of one turn is bounded, over all peers, and an RPC is taken in parts;
 * - an RPC that cannot be decoded, or is over a limit, costs its sender;
 * - of the ids that a peer says it has, so many are asked for as one answer may bring;
 * - neighbours are told of a large message once it was found good, not when it comes: else who sends many makes us send as
 *   many, at the cost of our own budget with each of them, and keeps them from sending us what we then drop;
 * - a message that nobody judged is forgotten, so that it is taken from the next who brings it;
 * - a peer whose score is below the threshold for being heard is reported and not read: a stranger never again on this
 *   stream, others once their score has recovered.
 */
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import type { RPC } from '@libp2p/gossipsub/message';
import type { PeerId } from '@libp2p/interface';
import type { Uint8ArrayList } from 'uint8arraylist';
import type { GossipsubInternals } from './gossipsub-internals.ts';
import type { PeerIdText } from './interface.ts';
import { PacedBudgets } from './paced-budget.ts';

/**
 * What one peer may send: far above all of the network's honest traffic, of which one peer may deliver all. Bytes: a full
 * proposal a second and as much in transactions.
 */
const BYTES_PER_SECOND = 2 * 1024 * 1024;
const BURST_BYTES = 8 * 1024 * 1024;
const MESSAGES_PER_SECOND = 1_000;
const BURST_MESSAGES = 2_000;

/** Those who have something to lose may have a bad day at a multiple of that. */
const KNOWN_PEERS_FACTOR = 4;

/** A message that was of no use costs as much as so many that were: 200 a second from one peer. */
const USELESS_COST = 4;

/** Ids in control messages that cost as much as a message: looking one up takes a microsecond. */
const IDS_PER_MESSAGE = 32;

/** Messages of an RPC that are taken at a time. */
const MESSAGES_PER_PART = 8;

/**
 * What is taken in one turn of the event loop: a unit is a message, a frame, or so many bytes of one, and costs 0.1 to 0.3 ms.
 * Counted, not timed: on a busy machine a turn takes long whatever is done in it. Strangers may use up a part only, so that
 * a crowd of them leaves something to peers that count.
 */
const TURN_UNITS = 128;
const STRANGERS_TURN_UNITS = 96;
const BYTES_PER_UNIT = 16 * 1024;

/** Longest wait before a peer is looked at again: its budget may have changed, or the stream may be gone. */
const MAX_PAUSE_MS = 1_000;

/**
 * Most messages, and most bytes of them, that we ask of a peer at a time. The answer comes in one RPC, so this is also what an
 * honest peer puts into one at most: otherwise it is one message.
 */
export const MAX_MESSAGES_PER_RPC = 256;
export const MAX_ASKED_BYTES = 4 * 1024 * 1024;

/** Messages from this size on are announced to neighbours when they are accepted, so that they do not send them as well. */
export const ANNOUNCED_BYTES = 16 * 1024;

/** Longest time that a peer may tell us to stay out of its mesh: gossipsub remembers it for as long as it says. */
const MAX_BACKOFF_S = 600;

/** An RPC that nobody honest sends: two are forgiven for a minute, the third ends it (P7 in settings.ts). */
const MALFORMED_PENALTY = 4;

/** What the intake works with. */
export interface IntakeComponents {
  readonly pubsub: GossipsubInternals;
  /** Largest message of each topic, by its name on the wire. */
  readonly topicBytes: ReadonlyMap<string, number>;
  /** Score below which a peer is not heard. */
  readonly graylistThreshold: number;
  /** More than a stranger. */
  isKnown(peer: PeerIdText): boolean;
  /** A peer is below the threshold; called whenever it is met. */
  onGraylisted(peer: PeerIdText): void;
}

/** What came in, for status and measurements. */
export interface IntakeStats {
  /** RPCs taken. */
  rpcs: number;
  /** RPCs that could not be decoded or were over a limit. */
  malformed: number;
  /** Times that a peer was made to wait. */
  paused: number;
  /** Most messages, and most ids of one kind of control message, in one RPC so far. */
  mostMessages: number;
  mostIds: number;
}

/** See the file comment. Made before gossipsub starts. */
export class GossipIntake {
  readonly stats: IntakeStats = { rpcs: 0, malformed: 0, paused: 0, mostMessages: 0, mostIds: 0 };
  readonly #components: IntakeComponents;
  readonly #handle: (from: PeerId, rpc: RPC) => Promise<void>;
  readonly #announce: (messageId: Uint8Array, topic: string, source: string) => void;
  readonly #strangers = budgets(1);
  readonly #known = budgets(KNOWN_PEERS_FACTOR);
  /** RPCs of each peer that were decoded and whose frames' readers have not seen it yet: at most its streams. */
  readonly #decoded = new Map<string, number>();
  /** Units taken in this turn. */
  #taken = 0;
  #nextTurn: Promise<void> | undefined;

  constructor(components: IntakeComponents) {
    this.#components = components;
    const { pubsub } = components;
    const read = pubsub.pipePeerReadStream.bind(pubsub);
    this.#handle = pubsub.handleReceivedRpc.bind(pubsub);
    this.#announce = pubsub.sendIDontWants.bind(pubsub);
    pubsub.sendIDontWants = () => {};
    pubsub.pipePeerReadStream = (peer, source) => read(peer, this.#paced(peer.toString() as PeerIdText, source));
    pubsub.handleReceivedRpc = (from, rpc) => this.#take(from, rpc);
  }

  /** True while the peer is below the threshold for being heard. */
  isGraylisted(peer: PeerIdText): boolean {
    return this.#components.pubsub.score.score(peer) < this.#components.graylistThreshold;
  }

  /** A message was found good, and gossipsub is about to pass it on: neighbours that have it are told first. */
  accepted({ topic, data }: { readonly topic: string; readonly data: Uint8Array }, id: string, from: PeerIdText): void {
    if (data.length >= ANNOUNCED_BYTES) this.#announce(Buffer.from(id, 'hex'), topic, from);
  }

  /** Who else brought a message that is being judged, and would be heard. */
  otherDeliverers(id: string): PeerIdText[] {
    const { peers = [] } = this.#components.pubsub.score.deliveryRecords.records.get(id) ?? {};
    return ([...peers] as PeerIdText[]).filter((peer) => !this.isGraylisted(peer));
  }

  /** Nobody judged a message: whoever brings it next is heard, and answers for it. */
  forget(id: string): void {
    const { seenCache, fastMsgIdCache, score } = this.#components.pubsub;
    // At once: the next copy may be here in this very turn.
    seenCache.delete(id);
    fastMsgIdCache?.delete(id);
    // gossipsub is about to note that it was ignored, and would then hold it against nobody.
    setImmediate(() => score.deliveryRecords.records.delete(id));
  }

  /** A message of the peer was of no use. */
  chargeUseless(peer: PeerIdText): void {
    this.#budgets(peer).messages.spend(peer, USELESS_COST);
  }

  /** A message of the peer was wrong, and gossipsub is about to lower its score. */
  rejected(peer: PeerIdText): void {
    this.chargeUseless(peer);
    // gossipsub would look at the score anew in a second; until then a flood would be heard.
    setImmediate(() => {
      this.#forgetScore(peer);
      if (this.isGraylisted(peer)) this.#components.onGraylisted(peer);
    });
  }

  #forgetScore(peer: PeerIdText): void {
    this.#components.pubsub.score.scoreCache.delete(peer);
  }

  async *#paced(peer: PeerIdText, source: AsyncIterable<Uint8ArrayList>): AsyncGenerator<Uint8ArrayList> {
    for await (const frame of source) {
      const { bytes, messages } = this.#budgets(peer);
      bytes.spend(peer, frame.byteLength);
      messages.spend(peer, 1);
      await this.#outOfDebt(peer);
      await this.#turn(peer, 1 + frame.byteLength / BYTES_PER_UNIT);
      while (this.isGraylisted(peer)) {
        this.#components.onGraylisted(peer);
        if (!this.#components.isKnown(peer)) return;
        await pause(MAX_PAUSE_MS, undefined, { ref: false });
      }
      yield frame;
      // gossipsub is through with it, and has said so unless it could not read it.
      const decoded = this.#decoded.get(peer) ?? 0;
      if (decoded > 1) this.#decoded.set(peer, decoded - 1);
      else this.#decoded.delete(peer);
      if (decoded === 0) this.#blameFrame(peer);
    }
  }

  async #take(from: PeerId, rpc: RPC): Promise<void> {
    const peer = from.toString() as PeerIdText;
    this.#decoded.set(peer, (this.#decoded.get(peer) ?? 0) + 1);
    const ids = rpc.control === undefined ? 0 : this.#limit(rpc.control);
    this.stats.rpcs += 1;
    this.stats.mostMessages = Math.max(this.stats.mostMessages, rpc.messages.length);
    this.stats.mostIds = Math.max(this.stats.mostIds, ids);
    this.#budgets(peer).messages.spend(peer, rpc.messages.length + rpc.subscriptions.length + ids / IDS_PER_MESSAGE);
    for (let start = 0; start < rpc.messages.length; start += MESSAGES_PER_PART) {
      await this.#turn(peer, Math.min(MESSAGES_PER_PART, rpc.messages.length - start));
      // Its first messages may have shown what it is.
      if (this.isGraylisted(peer)) return;
      const messages = rpc.messages.slice(start, start + MESSAGES_PER_PART);
      for (const message of messages) {
        // What an author adds to topic and data is in no id and would travel with it.
        delete message.from;
        // A view into the RPC: whoever kept one small message would keep all of the RPC's megabytes.
        if (message.data !== undefined) message.data = new Uint8Array(message.data);
      }
      await this.#handle(from, { subscriptions: [], messages });
    }
    if (rpc.subscriptions.length === 0 && rpc.control === undefined) return;
    await this.#turn(peer, 1 + (rpc.subscriptions.length + ids) / IDS_PER_MESSAGE);
    await this.#handle(from, { ...rpc, messages: [] });
  }

  /** Cuts control messages down to what is taken, in place; returns how many ids there were. */
  #limit(control: NonNullable<RPC['control']>): number {
    const { pubsub, topicBytes } = this.#components;
    let ids = control.graft.length + control.prune.length;
    let asked = 0;
    let askedBytes = 0;
    for (const ihave of control.ihave) {
      ids += ihave.messageIDs.length;
      const bytes = topicBytes.get(ihave.topicID ?? '') ?? MAX_ASKED_BYTES;
      ihave.messageIDs = ihave.messageIDs.filter((id) => {
        if (asked >= MAX_MESSAGES_PER_RPC || askedBytes + bytes > MAX_ASKED_BYTES) return false;
        if (pubsub.seenCache.has(Buffer.from(id).toString('hex'))) return false;
        asked += 1;
        askedBytes += bytes;
        return true;
      });
    }
    for (const { messageIDs } of [...control.iwant, ...control.idontwant]) ids += messageIDs.length;
    for (const prune of control.prune) {
      prune.peers = [];
      if (prune.backoff !== undefined) prune.backoff = Math.min(prune.backoff, MAX_BACKOFF_S);
    }
    return ids;
  }

  #blameFrame(peer: PeerIdText): void {
    this.stats.malformed += 1;
    const account = this.#components.pubsub.score.peerStats.get(peer);
    if (account !== undefined) account.behaviourPenalty += MALFORMED_PENALTY;
    this.#forgetScore(peer);
    if (this.isGraylisted(peer)) this.#components.onGraylisted(peer);
  }

  /** Resolves when the peer is out of debt. */
  async #outOfDebt(peer: PeerIdText): Promise<void> {
    const { bytes, messages } = this.#budgets(peer);
    for (;;) {
      const waitMs = Math.max(bytes.waitMs(peer), messages.waitMs(peer));
      if (waitMs === 0) return;
      this.stats.paused += 1;
      await pause(Math.min(MAX_PAUSE_MS, Math.ceil(waitMs)), undefined, { ref: false });
    }
  }

  /** Resolves when there is room for the peer's units: in this turn of the event loop, or in one of the next. */
  async #turn(peer: PeerIdText, units: number): Promise<void> {
    const limit = this.#components.isKnown(peer) ? TURN_UNITS : STRANGERS_TURN_UNITS;
    // The last one may be larger than what is left, or a large one would never come to its turn.
    while (this.#nextTurn !== undefined && this.#taken >= limit) await this.#nextTurn;
    if (this.#nextTurn === undefined) {
      this.#taken = 0;
      this.#nextTurn = nextTurn().then(() => {
        this.#nextTurn = undefined;
      });
    }
    this.#taken += units;
  }

  #budgets(peer: PeerIdText) {
    return this.#components.isKnown(peer) ? this.#known : this.#strangers;
  }
}

function budgets(factor: number) {
  return {
    bytes: new PacedBudgets(factor * BYTES_PER_SECOND, factor * BURST_BYTES),
    messages: new PacedBudgets(factor * MESSAGES_PER_SECOND, factor * BURST_MESSAGES),
  };
}
