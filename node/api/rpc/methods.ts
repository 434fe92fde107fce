/**
 * The methods of the JSON-RPC interface: one entry each, with what it is for, what it takes, and what it does.
 * `docs/operating.md` lists them from here.
 */
import * as v from 'valibot';
import { type Json, ledgerJson } from '../../blockchain/ledger-json.ts';
import { accountFromAddress, addressOf } from '../../chain/account.ts';
import { type Block, blockId, type Header } from '../../chain/block.ts';
import { type Hash, parseHash } from '../../chain/hash.ts';
import {
  decodeTransaction,
  MAX_TRANSACTION_BYTES,
  transactionId,
  transactionSignBytes,
} from '../../chain/transaction.ts';
import { totalPower, type ValidatorSet } from '../../chain/validator-set.ts';
import { encodeLightBlock } from '../../consensus/light-client/light-block.ts';
import { encodeProof } from '../../ledger/proof.ts';
import type { LedgerState } from '../../ledger/state.ts';
import { formatCursor, parseCursor } from '../../store/event-log.ts';
import type { StoredReceipt } from '../../store/store.ts';
import type { ChainView } from './chain-view.ts';

/** What a method works with. */
export interface RpcContext {
  readonly chain: ChainView;
  /** Hands a transaction to peers; failures are made up for by the sender's next attempt. */
  publish(encoded: Uint8Array): void;
}

/** A method, ready to be called with whatever a client sent. */
export interface RpcMethod {
  /** One line for people. */
  readonly describe: string;
  /** Names of the parameters, optional ones with a question mark. */
  readonly parameters: readonly string[];
  /** Throws `ValiError` for parameters that do not fit, and the typed errors of what it calls. */
  call(context: RpcContext, params: unknown): Json | Promise<Json>;
}

/** Thrown when something that was asked for by name does not exist, or not any more. */
export class NotFoundError extends Error {
  static readonly code = 'ERR_NOT_FOUND';
  readonly code = NotFoundError.code;
  override readonly name = 'NotFoundError';
}

/** Events in one answer, unless fewer are asked for. */
export const MAX_EVENTS_PER_ANSWER = 1000;

const heightSchema = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 32 - 1));
const hashSchema = v.pipe(v.string(), v.regex(/^(0x)?[0-9a-f]{64}$/i, 'expected 32 bytes as hex'));
const hexSchema = v.pipe(
  v.string(),
  v.regex(/^(0x)?([0-9a-f]{2})*$/i, 'expected bytes as hex'),
  v.maxLength(2 + 2 * MAX_TRANSACTION_BYTES),
);

/** Bytes of hex with or without 0x. */
function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex.replace(/^0x/, ''), 'hex'));
}

function hashOf(hex: string): Hash {
  return parseHash(hex.replace(/^0x/, '').toLowerCase());
}

function method<Entries extends v.ObjectEntries>(
  describe: string,
  entries: Entries,
  run: (context: RpcContext, params: v.InferOutput<v.StrictObjectSchema<Entries, undefined>>) => Json | Promise<Json>,
): RpcMethod {
  const schema = v.strictObject(entries);
  return {
    describe,
    parameters: Object.entries(entries).map(([name, entry]) => (entry.type === 'optional' ? `${name}?` : name)),
    call: (context, params) => run(context, v.parse(schema, params ?? {})),
  };
}

function headerJson(header: Header): { readonly [name: string]: Json } {
  return { id: blockId(header), ...(ledgerJson(header) as { readonly [name: string]: Json }) };
}

function receiptJson(receipt: StoredReceipt): Json {
  const { id, height, position, signer, nonce, call, error } = receipt;
  return { id, height, position, signer: addressOf(signer), nonce, call, error: error ?? null };
}

function transactionJson(encoded: Uint8Array): Json {
  const transaction = decodeTransaction(encoded);
  const { signer, nonce, validUntil, call } = transaction.body;
  return {
    id: transactionId(transaction),
    signer: addressOf(signer),
    nonce,
    validUntil,
    call: { name: call.tag, arguments: ledgerJson(call.value) },
    bytes: encoded.length,
  };
}

function blockJson(block: Block): Json {
  return { ...headerJson(block.header), transactions: block.transactions.map(transactionJson) };
}

function validatorsJson(set: ValidatorSet): Json {
  const total = totalPower(set);
  return {
    totalPower: total.toString(),
    validators: set.map(({ account, sessionKey, power }) => ({
      address: addressOf(account),
      sessionKey,
      power: power.toString(),
      share: Number((power * 1_000_000n) / (total === 0n ? 1n : total)) / 1_000_000,
    })),
  };
}

/** Throws {@link NotFoundError} for a height whose state is not kept. */
function stateAt(chain: ChainView, height: number): LedgerState {
  const state = chain.stateAt(height);
  if (state === undefined)
    throw new NotFoundError(`the state at height ${height} is not kept here; the last block is ${chain.height}`);
  return state;
}

/** All methods by name. */
export const RPC_METHODS: Readonly<Record<string, RpcMethod>> = {
  methods: method('what can be called', {}, () =>
    Object.entries(RPC_METHODS).map(([name, { describe, parameters }]) => ({ name, describe, parameters })),
  ),

  chain: method('the network, its last block, supply and beacon', {}, ({ chain }) => {
    const { state } = chain;
    return {
      genesisHash: chain.genesisHash,
      networkId: Buffer.from(chain.networkId).toString('hex'),
      height: chain.height,
      blockId: chain.lastBlockId,
      timeMs: Number(state.timeMs),
      stateRoot: state.root,
      modelRoot: state.modelRoot,
      round: state.round.round,
      epoch: state.epoch.epoch,
      supply: ledgerJson(state.supply),
      lastEvent: formatCursor(chain.lastEvent),
    };
  }),

  account: method(
    'balance in units and nonces of an account; at a height within the window of kept states, else at the last block',
    { address: v.string(), height: v.optional(heightSchema) },
    ({ chain }, { address, height }) => {
      const account = accountFromAddress(address);
      const record = (height === undefined ? chain.state : stateAt(chain, height)).account(account);
      const { nextNonce } = chain.account(account);
      return { address: addressOf(account), ...(ledgerJson(record) as object), nextNonce };
    },
  ),

  stake: method(
    'what an account holds and has at stake, its power in the next block, and what it was slashed',
    { address: v.string() },
    ({ chain }, { address }) => {
      const account = accountFromAddress(address);
      const { state } = chain;
      const validator = state.nextValidators.find((candidate) => candidate.account === account);
      return {
        address: addressOf(account),
        holdings: ledgerJson(state.holdings(account)),
        stake: ledgerJson(state.stake(account)),
        slashes: ledgerJson(state.slashes(account)),
        power: validator?.power.toString() ?? null,
      };
    },
  ),

  submit: method(
    'hand in a signed transaction, SCALE as hex; answers with its id at once, see `transaction` for what became of it',
    { transaction: hexSchema },
    async ({ chain, publish }, { transaction }) => {
      const encoded = bytesOf(transaction);
      const id = await chain.submit(encoded);
      publish(encoded);
      return { id };
    },
  ),

  signBytes: method(
    'the bytes that an account signs for a transaction body (SCALE as hex), for wallets: signRaw them, then `submit`',
    { body: hexSchema },
    ({ chain }, { body }) => {
      // A body is read by reading the transaction that it would make.
      const { body: decoded } = decodeTransaction(Buffer.concat([bytesOf(body), new Uint8Array(64)]));
      return { bytes: Buffer.from(transactionSignBytes(chain.networkId, decoded)).toString('hex') };
    },
  ),

  transaction: method('what became of a transaction', { id: hashSchema }, async ({ chain }, { id }) => {
    const hash = hashOf(id);
    const receipt = chain.receipt(hash);
    if (receipt === undefined) return { status: chain.isWaiting(hash) ? 'waiting' : 'unknown', receipt: null };
    return { status: receipt.error === undefined ? 'done' : 'refused', receipt: receiptJson(receipt) };
  }),

  block: method(
    'a block with its transactions, by height or id; the last one without either',
    { height: v.optional(heightSchema), id: v.optional(hashSchema) },
    async ({ chain }, { height, id }) => {
      const wanted = id === undefined ? (height ?? chain.height) : chain.heightOf(hashOf(id));
      const found = wanted === undefined ? undefined : await chain.finalized(wanted);
      if (found === undefined) throw new NotFoundError(`no block ${id ?? wanted}; the last one is ${chain.height}`);
      const { height: at, round, signatures } = found.commit;
      return {
        ...(blockJson(found.block) as object),
        receipts: chain.receiptsAt(at).map(receiptJson),
        commit: { round, signers: signatures.map(({ validator }) => addressOf(validator)) },
      };
    },
  ),

  validators: method(
    'who decides the block at a height, with voting power; the next block without one',
    { height: v.optional(heightSchema) },
    ({ chain }, { height }) => {
      const at = height ?? chain.height + 1;
      const set = chain.validators(at);
      if (set === undefined) throw new NotFoundError(`the validators of height ${at} are not known here`);
      return { height: at, ...(validatorsJson(set) as object) };
    },
  ),

  parameters: method('the governed values in force', {}, ({ chain }) => ledgerJson(chain.state.parameters)),

  proof: method(
    'proof of what the state holds, or does not hold, under a key such as account/<public key>; at a height within the window of kept states, else at the last block',
    { key: v.pipe(v.string(), v.maxLength(256)), height: v.optional(heightSchema) },
    ({ chain }, { key, height = chain.height }) => {
      const state = stateAt(chain, height);
      const value = state.tree.get(key);
      return {
        height,
        stateRoot: state.root,
        value: value === undefined ? null : Buffer.from(value).toString('hex'),
        proof: Buffer.from(encodeProof(state.prove({ key }))).toString('hex'),
      };
    },
  ),

  lightBlock: method(
    'a header with its commit and the two validator sets that it names (SCALE as hex), for light clients; the last one without a height',
    { height: v.optional(heightSchema) },
    ({ chain }, { height = chain.height }) => {
      const found = chain.lightBlock(height);
      if (found === undefined) throw new NotFoundError(`no block ${height} here; the last one is ${chain.height}`);
      const { header } = found;
      return { height, id: blockId(header), lightBlock: Buffer.from(encodeLightBlock(found)).toString('hex') };
    },
  ),

  events: method(
    'what blocks did, in order; `cursor` of the last one goes into `after` of the next call',
    {
      types: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(64))), v.maxLength(64))),
      after: v.optional(v.string()),
      limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_EVENTS_PER_ANSWER)), 100),
    },
    ({ chain }, { types, after, limit }) => {
      const found = chain.events({
        limit,
        ...(types === undefined ? {} : { types }),
        ...(after === undefined ? {} : { after: parseCursor(after) }),
      });
      const last = found.at(-1);
      return {
        events: found.map((event) => ({ cursor: formatCursor(event), ...(JSON.parse(event.body) as object) })),
        cursor: last === undefined ? (after ?? formatCursor(chain.lastEvent)) : formatCursor(last),
      };
    },
  ),
};
