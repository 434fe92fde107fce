/**
 * State sync: a node that joins far behind fetches a recent state instead of executing every block since genesis. A light
 * client leads from a block that the operator trusts to the header of that state; each piece of the state is verified
 * against the root in the header, by itself, so that a peer that lies is known at once, dropped, and nothing is lost but
 * its answer. Verified pieces are kept across restarts. From the state on, block sync does the rest.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Bytes, Struct } from 'scale-ts';
import { type Block, blockId, decodeBlock } from '../chain/block.ts';
import { bodyFault } from '../chain/block-body.ts';
import { DecodeError, decodeStrict, Vector } from '../chain/codec.ts';
import type { ValidatorSet, validatorSetHash } from '../chain/validator-set.ts';
import { BLOCK_SYNC_LIMITS, BLOCK_SYNC_PROTOCOL } from '../consensus/block-sync.ts';
import { UntrustedHeaderError } from '../consensus/light-client/bisect.ts';
import { decodeLightBlock, type LightBlock } from '../consensus/light-client/light-block.ts';
import { followTrust, LIGHT_CLOCK_DRIFT_MS, type TrustedPoint } from '../consensus/light-client/trust.ts';
import { LedgerState } from '../ledger/state.ts';
import {
  decodeChunk,
  InvalidChunkError,
  MAX_CHUNK_DEPTH,
  type StateChunk,
  verifyChunk,
} from '../ledger/state-chunk.ts';
import type { Discovery, PeerIdText, RequestResponse } from '../network/interface.ts';
import type { Store } from '../store/store.ts';
import {
  chunkRequestCodec,
  heightRequestCodec,
  LIGHT_BLOCK_LIMITS,
  LIGHT_BLOCK_PROTOCOL,
  lightBlockAnswerCodec,
  MAX_CHUNK_BYTES,
  offerCodec,
  STATE_CHUNK_LIMITS,
  STATE_CHUNK_PROTOCOL,
  STATE_OFFER_LIMITS,
  STATE_OFFER_PROTOCOL,
  type StateOffer,
} from './protocol.ts';

/** A state is fetched when it saves executing this many blocks; fewer come faster by themselves. */
const MIN_GAIN_BLOCKS = 256;
/**
 * Peers asked for an offer, others each time; of those that have the state, how many are asked for its header, how many
 * give chunks at a time, and how many each.
 */
const MAX_PEERS = 16;
const MAX_HEADERS = 3;
const MAX_SOURCES = 8;
const CHUNKS_PER_PEER = 2;
/** Failures in a row, its own rate limit among them, after which a peer is left out of this attempt. */
const MAX_FAILURES = 5;
/** How long a node looks for peers that have a state, before it goes on from where it is. */
const PATIENCE_MS = 60_000;
const RETRY_MS = 500;

/** Where messages go. */
export interface StateSyncLog {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
}

export interface StateSyncInit {
  readonly trust: TrustedPoint;
  readonly trustingPeriodMs: number;
  /** See {@link MIN_GAIN_BLOCKS}. */
  readonly minGainBlocks?: number;
  /** See {@link PATIENCE_MS}. */
  readonly patienceMs?: number;
  readonly nowMs?: () => number;
}

export interface StateSyncComponents {
  readonly store: Store;
  readonly requests: Pick<RequestResponse, 'request'>;
  readonly discovery: Pick<Discovery, 'peers'>;
  readonly log: StateSyncLog;
}

/** What a peer said is not true: it is dropped for good. */
class LieError extends Error {
  static readonly code = 'ERR_STATE_SYNC_LIE';
  readonly code = LieError.code;
  override readonly name = 'LieError';
}

/** In any order: one by their ids would be the order of whoever makes ids. */
function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

const blocksAnswerCodec = Vector(Struct({ block: Bytes(), commit: Bytes() }));

/** See the head of this file. One use: {@link StateSync.run}. */
export class StateSync {
  readonly #init: StateSyncInit;
  readonly #components: StateSyncComponents;
  readonly #dropped = new Set<PeerIdText>();
  readonly #failures = new Map<PeerIdText, number>();
  /**
   * States that could not be had, by height and depth: anyone may say that he has one. Others are tried before them.
   * Bounded by the attempts, of which there are two a second for as long as the patience.
   */
  readonly #failed = new Map<string, number>();

  constructor(init: StateSyncInit, components: StateSyncComponents) {
    this.#init = init;
    this.#components = components;
  }

  /** Peers that lied. */
  get dropped(): ReadonlySet<PeerIdText> {
    return this.#dropped;
  }

  /**
   * Fetches a state into the store, if there is one that is worth it. Returns its height, or undefined when the node
   * should go on from what it has. Throws the signal's reason, and what the store throws.
   */
  async run({ signal }: { signal: AbortSignal }): Promise<number | undefined> {
    const { store, log } = this.#components;
    const { nowMs = Date.now, patienceMs = PATIENCE_MS } = this.#init;
    if (this.#init.trust.height <= store.height) return undefined;
    const giveUpMs = nowMs() + patienceMs;
    for (;;) {
      signal.throwIfAborted();
      this.#failures.clear();
      const height = await this.#attempt(signal);
      if (height !== undefined) {
        log.info({ height }, 'state sync: the state is verified and stored');
        return height;
      }
      if (nowMs() >= giveUpMs) {
        log.warn(
          { trusted: this.#init.trust.height },
          'state sync: no peer offers a verifiable state, going on by blocks',
        );
        return undefined;
      }
      await pause(RETRY_MS, undefined, { signal });
    }
  }

  /** One try with the peers of the moment. */
  async #attempt(signal: AbortSignal): Promise<number | undefined> {
    const { store, log } = this.#components;
    const offers = await this.#offers(signal);
    const least = store.height + (this.#init.minGainBlocks ?? MIN_GAIN_BLOCKS);
    const worth = offers.filter(({ offer }) => offer.height >= Math.max(least, this.#init.trust.height));
    if (worth.length === 0) return undefined;
    const { height, depth } = this.#choose(worth.map(({ offer }) => offer));
    const attempt = `${height} ${depth}`;
    this.#failed.set(attempt, (this.#failed.get(attempt) ?? 0) + 1);
    // Only of those who say that they have it: it costs them nothing to say so, and others need not answer for it.
    const offering = worth.filter(({ offer }) => offer.height === height).map(({ peer }) => peer);
    const target = await this.#verifiedHeader(offering.slice(0, MAX_HEADERS), height, signal);
    if (target === undefined) return undefined;
    const { stateRoot } = target.header;
    const holders = worth.filter(({ peer, offer }) => {
      if (offer.height !== height || this.#dropped.has(peer)) return false;
      if (offer.stateRoot !== stateRoot) this.#drop(peer, 'its state has another root than the header');
      return offer.stateRoot === stateRoot;
    });
    log.info({ height, chunks: 2 ** depth, peers: holders.length }, 'state sync: fetching a state');
    const peers = holders.map(({ peer }) => peer);
    const block = await this.#block(peers, target, signal);
    if (block === undefined || !(await this.#fetchChunks(peers, target, depth, signal))) return undefined;
    const entries = this.#kept(target, depth);
    if (LedgerState.fromEntries(entries).root !== stateRoot) {
      // Each was verified when it came: what is kept was damaged since.
      store.dropSyncChunks();
      return undefined;
    }
    const validatorSets = new Map<ReturnType<typeof validatorSetHash>, ValidatorSet>([
      [target.header.validatorsHash, target.validators],
      [target.header.nextValidatorsHash, target.nextValidators],
    ]);
    store.writeSnapshot({ block, commit: target.commit, entries, validatorSets });
    return height;
  }

  /**
   * The state to try, and how it is cut, which cannot be proven either: what failed less often, then what was begun, then
   * what most peers offer, then the higher one. So of those who make up offers each costs an attempt.
   */
  #choose(offers: readonly StateOffer[]): { readonly height: number; readonly depth: number } {
    const { syncing } = this.#components.store;
    const begun = offers.some(({ height }) => height === syncing?.height) ? syncing : undefined;
    const choices = [...(begun === undefined ? [] : [begun]), ...offers].map(({ height, depth }) => ({
      height,
      depth,
      failed: this.#failed.get(`${height} ${depth}`) ?? 0,
      begun: begun?.height === height && begun.depth === depth ? 1 : 0,
      votes: offers.filter((other) => other.height === height && other.depth === depth).length,
    }));
    choices.sort(
      (a, b) =>
        a.failed - b.failed || b.begun - a.begun || b.votes - a.votes || b.height - a.height || b.depth - a.depth,
    );
    return choices[0];
  }

  #drop(peer: PeerIdText, reason: string): void {
    this.#dropped.add(peer);
    this.#components.log.warn({ peer, reason }, 'state sync: peer dropped');
  }

  /** Tries peers in turn until one gives an answer that holds. A lie drops the peer, a failure counts against it. */
  async #ask<T>(
    peers: readonly PeerIdText[],
    signal: AbortSignal,
    ask: (peer: PeerIdText) => Promise<T>,
  ): Promise<T | undefined> {
    for (const peer of peers) {
      signal.throwIfAborted();
      if (!this.#isUsable(peer)) continue;
      try {
        const answer = await ask(peer);
        this.#failures.delete(peer);
        return answer;
      } catch (error) {
        signal.throwIfAborted();
        if (
          error instanceof LieError ||
          error instanceof DecodeError ||
          error instanceof InvalidChunkError ||
          error instanceof UntrustedHeaderError
        )
          this.#drop(peer, error.message);
        else this.#failures.set(peer, (this.#failures.get(peer) ?? 0) + 1);
      }
    }
    return undefined;
  }

  #isUsable(peer: PeerIdText): boolean {
    return !this.#dropped.has(peer) && (this.#failures.get(peer) ?? 0) < MAX_FAILURES;
  }

  async #offers(signal: AbortSignal): Promise<{ peer: PeerIdText; offer: StateOffer }[]> {
    const { requests, discovery } = this.#components;
    const peers = shuffled(discovery.peers().filter((peer) => this.#isUsable(peer))).slice(0, MAX_PEERS);
    const options = { limits: STATE_OFFER_LIMITS, signal };
    const answers = await Promise.all(
      peers.map((peer) =>
        this.#ask([peer], signal, async () => {
          const bytes = await requests.request(peer, STATE_OFFER_PROTOCOL, new Uint8Array(), options);
          const offer = decodeStrict(offerCodec, bytes, STATE_OFFER_LIMITS.maxResponseBytes, 'state offer');
          if (offer.depth > MAX_CHUNK_DEPTH) throw new LieError(`a state in 2^${offer.depth} chunks`);
          return { peer, offer };
        }),
      ),
    );
    return answers.filter((answer) => answer !== undefined);
  }

  async #lightBlock(peer: PeerIdText, height: number, signal: AbortSignal): Promise<LightBlock> {
    const options = { limits: LIGHT_BLOCK_LIMITS, signal };
    const request = heightRequestCodec.enc({ height });
    const bytes = await this.#components.requests.request(peer, LIGHT_BLOCK_PROTOCOL, request, options);
    const answer = decodeStrict(lightBlockAnswerCodec, bytes, LIGHT_BLOCK_LIMITS.maxResponseBytes, 'light block');
    // Not there any more is no lie.
    if (answer === undefined) throw new Error(`the peer has no header ${height}`);
    return decodeLightBlock(answer);
  }

  /** The header of the state, from the trusted block on; all of it from one peer, so that it is clear who lied. */
  #verifiedHeader(peers: readonly PeerIdText[], height: number, signal: AbortSignal): Promise<LightBlock | undefined> {
    const { trust, trustingPeriodMs, nowMs = Date.now } = this.#init;
    return this.#ask(peers, signal, async (peer) => {
      const provider = { lightBlock: (at: number) => this.#lightBlock(peer, at, signal) };
      const options = { trustingPeriod: BigInt(trustingPeriodMs), clockDrift: BigInt(LIGHT_CLOCK_DRIFT_MS) };
      const { block } = await followTrust({ trust, height, provider, options, nowMs, signal });
      return block;
    });
  }

  /** The whole block under the header: what peers will ask this node for. */
  #block(peers: readonly PeerIdText[], target: LightBlock, signal: AbortSignal): Promise<Block | undefined> {
    const { header } = target;
    return this.#ask(peers, signal, async (peer) => {
      const options = { limits: BLOCK_SYNC_LIMITS, signal };
      const request = heightRequestCodec.enc({ height: header.height });
      const bytes = await this.#components.requests.request(peer, BLOCK_SYNC_PROTOCOL, request, options);
      const [first] = decodeStrict(blocksAnswerCodec, bytes, BLOCK_SYNC_LIMITS.maxResponseBytes, 'block response');
      if (first === undefined) throw new Error(`the peer has no block ${header.height}`);
      const block = decodeBlock(first.block);
      // A quorum signed the header, and the header names each byte of the body.
      if (blockId(block.header) !== blockId(header) || bodyFault(block) !== undefined)
        throw new LieError('its block is not the one under the header');
      return block;
    });
  }

  /**
   * Fetches what is missing from several peers at a time, each as fast as it serves. What one could not give, another is
   * asked for. False when some chunk is not to be had.
   */
  async #fetchChunks(
    peers: readonly PeerIdText[],
    target: LightBlock,
    depth: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { store } = this.#components;
    const { height } = target.header;
    const missing = Array.from({ length: 2 ** depth }, (_, position) => position).filter(
      (position) => store.syncChunk(height, depth, position) === undefined,
    );
    let underWay = 0;
    const work = async (peer: PeerIdText) => {
      while (this.#isUsable(peer) && missing.length + underWay > 0) {
        const position = missing.shift();
        // Another may yet give back what it could not get.
        const chunk =
          position === undefined
            ? undefined
            : await this.#ask([peer], signal, async () => {
                underWay += 1;
                try {
                  return await this.#chunk(peer, target, depth, position, signal);
                } finally {
                  underWay -= 1;
                }
              });
        if (position !== undefined && chunk !== undefined) {
          store.keepSyncChunk(height, depth, position, chunk);
          continue;
        }
        if (position !== undefined) missing.push(position);
        await pause(RETRY_MS, undefined, { signal });
      }
    };
    await Promise.all(
      peers.slice(0, MAX_SOURCES).flatMap((peer) => Array.from({ length: CHUNKS_PER_PEER }, () => work(peer))),
    );
    return missing.length === 0;
  }

  async #chunk(
    peer: PeerIdText,
    { header }: LightBlock,
    depth: number,
    position: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const options = { limits: STATE_CHUNK_LIMITS, signal };
    const request = chunkRequestCodec.enc({ height: header.height, depth, position });
    const bytes = await this.#components.requests.request(peer, STATE_CHUNK_PROTOCOL, request, options);
    verifyChunk(header.stateRoot, depth, position, decodeChunk(bytes, MAX_CHUNK_BYTES));
    return bytes;
  }

  /** Entries of all kept chunks. */
  #kept({ header }: LightBlock, depth: number): (readonly [string, Uint8Array])[] {
    const entries: (readonly [string, Uint8Array])[] = [];
    for (let position = 0; position < 2 ** depth; position++) {
      const bytes = this.#components.store.syncChunk(header.height, depth, position);
      const chunk: StateChunk | undefined = bytes && decodeChunk(bytes, MAX_CHUNK_BYTES);
      for (const { key, value } of chunk?.entries ?? []) entries.push([key, value]);
    }
    return entries;
  }
}
