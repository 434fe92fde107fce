/**
 * Why a call fails, and why a block cannot be executed at all.
 */

/** Every reason for which the ledger refuses a call, with what it means. Codes are part of the protocol's surface. */
export const CALL_ERRORS = {
  ERR_INSUFFICIENT_BALANCE: 'the account has less than the amount',
  ERR_ZERO_AMOUNT: 'a transfer moves at least one unit',
  ERR_DEVICE_TEXT_TOO_LONG: 'the device text has at most 64 bytes',
  ERR_OLD_CHALLENGE: 'the work of the registration is for a challenge that is over: it has to be done anew',
  ERR_TOO_LITTLE_WORK: 'a registration takes more work at present',
  ERR_NO_BONDED_REGISTRATION: 'this network takes no bonds for registrations, only work',
  ERR_TOO_MANY_REGISTRATIONS: 'the block takes no more registrations',
  ERR_ALREADY_REGISTERED: 'the account is a registered miner already',
  ERR_NOT_SEATED: 'the account has no such seat in this round',
  ERR_WRONG_ATTEMPT: 'the commit is for another opening of the training phase',
  ERR_WRONG_ROUND: 'the call names another round than the open one',
  ERR_WRONG_PHASE: 'the open round is in another phase',
  ERR_ALREADY_COMMITTED: 'the account has already committed in this phase',
  ERR_NOT_COMMITTED: 'the account has not committed in this round',
  ERR_ALREADY_REVEALED: 'the account has already revealed in this round',
  ERR_COMMITMENT_MISMATCH: 'what was revealed is not what was committed',
  ERR_INVALID_CID: 'the content id is no CIDv1 (raw, sha2-256) in lower-case base32: bafkrei...',
  ERR_INVALID_PROVIDER: 'the provider is no libp2p peer id of an ed25519 key: 12D3KooW...',
  ERR_INVALID_SIZE: 'the size of the blob is zero',
  ERR_NOT_VALIDATOR: 'the account is no validator',
  ERR_SCORES_MISMATCH: 'the scores are not exactly one per revealed submission, in ascending order of account and slot',
  ERR_ALREADY_ATTESTED: 'the validator has already attested this model root',
  ERR_CHECKPOINT_MISSING: 'this round publishes a checkpoint, the attestation has to name it',
  ERR_CHECKPOINT_NOT_DUE: 'this round publishes no checkpoint',
  ERR_BELOW_EXISTENTIAL_DEPOSIT: 'the account would have less than the existential deposit',
  ERR_WOULD_LEAVE_DUST: 'what is left would be less than the existential deposit: leave more, or nothing',
  ERR_INSUFFICIENT_ALLOWANCE: 'the owner allows the signer less than the amount',
  ERR_BELOW_MINIMUM_BOND: 'a stake is at least the minimum bond, or nothing',
  ERR_INSUFFICIENT_BOND: 'the account has less at stake than the amount',
  ERR_UNBONDING_QUEUE_FULL: 'too many amounts are unbonding: withdraw first',
  ERR_NOTHING_TO_WITHDRAW: 'nothing has finished unbonding',
  ERR_NOTHING_BONDED: 'the account has nothing at stake',
  ERR_SESSION_KEY_TAKEN: 'the session key is in use, or was used by another account',
  ERR_BAD_SESSION_PROOF: 'the session key did not sign this account on this network',
  ERR_NOT_JAILED: 'the account is not in jail',
  ERR_STILL_JAILED: 'the time in jail is not over',
  ERR_TOMBSTONED: 'the account equivocated and is out for ever',
  ERR_CHANGE_HEIGHT: 'the change has to act at a later height, at most 10,000,000 blocks away',
  ERR_INVALID_CHANGE: 'no canonical JSON of governed parameters that changes something and keeps every bound',
  ERR_TOO_MANY_CHANGES: 'too many agreed changes wait for their height',
} as const;

/** Code of a refused call. */
export type CallErrorCode = keyof typeof CALL_ERRORS;

/** Thrown by a module when a call cannot be carried out. The transaction fails; the block does not. */
export class CallRefusedError extends Error {
  readonly code: CallErrorCode;
  override readonly name = 'CallRefusedError';
  constructor(code: CallErrorCode) {
    super(CALL_ERRORS[code]);
    this.code = code;
  }
}

/** Why a transaction may not be in a block at all, whatever it asks for. */
export const INCLUSION_ERRORS = {
  ERR_UNSUPPORTED_VERSION: 'the version of the transaction is not supported',
  ERR_TIP_NOT_SUPPORTED: 'the tip has to be zero',
  ERR_EXPIRED: 'the transaction was valid up to an earlier height',
  ERR_VALID_TOO_LONG: 'the transaction is valid for more than 65536 blocks from now',
  ERR_NONCE_TOO_LOW: 'the nonce was already used',
  ERR_NONCE_GAP: 'earlier nonces of the account are missing',
  ERR_ACCOUNT_LIMIT: 'the account has its share of this block already',
  ERR_CANNOT_PAY_FEE: 'the account has less than the fee',
  ERR_FREE_CALL_LIMIT: 'a block holds one free call of this kind of an account',
} as const;

/** Code of a transaction that no block may hold now. */
export type InclusionErrorCode = keyof typeof INCLUSION_ERRORS;

/** Thrown when a block breaks a rule that its proposer had to keep. */
export class InvalidBlockError extends Error {
  static readonly code = 'ERR_INVALID_BLOCK';
  readonly code = InvalidBlockError.code;
  override readonly name = 'InvalidBlockError';
}

/** Thrown when money would appear or vanish. Never expected: it stops the node instead of a wrong state spreading. */
export class ConservationError extends Error {
  static readonly code = 'ERR_CONSERVATION';
  readonly code = ConservationError.code;
  override readonly name = 'ConservationError';
}
