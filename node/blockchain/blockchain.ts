/**
 * The replicated state machine: ledger, mempool and store behind the interface that consensus drives.
 *
 * Blocks are executed when they are proposed or validated; the result waits in a small cache, so that making a block
 * final writes what was computed before instead of computing it again.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type AccountId, accountPublicKey } from '../chain/account.ts';
import { beaconMessage, beaconProofHash, genesisBeacon } from '../chain/beacon.ts';
import {
  type Block,
  blockId,
  type Commit,
  encodeBlock,
  type Header,
  MAX_BLOCK_BYTES,
  nextBeacon,
  transactionsRoot,
} from '../chain/block.ts';
import { bodyFault } from '../chain/block-body.ts';
import {
  type EquivocationEvidence,
  encodeEvidence,
  evidenceRoot,
  MAX_EVIDENCE_BYTES,
  MAX_EVIDENCE_PER_BLOCK,
} from '../chain/evidence.ts';
import { type Genesis, genesisHash, networkId } from '../chain/genesis.ts';
import type { Hash } from '../chain/hash.ts';
import { decodeTransaction, transactionId } from '../chain/transaction.ts';
import { type ValidatorSet, validatorSetHash } from '../chain/validator-set.ts';
import type {
  Application,
  BlockVerdict,
  EncodedBlock,
  EncodedBlocksQuery,
  EvidenceStatus,
  FinalizedBlock,
} from '../consensus/application.ts';
import type { LightBlock } from '../consensus/light-client/light-block.ts';
import { admissionOf } from '../ledger/admission.ts';
import { InvalidBlockError } from '../ledger/errors.ts';
import type { LedgerEvent } from '../ledger/events.ts';
import {
  buildBlock,
  type ExecutedBlock,
  executeBlock,
  type Receipt,
  type SignedTransaction,
} from '../ledger/execute.ts';
import { feeOf } from '../ledger/fees.ts';
import { type Holdings, LedgerState } from '../ledger/state.ts';
import { DEFAULT_MEMPOOL_LIMITS, Mempool, type MempoolLimits } from '../mempool/mempool.ts';
import { VerifiedSignatures } from '../mempool/verified-signatures.ts';
import { WorkChecks } from '../registration/work-checks.ts';
import { InlineVerifier, type SignatureVerifier, type Urgency } from '../signature-checks/verifier.ts';
import { StoreDamagedError } from '../store/errors.ts';
import type { EventCursor, StoredEvent } from '../store/event-log.ts';
import type { Store, StoredReceipt } from '../store/store.ts';
import { evidenceStatus, proveEvidence, readEvidence } from './block-evidence.ts';
import { ledgerJson } from './ledger-json.ts';
import { loadState } from './load-state.ts';
import { StateHistory } from './state-history.ts';

/** Bytes of a block that are no transactions: header, beacon proof, evidence, length prefixes, with room to spare. */
const BLOCK_OVERHEAD_BYTES = 1024 + MAX_EVIDENCE_PER_BLOCK * MAX_EVIDENCE_BYTES;

/** Executed blocks that wait to be made final: one per consensus round, and rounds beyond a few are rare. */
const MAX_EXECUTED_BLOCKS = 8;

/** Transactions of a block that are decoded between two turns of the event loop: 0.1 ms each. */
const DECODED_PER_TURN = 64;

/** Signatures remembered as valid: several times what a mempool holds. */
const REMEMBERED_SIGNATURES = 32_768;

/** What a blockchain is made for. */
export interface BlockchainInit {
  readonly genesis: Genesis;
  readonly mempool?: Partial<MempoolLimits>;
}

/** Where failures of listeners go. */
export interface ListenerLog {
  error(details: object, message: string): void;
}

/** What it works on. The blockchain closes neither the store nor the verifier. */
export interface BlockchainComponents {
  readonly store: Store;
  readonly log?: ListenerLog;
  /** Checks signatures and beacon proofs. Default: on this thread, for tools and tests. */
  readonly verifier?: SignatureVerifier;
}

/** A finalized block, as listeners get it. */
export interface BlockEvent {
  readonly height: number;
  readonly id: Hash;
  readonly header: Header;
  /** State after the block. */
  readonly state: LedgerState;
  readonly receipts: readonly Receipt[];
  readonly events: readonly LedgerEvent[];
}

/** An account for people: what it has, the nonce by the last block, and the nonce that a new transaction should carry. */
export interface AccountView extends Holdings {
  readonly nonce: number;
  readonly nextNonce: number;
}

/** Makes a {@link Blockchain}: `blockchain({ genesis })({ store })`. */
export const blockchain =
  (init: BlockchainInit) =>
  (components: BlockchainComponents): Blockchain =>
    new Blockchain(init, components);

/**
 * See the file comment. Await `signaturesReady()` before using it. The constructor loads the state and throws
 * {@link StoreDamagedError} when its root is not the one that the last header carries.
 */
export class Blockchain implements Application {
  readonly genesis: Genesis;
  readonly genesisHash: Hash;
  /** First 8 bytes of the genesis hash. */
  readonly networkId: Uint8Array;
  readonly #store: Store;
  readonly #mempool: Mempool;
  readonly #verifier: SignatureVerifier;
  readonly #signatures: VerifiedSignatures;
  readonly #works: WorkChecks;
  readonly #executed = new Map<Hash, ExecutedBlock>();
  readonly #workListeners = new Set<() => void>();
  readonly #blockListeners = new Set<(event: BlockEvent) => void>();
  readonly #log: ListenerLog;
  readonly #history: StateHistory;
  #state: LedgerState;
  #knownSet: { readonly hash: Hash; readonly set: ValidatorSet } | undefined;
  #last: { readonly id: Hash; readonly header: Header } | undefined;

  constructor(init: BlockchainInit, { store, log, verifier }: BlockchainComponents) {
    this.genesis = init.genesis;
    this.genesisHash = genesisHash(init.genesis);
    this.networkId = networkId(init.genesis);
    this.#store = store;
    this.#log = log ?? { error: () => {} };
    const { state, last } = loadState(init.genesis, store);
    this.#state = state;
    this.#last = last === undefined ? undefined : { id: blockId(last), header: last };
    this.#history = new StateHistory(store, last?.height ?? 0, state);
    this.#verifier = verifier ?? new InlineVerifier();
    this.#signatures = new VerifiedSignatures(this.networkId, REMEMBERED_SIGNATURES, this.#verifier);
    this.#works = new WorkChecks(this.networkId);
    this.#mempool = new Mempool(
      { ...DEFAULT_MEMPOOL_LIMITS, ...init.mempool },
      {
        nonce: (account) => this.#state.account(account).nonce,
        height: () => this.height,
        parameters: () => this.#state.parameters,
        isValidator: (account) => this.#state.nextValidators.some((validator) => validator.account === account),
        fee: (transaction, encoded) => feeOf(this.#state, transaction, this.#state.parameters, encoded.length),
        spendable: (account) => this.#state.holdings(account).balance,
        admission: (transaction) => admissionOf(this.#state, transaction),
        hasWork: (transaction) => this.#works.hold(transaction),
        verify: async (transaction, encoded, urgency) => {
          const [valid] = await this.#signatures.verify([{ transaction, encoded }], urgency);
          return valid === true;
        },
      },
    );
  }

  /** State after the last finalized block: rounds, epochs, accounts, everything. Immutable. */
  get state(): LedgerState {
    return this.#state;
  }

  get height(): number {
    return this.#last?.header.height ?? 0;
  }

  get lastBlockId(): Hash {
    return this.#last?.id ?? this.genesisHash;
  }

  /** Header of the last finalized block; undefined at height 0. */
  get lastHeader(): Header | undefined {
    return this.#last?.header;
  }

  get lastTimeMs(): bigint {
    return this.#state.timeMs;
  }

  get beacon(): Hash {
    return this.#last?.header.beacon ?? genesisBeacon(this.genesisHash);
  }

  validators(height: number): ValidatorSet | undefined {
    if (height < 1 || height > this.height) return this.#state.validatorsAt(height);
    const hash = this.#store.validatorsHashAt(height);
    // Before the snapshot at which this node began, the state tells, as long as evidence counts.
    if (hash === undefined) return this.#state.validatorsAt(height);
    // Nearly every height has the same set as the one asked for before it.
    if (this.#knownSet?.hash !== hash) {
      const set = this.#store.validatorSet(hash);
      this.#knownSet = set === undefined ? undefined : { hash, set };
    }
    return this.#knownSet?.set;
  }

  async propose(input: {
    timeMs: bigint;
    proposer: AccountId;
    beaconProof: Uint8Array;
    evidence?: readonly EquivocationEvidence[];
  }): Promise<Block> {
    const output = await this.#beaconOutput(input.proposer, input.beaconProof);
    if (output === undefined) throw new InvalidBlockError('the beacon proof is not the proposer’s for this height');
    const beacon = nextBeacon(this.beacon, output);
    const waiting = this.#mempool.select(MAX_BLOCK_BYTES - BLOCK_OVERHEAD_BYTES);
    const execution = { height: this.height + 1, timeMs: input.timeMs, beacon, proposer: input.proposer };
    const offered = input.evidence?.slice(0, MAX_EVIDENCE_PER_BLOCK) ?? [];
    const executed = buildBlock(this.#state, { ...execution, transactions: waiting, evidence: offered });
    const included = new Set(executed.included);
    const transactions = waiting.filter((signed) => included.has(signed)).map(({ encoded }) => encoded);
    const evidence = executed.evidence.map(encodeEvidence);
    const body = { beaconProof: input.beaconProof, transactions, evidence };
    const header = this.#header(execution, body, executed.state);
    this.#remember(blockId(header), executed);
    return { header, ...body };
  }

  async validate(block: Block): Promise<BlockVerdict> {
    try {
      await this.#execute(block);
      return { valid: true };
    } catch (error) {
      if (error instanceof InvalidBlockError) return { valid: false, reason: error.message };
      throw error;
    }
  }

  /** See {@link Application.commit}. Throws {@link InvalidBlockError} for a block that `validate` would refuse. */
  async commit(block: Block, commit: Commit): Promise<void> {
    const executed = await this.#execute(block);
    const id = blockId(block.header);
    const { state, receipts, events, changes } = executed;
    const { validatorsHash, nextValidatorsHash } = block.header;
    const validatorSets = new Map([
      [validatorsHash, this.#state.nextValidators],
      [nextValidatorsHash, state.nextValidators],
    ]);
    const watched = [{ type: 'block', height: block.header.height, id, timeMs: block.header.timeMs }, ...events];
    this.#store.writeBlock({ block, commit, changes, receipts, validatorSets, events: watched.map(eventRow) });
    this.#state = state;
    this.#last = { id, header: block.header };
    this.#history.add(block.header.height, state);
    this.#executed.clear();
    this.#mempool.prune(receipts.map((receipt) => receipt.id));
    const event: BlockEvent = { height: block.header.height, id, header: block.header, state, receipts, events };
    for (const listener of [...this.#blockListeners]) this.#call(() => listener(event));
    this.#announceWork();
  }

  evidenceStatus(evidence: EquivocationEvidence): EvidenceStatus {
    return evidenceStatus(this.#state, evidence);
  }

  /** A finalized block; undefined when it is not kept. */
  async finalized(height: number): Promise<FinalizedBlock | undefined> {
    return this.#store.block(height);
  }

  encodedBlocks(query: EncodedBlocksQuery): readonly EncodedBlock[] {
    return this.#store.encodedBlocks(query);
  }

  /** The state after the block at a height, while the window of kept states holds it; 0 is genesis. */
  stateAt(height: number): LedgerState | undefined {
    return this.#history.at(height);
  }

  /** Id of the finalized block at a height; the genesis hash at 0. */
  blockIdAt(height: number): Hash | undefined {
    if (height === 0) return this.genesisHash;
    const found = this.#store.block(height);
    return found === undefined ? undefined : blockId(found.block.header);
  }

  /** Lowest height that {@link stateAt} answers for. */
  get oldestState(): number {
    return this.#store.oldestState;
  }

  /** A finalized header with all that proves it, for light clients. */
  lightBlock(height: number): LightBlock | undefined {
    const found = this.#store.header(height);
    const validators = this.validators(height);
    // The set of the next height is known by the block there, and for the last block by the state.
    const nextValidators = this.validators(height + 1);
    if (found === undefined || validators === undefined || nextValidators === undefined) return undefined;
    return { ...found, validators, nextValidators };
  }

  hasWork(): boolean {
    return this.#mempool.hasReady();
  }

  onWork(listener: () => void): () => void {
    this.#workListeners.add(listener);
    return () => this.#workListeners.delete(listener);
  }

  /** Calls back after each finalized block, once it is on disk. Returns a function that unsubscribes. */
  onBlock(listener: (event: BlockEvent) => void): () => void {
    this.#blockListeners.add(listener);
    return () => this.#blockListeners.delete(listener);
  }

  /**
   * Takes a transaction in wire form and resolves with its id. `urgency`: whether it is this node's own or came from a peer.
   * Throws `TransactionRefusedError`, whose `toGossip()` is what a gossip validator throws.
   */
  async submit(encoded: Uint8Array, urgency: Urgency = 'own'): Promise<Hash> {
    const waiting = await this.#mempool.add(encoded, urgency);
    this.#announceWork();
    return waiting.id;
  }

  /** True while a transaction waits for a block. */
  isWaiting(id: Hash): boolean {
    return this.#mempool.has(id);
  }

  /** Number of waiting transactions and their bytes. */
  get waiting(): { readonly transactions: number; readonly bytes: number } {
    return { transactions: this.#mempool.size, bytes: this.#mempool.bytes };
  }

  account(account: AccountId): AccountView {
    const { nonce } = this.#state.account(account);
    return { ...this.#state.holdings(account), nonce, nextNonce: this.#mempool.nextNonce(account) };
  }

  /** What became of a transaction, once a finalized block holds it. */
  receipt(id: Hash): StoredReceipt | undefined {
    return this.#store.receipt(id);
  }

  /** Receipts of a block, in the order of its transactions. */
  receiptsAt(height: number): readonly StoredReceipt[] {
    return this.#store.receiptsAt(height);
  }

  /** Height of the block with that id. */
  heightOf(id: Hash): number | undefined {
    return this.#store.heightOf(id);
  }

  /** What the last blocks did, in order; see `Store.events`. Every block begins with an event of type `block`. */
  events(query: {
    readonly after?: EventCursor;
    readonly types?: readonly string[];
    readonly limit: number;
  }): StoredEvent[] {
    return this.#store.events(query);
  }

  /** Cursor of the last event. */
  get lastEvent(): EventCursor {
    return this.#store.lastEvent;
  }

  /**
   * Executes every stored block again from genesis and returns the state. Its root equals the present one unless
   * something is wrong with this program or this machine.
   */
  async replay(options: { signal?: AbortSignal } = {}): Promise<LedgerState> {
    let state = LedgerState.genesis(this.genesis);
    const last = this.height;
    for (let height = 1; height <= last; height++) {
      options.signal?.throwIfAborted();
      const block = this.#store.block(height)?.block;
      if (block === undefined) throw new StoreDamagedError(`block ${height} is missing`);
      const { timeMs, beacon, proposer } = block.header;
      const transactions = block.transactions.map(identify);
      const evidence = readEvidence(block.evidence);
      state = executeBlock(state, { height, timeMs, beacon, proposer, transactions, evidence }).state;
      await nextTurn();
    }
    return state;
  }

  #announceWork(): void {
    if (this.#workListeners.size === 0 || !this.hasWork()) return;
    for (const listener of [...this.#workListeners]) this.#call(listener);
  }

  /** The block is final already: a listener that fails must not make it look otherwise. */
  #call(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      this.#log.error({ err: error }, 'a listener of the blockchain failed');
    }
  }

  /** The proof's output when it is the proposer's for the next height. */
  async #beaconOutput(proposer: AccountId, proof: Uint8Array): Promise<Uint8Array | undefined> {
    const messages = [beaconMessage(this.networkId, this.height + 1, this.beacon)];
    const publicKey = accountPublicKey(proposer);
    const [valid] = await this.#verifier.verify([{ kind: 'proof', publicKey, messages, signature: proof }], 'block');
    return valid === true ? vrfOutput(proof) : undefined;
  }

  /** Header of the next block with those contents. */
  #header(
    block: { readonly timeMs: bigint; readonly beacon: Hash; readonly proposer: AccountId },
    { beaconProof, transactions, evidence }: Omit<Block, 'header'>,
    after: LedgerState,
  ): Header {
    return {
      network: this.networkId,
      height: this.height + 1,
      timeMs: block.timeMs,
      previous: this.lastBlockId,
      proposer: block.proposer,
      validatorsHash: validatorSetHash(this.#state.nextValidators),
      nextValidatorsHash: validatorSetHash(this.#state.afterNextValidators),
      transactionsRoot: transactionsRoot(transactions),
      evidenceRoot: evidenceRoot(evidence),
      stateRoot: after.root,
      modelRoot: after.modelRoot,
      trainingRound: after.round.round,
      beacon: block.beacon,
      beaconProofHash: beaconProofHash(beaconProof),
    };
  }

  /**
   * Executes a block, or finds the result of having done so. Throws {@link InvalidBlockError}.
   */
  async #execute(block: Block): Promise<ExecutedBlock> {
    const id = blockId(block.header);
    // The id names one body; whether this is that one has to be seen before a result for the id is taken.
    const fault = bodyFault(block);
    if (fault !== undefined) throw new InvalidBlockError(`the body is not the one of the header: ${fault}`);
    const known = this.#executed.get(id);
    if (known !== undefined) return known;
    const base = this.#state;
    const { header } = block;
    if (encodeBlock(block).length > MAX_BLOCK_BYTES) throw new InvalidBlockError('the block is too large');
    if (header.height !== this.height + 1) {
      throw new InvalidBlockError(`the block has height ${header.height}, the next one is ${this.height + 1}`);
    }
    if (!base.nextValidators.some(({ account }) => account === header.proposer)) {
      throw new InvalidBlockError('the proposer is no validator');
    }
    const output = await this.#beaconOutput(header.proposer, block.beaconProof);
    if (output === undefined) throw new InvalidBlockError('the beacon proof is not the proposer’s for this height');
    const evidence = readEvidence(block.evidence);
    proveEvidence(evidence, this.networkId, (height) => this.validators(height));
    const transactions = await this.#verified(block.transactions);
    if (this.#state !== base) throw new InvalidBlockError('another block was finalized meanwhile');
    const { timeMs, beacon, proposer } = header;
    const executed = executeBlock(base, { height: header.height, timeMs, beacon, proposer, transactions, evidence });
    const expected = this.#header({ timeMs, beacon: nextBeacon(this.beacon, output), proposer }, block, executed.state);
    const difference = differentField(header, expected);
    if (difference !== undefined) {
      throw new InvalidBlockError(`${difference} is ${show(header[difference])}, not ${show(expected[difference])}`);
    }
    this.#remember(id, executed);
    return executed;
  }

  /** Decodes transactions and checks their signatures. Throws {@link InvalidBlockError}. */
  async #verified(block: readonly Uint8Array[]): Promise<SignedTransaction[]> {
    const transactions: (SignedTransaction & { readonly encoded: Uint8Array })[] = [];
    for (const encoded of block) {
      transactions.push({ ...identify(encoded), encoded });
      if (transactions.length % DECODED_PER_TURN === 0) await nextTurn();
    }
    await this.#checkWork(transactions);
    const valid = await this.#signatures.verify(transactions, 'block');
    const wrong = transactions.find((_, index) => valid[index] !== true);
    if (wrong !== undefined) throw new InvalidBlockError(`transaction ${wrong.id}: the signature does not verify`);
    return transactions;
  }

  /** Checks the work of a block's registrations; they are few, or the block is invalid. Throws {@link InvalidBlockError}. */
  async #checkWork(transactions: readonly SignedTransaction[]): Promise<void> {
    const registrations = transactions.filter(({ transaction }) => transaction.body.call.tag === 'registerMiner');
    if (registrations.length > this.#state.parameters.registration.maxPerBlock)
      throw new InvalidBlockError(`${registrations.length} registrations in a block`);
    for (const { id, transaction } of registrations) {
      if (!(await this.#works.hold(transaction, { always: true })))
        throw new InvalidBlockError(`transaction ${id}: it claims work that was not done`);
    }
  }

  #remember(id: Hash, executed: ExecutedBlock): void {
    if (this.#executed.size >= MAX_EXECUTED_BLOCKS) {
      for (const oldest of this.#executed.keys()) {
        this.#executed.delete(oldest);
        break;
      }
    }
    this.#executed.set(id, executed);
  }
}

/** Decodes a transaction of a block. Throws {@link InvalidBlockError}. */
function identify(encoded: Uint8Array): SignedTransaction {
  try {
    const transaction = decodeTransaction(encoded);
    return { id: transactionId(transaction), transaction };
  } catch (cause) {
    throw new InvalidBlockError('a transaction of the block does not decode', { cause });
  }
}

/** First part of a VRF result (`node/identity/sr25519.ts`). */
function vrfOutput(proof: Uint8Array): Uint8Array {
  return proof.slice(0, 32);
}

function differentField(header: Header, expected: Header): keyof Header | undefined {
  const fields = Object.keys(expected) as (keyof Header)[];
  return fields.find((field) => show(header[field]) !== show(expected[field]));
}

function show(value: Header[keyof Header]): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : String(value);
}

/** An event as the store keeps it. */
function eventRow(event: { readonly type: string }): { readonly type: string; readonly body: string } {
  return { type: event.type, body: JSON.stringify(ledgerJson(event)) };
}
