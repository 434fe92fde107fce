/**
 * Blocks on their way to the core, in the background of a height: those of others are executed, this node's own are
 * built. Both end as an input of the core.
 */
import { type Block, encodeProposal, type Proposal } from '../chain/block.ts';
import type { EquivocationEvidence } from '../chain/evidence.ts';
import type { Hash } from '../chain/hash.ts';
import type { AccountSigner } from '../identity/signatures.ts';
import type { BlockExecution } from './block-execution.ts';
import type { Clock } from './clock.ts';
import type { HeightBlocks } from './height-blocks.ts';
import type { QueuedInput } from './input-queue.ts';
import type { Logger } from './logger.ts';

/** Proposals whose blocks are being executed at the same time; more are dropped and come again by catch-up. */
const MAX_VALIDATING = 8;

export interface BlockWorkComponents {
  readonly execution: BlockExecution;
  /** Where valid blocks and proposals go. */
  readonly blocks: HeightBlocks;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A block's time may be this far ahead of the clock. */
  readonly clockDriftMs: number;
  /** Height that is being decided. */
  height(): number;
  /** Evidence that waits for a block. */
  evidence(): readonly EquivocationEvidence[];
  /** Takes what the core has to know. */
  enqueue(queued: QueuedInput): void;
}

/** See the head of this file. */
export class BlockWork {
  readonly #components: BlockWorkComponents;
  readonly #validating = new Set<{ readonly height: number; readonly round: number; readonly value: Hash }>();

  constructor(components: BlockWorkComponents) {
    this.#components = components;
  }

  /** Blocks for a round of the present height that are being executed. */
  underWay(round: number): Hash[] {
    const height = this.#components.height();
    return [...this.#validating]
      .filter((other) => other.height === height && other.round === round)
      .map(({ value }) => value);
  }

  /** Executes the block of an authentic proposal and hands the core the proposal with the verdict. */
  validate(proposal: Proposal, block: Block): void {
    const { execution, blocks, clock, logger, clockDriftMs, enqueue } = this.#components;
    const { height, round, blockId: value, validRound } = proposal.body;
    if (this.underWay(round).includes(value) || this.#validating.size >= MAX_VALIDATING) return;
    const entry = { height, round, value };
    const timely = block.header.timeMs <= BigInt(Math.floor(clock.nowMs()) + clockDriftMs);
    this.#validating.add(entry);
    void execution
      .verdict(height, block)
      .then((verdict) => {
        if (verdict === undefined || height !== this.#components.height()) return;
        const { valid } = verdict;
        if (!valid) logger.warn({ height, round, reason: verdict.reason }, 'consensus: invalid proposal');
        if (!timely) logger.warn({ height, round }, 'consensus: the time of the proposed block is too far ahead');
        if (valid) blocks.keepProposal(proposal, block);
        enqueue({
          height,
          input: { type: 'proposal', proposal: { round, value, validRound, valid, timely } },
          record: { tag: 'proposal', value: { bytes: encodeProposal(proposal), valid, timely } },
        });
      })
      .catch((error: unknown) => logger.error({ error: String(error), height }, 'consensus: a block was not executed'))
      .finally(() => this.#validating.delete(entry));
  }

  /** Builds a block for a round of the present height. `wanted` is asked again when it is this block's turn. */
  async build(height: number, round: number, signer: AccountSigner, wanted: () => boolean): Promise<void> {
    const { execution, blocks, evidence, logger, enqueue } = this.#components;
    try {
      const built = await execution.build(height, signer, evidence(), wanted);
      if (built === undefined) return;
      blocks.keepBlock(built.id, built);
      enqueue({ height, input: { type: 'value', round, value: built.id }, record: undefined });
    } catch (error) {
      logger.error({ error: String(error), height, round }, 'consensus: no block could be built');
    }
  }
}
