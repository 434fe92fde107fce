/**
 * Sends a call through somebody's node: signs here, hands it in there, and waits until a finalized block holds it. The
 * node sees no secret.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { addressOf } from '../chain/account.ts';
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
import { CALL_ERRORS } from '../ledger/errors.ts';
import { CallRejectedError, callNode, type Endpoint } from './client.ts';

/** How often a node is asked what became of a transaction: a fraction of a block. */
const POLL_MS = 250;

/** Nonces that are tried when another program sends for the same account at the same time. */
const MAX_NONCE_ATTEMPTS = 5;

/** Refusals that another nonce cures. */
const NONCE_REFUSALS: ReadonlySet<string> = new Set(['ERR_NONCE_TOO_LOW', 'ERR_NONCE_TAKEN']);

/** What to send, and through whom. */
export interface RemoteSend {
  readonly endpoint: Pick<Endpoint, 'api'>;
  readonly signer: AccountSigner;
  readonly call: Call;
  /** Blocks from now in which it has to be included. */
  readonly lifetimeBlocks: number;
}

/** Where a transaction ended up. */
export interface RemoteReceipt {
  readonly id: Hash;
  readonly height: number;
  /** Code of the ledger's refusal; null when it did what it asked for. */
  readonly error: string | null;
}

/** Thrown when a transaction was not included in time. It cannot be included any more. */
export class RemoteTransactionExpiredError extends Error {
  static readonly code = 'ERR_TRANSACTION_EXPIRED';
  readonly code = RemoteTransactionExpiredError.code;
  override readonly name = 'RemoteTransactionExpiredError';
}

interface ChainAnswer {
  readonly height: number;
  readonly networkId: string;
}

interface TransactionAnswer {
  readonly status: 'waiting' | 'unknown' | 'done' | 'refused';
  readonly receipt: { readonly height: number; readonly error: string | null } | null;
}

/**
 * See the file comment. `onSubmitted` is told the id as soon as the node has the transaction. Throws
 * {@link RemoteTransactionExpiredError}, `CallRejectedError` for what the mempool refuses, `NodeUnreachableError`, or the
 * signal's reason; after an abort the transaction may still be included.
 */
export async function sendThroughNode(
  send: RemoteSend,
  options: { readonly signal?: AbortSignal; readonly onSubmitted?: (id: Hash) => void } = {},
): Promise<RemoteReceipt> {
  const { signal } = options;
  const { endpoint, call } = send;
  const { encoded, id, validUntil } = await submit(send, signal);
  options.onSubmitted?.(id);
  for (;;) {
    const { status, receipt } = await callNode<TransactionAnswer>(endpoint, 'transaction', { id }, { signal });
    if (receipt !== null) return { id, height: receipt.height, error: receipt.error };
    if (status === 'unknown') {
      const { height } = await callNode<ChainAnswer>(endpoint, 'chain', {}, { signal });
      if (height >= validUntil)
        throw new RemoteTransactionExpiredError(`${call.tag} was not included by height ${validUntil}: send it again`);
      const refused = await submitAgain(endpoint, encoded, signal);
      if (refused !== undefined && isFinal(refused)) {
        // It may have got into a block between the two questions.
        const again = await callNode<TransactionAnswer>(endpoint, 'transaction', { id }, { signal });
        if (again.receipt === null) throw refused;
      }
    }
    await pause(POLL_MS, undefined, { signal });
  }
}

async function submit(
  { endpoint, signer, call, lifetimeBlocks }: RemoteSend,
  signal: AbortSignal | undefined,
): Promise<{ encoded: Uint8Array; id: Hash; validUntil: number }> {
  const chain = await callNode<ChainAnswer>(endpoint, 'chain', {}, { signal });
  const networkId = new Uint8Array(Buffer.from(chain.networkId, 'hex'));
  const validUntil = chain.height + lifetimeBlocks;
  for (let attempt = 1; ; attempt++) {
    const address = addressOf(signer.account);
    const { nextNonce } = await callNode<{ nextNonce: number }>(endpoint, 'account', { address }, { signal });
    const body: TransactionBody = {
      version: TRANSACTION_VERSION,
      signer: signer.account,
      nonce: nextNonce,
      validUntil,
      tip: 0,
      call,
    };
    const transaction = { body, signature: signer.sign(transactionSignBytes(networkId, body)) };
    const encoded = encodeTransaction(transaction);
    try {
      await callNode(endpoint, 'submit', { transaction: Buffer.from(encoded).toString('hex') }, { signal });
      return { encoded, id: transactionId(transaction), validUntil };
    } catch (error) {
      const again = error instanceof CallRejectedError && NONCE_REFUSALS.has(error.code);
      if (!again || attempt >= MAX_NONCE_ATTEMPTS) throw error;
    }
  }
}

/**
 * The node forgot it, or never passed it on: handed in anew. Returns the refusal where there is one; most say only that
 * the next answer tells.
 */
async function submitAgain(
  endpoint: Pick<Endpoint, 'api'>,
  encoded: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<CallRejectedError | undefined> {
  try {
    await callNode(endpoint, 'submit', { transaction: Buffer.from(encoded).toString('hex') }, { signal });
    return undefined;
  } catch (error) {
    if (!(error instanceof CallRejectedError)) throw error;
    return error;
  }
}

/** True when this transaction can be in no block: another one took its nonce, or it is free and the ledger refuses its call. */
function isFinal({ code }: CallRejectedError): boolean {
  return code === 'ERR_NONCE_TOO_LOW' || code in CALL_ERRORS;
}
