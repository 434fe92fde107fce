/**
 * Sends a call through somebody's node: signs here, hands it in there, and waits until a finalized block holds it. The
 * node sees no secret, and does not say what is signed: the network is the caller's. What a node that lies can do is in
 * `docs/operating.md`: refuse, delay, or say that nothing happened when it did.
 */
import { setTimeout as pause } from 'node:timers/promises';
import * as v from 'valibot';
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
  /** 8-byte id of the network to sign for, from a network file. Never what the node says. */
  readonly networkId: Uint8Array;
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

/** Thrown, before anything is signed, when the node is one of another network. */
export class OtherNetworkError extends Error {
  static readonly code = 'ERR_OTHER_NETWORK';
  readonly code = OtherNetworkError.code;
  override readonly name = 'OtherNetworkError';
}

/** Thrown when a node's answer is none that a node of Alice gives. */
export class UnusableAnswerError extends Error {
  static readonly code = 'ERR_UNUSABLE_ANSWER';
  readonly code = UnusableAnswerError.code;
  override readonly name = 'UnusableAnswerError';
}

/** What is about to be signed, for people. */
export interface SigningSummary {
  readonly call: Call;
  readonly nonce: number;
  readonly validUntil: number;
}

const u32Schema = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1));
const chainSchema = v.object({ height: u32Schema, networkId: v.pipe(v.string(), v.regex(/^(0x)?[0-9a-f]{16}$/i)) });
const accountSchema = v.object({ nextNonce: u32Schema });

/** An answer in its shape. Throws {@link UnusableAnswerError}. */
function read<T>(schema: v.GenericSchema<unknown, T>, answer: unknown, what: string): T {
  const result = v.safeParse(schema, answer);
  if (!result.success) throw new UnusableAnswerError(`the node's answer is no ${what}`);
  return result.output;
}

interface TransactionAnswer {
  readonly status: 'waiting' | 'unknown' | 'done' | 'refused';
  readonly receipt: { readonly height: number; readonly error: string | null } | null;
}

/**
 * See the file comment. `onSubmitted` is told the id as soon as the node has the transaction. Throws
 * {@link OtherNetworkError}, {@link RemoteTransactionExpiredError}, `CallRejectedError` for what the mempool refuses, `NodeUnreachableError`, or the
 * signal's reason; after an abort the transaction may still be included.
 */
export async function sendThroughNode(
  send: RemoteSend,
  options: {
    readonly signal?: AbortSignal;
    readonly onSigning?: (summary: SigningSummary) => void;
    readonly onSubmitted?: (id: Hash) => void;
  } = {},
): Promise<RemoteReceipt> {
  const { signal } = options;
  const { endpoint, call } = send;
  const { encoded, id, validUntil } = await submit(send, options);
  options.onSubmitted?.(id);
  for (;;) {
    const { status, receipt } = await callNode<TransactionAnswer>(endpoint, 'transaction', { id }, { signal });
    if (receipt !== null) return { id, height: receipt.height, error: receipt.error };
    if (status === 'unknown') {
      const { height } = read(chainSchema, await callNode(endpoint, 'chain', {}, { signal }), 'chain');
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
  { endpoint, signer, call, networkId, lifetimeBlocks }: RemoteSend,
  { signal, onSigning }: { readonly signal?: AbortSignal; readonly onSigning?: (summary: SigningSummary) => void },
): Promise<{ encoded: Uint8Array; id: Hash; validUntil: number }> {
  const chain = read(chainSchema, await callNode(endpoint, 'chain', {}, { signal }), 'chain');
  const wanted = Buffer.from(networkId).toString('hex');
  const asked = chain.networkId.replace(/^0x/, '').toLowerCase();
  if (asked !== wanted)
    throw new OtherNetworkError(
      `the node at ${endpoint.api} is of network ${asked}, the network file is of ${wanted}: nothing was signed`,
    );
  const validUntil = chain.height + lifetimeBlocks;
  for (let attempt = 1; ; attempt++) {
    const address = addressOf(signer.account);
    const account = await callNode(endpoint, 'account', { address }, { signal });
    const { nextNonce } = read(accountSchema, account, 'account');
    onSigning?.({ call, nonce: nextNonce, validUntil });
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
