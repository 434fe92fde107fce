/**
 * Transactions that wait for a block. Bounded in number and bytes, by lane and by account.
 *
 * Each account has one line, ordered by nonce; gaps wait. Each transaction is in a lane (`lanes.ts`) with a share of its
 * own, so that no kind of sender shuts out another. What is free is taken only of those whom the ledger lets
 * (`ledger/admission.ts`), at most one of an account, a kind and a round. What pays is taken as far as its signer has the
 * fees of all that wait; when its lane is full, the longest line gives way to shorter ones. Of registrations, those with
 * least work give way.
 */
import type { AccountId } from '../chain/account.ts';
import { DecodeError } from '../chain/codec.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import { type Call, decodeTransaction, type Transaction, transactionId } from '../chain/transaction.ts';
import { type Admission, waitingKey } from '../ledger/admission.ts';
import { inclusionError, type SignedTransaction } from '../ledger/execute.ts';
import { WorkChecksBusyError } from '../registration/work-checks.ts';
import { type Urgency, VerifierBusyError } from '../signature-checks/verifier.ts';
import { TransactionRefusedError } from './errors.ts';
import { DEFAULT_LANES, LANE_ORDER, type Lane, type LaneLimits, laneOf } from './lanes.ts';
import { LineLengths } from './line-lengths.ts';

/** Bounds of a mempool. */
export interface MempoolLimits {
  /** Most waiting transactions of one account, and so how far its nonces may run ahead. */
  readonly maxPerAccount: number;
  readonly lanes: Readonly<Record<Lane, LaneLimits>>;
}

/** Room for several full blocks; an account may queue a few blocks' worth. */
export const DEFAULT_MEMPOOL_LIMITS: MempoolLimits = { maxPerAccount: 64, lanes: DEFAULT_LANES };

/** What the mempool looks at, all of it by the last block. */
export interface MempoolComponents {
  /** Next nonce of an account. */
  nonce(account: AccountId): number;
  /** Height of the last block. */
  height(): number;
  parameters(): Parameters;
  isValidator(account: AccountId): boolean;
  /** What the transaction costs, in units; 0 for what is free. */
  fee(transaction: Transaction, encoded: Uint8Array): bigint;
  /** Units that the account can pay fees with. */
  spendable(account: AccountId): bigint;
  /** Whether a free call may wait. */
  admission(transaction: Transaction): Admission;
  /** True when the transaction claims no work that was not done. May take a while; throws `WorkChecksBusyError`. */
  hasWork(transaction: Transaction): Promise<boolean>;
  /** True when the signature is valid. May take a while; throws {@link VerifierBusyError} when too many wait. */
  verify(transaction: Transaction, encoded: Uint8Array, urgency: Urgency): Promise<boolean>;
}

/** A waiting transaction. */
export interface WaitingTransaction extends SignedTransaction {
  readonly encoded: Uint8Array;
  /** Order of arrival. */
  readonly arrival: number;
  readonly lane: Lane;
  /** In units. */
  readonly fee: bigint;
  /** False while it is early: then no block is made for it. */
  readonly due: boolean;
}

/** A decoded transaction that the pool may take. */
interface Candidate extends SignedTransaction {
  readonly encoded: Uint8Array;
}

/** Where it would wait, and what has to go for it. */
interface Place extends Pick<WaitingTransaction, 'lane' | 'fee' | 'due'> {
  /** The same call of its account under a later nonce. */
  readonly replaces: WaitingTransaction | undefined;
  readonly pushedOut: readonly WaitingTransaction[];
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

/** Most transactions that one that comes pushes out: what is large must not cost more than it is worth. */
const MAX_PUSHED_OUT = 32;

/** The pool. */
export class Mempool {
  readonly #limits: MempoolLimits;
  readonly #components: MempoolComponents;
  readonly #lines = new Map<AccountId, Map<number, WaitingTransaction>>();
  readonly #byId = new Map<Hash, WaitingTransaction>();
  /** Waiting calls of which an account makes one, by `waitingKey`. */
  readonly #byKey = new Map<string, WaitingTransaction>();
  readonly #lanes: Readonly<Record<Lane, { readonly waiting: Set<WaitingTransaction>; bytes: number }>> = {
    validator: { waiting: new Set(), bytes: 0 },
    miner: { waiting: new Set(), bytes: 0 },
    registration: { waiting: new Set(), bytes: 0 },
    bonded: { waiting: new Set(), bytes: 0 },
    paying: { waiting: new Set(), bytes: 0 },
  };
  readonly #payingLines: LineLengths;
  #bytes = 0;
  #arrivals = 0;

  constructor(limits: MempoolLimits, components: MempoolComponents) {
    this.#limits = limits;
    this.#components = components;
    this.#payingLines = new LineLengths(limits.maxPerAccount);
  }

  /** Number of waiting transactions. */
  get size(): number {
    return this.#byId.size;
  }

  /** Their bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Number of waiting transactions of a lane. */
  sizeOf(lane: Lane): number {
    return this.#lanes[lane].waiting.size;
  }

  has(id: Hash): boolean {
    return this.#byId.has(id);
  }

  /**
   * True when some account's next transaction waits, is due, and is worth a block at once. Registrations are not: they are
   * anybody's, and whoever floods with them would set the pace of blocks; they go into the next one that is made.
   */
  hasReady(): boolean {
    for (const [account, line] of this.#lines) {
      const next = line.get(this.#components.nonce(account));
      if (next?.due === true && next.lane !== 'registration' && next.lane !== 'bonded') return true;
    }
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
   * cost: size and form, then state, then work and signature, which are checked elsewhere; as the chain and the pool may move
   * meanwhile, state is looked at again.
   */
  async add(encoded: Uint8Array, urgency: Urgency = 'own'): Promise<WaitingTransaction> {
    const candidate = decodeCandidate(encoded);
    this.#admit(candidate);
    if (!(await this.#hasWork(candidate))) throw new TransactionRefusedError('ERR_FALSE_WORK');
    if (!(await this.#hasSignature(candidate, urgency))) throw new TransactionRefusedError('ERR_BAD_SIGNATURE');
    const { replaces, pushedOut, ...place } = this.#admit(candidate);
    if (replaces !== undefined) this.#remove(replaces);
    for (const other of pushedOut) this.#remove(other);
    const copy = new Uint8Array(encoded);
    const waiting: WaitingTransaction = { ...candidate, ...place, encoded: copy, arrival: this.#arrivals++ };
    this.#insert(waiting);
    return waiting;
  }

  /** Checks all but the signature, and that there is room or something less important to push out. Changes nothing. */
  #admit({ id, transaction, encoded }: Candidate): Place {
    const { signer, nonce, call } = transaction.body;
    if (this.#byId.has(id)) throw new TransactionRefusedError('ERR_DUPLICATE');
    const accountNonce = this.#components.nonce(signer);
    // Everything but the account's turn: the nonce may be ahead here.
    const at = { height: this.#components.height() + 1, nonce: accountNonce, included: 0 };
    const refused = inclusionError(transaction, at, this.#components.parameters());
    if (refused !== undefined && refused !== 'ERR_NONCE_GAP') throw new TransactionRefusedError(refused);
    if (nonce >= accountNonce + this.#limits.maxPerAccount) throw new TransactionRefusedError('ERR_NONCE_TOO_FAR');
    const line = this.#lines.get(signer);
    const sameNonce = line?.get(nonce);
    if (sameNonce !== undefined && !outworks(call, sameNonce)) throw new TransactionRefusedError('ERR_NONCE_TAKEN');
    const fee = this.#components.fee(transaction, encoded);
    const key = fee === 0n ? waitingKey(signer, call) : undefined;
    const replaces = key === undefined ? undefined : this.#byKey.get(key);
    // An earlier nonce that became free again is filled with what waits behind it.
    if (replaces !== undefined && nonce > replaces.transaction.body.nonce)
      throw new TransactionRefusedError('ERR_CALL_WAITING');
    if (line !== undefined && line.size >= this.#limits.maxPerAccount && replaces === undefined) {
      throw new TransactionRefusedError('ERR_ACCOUNT_QUEUE_FULL');
    }
    let due = true;
    if (fee === 0n) {
      const admission = this.#components.admission(transaction);
      if (admission !== 'now' && admission !== 'later') throw new TransactionRefusedError(admission);
      due = admission === 'now';
    } else if (this.#components.spendable(signer) < fee + feesOf(line)) {
      throw new TransactionRefusedError('ERR_CANNOT_PAY_FEE');
    }
    const lane = laneOf(call.tag, this.#components.isValidator(signer));
    const pushedOut = this.#pushedOut(lane, { signer, work: workOf(call) }, encoded.length, replaces);
    return { lane, fee, due, replaces, pushedOut };
  }

  async #hasWork({ transaction }: Candidate): Promise<boolean> {
    try {
      return await this.#components.hasWork(transaction);
    } catch (cause) {
      if (cause instanceof WorkChecksBusyError) throw new TransactionRefusedError('ERR_MEMPOOL_BUSY', { cause });
      throw cause;
    }
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
   * Transactions for the next block, in the order of execution: by lane, then more work, then earlier arrival, each account's in the order
   * of its nonces and at most its share. Stops at `maxBytes` of encoded transactions.
   */
  select(maxBytes: number): WaitingTransaction[] {
    const { consensus, economics } = this.#components.parameters();
    const height = this.#components.height() + 1;
    const ready: WaitingTransaction[] = [];
    for (const [account, line] of this.#lines) {
      const first = this.#components.nonce(account);
      for (let taken = 0; taken < economics.transactionsPerAccountPerBlock; taken++) {
        const waiting = line.get(first + taken);
        if (waiting === undefined || !waiting.due || waiting.transaction.body.validUntil < height) break;
        ready.push(waiting);
      }
    }
    ready.sort((a, b) => LANE_ORDER[a.lane] - LANE_ORDER[b.lane] || byWork(a, b) || a.arrival - b.arrival);
    const worked = atMost(ready, 'registration', this.#components.parameters().registration.maxPerBlock);
    const fitting = atMost(worked, 'bonded', 1);
    return pack(fitting, (account) => this.#components.nonce(account), consensus.maxTransactionsPerBlock, maxBytes);
  }

  /**
   * Drops what the last block made useless: included, overtaken, expired, beyond its signer's means, or free and refused
   * by now. Call after the components moved on.
   */
  prune(included: readonly Hash[]): void {
    for (const id of included) {
      const waiting = this.#byId.get(id);
      if (waiting !== undefined) this.#remove(waiting);
    }
    const height = this.#components.height() + 1;
    for (const [account, line] of this.#lines) {
      const nonce = this.#components.nonce(account);
      let left = this.#components.spendable(account);
      for (const waiting of [...line.values()].sort(byNonce)) {
        const { transaction, encoded } = waiting;
        const fee = this.#components.fee(transaction, encoded);
        const admission = fee === 0n ? this.#components.admission(transaction) : 'now';
        const isLate = transaction.body.nonce < nonce || transaction.body.validUntil < height;
        if (isLate || fee > left || (admission !== 'now' && admission !== 'later')) {
          this.#remove(waiting);
          continue;
        }
        left -= fee;
        const due = admission === 'now';
        if (fee !== waiting.fee || due !== waiting.due) {
          this.#remove(waiting);
          this.#insert({ ...waiting, fee, due });
        }
      }
    }
  }

  /**
   * What has to go for a transaction of so many bytes, in the room of one that it replaces too. Throws
   * {@link TransactionRefusedError} when it has no claim to the room.
   */
  #pushedOut(
    lane: Lane,
    { signer, work }: { readonly signer: AccountId; readonly work: bigint },
    bytes: number,
    replaces: WaitingTransaction | undefined,
  ): WaitingTransaction[] {
    const { maxTransactions, maxBytes } = this.#limits.lanes[lane];
    const { waiting, bytes: taken } = this.#lanes[lane];
    const isFreed = replaces?.lane === lane;
    let excess = waiting.size + 1 - maxTransactions - (isFreed ? 1 : 0);
    let excessBytes = taken + bytes - maxBytes - (isFreed ? replaces.encoded.length : 0);
    const out: WaitingTransaction[] = [];
    if (excess <= 0 && excessBytes <= 0) return out;
    if (lane === 'registration') return [this.#leastWork(work)];
    if (lane !== 'paying') throw new TransactionRefusedError('ERR_MEMPOOL_FULL');
    const { account, length } = this.#payingLines.longest();
    const line = account === undefined ? undefined : this.#lines.get(account);
    if (line === undefined || length <= this.#payingLines.of(signer) + 1)
      throw new TransactionRefusedError('ERR_MEMPOOL_FULL');
    const last = [...line.values()].filter((other) => other.lane === 'paying').sort(byNonce);
    while ((excess > 0 || excessBytes > 0) && out.length < MAX_PUSHED_OUT) {
      const other = last.pop();
      if (other === undefined) break;
      out.push(other);
      excess -= 1;
      excessBytes -= other.encoded.length;
    }
    if (excess > 0 || excessBytes > 0) throw new TransactionRefusedError('ERR_MEMPOOL_FULL');
    return out;
  }

  /** The registration that makes room for one with more work: all are nearly as large. Throws {@link TransactionRefusedError}. */
  #leastWork(work: bigint): WaitingTransaction {
    let least: WaitingTransaction | undefined;
    for (const other of this.#lanes.registration.waiting) {
      if (least === undefined || workOf(other.transaction.body.call) < workOf(least.transaction.body.call))
        least = other;
    }
    if (least === undefined || workOf(least.transaction.body.call) >= work)
      throw new TransactionRefusedError('ERR_MEMPOOL_FULL');
    return least;
  }

  #insert(waiting: WaitingTransaction): void {
    const { signer, nonce, call } = waiting.transaction.body;
    const line = this.#lines.get(signer) ?? new Map<number, WaitingTransaction>();
    this.#lines.set(signer, line);
    line.set(nonce, waiting);
    this.#byId.set(waiting.id, waiting);
    const key = waiting.fee === 0n ? waitingKey(signer, call) : undefined;
    if (key !== undefined) this.#byKey.set(key, waiting);
    const lane = this.#lanes[waiting.lane];
    lane.waiting.add(waiting);
    lane.bytes += waiting.encoded.length;
    if (waiting.lane === 'paying') this.#payingLines.change(signer, 1);
    this.#bytes += waiting.encoded.length;
  }

  #remove(waiting: WaitingTransaction): void {
    const { signer, nonce, call } = waiting.transaction.body;
    const line = this.#lines.get(signer);
    line?.delete(nonce);
    if (line?.size === 0) this.#lines.delete(signer);
    this.#byId.delete(waiting.id);
    const key = waiting.fee === 0n ? waitingKey(signer, call) : undefined;
    if (key !== undefined) this.#byKey.delete(key);
    const lane = this.#lanes[waiting.lane];
    lane.waiting.delete(waiting);
    lane.bytes -= waiting.encoded.length;
    if (waiting.lane === 'paying') this.#payingLines.change(signer, -1);
    this.#bytes -= waiting.encoded.length;
  }
}

/** Work that a registration claims; 0 for all other calls. */
function workOf(call: Call): bigint {
  return call.tag === 'registerMiner' ? call.value.work : 0n;
}

/** True for a registration that may take the place of one with the same nonce: it is worth a quarter more. */
function outworks(call: Call, waiting: WaitingTransaction): boolean {
  const before = waiting.transaction.body.call;
  return call.tag === 'registerMiner' && before.tag === 'registerMiner' && workOf(call) * 4n > workOf(before) * 5n;
}

/** More work first; equal for everything but registrations. */
function byWork(a: WaitingTransaction, b: WaitingTransaction): number {
  const [first, second] = [workOf(a.transaction.body.call), workOf(b.transaction.body.call)];
  return first === second ? 0 : first > second ? -1 : 1;
}

function byNonce(a: WaitingTransaction, b: WaitingTransaction): number {
  return a.transaction.body.nonce - b.transaction.body.nonce;
}

/** Without those of a lane beyond the first so many. */
function atMost(ordered: readonly WaitingTransaction[], lane: Lane, most: number): readonly WaitingTransaction[] {
  let seen = 0;
  return ordered.filter((waiting) => waiting.lane !== lane || ++seen <= most);
}

/** Fees of everything in a line. */
function feesOf(line: ReadonlyMap<number, WaitingTransaction> | undefined): bigint {
  let sum = 0n;
  for (const { fee } of line?.values() ?? []) sum += fee;
  return sum;
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
