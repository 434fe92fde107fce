/**
 * The state transition: one block of transactions on a state gives the next state. Pure: equal inputs give equal
 * results on every machine.
 */
import type { AccountId } from '../chain/account.ts';
import { type EquivocationEvidence, MAX_EVIDENCE_PER_BLOCK } from '../chain/evidence.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import { MAX_VALIDITY_BLOCKS, TRANSACTION_VERSION, type Transaction } from '../chain/transaction.ts';
import { advanceNonce, readAccount, transfer } from './accounts.ts';
import { approve, transferFrom } from './allowances.ts';
import { bond, unbond, withdraw } from './bonding.ts';
import { Draft } from './draft.ts';
import {
  CALL_ERRORS,
  type CallErrorCode,
  CallRefusedError,
  INCLUSION_ERRORS,
  type InclusionErrorCode,
  InvalidBlockError,
} from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { canPay, feeOf, isOncePerBlock, payFee } from './fees.ts';
import { assertConservation } from './holdings.ts';
import { unjail } from './jail.ts';
import { commitEvidence, EVIDENCE_ERRORS, evidenceError } from './offences.ts';
import { applyScheduledChanges, voteParameters } from './parameter-votes.ts';
import { CHAIN, type ChainRecord } from './parameters.ts';
import { holdRegistrationBond } from './registration-bond.ts';
import { expireRegistrations, watchForExpiry } from './registration-expiry.ts';
import { advanceRegistration, payWork } from './registration-price.ts';
import { registerMiner } from './registry.ts';
import { advanceRound } from './round-clock.ts';
import { attestModel, commitScores, commitSubmission, revealScores, revealSubmission } from './rounds.ts';
import { certifySessionKey } from './session-keys.ts';
import { admitArrivals } from './standing.ts';
import { LedgerState } from './state.ts';
import { advanceValidators } from './validators.ts';
import { releaseVested } from './vesting.ts';

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

/** What a call may know of its block. */
type CallMoment = Pick<BlockInput, 'height' | 'timeMs'>;

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

/** What the proposer put into a block, and what became of it. */
export interface BuiltBlock extends ExecutedBlock {
  /** The offered transactions and evidence that a block may hold, in order. */
  readonly included: readonly SignedTransaction[];
  /** The offered transactions that it may not hold, in order. */
  readonly unfit: readonly UnfitTransaction[];
  readonly evidence: readonly EquivocationEvidence[];
}

/** A transaction that no block may hold now, and why: a free call also when the ledger refuses it. */
export interface UnfitTransaction {
  readonly id: Hash;
  readonly code: InclusionErrorCode | CallErrorCode;
}

function whyUnfit(code: InclusionErrorCode | CallErrorCode): string {
  return code in INCLUSION_ERRORS
    ? INCLUSION_ERRORS[code as InclusionErrorCode]
    : `it is free and would fail: ${CALL_ERRORS[code as CallErrorCode]}`;
}

/**
 * Executes a block. Throws {@link InvalidBlockError} when the block breaks a rule that its proposer had to keep, and
 * `ConservationError` when this program is wrong.
 */
export function executeBlock(state: LedgerState, input: BlockInput): ExecutedBlock {
  return run(state, input, (what, why) => {
    throw new InvalidBlockError(`${what}: ${why}`);
  });
}

/** Executes what a proposer has for a block, leaving out what no block may hold now (a fee that cannot be paid, say). */
export function buildBlock(state: LedgerState, input: BlockInput): BuiltBlock {
  return run(state, input, () => {});
}

/** Executes a block; hands what may not be in it to `unfit`, which throws or lets it be left out. */
function run(state: LedgerState, input: BlockInput, unfit: (what: string, why: string) => void): BuiltBlock {
  const { chain, parameters } = state;
  checkFrame(chain, input, parameters);
  const draft = new Draft(state);
  const receipts: Receipt[] = [];
  const events: LedgerEvent[] = [];
  const evidence: EquivocationEvidence[] = [];
  for (const item of input.evidence ?? []) {
    const refused = evidenceError(draft, item, input.height);
    if (refused !== undefined) {
      unfit(`evidence against ${item.first.validator}`, EVIDENCE_ERRORS[refused]);
      continue;
    }
    evidence.push(item);
    events.push(...commitEvidence(draft, item, input.height, parameters));
  }
  const included: SignedTransaction[] = [];
  const left: UnfitTransaction[] = [];
  const counts = new Map<AccountId, number>();
  const onceDone = new Set<string>();
  for (const signed of input.transactions) {
    const { id, transaction } = signed;
    const { signer, nonce, call } = transaction.body;
    const before = counts.get(signer) ?? 0;
    const at = { height: input.height, nonce: readAccount(draft, signer).nonce, included: before };
    // By the state before the block: the first mint does not make those pay who came before it.
    const fee = feeOf(state, transaction, parameters);
    const once = fee === 0n && isOncePerBlock(call.tag) ? `${signer} ${call.tag}` : undefined;
    const attempt = new Draft(draft);
    const happened: LedgerEvent[] = [];
    let error: CallErrorCode | undefined;
    let refused: InclusionErrorCode | CallErrorCode | undefined =
      inclusionError(transaction, at, parameters) ??
      (canPay(draft, transaction, fee, input.timeMs) ? undefined : 'ERR_CANNOT_PAY_FEE') ??
      (once !== undefined && onceDone.has(once) ? 'ERR_FREE_CALL_LIMIT' : undefined);
    if (refused === undefined) {
      happened.push(...releaseVested(attempt, signer, input.timeMs));
      advanceNonce(attempt, signer);
      happened.push(...payFee(attempt, transaction, fee, parameters.economics.feeBurnPpm));
      error = tryCall(attempt, transaction, input, parameters, happened);
      // What is free has to do what it asks for: a refused one would fill blocks at nobody's cost.
      if (fee === 0n) refused = error;
    }
    if (refused !== undefined) {
      left.push({ id, code: refused });
      unfit(`transaction ${id}`, whyUnfit(refused));
      continue;
    }
    draft.merge(attempt);
    if (once !== undefined) onceDone.add(once);
    counts.set(signer, before + 1);
    included.push(signed);
    events.push(...happened);
    receipts.push({ id, signer, nonce, call: call.tag, error });
  }
  events.push(...advanceRound(draft, input, parameters));
  events.push(...expireRegistrations(draft, input, parameters));
  advanceRegistration(draft, input, parameters);
  admitArrivals(draft);
  events.push(...advanceValidators(draft, input, parameters));
  events.push(...applyScheduledChanges(draft, input.height));
  draft.set(CHAIN, { ...chain, height: input.height, timeMs: input.timeMs });
  assertConservation(state, draft);
  const changes = draft.changes();
  for (const [key, value] of changes) if (sameBytes(state.tree.get(key), value)) changes.delete(key);
  const after = new LedgerState(state.tree.with(changes));
  return { state: after, receipts, events, changes, included, unfit: left, evidence };
}

/** Checks a block's place and size. Throws {@link InvalidBlockError}. */
function checkFrame(chain: ChainRecord, input: BlockInput, parameters: Parameters): void {
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
  const evidence = input.evidence?.length ?? 0;
  if (evidence > MAX_EVIDENCE_PER_BLOCK) {
    throw new InvalidBlockError(`${evidence} pieces of evidence, at most ${MAX_EVIDENCE_PER_BLOCK} allowed`);
  }
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}

/**
 * What the ledger would say to a transaction's call in the next block if it were the only one there; undefined: it would
 * do what it asks for. Nonce, fee and signature are not looked at.
 */
export function callError(state: LedgerState, transaction: Transaction): CallErrorCode | undefined {
  const { chain, parameters } = state;
  const next = { height: chain.height + 1, timeMs: chain.timeMs + 1n };
  const draft = new Draft(state);
  releaseVested(draft, transaction.body.signer, next.timeMs);
  return tryCall(draft, transaction, next, parameters, []);
}

/** Carries out a call in a draft of its own, so that a refused one leaves nothing behind. */
function tryCall(
  draft: Draft,
  transaction: Transaction,
  input: CallMoment,
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
  input: CallMoment,
  parameters: Parameters,
): readonly LedgerEvent[] {
  const { signer, call } = transaction.body;
  const { existentialDeposit } = parameters.economics;
  switch (call.tag) {
    case 'transfer':
      return transfer(draft, signer, call.value.to, call.value.amount, existentialDeposit);
    case 'approve':
      return approve(draft, signer, call.value, existentialDeposit);
    case 'transferFrom': {
      const released = releaseVested(draft, call.value.from, input.timeMs);
      return [...released, ...transferFrom(draft, signer, call.value, existentialDeposit)];
    }
    case 'bond':
      return bond(draft, signer, call.value.amount, parameters);
    case 'unbond':
      return unbond(draft, signer, call.value.amount, input, parameters);
    case 'withdraw':
      return withdraw(draft, signer, input);
    case 'certifySessionKey':
      return certifySessionKey(draft, signer, call.value);
    case 'unjail':
      return unjail(draft, signer, input);
    case 'voteParameters':
      return voteParameters(draft, signer, call.value, input.height);
    case 'registerMiner': {
      payWork(draft, call.value, input, parameters);
      const registered = registerMiner(draft, signer, call.value.device, input);
      watchForExpiry(draft, signer, input.timeMs, parameters.registration.expiryMs);
      return registered;
    }
    case 'registerWithBond': {
      const held = holdRegistrationBond(draft, signer, input, parameters);
      const registered = registerMiner(draft, signer, call.value.device, input);
      watchForExpiry(draft, signer, input.timeMs, parameters.registration.expiryMs);
      return [...held, ...registered];
    }
    case 'commitSubmission':
      commitSubmission(draft, signer, call.value);
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
