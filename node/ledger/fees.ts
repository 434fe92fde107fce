/**
 * Module fees: what a transaction costs.
 *
 * - Nothing while there is no ALICE: nobody could pay.
 * - Nothing for the duties of training (registering, committing, revealing, attesting): a newcomer has to be able to earn
 *   its first ALICE.
 * - Else `baseFee + feePerByte * bytes` of the encoded transaction, taken before the call is carried out and kept
 *   whether or not it succeeds. A transaction whose signer cannot pay is in no block.
 *
 * A transaction that costs nothing is in a block only when its call succeeds: a block with one that is refused is invalid.
 * So nobody fills blocks, or uses up nonces, for nothing; what bounds the successful ones is who may make them and how
 * often (`admission.ts`).
 *
 * `feeBurnPpm` of a fee, rounded down, is burned; the rest goes to the infrastructure pot.
 */
import { type Amount, amount } from '../chain/amount.ts';
import type { Parameters } from '../chain/parameters.ts';
import { type Call, encodeTransaction, type Transaction } from '../chain/transaction.ts';
import { burnShare, debit, readAccount, SUPPLY } from './accounts.ts';
import { type Draft, need, type StateReader } from './draft.ts';
import type { LedgerEvent } from './events.ts';
import { vestingOf } from './vesting.ts';

const DUTIES: ReadonlySet<Call['tag']> = new Set<Call['tag']>([
  'registerMiner',
  'registerWithBond',
  'commitSubmission',
  'revealSubmission',
  'commitScores',
  'revealScores',
  'attestModel',
]);

/** True for the calls of training, which cost nothing. */
export function isDuty(call: Call['tag']): boolean {
  return DUTIES.has(call);
}

/** Calls that could succeed again and again in one block, and whose making is free to those who may. */
const ONCE_PER_BLOCK: ReadonlySet<Call['tag']> = new Set<Call['tag']>([
  ...DUTIES,
  'voteParameters',
  'certifySessionKey',
]);

/** True for the calls of which an account has at most one in a block while they are free. */
export function isOncePerBlock(call: Call['tag']): boolean {
  return ONCE_PER_BLOCK.has(call);
}

/** Fee of a transaction in a block on that state, in units. `sizeBytes`: of its encoding, where it is known already. */
export function feeOf(
  reader: StateReader,
  transaction: Transaction,
  parameters: Parameters,
  sizeBytes?: number,
): Amount {
  const { baseFee, feePerByte } = parameters.economics;
  if (isDuty(transaction.body.call.tag)) return amount(0n);
  if (need(reader, SUPPLY).totalIssuance === 0n) return amount(0n);
  const bytes = sizeBytes ?? (feePerByte === 0 ? 0 : encodeTransaction(transaction).length);
  return amount(BigInt(baseFee) + BigInt(feePerByte) * BigInt(bytes));
}

/** True when the signer can pay for a transaction at a time, counting rewards that have unlocked by then. */
export function canPay(reader: StateReader, transaction: Transaction, fee: Amount, timeMs: bigint): boolean {
  const { signer } = transaction.body;
  const { balance } = readAccount(reader, signer);
  return fee === 0n || balance >= fee || balance + vestingOf(reader, signer, timeMs).unlocked >= fee;
}

/** Takes a fee that the signer can pay. */
export function payFee(draft: Draft, transaction: Transaction, fee: Amount, feeBurnPpm: number): LedgerEvent[] {
  if (fee === 0n) return [];
  const { signer } = transaction.body;
  debit(draft, signer, fee);
  const burned = burnShare(draft, fee, feeBurnPpm);
  return [{ type: 'feePaid', account: signer, amount: fee, burned }];
}
