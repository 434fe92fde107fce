/**
 * Calls to the application that execute blocks: one at a time, because making a block final changes what all others
 * stand on. Results for a height that is over are dropped.
 */
import { beaconMessage } from '../chain/beacon.ts';
import { type Block, blockId, encodeBlock, MAX_BLOCK_BYTES } from '../chain/block.ts';
import type { EquivocationEvidence } from '../chain/evidence.ts';
import type { Hash } from '../chain/hash.ts';
import type { AccountSigner } from '../identity/signatures.ts';
import type { Application, BlockVerdict, FinalizedBlock } from './application.ts';
import type { Clock } from './clock.ts';
import type { EncodedBlock } from './height-blocks.ts';
import { Lane } from './lane.ts';

/** Valid blocks remembered within a height; more are executed again when they are asked about again. */
const MAX_VALID = 64;

/** Thrown when the application builds a block that no message can carry. */
export class OversizedBlockError extends Error {
  static readonly code = 'ERR_OVERSIZED_BLOCK';
  readonly code = OversizedBlockError.code;
  override readonly name = 'OversizedBlockError';
}

/** See the head of this file. */
export class BlockExecution {
  readonly #application: Application;
  readonly #clock: Clock;
  readonly #networkId: Uint8Array;
  readonly #lane = new Lane();
  /** Blocks of this height that were found valid, by id. */
  readonly #valid = new Set<Hash>();
  #height = 0;
  #beaconProof: Uint8Array | undefined;

  constructor(application: Application, clock: Clock, networkId: Uint8Array) {
    this.#application = application;
    this.#clock = clock;
    this.#networkId = networkId;
  }

  /** Begins a height; 0 when there is none any more. */
  enterHeight(height: number): void {
    this.#height = height;
    this.#valid.clear();
    this.#beaconProof = undefined;
  }

  /** Resolves when nothing runs. */
  idle(): Promise<void> {
    return this.#lane.idle();
  }

  /**
   * Executes a block of `height`, once for each id: its body must be the one that its header names (`bodyFault`).
   * Undefined when the height is over.
   */
  verdict(height: number, block: Block): Promise<BlockVerdict | undefined> {
    const id = blockId(block.header);
    return this.#lane.run(async () => {
      if (height !== this.#height) return undefined;
      if (this.#valid.has(id)) return { valid: true };
      const verdict = await this.#application.validate(block);
      if (verdict.valid && height === this.#height && this.#valid.size < MAX_VALID) this.#valid.add(id);
      return verdict;
    });
  }

  /**
   * Builds a block for `height`. `wanted` is asked when it is this call's turn. Undefined when it is not wanted (any
   * more). Throws {@link OversizedBlockError}, and what the application throws.
   */
  build(
    height: number,
    signer: AccountSigner,
    evidence: readonly EquivocationEvidence[],
    wanted: () => boolean,
  ): Promise<(EncodedBlock & { readonly id: Hash }) | undefined> {
    const application = this.#application;
    return this.#lane.run(async () => {
      if (height !== this.#height || !wanted()) return undefined;
      // The same in every round of a height, and worth two milliseconds.
      this.#beaconProof ??= signer.prove(beaconMessage(this.#networkId, height, application.beacon));
      const nowMs = BigInt(Math.floor(this.#clock.nowMs()));
      const timeMs = nowMs > application.lastTimeMs ? nowMs : application.lastTimeMs + 1n;
      const beaconProof = this.#beaconProof;
      const block = await application.propose({ timeMs, proposer: signer.account, beaconProof, evidence });
      const encoded = encodeBlock(block);
      if (encoded.length > MAX_BLOCK_BYTES)
        throw new OversizedBlockError(`the application built a block of ${encoded.length} bytes`);
      return height === this.#height ? { id: blockId(block.header), block, encoded } : undefined;
    });
  }

  /** Makes a block final. Does nothing when that has happened. */
  commit(finalized: FinalizedBlock): Promise<void> {
    return this.#lane.run(async () => {
      if (this.#application.height < finalized.block.header.height)
        await this.#application.commit(finalized.block, finalized.commit);
    });
  }
}
