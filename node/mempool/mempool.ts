/**
 * Transactions that wait for a block. Bounded in bytes, in number, and per account.
 *
 * Each account has one line, ordered by nonce; gaps wait. When the pool is full, a transaction of a higher class pushes
 * out the newest of the lowest class, so that accounts made up for the purpose cannot keep validators and miners out
 * while fees are zero.
 */
import type { AccountId } from '../chain/account.ts';
import { DecodeError } from '../chain/codec.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import { decodeTransaction, type Transaction, transactionId } from '../chain/transaction.ts';
import { inclusionError, type SignedTransaction } from '../ledger/execute.ts';
import { type Urgency, VerifierBusyError } from '../signature-checks/verifier.ts';
import { TransactionRefusedError } from './errors.ts';

/** Bounds of a mempool. */
export interface MempoolLimits {
  readonly maxTransactions: number;
  readonly maxBytes: number;
  /** Most waiting transactions of one account, and so how far its nonces may run ahead. */
  readonly maxPerAccount: number;
}

/** Room for several full blocks; an account may queue a few blocks' worth. */
export const DEFAULT_MEMPOOL_LIMITS: MempoolLimits = {
  maxTransactions: 8192,
  maxBytes: 16 * 1024 * 1024,
  maxPerAccount: 64,
};

/** Importance of an account when there is not room for all: larger goes first. */
export type AccountClass = 0 | 1 | 2;

/** What the mempool looks at. */
export interface MempoolComponents {
  /** Next nonce of an account by the last block. */
  nonce(account: AccountId): number;
  /** Height of the last block. */
  height(): number;
  parameters(): Parameters;
  classOf(account: AccountId): AccountClass;
  /** True when the signer has the fee by the last block, whatever else of its waits. */
  canPay(transaction: Transaction, encoded: Uint8Array): boolean;
  /** True when the signature is valid. May take a while; throws {@link VerifierBusyError} when too many wait. */
  verify(transaction: Transaction, encoded: Uint8Array, urgency: Urgency): Promise<boolean>;
}

/** A waiting transaction. */
export interface WaitingTransaction extends SignedTransaction {
  readonly encoded: Uint8Array;
  /** Order of arrival. */
  readonly arrival: number;
  readonly class: AccountClass;
}

/** A decoded transaction that the pool may take. */
interface Candidate extends SignedTransaction {
  readonly encoded: Uint8Array;
}

/** Throws {@link TransactionRefusedError}. */
function decodeCandidate(encoded: Uint8Array): Candidate {
  try {
    const transaction = decodeTransaction(encoded);
    return { id: transactionId(transaction), transaction, encoded };
  } catch (cause) {
    if (cause instanceof DecodeError) throw new TransactionRefusedError('ERR_MALFORMED', { cause });
    throw cause;
  }
}

/** The pool. */
export class Mempool {
  readonly #limits: MempoolLimits;
  readonly #components: MempoolComponents;
  readonly #lines = new Map<AccountId, Map<number, WaitingTransaction>>();
  readonly #byId = new Map<Hash, WaitingTransaction>();
  /** Ids by class, in order of arrival. */
  readonly #classes: readonly [Set<Hash>, Set<Hash>, Set<Hash>] = [new Set(), new Set(), new Set()];
  #bytes = 0;
  #arrivals = 0;

  constructor(limits: MempoolLimits, components: MempoolComponents) {
    this.#limits = limits;
    this.#components = components;
  }

  /** Number of waiting transactions. */
  get size(): number {
    return this.#byId.size;
  }

  /** Their bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  has(id: Hash): boolean {
    return this.#byId.has(id);
  }

  /** True when some account's next transaction waits. */
  hasReady(): boolean {
    for (const [account, line] of this.#lines) if (line.has(this.#components.nonce(account))) return true;
    return false;
  }

  /** Nonce that a new transaction of the account should carry: after its unbroken line of waiting ones. */
  nextNonce(account: AccountId): number {
    let nonce = this.#components.nonce(account);
    const line = this.#lines.get(account);
    while (line?.has(nonce) === true) nonce += 1;
    return nonce;
  }

  /**
   * Takes a transaction in wire form, which is not to change meanwhile. Throws {@link TransactionRefusedError}. Checks go by
   * cost: size and form, then state, then the signature, which is checked elsewhere; as the chain and the pool may move
   * meanwhile, state is looked at again.
   */
  async add(encoded: Uint8Array, urgency: Urgency = 'own'): Promise<WaitingTransaction> {
    const candidate = decodeCandidate(encoded);
    this.#admit(candidate);
    if (!(await this.#hasSignature(candidate, urgency))) throw new TransactionRefusedError('ERR_BAD_SIGNATURE');
    const accountClass = this.#admit(candidate);
    while (!this.#fits(encoded.length)) {
      if (this.#lowestClass() >= accountClass) throw new TransactionRefusedError('ERR_MEMPOOL_FULL');
      this.#evictOne();
    }
    const waiting: WaitingTransaction = {
      ...candidate,
      encoded: new Uint8Array(encoded),
      arrival: this.#arrivals++,
      class: accountClass,
    };
    this.#insert(waiting);
    return waiting;
  }

  /** Checks all but the signature, and that there is room or something less important to push out; returns the account's class. */
  #admit({ id, transaction, encoded }: Candidate): AccountClass {
    const { signer, nonce } = transaction.body;
    if (this.#byId.has(id)) throw new TransactionRefusedError('ERR_DUPLICATE');
    const accountNonce = this.#components.nonce(signer);
    // Everything but the account's turn: the nonce may be ahead here.
    const at = { height: this.#components.height() + 1, nonce: accountNonce, included: 0 };
    const refused = inclusionError(transaction, at, this.#components.parameters());
    if (refused !== undefined && refused !== 'ERR_NONCE_GAP') throw new TransactionRefusedError(refused);
    if (nonce >= accountNonce + this.#limits.maxPerAccount) throw new TransactionRefusedError('ERR_NONCE_TOO_FAR');
    if (!this.#components.canPay(transaction, encoded)) throw new TransactionRefusedError('ERR_CANNOT_PAY_FEE');
    const line = this.#lines.get(signer);
    if (line?.has(nonce) === true) throw new TransactionRefusedError('ERR_NONCE_TAKEN');
    if (line !== undefined && line.size >= this.#limits.maxPerAccount) {
      throw new TransactionRefusedError('ERR_ACCOUNT_QUEUE_FULL');
    }
    const accountClass = this.#components.classOf(signer);
    if (!this.#fits(encoded.length) && this.#lowestClass() >= accountClass) {
      throw new TransactionRefusedError('ERR_MEMPOOL_FULL');
    }
    return accountClass;
  }

  async #hasSignature({ transaction, encoded }: Candidate, urgency: Urgency): Promise<boolean> {
    try {
      return await this.#components.verify(transaction, encoded, urgency);
    } catch (cause) {
      if (cause instanceof VerifierBusyError) throw new TransactionRefusedError('ERR_MEMPOOL_BUSY', { cause });
      throw cause;
    }
  }

  /**
   * Transactions for the next block, in the order of execution: higher class first, then earlier arrival, each
   * account's in the order of its nonces and at most its share. Stops at `maxBytes` of encoded transactions.
   */
  select(maxBytes: number): WaitingTransaction[] {
    const { consensus, economics } = this.#components.parameters();
    const height = this.#components.height() + 1;
    const ready: WaitingTransaction[] = [];
    for (const [account, line] of this.#lines) {
      const first = this.#components.nonce(account);
      for (let taken = 0; taken < economics.transactionsPerAccountPerBlock; taken++) {
        const waiting = line.get(first + taken);
        if (waiting === undefined || waiting.transaction.body.validUntil < height) break;
        ready.push(waiting);
      }
    }
    ready.sort((a, b) => b.class - a.class || a.arrival - b.arrival);
    return pack(ready, (account) => this.#components.nonce(account), consensus.maxTransactionsPerBlock, maxBytes);
  }

  /** Drops what the last block made useless: included, overtaken, expired, or beyond its signer's means. Call after the components moved on. */
  prune(included: readonly Hash[]): void {
    for (const id of included) {
      const waiting = this.#byId.get(id);
      if (waiting !== undefined) this.#remove(waiting);
    }
    const height = this.#components.height() + 1;
    for (const [account, line] of this.#lines) {
      const nonce = this.#components.nonce(account);
      for (const waiting of line.values()) {
        const { transaction, encoded } = waiting;
        const isLate = transaction.body.nonce < nonce || transaction.body.validUntil < height;
        if (isLate || !this.#components.canPay(transaction, encoded)) this.#remove(waiting);
      }
    }
  }

  #fits(bytes: number): boolean {
    return this.#byId.size < this.#limits.maxTransactions && this.#bytes + bytes <= this.#limits.maxBytes;
  }

  #lowestClass(): AccountClass | 3 {
    return this.#classes[0].size > 0 ? 0 : this.#classes[1].size > 0 ? 1 : this.#classes[2].size > 0 ? 2 : 3;
  }

  /** Drops the last in line of the account that came last in the lowest class. */
  #evictOne(): void {
    const lowest = this.#lowestClass();
    if (lowest === 3) return;
    let newest: WaitingTransaction | undefined;
    for (const id of this.#classes[lowest]) {
      const waiting = this.#byId.get(id);
      if (waiting !== undefined && (newest === undefined || waiting.arrival > newest.arrival)) newest = waiting;
    }
    if (newest === undefined) return;
    let last = newest;
    for (const waiting of this.#lines.get(newest.transaction.body.signer)?.values() ?? []) {
      if (waiting.transaction.body.nonce > last.transaction.body.nonce) last = waiting;
    }
    this.#remove(last);
  }

  #insert(waiting: WaitingTransaction): void {
    const { signer, nonce } = waiting.transaction.body;
    const line = this.#lines.get(signer) ?? new Map<number, WaitingTransaction>();
    this.#lines.set(signer, line);
    line.set(nonce, waiting);
    this.#byId.set(waiting.id, waiting);
    this.#classes[waiting.class].add(waiting.id);
    this.#bytes += waiting.encoded.length;
  }

  #remove(waiting: WaitingTransaction): void {
    const { signer, nonce } = waiting.transaction.body;
    const line = this.#lines.get(signer);
    line?.delete(nonce);
    if (line?.size === 0) this.#lines.delete(signer);
    this.#byId.delete(waiting.id);
    this.#classes[waiting.class].delete(waiting.id);
    this.#bytes -= waiting.encoded.length;
  }
}

/**
 * Fills a block from transactions in order of preference. One that is not its account's turn yet waits until the
 * account's earlier ones are in, and one that does not fit ends its account's line.
 */
function pack(
  preferred: readonly WaitingTransaction[],
  nonceOf: (account: AccountId) => number,
  maxTransactions: number,
  maxBytes: number,
): WaitingTransaction[] {
  const block: WaitingTransaction[] = [];
  const next = new Map<AccountId, number>();
  const held = new Map<AccountId, Map<number, WaitingTransaction>>();
  let bytes = 0;
  const take = (waiting: WaitingTransaction): boolean => {
    if (block.length >= maxTransactions || bytes + waiting.encoded.length + LENGTH_PREFIX_BYTES > maxBytes)
      return false;
    block.push(waiting);
    bytes += waiting.encoded.length + LENGTH_PREFIX_BYTES;
    return true;
  };
  for (const waiting of preferred) {
    const { signer, nonce } = waiting.transaction.body;
    let turn = next.get(signer) ?? nonceOf(signer);
    const line = held.get(signer) ?? new Map<number, WaitingTransaction>();
    held.set(signer, line);
    line.set(nonce, waiting);
    for (let candidate = line.get(turn); candidate !== undefined && take(candidate); candidate = line.get(turn))
      turn += 1;
    next.set(signer, turn);
  }
  return block;
}

/** SCALE writes at most four bytes of length before a transaction of this size. */
const LENGTH_PREFIX_BYTES = 4;
