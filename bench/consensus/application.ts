/**
 * A replicated state machine that costs what consensus makes it cost: transactions are real ones, each is verified by
 * every machine, hashed into the block and decoded; executing them is `bench -- ledger`'s business, and left out.
 */
import type { AccountId } from '../../node/chain/account.ts';
import { beaconProofHash } from '../../node/chain/beacon.ts';
import {
  type Block,
  blockId,
  type Commit,
  encodeBlock,
  encodeCommit,
  nextBeacon,
  transactionsRoot,
} from '../../node/chain/block.ts';
import { evidenceRoot } from '../../node/chain/evidence.ts';
import { domainHash, type Hash, hashBytes, ZERO_HASH } from '../../node/chain/hash.ts';
import { decodeTransaction, transactionId } from '../../node/chain/transaction.ts';
import { type ValidatorSet, validatorSetHash } from '../../node/chain/validator-set.ts';
import type {
  Application,
  BlockVerdict,
  EncodedBlock,
  EncodedBlocksQuery,
  EvidenceStatus,
  FinalizedBlock,
} from '../../node/consensus/application.ts';

const GENESIS = domainHash('bench/genesis');

/** Bytes of a block that are no transactions, with room to spare. */
const BLOCK_OVERHEAD_BYTES = 8 * 1024;

/** See the head of this file. */
export class BenchApplication implements Application {
  readonly blocks: FinalizedBlock[] = [];
  readonly #networkId: Uint8Array;
  readonly #validators: ValidatorSet;
  readonly #setHash: Hash;
  readonly #maxBytes: number;
  readonly #listeners = new Set<() => void>();
  /** Verified, in the order of arrival. */
  readonly #waiting = new Map<Hash, Uint8Array>();
  readonly #included = new Set<Hash>();

  constructor(networkId: Uint8Array, validators: ValidatorSet, maxBlockBytes: number) {
    this.#networkId = networkId;
    this.#validators = validators;
    this.#setHash = validatorSetHash(validators);
    this.#maxBytes = maxBlockBytes - BLOCK_OVERHEAD_BYTES;
  }

  get #last(): Block | undefined {
    return this.blocks.at(-1)?.block;
  }
  get height(): number {
    return this.blocks.length;
  }
  get lastBlockId(): Hash {
    return this.#last ? blockId(this.#last.header) : GENESIS;
  }
  get lastTimeMs(): bigint {
    return this.#last?.header.timeMs ?? 0n;
  }
  get beacon(): Hash {
    return this.#last?.header.beacon ?? GENESIS;
  }
  validators(): ValidatorSet {
    return this.#validators;
  }

  /** Takes a transaction whose signature was verified. */
  add(id: Hash, encoded: Uint8Array): void {
    if (!this.#included.has(id)) this.#waiting.set(id, encoded);
    if (this.#waiting.size === 1) for (const listener of this.#listeners) listener();
  }

  #build(timeMs: bigint, proposer: AccountId, beaconProof: Uint8Array, transactions: Uint8Array[]): Block {
    const root = transactionsRoot(transactions);
    return {
      header: {
        network: this.#networkId,
        height: this.height + 1,
        timeMs,
        previous: this.lastBlockId,
        proposer,
        validatorsHash: this.#setHash,
        nextValidatorsHash: this.#setHash,
        transactionsRoot: root,
        evidenceRoot: evidenceRoot([]),
        stateRoot: domainHash('bench/state', hashBytes(this.#last?.header.stateRoot ?? ZERO_HASH), hashBytes(root)),
        modelRoot: ZERO_HASH,
        trainingRound: 0,
        beacon: nextBeacon(this.beacon, beaconProof.slice(0, 32)),
        beaconProofHash: beaconProofHash(beaconProof),
      },
      beaconProof,
      transactions,
      evidence: [],
    };
  }

  async propose(input: { timeMs: bigint; proposer: AccountId; beaconProof: Uint8Array }): Promise<Block> {
    const transactions: Uint8Array[] = [];
    let bytes = 0;
    for (const encoded of this.#waiting.values()) {
      bytes += encoded.length + 4;
      if (bytes > this.#maxBytes) break;
      transactions.push(encoded);
    }
    return this.#build(input.timeMs, input.proposer, input.beaconProof, transactions);
  }

  async validate(block: Block): Promise<BlockVerdict> {
    const { timeMs, proposer } = block.header;
    if (timeMs <= this.lastTimeMs) return { valid: false, reason: 'time does not advance' };
    for (const encoded of block.transactions) transactionId(decodeTransaction(encoded));
    const again = this.#build(timeMs, proposer, block.beaconProof, block.transactions);
    return blockId(again.header) === blockId(block.header) ? { valid: true } : { valid: false, reason: 'differs' };
  }

  async commit(block: Block, commit: Commit): Promise<void> {
    for (const encoded of block.transactions) {
      const id = transactionId(decodeTransaction(encoded));
      this.#included.add(id);
      this.#waiting.delete(id);
    }
    this.blocks.push({ block, commit });
  }

  encodedBlocks({ fromHeight, maxBlocks }: EncodedBlocksQuery): EncodedBlock[] {
    return this.blocks
      .slice(fromHeight - 1, fromHeight - 1 + maxBlocks)
      .map(({ block, commit }) => ({ block: encodeBlock(block), commit: encodeCommit(commit) }));
  }

  /** Nobody contradicts itself here. */
  evidenceStatus(): EvidenceStatus {
    return 'known';
  }

  hasWork(): boolean {
    return this.#waiting.size > 0;
  }

  onWork(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
