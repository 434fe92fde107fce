/**
 * One function for each call of the ledger: what a wallet, a command or a test hands to whoever signs transactions.
 * Amounts are in units (10^-12 ALICE). What each call does and when it is refused is in `ledger/`.
 */
import type { AccountId } from './account.ts';
import type { Amount } from './amount.ts';
import { canonicalJson } from './genesis.ts';
import type { Hash } from './hash.ts';
import type { Parameters } from './parameters.ts';
import { NO_WORK, type RegistrationWork } from './registration-work.ts';
import type { Call, Score } from './transaction.ts';
import type { SessionKey } from './validator-set.ts';

/** Moves ALICE to another account. */
export function transfer(to: AccountId, amount: Amount): Call {
  return { tag: 'transfer', value: { to, amount } };
}

/**
 * Lets `spender` move up to `amount` of the signer's ALICE. Replaces the former allowance: to lower one that may be spent
 * meanwhile, set it to 0 first and look at what was spent.
 */
export function approve(spender: AccountId, amount: Amount): Call {
  return { tag: 'approve', value: { spender, amount } };
}

/** Moves ALICE of `from` to `to`, within what `from` allowed the signer. The signer pays the fee. */
export function transferFrom(from: AccountId, to: AccountId, amount: Amount): Call {
  return { tag: 'transferFrom', value: { from, to, amount } };
}

/** Puts ALICE at stake, at first or in addition. A validator needs a certified session key too. */
export function bond(amount: Amount): Call {
  return { tag: 'bond', value: { amount } };
}

/** Takes ALICE from the stake; it is free, for {@link withdraw}, after the unbonding time. */
export function unbond(amount: Amount): Call {
  return { tag: 'unbond', value: { amount } };
}

/** Takes back all stake that has finished unbonding. */
export function withdraw(): Call {
  return { tag: 'withdraw', value: undefined };
}

/** Names the key that votes for the signer. `proof`: 64-byte signature of that key over `sessionProofBytes`. */
export function certifySessionKey(sessionKey: SessionKey, proof: Uint8Array): Call {
  return { tag: 'certifySessionKey', value: { sessionKey, proof } };
}

/** Comes back from jail once its time is over. */
export function unjail(): Call {
  return { tag: 'unjail', value: undefined };
}

/** What a parameter change may hold: values of the governed sections. */
export type ParameterChange = {
  readonly [Section in 'economics' | 'staking']?: Readonly<Partial<Parameters[Section]>>;
};

/** A validator's vote for a parameter change that acts from the block after `height` on. */
export function voteParameters(change: ParameterChange, height: number): Call {
  return { tag: 'voteParameters', value: { change: canonicalJson(change), height } };
}

/** Joins training from the next round on. `device`: text for people, at most 64 bytes. `work`: the price, where there is one. */
export function registerMiner(device: string, work: RegistrationWork = NO_WORK): Call {
  return { tag: 'registerMiner', value: { device, ...work } };
}

/** The same for those who own enough: a bond is held until the registration ends. */
export function registerWithBond(device: string): Call {
  return { tag: 'registerWithBond', value: { device } };
}

/** Binds the submission of a slot, for an opening of a round; `commitment` is `submissionCommitment`. */
export function commitSubmission(
  { round, attempt }: { readonly round: number; readonly attempt: number },
  slot: number,
  commitment: Hash,
): Call {
  return { tag: 'commitSubmission', value: { round, attempt, slot, commitment } };
}

/** What opens a submission's commitment. */
export interface Reveal {
  /** Canonical text of the blob's CID. */
  readonly cid: string;
  readonly sizeBytes: number;
  /** 32 bytes. */
  readonly salt: Uint8Array;
  /** libp2p id of the peer that has the blob, as text: a hint, which needs not be right. */
  readonly provider: string;
}

/** Opens the commitment of a slot. */
export function revealSubmission(round: number, slot: number, { cid, sizeBytes, salt, provider }: Reveal): Call {
  return { tag: 'revealSubmission', value: { round, slot, cid, sizeBytes, salt, provider } };
}

/** Binds a validator's scores; `commitment` is `scoresCommitment`. */
export function commitScores(round: number, commitment: Hash): Call {
  return { tag: 'commitScores', value: { round, commitment } };
}

/** Opens a validator's scores. `heldOutLoss` in nano-nats. */
export function revealScores(round: number, salt: Uint8Array, heldOutLoss: bigint, scores: Score[]): Call {
  return { tag: 'revealScores', value: { round, salt, heldOutLoss, scores } };
}

/** States the model root that a validator computed; `checkpoint`: CID of the weights, empty unless one is due. */
export function attestModel(round: number, modelRoot: Hash, checkpoint: string): Call {
  return { tag: 'attestModel', value: { round, modelRoot, checkpoint } };
}
