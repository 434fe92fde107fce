/**
 * Why the mempool does not take a transaction, and what that says about the peer who sent it.
 */
import { CALL_ERRORS, INCLUSION_ERRORS } from '../ledger/errors.ts';
import { Ignore, NotJudged, Reject } from '../network/interface.ts';

const REFUSALS = {
  ...INCLUSION_ERRORS,
  // What is free is taken only when the ledger would do it.
  ...CALL_ERRORS,
  ERR_MALFORMED: 'not the canonical encoding of a transaction',
  ERR_FALSE_WORK: 'the registration claims work that was not done',
  ERR_BAD_SIGNATURE: 'the signature is not the signer’s over this transaction on this network',
  ERR_DUPLICATE: 'the transaction is waiting already',
  ERR_NONCE_TAKEN: 'another transaction of the account with this nonce is waiting',
  ERR_NONCE_TOO_FAR: 'the nonce is too far ahead of the account’s next one',
  ERR_ACCOUNT_QUEUE_FULL: 'too many transactions of the account are waiting',
  ERR_CALL_WAITING: 'a call of this kind of the account is waiting for the same round',
  ERR_MEMPOOL_FULL: 'too many transactions are waiting',
  ERR_MEMPOOL_BUSY: 'too many transactions wait to be checked',
} as const;

/** Code of a refused transaction. */
export type RefusalCode = keyof typeof REFUSALS;

/** Refusals that an honest peer never causes: the sender made or passed on something forged or malformed. */
const BLAMED: ReadonlySet<RefusalCode> = new Set([
  'ERR_MALFORMED',
  'ERR_FALSE_WORK',
  'ERR_BAD_SIGNATURE',
  'ERR_TIP_NOT_SUPPORTED',
]);

/** Thrown when the mempool does not take a transaction. */
export class TransactionRefusedError extends Error {
  readonly code: RefusalCode;
  override readonly name = 'TransactionRefusedError';
  constructor(code: RefusalCode, options?: ErrorOptions) {
    super(REFUSALS[code], options);
    this.code = code;
  }

  /** True when the ledger refuses what the call asks for: another nonce or more room would not help. */
  get isOfCall(): boolean {
    return this.code in CALL_ERRORS;
  }

  /** True when the sender is to blame; otherwise it may just be late, early, or unlucky. */
  get blamesSender(): boolean {
    return BLAMED.has(this.code);
  }

  /** The same refusal as a gossip validator throws it. */
  toGossip(): Ignore | Reject {
    if (this.code === 'ERR_MEMPOOL_BUSY') return new NotJudged(this.code, this.message);
    return this.blamesSender ? new Reject(this.code, this.message) : new Ignore(this.code, this.message);
  }
}
