/**
 * Remembers which transactions have a valid signature, so that none is checked twice (an sr25519 check takes 0.25 ms).
 */
import { createHash } from 'node:crypto';
import { accountPublicKey } from '../chain/account.ts';
import { type Transaction, transactionSignBytes } from '../chain/transaction.ts';
import type { SignatureCheck, SignatureVerifier, Urgency } from '../signature-checks/verifier.ts';

/** A decoded transaction and its wire form. */
export interface EncodedTransaction {
  readonly transaction: Transaction;
  readonly encoded: Uint8Array;
}

/** Checks signatures of transactions for one network. Keeps the last `capacity` that were valid; drops the oldest. */
export class VerifiedSignatures {
  readonly #networkId: Uint8Array;
  readonly #capacity: number;
  readonly #verifier: SignatureVerifier;
  readonly #known = new Set<string>();

  constructor(networkId: Uint8Array, capacity: number, verifier: SignatureVerifier) {
    this.#networkId = networkId;
    this.#capacity = capacity;
    this.#verifier = verifier;
  }

  /**
   * Whether each signature is the signer's over its transaction on this network, as it is or as a wallet's `signRaw` wraps
   * it. Throws what the verifier throws when it does not come to it.
   */
  async verify(transactions: readonly EncodedTransaction[], urgency: Urgency): Promise<readonly boolean[]> {
    const items = transactions.map((item) => ({ ...item, key: keyOf(item.encoded) }));
    const unknown = items.filter(({ key }) => !this.#known.has(key));
    if (unknown.length === 0) return items.map(() => true);
    const results = await this.#verifier.verify(unknown.map(this.#check), urgency);
    const wrong = new Set<string>();
    for (const [index, { key }] of unknown.entries()) {
      if (results[index] === true) this.#remember(key);
      else wrong.add(key);
    }
    return items.map(({ key }) => !wrong.has(key));
  }

  readonly #check = ({ transaction: { body, signature } }: EncodedTransaction): SignatureCheck => {
    const message = transactionSignBytes(this.#networkId, body);
    return {
      kind: 'signature',
      publicKey: accountPublicKey(body.signer),
      messages: [message, wrapped(message)],
      signature,
    };
  };

  #remember(key: string): void {
    if (this.#known.size >= this.#capacity) {
      for (const oldest of this.#known) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.add(key);
  }
}

/** By all bytes: the id leaves the signature out, so it says nothing about another signature's validity. */
function keyOf(encoded: Uint8Array): string {
  return createHash('sha256').update(encoded).digest('base64');
}

/** What a wallet signs when it is handed raw bytes: it puts them between these tags, so that they are no transaction of another chain. */
function wrapped(message: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from('<Bytes>'), message, Buffer.from('</Bytes>')]);
}
