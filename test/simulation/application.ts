/** The smallest replicated state machine: its state is the hash of all transactions so far. */
import type { AccountId } from '../../node/chain/account.ts';
import { type Block, blockId, type Commit, nextBeacon, transactionsRoot } from '../../node/chain/block.ts';
import { domainHash, type Hash, hashBytes, ZERO_HASH } from '../../node/chain/hash.ts';
import { type ValidatorSet, validatorSetHash } from '../../node/chain/validator-set.ts';
import type { Application, BlockVerdict, FinalizedBlock } from '../../node/consensus/application.ts';

/** What survives crashes of the process. */
export interface Chain {
  readonly blocks: FinalizedBlock[];
}

export interface SimulatedApplicationInit {
  readonly chain: Chain;
  readonly networkId: Uint8Array;
  readonly genesisTimeMs: bigint;
  validatorsAt(height: number): ValidatorSet;
  /** Transactions that wait; each run of `propose` takes what it gets. */
  transactions(height: number): Uint8Array[];
  hasWork(): boolean;
  /** Called before each commit; awaited. A crash point for tests. */
  beforeCommit?(height: number): Promise<void>;
  /** Time that executing a block takes. */
  work?(): Promise<void>;
}

const GENESIS = domainHash('simulation/genesis');

/** See the head of this file. */
export class SimulatedApplication implements Application {
  readonly #init: SimulatedApplicationInit;
  readonly #listeners = new Set<() => void>();
  validated = 0;

  constructor(init: SimulatedApplicationInit) {
    this.#init = init;
  }

  get #last(): Block | undefined {
    return this.#init.chain.blocks.at(-1)?.block;
  }
  get height(): number {
    return this.#init.chain.blocks.length;
  }
  get lastBlockId(): Hash {
    return this.#last ? blockId(this.#last.header) : GENESIS;
  }
  get lastTimeMs(): bigint {
    return this.#last?.header.timeMs ?? this.#init.genesisTimeMs;
  }
  get beacon(): Hash {
    return this.#last?.header.beacon ?? GENESIS;
  }
  validators(height: number): ValidatorSet | undefined {
    return height >= 1 && height <= this.height + 1 ? this.#init.validatorsAt(height) : undefined;
  }

  #build(timeMs: bigint, proposer: AccountId, beaconProof: Uint8Array, transactions: Uint8Array[]): Block {
    const height = this.height + 1;
    const root = transactionsRoot(transactions);
    return {
      header: {
        network: this.#init.networkId,
        height,
        timeMs,
        previous: this.lastBlockId,
        proposer,
        validatorsHash: validatorSetHash(this.#init.validatorsAt(height)),
        nextValidatorsHash: validatorSetHash(this.#init.validatorsAt(height + 1)),
        transactionsRoot: root,
        stateRoot: domainHash(
          'simulation/state',
          hashBytes(this.#last?.header.stateRoot ?? ZERO_HASH),
          hashBytes(root),
        ),
        modelRoot: ZERO_HASH,
        trainingRound: 0,
        beacon: nextBeacon(this.beacon, beaconProof.slice(0, 32)),
      },
      beaconProof,
      transactions,
    };
  }

  async propose(input: { timeMs: bigint; proposer: AccountId; beaconProof: Uint8Array }): Promise<Block> {
    await this.#init.work?.();
    return this.#build(input.timeMs, input.proposer, input.beaconProof, this.#init.transactions(this.height + 1));
  }

  async validate(block: Block): Promise<BlockVerdict> {
    this.validated += 1;
    await this.#init.work?.();
    if (block.header.timeMs <= this.lastTimeMs) return { valid: false, reason: 'time does not advance' };
    const again = this.#build(block.header.timeMs, block.header.proposer, block.beaconProof, block.transactions);
    return blockId(again.header) === blockId(block.header)
      ? { valid: true }
      : { valid: false, reason: 'header differs' };
  }

  async commit(block: Block, commit: Commit): Promise<void> {
    await this.#init.beforeCommit?.(block.header.height);
    if (block.header.height !== this.height + 1) throw new Error(`commit of ${block.header.height} at ${this.height}`);
    this.#init.chain.blocks.push({ block, commit });
  }

  async finalized(height: number): Promise<FinalizedBlock | undefined> {
    return this.#init.chain.blocks[height - 1];
  }

  hasWork(): boolean {
    return this.#init.hasWork();
  }

  onWork(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells consensus that work has come. */
  announceWork(): void {
    for (const listener of this.#listeners) listener();
  }
}
