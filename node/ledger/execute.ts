/**
 * The state transition: one block of transactions on a state gives the next state. Pure: equal inputs give equal
 * results on every machine.
 */
import type { AccountId } from '../chain/account.ts';
import { SUPPLY_CAP } from '../chain/amount.ts';
import type { EquivocationEvidence } from '../chain/evidence.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import { TRANSACTION_VERSION, type Transaction } from '../chain/transaction.ts';
import {
  ACCOUNT_PREFIX,
  type AccountRecord,
  advanceNonce,
  readAccount,
  SUPPLY,
  type Supply,
  transfer,
} from './accounts.ts';
import { Draft, need } from './draft.ts';
import {
  type CallErrorCode,
  CallRefusedError,
  ConservationError,
  INCLUSION_ERRORS,
  type InclusionErrorCode,
  InvalidBlockError,
} from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { CHAIN } from './parameters.ts';
import { registerMiner } from './registry.ts';
import { advanceRound } from './round-clock.ts';
import { ROUND } from './round-records.ts';
import { attestModel, commitScores, commitSubmission, revealScores, revealSubmission } from './rounds.ts';
import { LedgerState } from './state.ts';
import { VALIDATORS } from './validators.ts';

/** A transaction may name a last height at most this far away. */
export const MAX_VALIDITY_BLOCKS = 65_536;

/** A decoded transaction with its id. Its signature was checked by the caller. */
export interface SignedTransaction {
  readonly id: Hash;
  readonly transaction: Transaction;
}

/** What the ledger needs to know of a block. */
export interface BlockInput {
  readonly height: number;
  readonly timeMs: bigint;
  readonly beacon: Hash;
  readonly proposer: AccountId;
  readonly transactions: readonly SignedTransaction[];
  /** Evidence that the block commits. The caller verified it, or the block is final. */
  readonly evidence?: readonly EquivocationEvidence[];
}

/** What became of one transaction. `error` is undefined when it did what it asked for. */
export interface Receipt {
  readonly id: Hash;
  readonly signer: AccountId;
  readonly nonce: number;
  readonly call: Transaction['body']['call']['tag'];
  readonly error: CallErrorCode | undefined;
}

/** What became of a block. */
export interface ExecutedBlock {
  readonly state: LedgerState;
  /** In the order of the transactions. */
  readonly receipts: readonly Receipt[];
  readonly events: readonly LedgerEvent[];
  /** Encoded state entries that changed, or were removed (`undefined`), by key. */
  readonly changes: ReadonlyMap<string, Uint8Array | undefined>;
}

/**
 * Why a transaction may not be in the block at `height`, apart from its signature; undefined when it may. `nonce` is
 * the account's next one and `included` how many of its transactions the block has already.
 */
export function inclusionError(
  transaction: Transaction,
  at: { readonly height: number; readonly nonce: number; readonly included: number },
  parameters: Parameters,
): InclusionErrorCode | undefined {
  const { version, tip, validUntil, nonce } = transaction.body;
  if (version !== TRANSACTION_VERSION) return 'ERR_UNSUPPORTED_VERSION';
  if (tip !== 0) return 'ERR_TIP_NOT_SUPPORTED';
  if (validUntil < at.height) return 'ERR_EXPIRED';
  if (validUntil > at.height + MAX_VALIDITY_BLOCKS) return 'ERR_VALID_TOO_LONG';
  if (nonce < at.nonce) return 'ERR_NONCE_TOO_LOW';
  if (nonce > at.nonce) return 'ERR_NONCE_GAP';
  if (at.included >= parameters.economics.transactionsPerAccountPerBlock) return 'ERR_ACCOUNT_LIMIT';
  return undefined;
}

/**
 * Executes a block. Throws {@link InvalidBlockError} when the block breaks a rule that its proposer had to keep, and
 * {@link ConservationError} when this program is wrong.
 */
export function executeBlock(state: LedgerState, input: BlockInput): ExecutedBlock {
  const { chain, parameters } = state;
  if (input.height !== chain.height + 1) {
    throw new InvalidBlockError(`the block has height ${input.height}, the state is at ${chain.height}`);
  }
  if (input.timeMs <= chain.timeMs) {
    throw new InvalidBlockError(`block time ${input.timeMs} is not after ${chain.timeMs}`);
  }
  const { maxTransactionsPerBlock } = parameters.consensus;
  if (input.transactions.length > maxTransactionsPerBlock) {
    throw new InvalidBlockError(
      `${input.transactions.length} transactions, at most ${maxTransactionsPerBlock} allowed`,
    );
  }

  const draft = new Draft(state);
  const receipts: Receipt[] = [];
  const events: LedgerEvent[] = [];
  const included = new Map<AccountId, number>();
  for (const { id, transaction } of input.transactions) {
    const { signer, nonce, call } = transaction.body;
    const before = included.get(signer) ?? 0;
    const at = { height: input.height, nonce: readAccount(draft, signer).nonce, included: before };
    const refused = inclusionError(transaction, at, parameters);
    if (refused !== undefined) throw new InvalidBlockError(`transaction ${id}: ${INCLUSION_ERRORS[refused]}`);
    included.set(signer, before + 1);
    advanceNonce(draft, signer);
    receipts.push({ id, signer, nonce, call: call.tag, error: tryCall(draft, transaction, input, parameters, events) });
  }

  const { next, afterNext } = need(draft, VALIDATORS);
  events.push(...advanceRound(draft, input, parameters));
  if (next !== afterNext) draft.set(VALIDATORS, { next: afterNext, afterNext });
  draft.set(CHAIN, { ...chain, height: input.height, timeMs: input.timeMs });
  assertConservation(state, draft);
  const changes = draft.changes();
  for (const [key, value] of changes) if (sameBytes(state.tree.get(key), value)) changes.delete(key);
  return { state: new LedgerState(state.tree.with(changes)), receipts, events, changes };
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}

/** Carries out a call in a draft of its own, so that a refused one leaves nothing behind. */
function tryCall(
  draft: Draft,
  transaction: Transaction,
  input: BlockInput,
  parameters: Parameters,
  events: LedgerEvent[],
): CallErrorCode | undefined {
  const attempt = new Draft(draft);
  try {
    const happened = carryOut(attempt, transaction, input, parameters);
    draft.merge(attempt);
    events.push(...happened);
    return undefined;
  } catch (error) {
    if (error instanceof CallRefusedError) return error.code;
    throw error;
  }
}

function carryOut(
  draft: Draft,
  transaction: Transaction,
  input: BlockInput,
  parameters: Parameters,
): readonly LedgerEvent[] {
  const { signer, call } = transaction.body;
  switch (call.tag) {
    case 'transfer':
      return transfer(draft, signer, call.value.to, call.value.amount);
    case 'registerMiner': {
      const { round } = need(draft, ROUND);
      return registerMiner(draft, signer, call.value.device, { height: input.height, timeMs: input.timeMs, round });
    }
    case 'commitSubmission':
      commitSubmission(draft, signer, call.value, parameters);
      return [];
    case 'revealSubmission':
      revealSubmission(draft, signer, call.value);
      return [];
    case 'commitScores':
      commitScores(draft, signer, call.value);
      return [];
    case 'revealScores':
      revealScores(draft, signer, call.value);
      return [];
    case 'attestModel':
      attestModel(draft, signer, call.value, parameters);
      return [];
  }
}

/**
 * Checks that balances and pots changed by exactly what was issued, from the records that the block touched, whatever
 * code touched them. With the same at every block before, their sum is the total issuance.
 */
function assertConservation(before: LedgerState, draft: Draft): void {
  const oldSupply = before.supply;
  const supply: Supply = need(draft, SUPPLY);
  let difference = supply.infrastructurePot - oldSupply.infrastructurePot;
  for (const { record, value } of draft.touched()) {
    if (!record.key.startsWith(ACCOUNT_PREFIX)) continue;
    const balance = (value as AccountRecord | undefined)?.balance ?? 0n;
    if (balance < 0n) throw new ConservationError(`${record.key} would have ${balance} units`);
    difference += balance - ((before.get(record) as AccountRecord | undefined)?.balance ?? 0n);
  }
  const issued = supply.totalIssuance - oldSupply.totalIssuance;
  if (difference !== issued) {
    throw new ConservationError(`balances and pots grew by ${difference} units, ${issued} were issued`);
  }
  if (issued < 0n || supply.totalIssuance > SUPPLY_CAP) {
    throw new ConservationError(`total issuance would become ${supply.totalIssuance} of at most ${SUPPLY_CAP} units`);
  }
}
