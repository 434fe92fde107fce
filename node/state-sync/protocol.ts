/**
 * What a newcomer asks of its peers to begin at a recent state instead of at genesis, and how a node answers: headers
 * with their proofs, which states it has, and these states in pieces. Nothing of it has to be believed.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Bytes, type CodecType, Option, Struct, u8, u32 } from 'scale-ts';
import { decodeStrict, hashCodec } from '../chain/codec.ts';
import { encodeLightBlock, type LightBlock, MAX_LIGHT_BLOCK_BYTES } from '../consensus/light-client/light-block.ts';
import type { LedgerState } from '../ledger/state.ts';
import { chunkDepth, chunkOf, encodeChunk, MAX_CHUNK_DEPTH } from '../ledger/state-chunk.ts';
import { BoundedMap } from '../network/bounded-map.ts';
import type { ProtocolLimits, RequestResponse } from '../network/interface.ts';

export const LIGHT_BLOCK_PROTOCOL = 'light-block';
export const STATE_OFFER_PROTOCOL = 'state-offer';
export const STATE_CHUNK_PROTOCOL = 'state-chunk';

/** A chunk is cut to about this size; entries are alike, so that four times as much has room for the unlucky one. */
const CHUNK_BYTES = 256 * 1024;
export const MAX_CHUNK_BYTES = 4 * CHUNK_BYTES;

/** A bisection asks for a few headers one after another. */
export const LIGHT_BLOCK_LIMITS: ProtocolLimits = {
  maxRequestBytes: 16,
  maxResponseBytes: MAX_LIGHT_BLOCK_BYTES + 16,
  timeoutMs: 5_000,
  requestsPerSecond: 20,
  burst: 40,
  maxConcurrentPerPeer: 2,
  maxConcurrent: 16,
};

export const STATE_OFFER_LIMITS: ProtocolLimits = {
  maxRequestBytes: 16,
  maxResponseBytes: 64,
  timeoutMs: 10_000,
  requestsPerSecond: 1,
  burst: 10,
  maxConcurrentPerPeer: 1,
  maxConcurrent: 8,
};

export const STATE_CHUNK_LIMITS: ProtocolLimits = {
  maxRequestBytes: 16,
  maxResponseBytes: MAX_CHUNK_BYTES,
  timeoutMs: 15_000,
  // 20 chunks a second are 5 MiB/s: a newcomer's share of an uplink.
  requestsPerSecond: 20,
  burst: 20,
  maxConcurrentPerPeer: 2,
  maxConcurrent: 8,
};

export const heightRequestCodec = Struct({ height: u32 });
export const lightBlockAnswerCodec = Option(Bytes());
/** The state that a node offers: 0 for none. `depth`: into how many pieces (two to the power) it is best cut. */
export const offerCodec = Struct({ height: u32, stateRoot: hashCodec, depth: u8 });
export type StateOffer = CodecType<typeof offerCodec>;
export const chunkRequestCodec = Struct({ height: u32, depth: u8, position: u32 });

/** Nodes offer states of the same heights, multiples of this, so that one newcomer can fetch from many. */
export const OFFER_INTERVAL_BLOCKS = 128;

/** What a node needs to serve newcomers. `Blockchain` has it. */
export interface ServedChain {
  readonly height: number;
  stateAt(height: number): LedgerState | undefined;
  lightBlock(height: number): LightBlock | undefined;
}

/** Thrown for a request that asks for what is not there; the peer learns only that it failed. */
export class NotServedError extends Error {
  static readonly code = 'ERR_NOT_SERVED';
  readonly code = NotServedError.code;
  override readonly name = 'NotServedError';
}

/** States whose pieces are served although newer ones are offered: as far back as states are kept. */
const MAX_OFFERED = 8;

/** Entries read between two turns of the event loop. */
const ENTRIES_PER_TURN = 10_000;

/** Answers newcomers. */
export class StateSyncServer {
  readonly #chain: ServedChain;
  readonly #intervalBlocks: number;
  readonly #chunkBytes: number;
  /** States that were offered lately, by height: a newcomer may take a while to fetch one. They share what is equal. */
  readonly #offered = new BoundedMap<number, LedgerState>(MAX_OFFERED);
  #offer: { readonly height: number; readonly answer: Promise<StateOffer> } | undefined;

  constructor(chain: ServedChain, { intervalBlocks = OFFER_INTERVAL_BLOCKS, chunkBytes = CHUNK_BYTES } = {}) {
    this.#chain = chain;
    this.#intervalBlocks = intervalBlocks;
    this.#chunkBytes = chunkBytes;
  }

  /** Begins to serve. */
  async serve(requests: Pick<RequestResponse, 'handle'>): Promise<void> {
    await requests.handle(LIGHT_BLOCK_PROTOCOL, LIGHT_BLOCK_LIMITS, (request) => this.#lightBlock(request));
    await requests.handle(STATE_OFFER_PROTOCOL, STATE_OFFER_LIMITS, async () => offerCodec.enc(await this.offer()));
    await requests.handle(STATE_CHUNK_PROTOCOL, STATE_CHUNK_LIMITS, (request) => this.#chunk(request));
  }

  /** The latest state that is worth fetching, with its size; counted once for each height. */
  offer(): Promise<StateOffer> {
    const height = this.#chain.height - (this.#chain.height % this.#intervalBlocks);
    const state = height === 0 ? undefined : this.#chain.stateAt(height);
    if (state === undefined) return Promise.resolve({ height: 0, stateRoot: '00'.repeat(32) as never, depth: 0 });
    this.#offered.set(height, state);
    if (this.#offer?.height !== height) this.#offer = { height, answer: this.#measure(height, state) };
    return this.#offer.answer;
  }

  /** The state of the latest height that is offered, and of the one before it. */
  #latest(height: number): LedgerState | undefined {
    const latest = this.#chain.height - (this.#chain.height % this.#intervalBlocks);
    return height <= latest && height >= latest - this.#intervalBlocks ? this.#chain.stateAt(height) : undefined;
  }

  async #measure(height: number, state: LedgerState): Promise<StateOffer> {
    let bytes = 0;
    let entries = 0;
    for (const [key, value] of state.tree.entries()) {
      bytes += key.length + value.length + 4;
      entries += 1;
      if (entries % ENTRIES_PER_TURN === 0) await nextTurn();
    }
    return { height, stateRoot: state.root, depth: chunkDepth(bytes, this.#chunkBytes) };
  }

  async #lightBlock(request: Uint8Array): Promise<Uint8Array> {
    const { height } = decodeStrict(heightRequestCodec, request, LIGHT_BLOCK_LIMITS.maxRequestBytes, 'height');
    const found = this.#chain.lightBlock(height);
    return lightBlockAnswerCodec.enc(found === undefined ? undefined : encodeLightBlock(found));
  }

  async #chunk(request: Uint8Array): Promise<Uint8Array> {
    const limit = STATE_CHUNK_LIMITS.maxRequestBytes;
    const { height, depth, position } = decodeStrict(chunkRequestCodec, request, limit, 'chunk request');
    if (depth > MAX_CHUNK_DEPTH || position >= 2 ** depth) throw new NotServedError('there is no such chunk');
    // Only what was offered here, or could have been a moment ago: other states may have to be rebuilt first, block by
    // block, for a request of nine bytes.
    if (height === 0 || height % this.#intervalBlocks !== 0)
      throw new NotServedError(`no state is offered at ${height}`);
    const state = this.#offered.get(height) ?? this.#latest(height);
    if (state === undefined) throw new NotServedError(`the state at ${height} is not kept`);
    return encodeChunk(chunkOf(state.tree, depth, position, MAX_CHUNK_BYTES));
  }
}
