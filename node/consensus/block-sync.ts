/**
 * Block sync: a node that is behind fetches finalized blocks from its peers and verifies every commit against the
 * validator set of its height, before the block is executed. What peers say of their height is only where to ask.
 * A peer whose answer is wrong or empty against its word is left alone for a while, the longer the more often it lied;
 * one that does not answer is passed over for a moment.
 */
import { Bytes, Struct, u32 } from 'scale-ts';
import { blockId, decodeBlock, decodeCommit, MAX_BLOCK_BYTES } from '../chain/block.ts';
import { bodyFault } from '../chain/block-body.ts';
import { DecodeError, decodeStrict, Vector } from '../chain/codec.ts';
import type { PeerIdText, ProtocolLimits, RequestResponse } from '../network/interface.ts';
import type { Application, FinalizedBlock } from './application.ts';
import type { Clock } from './clock.ts';
import { type VerifySession, verifyCommit } from './commit-verifier.ts';
import type { Engine } from './engine.ts';
import { BlockRefusedError } from './engine-parts.ts';
import type { Logger } from './logger.ts';
import { Patience } from './patience.ts';

/** Name of the protocol. */
export const BLOCK_SYNC_PROTOCOL = 'consensus-blocks';

/** Blocks go into an answer until it has this many bytes; the first always does. */
const BATCH_BYTES = 512 * 1024;
const MAX_BLOCKS_PER_ANSWER = 256;

export const BLOCK_SYNC_LIMITS: ProtocolLimits = {
  maxRequestBytes: 16,
  // Up to a batch, and then one block of full size with its commit.
  maxResponseBytes: BATCH_BYTES + MAX_BLOCK_BYTES + 68 * 1024,
  timeoutMs: 10_000,
  // 20 batches a second to one peer are 10 MiB/s: a joiner's share of an uplink.
  requestsPerSecond: 20,
  burst: 20,
  maxConcurrentPerPeer: 2,
  maxConcurrent: 8,
};

/** How long a peer that lied is not asked, at first; doubled with each lie up to the longest. */
const FIRST_DROP_MS = 5_000;
const LONGEST_DROP_MS = 300_000;
/**
 * When a peer has not answered by then, another is asked as well, and the slow one comes after the prompt ones from then
 * on; and how many may be asked for one batch: the first answer that comes stops the others.
 */
const HEDGE_MS = 1_000;
const MAX_ASKED = 8;
/** Peers remembered; the one heard of least recently goes. */
const MAX_PEERS = 512;

const requestCodec = Struct({ fromHeight: u32 });
const responseCodec = Vector(Struct({ block: Bytes(), commit: Bytes() }));

/** Thrown when a peer's answer is not what it claims to be. */
export class LyingPeerError extends Error {
  static readonly code = 'ERR_LYING_PEER';
  readonly code = LyingPeerError.code;
  override readonly name = 'LyingPeerError';
}

/** Thrown for blocks that this node no longer keeps: the asking peer passes on, and holds nothing against it. */
export class PrunedBlocksError extends Error {
  static readonly code = 'ERR_PRUNED_BLOCKS';
  readonly code = PrunedBlocksError.code;
  override readonly name = 'PrunedBlocksError';
}

/** Answers a request for blocks from `fromHeight` on. Throws DecodeError and {@link PrunedBlocksError}. */
export async function answerBlockSync(
  application: Pick<Application, 'encodedBlocks' | 'height'>,
  bytes: Uint8Array,
): Promise<Uint8Array> {
  const { fromHeight } = decodeStrict(requestCodec, bytes, BLOCK_SYNC_LIMITS.maxRequestBytes, 'block request');
  const query = { fromHeight, maxBytes: BATCH_BYTES, maxBlocks: MAX_BLOCKS_PER_ANSWER };
  const batch = application.encodedBlocks(query);
  if (batch.length === 0 && fromHeight <= application.height)
    throw new PrunedBlocksError(`block ${fromHeight} is not kept here`);
  return responseCodec.enc([...batch]);
}

interface Batch {
  readonly peer: PeerIdText;
  readonly blocks: readonly FinalizedBlock[];
}

interface PeerRecord {
  /** As the peer said. */
  height: number;
  /** Lies so far. */
  lies: number;
  droppedUntilMs: number;
  /** Its last answer was not there when another peer had to be asked as well. */
  slow: boolean;
}

const NEW_PEER: PeerRecord = { height: 0, lies: 0, droppedUntilMs: 0, slow: false };

export interface BlockSyncComponents {
  readonly application: Pick<Application, 'height' | 'validators'>;
  readonly engine: Pick<Engine, 'applyFinalized'>;
  readonly requests: RequestResponse;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly networkId: Uint8Array;
  readonly verify: VerifySession;
}

/** See the head of this file. */
export class BlockSync {
  readonly #components: BlockSyncComponents;
  readonly #abort = new AbortController();
  readonly #patience: Patience;
  readonly #peers = new Map<PeerIdText, PeerRecord>();
  #turn = 0;
  #running: Promise<void> | undefined;

  constructor(components: BlockSyncComponents) {
    this.#components = components;
    this.#patience = new Patience(components.clock);
  }

  /** True while blocks are being fetched. */
  get active(): boolean {
    return this.#running !== undefined;
  }

  /** Notes how far a peer says it is, and begins to fetch when that is further than this node. */
  report(peer: PeerIdText, height: number): void {
    this.#remember(peer, { ...(this.#peers.get(peer) ?? NEW_PEER), height });
    this.#begin();
  }

  #remember(peer: PeerIdText, record: PeerRecord): void {
    this.#peers.delete(peer);
    this.#peers.set(peer, record);
    if (this.#peers.size <= MAX_PEERS) return;
    for (const oldest of this.#peers.keys()) {
      this.#peers.delete(oldest);
      break;
    }
  }

  /** Leaves a peer that lied alone for a while. */
  drop(peer: PeerIdText, reason: string): void {
    const known = this.#peers.get(peer) ?? NEW_PEER;
    const pauseMs = Math.min(LONGEST_DROP_MS, FIRST_DROP_MS * 2 ** Math.min(known.lies, 16));
    const droppedUntilMs = this.#components.clock.nowMs() + pauseMs;
    this.#remember(peer, { ...known, height: 0, lies: known.lies + 1, droppedUntilMs });
    this.#components.logger.warn({ peer, reason, pauseMs }, 'block sync: peer dropped');
  }

  #isSlow(peer: PeerIdText, slow: boolean): void {
    const known = this.#peers.get(peer);
    if (known !== undefined) this.#peers.set(peer, { ...known, slow });
  }

  /** True while a peer is left alone because it lied. */
  isDropped(peer: PeerIdText): boolean {
    return (this.#peers.get(peer)?.droppedUntilMs ?? 0) > this.#components.clock.nowMs();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  /**
   * Peers that say they are further than `height`, none of them dropped: the slow ones last, and each time another comes
   * first.
   */
  #candidates(height: number): PeerIdText[] {
    const nowMs = this.#components.clock.nowMs();
    const able = [...this.#peers].filter(
      ([peer, known]) => known.height > height && known.droppedUntilMs <= nowMs && !this.#patience.isPassedOver(peer),
    );
    const turn = this.#turn++;
    return [false, true].flatMap((slow) => {
      const alike = able
        .filter(([, known]) => known.slow === slow)
        .map(([peer]) => peer)
        .sort();
      const first = turn % Math.max(1, alike.length);
      return [...alike.slice(first), ...alike.slice(0, first)];
    });
  }

  #begin(): void {
    const { application, logger } = this.#components;
    if (this.#running !== undefined || this.#abort.signal.aborted) return;
    if (this.#candidates(application.height).length === 0) return;
    this.#running = this.#run()
      .catch((error: unknown) => logger.error({ error: String(error) }, 'block sync: stopped'))
      .finally(() => {
        this.#running = undefined;
      });
  }

  async #run(): Promise<void> {
    const { application, logger } = this.#components;
    const startHeight = application.height;
    /** Asked for while the batch before it is being executed. */
    let prefetched: { readonly fromHeight: number; readonly batch: Promise<Batch | undefined> } | undefined;
    while (!this.#abort.signal.aborted) {
      const fromHeight = application.height + 1;
      const ready = prefetched?.fromHeight === fromHeight ? prefetched.batch : this.#obtain(fromHeight);
      prefetched = undefined;
      const batch = await ready;
      if (batch === undefined) break;
      const next = fromHeight + batch.blocks.length;
      if (this.#candidates(next - 1).length > 0) prefetched = { fromHeight: next, batch: this.#obtain(next) };
      try {
        for (const finalized of batch.blocks) {
          if (this.#abort.signal.aborted) return;
          await this.#apply(finalized);
        }
      } catch (error) {
        if (!(error instanceof LyingPeerError)) throw error;
        this.drop(batch.peer, error.message);
      }
    }
    const blocks = application.height - startHeight;
    if (blocks > 0) logger.info({ blocks, height: application.height }, 'block sync: caught up');
  }

  /**
   * Blocks from `fromHeight` on, from the first peer that has them. When one does not answer soon the next is asked as
   * well: one that hangs costs a moment, not its whole time limit. Undefined when nobody (else) can be asked.
   */
  #obtain(fromHeight: number): Promise<Batch | undefined> {
    const { application, clock } = this.#components;
    const race = new AbortController();
    const signal = AbortSignal.any([race.signal, this.#abort.signal]);
    const asked = new Set<PeerIdText>();
    let open = 0;
    return new Promise((resolve) => {
      const finish = (batch: Batch | undefined) => {
        race.abort();
        resolve(batch);
      };
      const askNext = () => {
        if (signal.aborted) return resolve(undefined);
        const peer = this.#candidates(fromHeight - 1).find((candidate) => !asked.has(candidate));
        if (peer === undefined || asked.size >= MAX_ASKED) return open === 0 ? finish(undefined) : undefined;
        asked.add(peer);
        open += 1;
        let late = false;
        const cancel = clock.schedule(HEDGE_MS, () => {
          late = true;
          this.#isSlow(peer, true);
          askNext();
        });
        void this.#fetch(peer, fromHeight, signal).then((result) => {
          cancel();
          open -= 1;
          if (signal.aborted) return resolve(undefined);
          if (Array.isArray(result)) {
            this.#patience.answered(peer);
            this.#isSlow(peer, late);
            return finish({ peer, blocks: result });
          }
          // Blocks that became final here in the meantime are no lie of the peer's.
          if (result instanceof LyingPeerError && application.height < fromHeight) this.drop(peer, result.message);
          else this.#patience.silent(peer);
          askNext();
        });
      };
      askNext();
    });
  }

  async #fetch(peer: PeerIdText, fromHeight: number, signal: AbortSignal): Promise<FinalizedBlock[] | Error> {
    try {
      const request = requestCodec.enc({ fromHeight });
      const options = { limits: BLOCK_SYNC_LIMITS, signal };
      const bytes = await this.#components.requests.request(peer, BLOCK_SYNC_PROTOCOL, request, options);
      const entries = decodeStrict(responseCodec, bytes, BLOCK_SYNC_LIMITS.maxResponseBytes, 'block response');
      if (entries.length === 0) return new LyingPeerError('it does not have the blocks that it spoke of');
      if (entries.length > MAX_BLOCKS_PER_ANSWER) return new LyingPeerError(`${entries.length} blocks in one answer`);
      return entries.map(({ block, commit }) => ({ block: decodeBlock(block), commit: decodeCommit(commit) }));
    } catch (error) {
      if (error instanceof DecodeError) return new LyingPeerError(error.message, { cause: error });
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** Verifies and executes one block. Throws LyingPeerError when the commit proves nothing, or not this body. */
  async #apply(finalized: FinalizedBlock): Promise<void> {
    const { application, engine, networkId, verify } = this.#components;
    const { header } = finalized.block;
    // Consensus itself may have been faster.
    if (header.height <= application.height) return;
    if (header.height !== application.height + 1) throw new LyingPeerError(`block ${header.height} is out of order`);
    const validators = application.validators(header.height);
    if (validators === undefined) throw new Error(`the validators of height ${header.height} are not known`);
    try {
      verifyCommit({
        networkId,
        height: header.height,
        blockId: blockId(header),
        commit: finalized.commit,
        validators,
        verify,
      });
    } catch (error) {
      throw new LyingPeerError((error as Error).message, { cause: error });
    }
    const fault = bodyFault(finalized.block);
    if (fault !== undefined) throw new LyingPeerError(`block ${header.height} has not the ${fault} of its header`);
    try {
      await engine.applyFinalized(finalized);
    } catch (error) {
      if (!(error instanceof BlockRefusedError)) throw error;
      // The peer said what a quorum says: it is this node that differs, and the log says so. Others are asked all the same.
      this.#components.logger.error(
        { height: header.height, reason: error.message },
        'block sync: a block was refused',
      );
      throw new LyingPeerError(error.message, { cause: error });
    }
  }
}
