/**
 * What consensus needs of the replicated state machine. `blockchain/` implements it over ledger, mempool and store;
 * tests and simulations over memory.
 */
import type { AccountId } from '../chain/account.ts';
import type { Block, Commit } from '../chain/block.ts';
import type { EquivocationEvidence } from '../chain/evidence.ts';
import type { Hash } from '../chain/hash.ts';
import type { ValidatorSet } from '../chain/validator-set.ts';

/** A finalized block with the precommits that finalized it. */
export interface FinalizedBlock {
  readonly block: Block;
  readonly commit: Commit;
}

/** The same as it is stored and sent. */
export interface EncodedBlock {
  readonly block: Uint8Array;
  readonly commit: Uint8Array;
}

/** Bounds of what is read of the chain at once. */
export interface EncodedBlocksQuery {
  readonly fromHeight: number;
  /** No block follows once so many bytes are there; the first is given whatever it has. */
  readonly maxBytes: number;
  readonly maxBlocks: number;
}

/** Verdict on a proposed block. The reason is for logs and tests. */
export type BlockVerdict = { readonly valid: true } | { readonly valid: false; readonly reason: string };

/**
 * Where evidence stands with the state machine: `new` may go into the next block; `known` is settled already, or its
 * offender is out; `expired` is too old; `early` is of a height that is not over for this node.
 */
export type EvidenceStatus = 'new' | 'known' | 'expired' | 'early';

/** The state machine under consensus. Heights count from 1; 0 is genesis. */
export interface Application {
  /** Height of the last finalized block. */
  readonly height: number;
  /** Id of the last finalized block; the genesis hash at height 0. */
  readonly lastBlockId: Hash;
  /** Time of the last finalized block; the genesis time at height 0. */
  readonly lastTimeMs: bigint;
  /** Beacon of the last finalized block; derived from the genesis hash at height 0. */
  readonly beacon: Hash;
  /** Those who decide the block at `height` (any finalized height, or the next two). Undefined where not known. */
  validators(height: number): ValidatorSet | undefined;
  /**
   * Assembles and executes a block for `height + 1` from waiting transactions, and from `evidence` as far as it is `new`
   * and fits. Changes nothing.
   */
  propose(input: {
    timeMs: bigint;
    proposer: AccountId;
    beaconProof: Uint8Array;
    evidence: readonly EquivocationEvidence[];
  }): Promise<Block>;
  /**
   * Executes a proposed block for `height + 1` and compares every field of its header. Changes nothing. Consensus itself
   * checks whose turn it was, the signature and the clock bound; this checks everything else, the beacon proof included,
   * and that each piece of evidence in it is proven, `new` and there once.
   */
  validate(block: Block): Promise<BlockVerdict>;
  /** Makes a valid block with a verified commit final, durably, in one transaction. Resolves after fsync. */
  commit(block: Block, commit: Commit): Promise<void>;
  /** Where evidence stands by the last finalized state; its signatures are not looked at. */
  evidenceStatus(evidence: EquivocationEvidence): EvidenceStatus;
  /**
   * Finalized blocks in order, for peers that are behind, as they are stored: nothing is decoded. Ends before the first
   * that is not kept.
   */
  encodedBlocks(query: EncodedBlocksQuery): readonly EncodedBlock[];
  /** True when a proposer has something to put into a block before the empty-block interval is over. */
  hasWork(): boolean;
  /** Calls back whenever `hasWork()` may have become true. Returns a function that unsubscribes. */
  onWork(listener: () => void): () => void;
}
