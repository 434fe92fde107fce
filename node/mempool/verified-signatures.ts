/**
 * Remembers which transactions have a valid signature, so that none is checked twice (an sr25519 check takes 2 ms).
 */
import { createHash } from 'node:crypto';
import { type Transaction, transactionSignBytes } from '../chain/transaction.ts';
import { verifyAccount } from '../identity/signatures.ts';

/** Checks signatures of transactions for one network. Keeps the last `capacity` that were valid; drops the oldest. */
export class VerifiedSignatures {
  readonly #networkId: Uint8Array;
  readonly #capacity: number;
  readonly #known = new Set<string>();

  constructor(networkId: Uint8Array, capacity: number) {
    this.#networkId = networkId;
    this.#capacity = capacity;
  }

  /** By all bytes: the id leaves the signature out, so it says nothing about another signature's validity. */
  #key(encoded: Uint8Array): string {
    return createHash('sha256').update(encoded).digest('base64');
  }

  /** True when this transaction was verified before and is still remembered. `encoded`: its wire form. */
  has(encoded: Uint8Array): boolean {
    return this.#known.has(this.#key(encoded));
  }

  /** True when the signature is the signer's over this transaction on this network, as it is or as a wallet's `signRaw` wraps it.
   * Never throws. */
  verify(transaction: Transaction, encoded: Uint8Array): boolean {
    const key = this.#key(encoded);
    if (this.#known.has(key)) return true;
    const { body, signature } = transaction;
    const message = transactionSignBytes(this.#networkId, body);
    if (!verifyAccount(body.signer, message, signature) && !verifyAccount(body.signer, wrapped(message), signature))
      return false;
    if (this.#known.size >= this.#capacity) {
      for (const oldest of this.#known) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.add(key);
    return true;
  }
}

/** What a wallet signs when it is handed raw bytes: it puts them between these tags, so that they are no transaction of another chain. */
function wrapped(message: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from('<Bytes>'), message, Buffer.from('</Bytes>')]);
}
