/** Real signed transactions of a given size, and what it costs to verify one. */
import { ZERO_HASH } from '../../node/chain/hash.ts';
import { encodeTransaction, transactionId, transactionSignBytes } from '../../node/chain/transaction.ts';
import { accountSigner, verifyAccount } from '../../node/identity/signatures.ts';

/** Transactions that are verified to learn what it costs. */
const MEASURED = 200;

/** Transactions of one size, in wire form. */
export interface TransactionSupply {
  readonly bytes: number;
  readonly transactions: readonly { readonly id: ReturnType<typeof transactionId>; readonly encoded: Uint8Array }[];
  /** Processor time to verify one, in ms: the mean over the first {@link MEASURED}. */
  readonly verifyMs: number;
}

/** Makes `count` transactions of `bytes` bytes by one account; their free text is as long as the size wants it. */
export function makeTransactions(networkId: Uint8Array, bytes: number, count: number): TransactionSupply {
  const signer = accountSigner(new Uint8Array(32).fill(7));
  const make = (nonce: number, padding: number) => {
    const call = {
      tag: 'attestModel' as const,
      value: { round: 1, modelRoot: ZERO_HASH, checkpoint: 'x'.repeat(padding) },
    };
    const body = { version: 1, signer: signer.account, nonce, validUntil: 1000, tip: 0, call };
    const message = transactionSignBytes(networkId, body);
    const transaction = { body, signature: signer.sign(message) };
    return { id: transactionId(transaction), encoded: encodeTransaction(transaction), message, transaction };
  };
  // The length prefix of the text grows with it.
  let padding = bytes - make(0, 0).encoded.length;
  while (make(0, padding).encoded.length > bytes) padding -= 1;
  const made = Array.from({ length: count }, (_, nonce) => make(nonce, padding));
  // Taken together: some systems count a thread's processor time in ticks that are longer than one verification.
  const measured = made.slice(0, MEASURED);
  const before = process.threadCpuUsage();
  for (const { message, transaction } of measured)
    if (!verifyAccount(signer.account, message, transaction.signature)) throw new Error('a signature does not verify');
  const { user, system } = process.threadCpuUsage(before);
  return { bytes, transactions: made, verifyMs: (user + system) / 1000 / measured.length };
}
