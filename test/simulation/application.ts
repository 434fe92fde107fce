/**
 * A small replicated state machine: its state is the hash of all transactions so far, and who votes. A transaction
 * `power ACCOUNT NUMBER` in block H changes a validator's power from H + 2 on; 0 takes it out. Evidence takes its
 * offender out for good.
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
import { DecodeError } from '../../node/chain/codec.ts';
import {
  decodeEvidence,
  type EquivocationEvidence,
  encodeEvidence,
  evidenceId,
  evidenceRoot,
  InvalidEvidenceError,
  verifyEvidence,
} from '../../node/chain/evidence.ts';
import { domainHash, type Hash, hashBytes, ZERO_HASH } from '../../node/chain/hash.ts';
import { type ValidatorSet, validatorSetHash } from '../../node/chain/validator-set.ts';
import type {
  Application,
  BlockVerdict,
  EncodedBlock,
  EncodedBlocksQuery,
  EvidenceStatus,
  FinalizedBlock,
} from '../../node/consensus/application.ts';
import type { VerifySession } from '../../node/consensus/commit-verifier.ts';

/** Powers that transactions have set, by account. */
type Powers = ReadonlyMap<AccountId, bigint>;

/** State after a block: powers act on the next block, and on the one after it. */
interface State {
  readonly root: Hash;
  readonly next: Powers;
  readonly afterNext: Powers;
  /** Who was found guilty. */
  readonly out: ReadonlySet<AccountId>;
}

const GENESIS = domainHash('simulation/genesis');
const START: State = { root: ZERO_HASH, next: new Map(), afterNext: new Map(), out: new Set() };

/** Evidence about older heights is not taken. */
export const SIMULATED_EVIDENCE_AGE = 40;

/** What survives crashes of the process. */
export interface Chain {
  readonly blocks: FinalizedBlock[];
  /** State after each block; made again from the blocks where it is missing. */
  readonly states?: State[];
}

export interface SimulatedApplicationInit {
  readonly chain: Chain;
  readonly networkId: Uint8Array;
  readonly genesisTimeMs: bigint;
  /** Everyone who may ever vote, with session keys; those with power 0 only once a transaction gives them some. */
  validatorsAt(height: number): ValidatorSet;
  /** Changes of power that would make this set are left out: more than the network is to bear. Default: none. */
  allows?(set: ValidatorSet): boolean;
  readonly verify: VerifySession;
  /** Transactions that wait; each run of `propose` takes what it gets. */
  transactions(height: number): Uint8Array[];
  hasWork(): boolean;
  /** Called before each commit; awaited. A crash point for tests. */
  beforeCommit?(height: number): Promise<void>;
  /** Time that executing a block takes. */
  work?(): Promise<void>;
}

/** A transaction that changes a validator's power. */
export function powerChange(account: AccountId, power: bigint): Uint8Array {
  return Buffer.from(`power ${account} ${power}`);
}

function parsePowerChange(transaction: Uint8Array): { account: AccountId; power: bigint } | undefined {
  const match = /^power ([0-9a-f]{64}) (\d+)$/.exec(Buffer.from(transaction).toString());
  return match === null ? undefined : { account: match[1] as AccountId, power: BigInt(match[2]) };
}

/** See the head of this file. */
export class SimulatedApplication implements Application {
  readonly #init: SimulatedApplicationInit;
  readonly #states: State[];
  readonly #listeners = new Set<() => void>();
  validated = 0;

  constructor(init: SimulatedApplicationInit) {
    this.#init = init;
    this.#states = init.chain.states ?? [];
    for (const { block } of init.chain.blocks.slice(this.#states.length)) this.#states.push(this.#execute(block));
  }

  get #last(): Block | undefined {
    return this.#init.chain.blocks.at(-1)?.block;
  }
  get #state(): State {
    return this.#states.at(-1) ?? START;
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
    if (height < 1 || height > this.height + 2) return undefined;
    if (height === this.height + 2) return this.#set(height, this.#state.afterNext);
    return this.#set(height, (this.#states[height - 2] ?? START).next);
  }

  #set(height: number, powers: Powers): ValidatorSet {
    return this.#init
      .validatorsAt(height)
      .map((validator) => ({ ...validator, power: powers.get(validator.account) ?? validator.power }))
      .filter(({ power }) => power > 0n);
  }

  /** State after the next block with those transactions. */
  #execute({ transactions, evidence }: Pick<Block, 'transactions' | 'evidence'>): State {
    const { root, afterNext: next } = this.#state;
    const height = this.#states.length + 1;
    const afterNext = new Map(next);
    const out = new Set(this.#state.out);
    for (const { first } of evidence.map(decodeEvidence)) {
      out.add(first.validator);
      afterNext.set(first.validator, 0n);
    }
    for (const change of transactions.map(parsePowerChange)) {
      if (change === undefined || out.has(change.account)) continue;
      const before = afterNext.get(change.account);
      afterNext.set(change.account, change.power);
      const set = this.#set(height + 2, afterNext);
      if (set.length > 0 && this.#init.allows?.(set) !== false) continue;
      if (before === undefined) afterNext.delete(change.account);
      else afterNext.set(change.account, before);
    }
    const powers = [...afterNext].map(([account, power]) => `${account} ${power}`).join();
    const parts = [hashBytes(root), hashBytes(transactionsRoot(transactions)), Buffer.from(powers)];
    return { root: domainHash('simulation/state', ...parts), next, afterNext, out };
  }

  evidenceStatus({ first }: EquivocationEvidence): EvidenceStatus {
    const { height } = first.body;
    if (height > this.height) return 'early';
    if (this.#state.out.has(first.validator)) return 'known';
    return height < this.height - SIMULATED_EVIDENCE_AGE ? 'expired' : 'new';
  }

  /** Why a block's evidence is not to be accepted. */
  #evidenceFault(block: Block): string | undefined {
    const { networkId, verify } = this.#init;
    const ids = new Set<Hash>();
    try {
      for (const evidence of block.evidence.map(decodeEvidence)) {
        const status = this.evidenceStatus(evidence);
        if (status !== 'new') return `evidence that is ${status}`;
        if (ids.has(evidenceId(evidence))) return 'evidence twice';
        ids.add(evidenceId(evidence));
        const validators = this.validators(evidence.first.body.height) ?? [];
        verifyEvidence(evidence, { networkId, validators, verify });
      }
      return undefined;
    } catch (error) {
      if (error instanceof DecodeError || error instanceof InvalidEvidenceError) return error.message;
      throw error;
    }
  }

  #build(
    { timeMs, proposer }: Pick<Block['header'], 'timeMs' | 'proposer'>,
    beaconProof: Uint8Array,
    transactions: Uint8Array[],
    evidence: Uint8Array[],
  ): Block {
    const height = this.height + 1;
    const state = this.#state;
    return {
      header: {
        network: this.#init.networkId,
        height,
        timeMs,
        previous: this.lastBlockId,
        proposer,
        validatorsHash: validatorSetHash(this.#set(height, state.next)),
        nextValidatorsHash: validatorSetHash(this.#set(height + 1, state.afterNext)),
        transactionsRoot: transactionsRoot(transactions),
        evidenceRoot: evidenceRoot(evidence),
        stateRoot: this.#execute({ transactions, evidence }).root,
        modelRoot: ZERO_HASH,
        trainingRound: 0,
        beacon: nextBeacon(this.beacon, beaconProof.slice(0, 32)),
        beaconProofHash: beaconProofHash(beaconProof),
      },
      beaconProof,
      transactions,
      evidence,
    };
  }

  async propose(input: {
    timeMs: bigint;
    proposer: AccountId;
    beaconProof: Uint8Array;
    evidence: readonly EquivocationEvidence[];
  }): Promise<Block> {
    await this.#init.work?.();
    const evidence = input.evidence.filter((piece) => this.evidenceStatus(piece) === 'new').map(encodeEvidence);
    return this.#build(input, input.beaconProof, this.#init.transactions(this.height + 1), evidence);
  }

  async validate(block: Block): Promise<BlockVerdict> {
    this.validated += 1;
    await this.#init.work?.();
    if (block.header.timeMs <= this.lastTimeMs) return { valid: false, reason: 'time does not advance' };
    const fault = this.#evidenceFault(block);
    if (fault !== undefined) return { valid: false, reason: fault };
    const again = this.#build(block.header, block.beaconProof, block.transactions, block.evidence);
    return blockId(again.header) === blockId(block.header)
      ? { valid: true }
      : { valid: false, reason: 'header differs' };
  }

  async commit(block: Block, commit: Commit): Promise<void> {
    await this.#init.beforeCommit?.(block.header.height);
    if (block.header.height !== this.height + 1) throw new Error(`commit of ${block.header.height} at ${this.height}`);
    this.#states.push(this.#execute(block));
    this.#init.chain.blocks.push({ block, commit });
  }

  encodedBlocks({ fromHeight, maxBytes, maxBlocks }: EncodedBlocksQuery): EncodedBlock[] {
    const found: EncodedBlock[] = [];
    let bytes = 0;
    for (const { block, commit } of this.#init.chain.blocks.slice(fromHeight - 1)) {
      if (found.length >= maxBlocks || bytes >= maxBytes) break;
      const encoded = { block: encodeBlock(block), commit: encodeCommit(commit) };
      bytes += encoded.block.length + encoded.commit.length;
      found.push(encoded);
    }
    return found;
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
