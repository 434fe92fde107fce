/**
 * Sends an account's transactions: builds, signs, numbers and submits them, and submits again what got lost, until a
 * finalized block holds them or they expire.
 */
import type { AccountId } from '../chain/account.ts';
import type { Hash } from '../chain/hash.ts';
import {
  type Call,
  encodeTransaction,
  TRANSACTION_VERSION,
  type TransactionBody,
  transactionId,
  transactionSignBytes,
} from '../chain/transaction.ts';
import type { AccountSigner } from '../identity/signatures.ts';
import { isDuty } from '../ledger/fees.ts';
import { type RefusalCode, TransactionRefusedError } from '../mempool/errors.ts';
import type { StoredReceipt } from '../store/store.ts';

/** Blocks in which a transaction has to be included, unless told otherwise. */
export const DEFAULT_LIFETIME_BLOCKS = 100;

/** Blocks after which a transaction that is not included is published again: gossip forgets. */
const REPUBLISH_BLOCKS = 3;

/** Thrown when a transaction was not included in time. It cannot be included any more. */
export class TransactionExpiredError extends Error {
  static readonly code = 'ERR_TRANSACTION_EXPIRED';
  readonly code = TransactionExpiredError.code;
  override readonly name = 'TransactionExpiredError';
}

/** The part of a blockchain that a sender needs. */
export interface SenderChain {
  readonly height: number;
  readonly networkId: Uint8Array;
  /** `nonce` by the last block, and the first one that no waiting transaction has. */
  account(account: AccountId): { readonly nonce: number; readonly nextNonce: number };
  submit(encoded: Uint8Array): Promise<Hash>;
  isWaiting(id: Hash): boolean;
  receipt(id: Hash): StoredReceipt | undefined;
  onBlock(listener: () => void): () => void;
}

/** What a sender works with. */
export interface TransactionSenderComponents {
  readonly chain: SenderChain;
  readonly signer: AccountSigner;
  /** Hands a transaction to peers. May be called again for the same one; failures are made up for by a later call. */
  publish(encoded: Uint8Array): Promise<void>;
}

/** Options of {@link TransactionSender.send}. */
export interface SendOptions {
  readonly signal?: AbortSignal;
  /** Blocks from now in which the transaction has to be included. */
  readonly lifetimeBlocks?: number;
}

/** What the mempool says when there is no room at the moment. */
const NO_ROOM: ReadonlySet<RefusalCode> = new Set([
  'ERR_ACCOUNT_QUEUE_FULL',
  'ERR_CALL_WAITING',
  'ERR_MEMPOOL_FULL',
  'ERR_MEMPOOL_BUSY',
  'ERR_NONCE_TOO_FAR',
]);

/** See the file comment. One per account and process; calls may overlap and then keep their order of nonces. */
export class TransactionSender {
  readonly #components: TransactionSenderComponents;
  /** Nonces of transactions on their way. */
  readonly #taken = new Set<number>();

  constructor(components: TransactionSenderComponents) {
    this.#components = components;
  }

  /** The account whose transactions these are. */
  get account(): AccountId {
    return this.#components.signer.account;
  }

  /**
   * Sends a call and resolves with its receipt once a finalized block holds it; `receipt.error` says whether the ledger
   * refused one that pays. Throws {@link TransactionExpiredError}; `TransactionRefusedError` for a transaction that can
   * never be taken, or a free one whose call the ledger refuses, at once or by now (its round is over, say): it is in no
   * block, and its nonce is free again; or the signal's reason. After an abort, and after a refusal of what waited, the
   * transaction may still be included.
   */
  async send(call: Call, options: SendOptions = {}): Promise<StoredReceipt> {
    const { chain } = this.#components;
    const { signal } = options;
    signal?.throwIfAborted();
    const validUntil = chain.height + (options.lifetimeBlocks ?? DEFAULT_LIFETIME_BLOCKS);
    using blocks = new BlockWaiter(chain, signal);
    for (;;) {
      const outcome = await this.#attempt(call, validUntil, blocks);
      if (outcome !== undefined) return outcome;
    }
  }

  /** One nonce's worth of trying: the receipt, or undefined when the nonce went to another transaction. */
  async #attempt(call: Call, validUntil: number, blocks: BlockWaiter): Promise<StoredReceipt | undefined> {
    const { chain, signer } = this.#components;
    const nonce = await this.#submitNext(call, validUntil, blocks);
    const { encoded, id } = nonce;
    try {
      let republishAt = chain.height + REPUBLISH_BLOCKS;
      this.#publish(encoded);
      for (;;) {
        const receipt = chain.receipt(id);
        if (receipt !== undefined) return receipt;
        if (chain.account(signer.account).nonce > nonce.nonce) return undefined;
        if (chain.height >= validUntil) {
          throw new TransactionExpiredError(`${call.tag} was not included by height ${validUntil}`);
        }
        if (this.#isBehindGap(call, nonce.nonce)) return undefined;
        if (!chain.isWaiting(id)) await this.#submitAgain(encoded);
        if (chain.height >= republishAt) {
          republishAt = chain.height + REPUBLISH_BLOCKS;
          // Signed anew: gossip passes equal bytes on only once, and signatures are randomized. The id stays the same.
          this.#publish(this.#build(call, nonce.nonce, validUntil).encoded);
        }
        await blocks.next();
      }
    } finally {
      this.#taken.delete(nonce.nonce);
    }
  }

  /** Builds and submits a transaction with the first free nonce, waiting while there is no room. */
  async #submitNext(
    call: Call,
    validUntil: number,
    blocks: BlockWaiter,
  ): Promise<{ nonce: number; encoded: Uint8Array; id: Hash }> {
    const { chain, signer } = this.#components;
    let least = 0;
    for (;;) {
      let nonce = Math.max(chain.account(signer.account).nonce, least);
      while (this.#taken.has(nonce)) nonce += 1;
      const { encoded, id } = this.#build(call, nonce, validUntil);
      this.#taken.add(nonce);
      try {
        await chain.submit(encoded);
        return { nonce, encoded, id };
      } catch (error) {
        if (error instanceof TransactionRefusedError && error.code === 'ERR_DUPLICATE') return { nonce, encoded, id };
        this.#taken.delete(nonce);
        if (!(error instanceof TransactionRefusedError)) throw error;
        if (error.code === 'ERR_NONCE_TAKEN') {
          // Waiting already: sent before a restart, or by another process with this key.
          least = nonce + 1;
        } else if (NO_ROOM.has(error.code) && chain.height < validUntil) {
          least = 0;
          await blocks.next();
        } else if (error.code === 'ERR_EXPIRED' || NO_ROOM.has(error.code)) {
          throw new TransactionExpiredError(`${call.tag} was not included by height ${validUntil}`, { cause: error });
        } else if (error.code !== 'ERR_NONCE_TOO_LOW') {
          throw error;
        }
      }
    }
  }

  /** Does not wait: a slow or failing network is made up for by publishing again. */
  #publish(encoded: Uint8Array): void {
    const attempt = async () => this.#components.publish(encoded);
    attempt().catch(() => {});
  }

  /**
   * True when a nonce before that one became free, so that nothing after it can be included. Only a duty is numbered anew:
   * it cannot be done twice, while something that pays could then be in two blocks, under both of its numbers.
   */
  #isBehindGap(call: Call, nonce: number): boolean {
    const { nextNonce } = this.#components.chain.account(this.account);
    return isDuty(call.tag) && nextNonce < nonce && !this.#taken.has(nextNonce);
  }

  /** Throws `TransactionRefusedError` when the ledger refuses the call by now. */
  async #submitAgain(encoded: Uint8Array): Promise<void> {
    try {
      await this.#components.chain.submit(encoded);
    } catch (error) {
      // No room now, or overtaken: the next block tells.
      if (!(error instanceof TransactionRefusedError) || error.isOfCall) throw error;
    }
  }

  #build(call: Call, nonce: number, validUntil: number): { encoded: Uint8Array; id: Hash } {
    const { chain, signer } = this.#components;
    const body: TransactionBody = {
      version: TRANSACTION_VERSION,
      signer: signer.account,
      nonce,
      validUntil,
      tip: 0,
      call,
    };
    const transaction = { body, signature: signer.sign(transactionSignBytes(chain.networkId, body)) };
    return { encoded: encodeTransaction(transaction), id: transactionId(transaction) };
  }
}

/** Waits for blocks without missing one that comes between two waits. */
class BlockWaiter implements Disposable {
  readonly #signal: AbortSignal | undefined;
  readonly #stop: () => void;
  #arrived = Promise.withResolvers<void>();

  constructor(chain: SenderChain, signal: AbortSignal | undefined) {
    this.#signal = signal;
    const unsubscribe = chain.onBlock(() => this.#arrived.resolve());
    const onAbort = () => this.#arrived.resolve();
    signal?.addEventListener('abort', onAbort);
    this.#stop = () => {
      unsubscribe();
      signal?.removeEventListener('abort', onAbort);
    };
  }

  /** Resolves once a block came since the last call. Throws the signal's reason. */
  async next(): Promise<void> {
    this.#signal?.throwIfAborted();
    await this.#arrived.promise;
    this.#arrived = Promise.withResolvers<void>();
    this.#signal?.throwIfAborted();
  }

  [Symbol.dispose](): void {
    this.#stop();
  }
}
