/**
 * Transactions: what an account asks the ledger to do. SCALE on the wire, sr25519 over domain-separated bytes.
 */
import { _void, Bytes, type CodecType, Enum, i64, Struct, str, u8, u16, u32, u64, u128 } from 'scale-ts';
import type { AccountId } from './account.ts';
import { accountCodec, DecodeError, decodeStrict, hashCodec, Vector } from './codec.ts';
import { domainHash, type Hash, hashBytes } from './hash.ts';
import { type Seat, seatBytes } from './seat.ts';

/** A transaction never takes more bytes than this; larger ones are refused before they are decoded. */
export const MAX_TRANSACTION_BYTES = 48 * 1024;

/**
 * What one validator says of one submission: a score in nano-nats (10^-9 nat of held-out loss; may be negative), or why
 * there is none. `unavailable`: the blob could not be fetched in time. `malformed`: it did not decode, or was no
 * admissible update (wrong round, author, model root; values beyond the bounds of the recipe).
 */
export const verdictCodec = Enum({ scored: i64, unavailable: _void, malformed: _void });
export type Verdict = CodecType<typeof verdictCodec>;

const scoreCodec = Struct({ miner: accountCodec, slot: u8, verdict: verdictCodec });
/** A verdict on the submission of a seat: that slot of that miner. */
export type Score = CodecType<typeof scoreCodec>;

const callArguments = {
  /** Moves ALICE. Amounts in units. */
  transfer: Struct({ to: accountCodec, amount: u128 }),
  /** Joins training from the next round on. `device` is free text for people, at most 64 bytes; the rest is its price, see
   * `ledger/registration-price.ts`. */
  registerMiner: Struct({ device: str, challenge: hashCodec, solution: u64, work: u64 }),
  /**
   * Binds a submission before anyone can see it; see {@link submissionCommitment}. For one opening of the round's training
   * phase only (`attempt`, from 1 on): one that comes too late must not take the seat of the next, where it opens nothing.
   */
  commitSubmission: Struct({ round: u32, attempt: u32, slot: u8, commitment: hashCodec }),
  /**
   * Opens the commitment of a slot: the blob's CID (canonical text), its size in bytes, the salt, and the libp2p peer that has it
   * (canonical text), which is where others look first.
   */
  revealSubmission: Struct({ round: u32, slot: u8, cid: str, sizeBytes: u32, salt: Bytes(32), provider: str }),
  /** A validator binds its scores before seeing those of others; see {@link scoresCommitment}. */
  commitScores: Struct({ round: u32, commitment: hashCodec }),
  /** Opens the scores. `heldOutLoss` is the loss before any update on the reserved shards, in nano-nats. */
  revealScores: Struct({ round: u32, salt: Bytes(32), heldOutLoss: i64, scores: Vector(scoreCodec) }),
  /** A validator states the model root that it computed for the round, and the CID of the weights blob. */
  attestModel: Struct({ round: u32, modelRoot: hashCodec, checkpoint: str }),
  /** Lets `spender` move up to `amount` units of the signer's; replaces what was allowed before, 0 takes it back. */
  approve: Struct({ spender: accountCodec, amount: u128 }),
  /** Moves units of `from`, within what it allowed the signer. */
  transferFrom: Struct({ from: accountCodec, to: accountCodec, amount: u128 }),
  /** Puts units at stake, at first or in addition. */
  bond: Struct({ amount: u128 }),
  /** Takes units from the stake; they are free after the unbonding time. */
  unbond: Struct({ amount: u128 }),
  /** Takes back what has finished unbonding. */
  withdraw: _void,
  /** Names the ed25519 key that votes for the signer. `proof`: its signature over `sessionProofBytes`. */
  certifySessionKey: Struct({ sessionKey: hashCodec, proof: Bytes(64) }),
  /** Comes back from jail. */
  unjail: _void,
  /** A validator's vote for changing parameters at a height: canonical JSON of the sections and values that change. */
  voteParameters: Struct({ change: str, height: u32 }),
  /** Joins training like `registerMiner`; its price is held from what the signer owns (`ledger/registration-bond.ts`). */
  registerWithBond: Struct({ device: str }),
};

/** The calls of the ledger. `tag` names the module action; `value` holds its arguments. */
export const callCodec = Enum(callArguments);
export type Call = CodecType<typeof callCodec>;

/** Everything that the signature covers, besides the network. `nonce` counts the account's transactions from 0. */
const bodyCodec = Struct({
  version: u8,
  signer: accountCodec,
  nonce: u32,
  /** Height up to which the transaction may be included; at most 2^16 blocks away from the present one. */
  validUntil: u32,
  /** Reserved for a priority fee in later versions; zero now. */
  tip: u16,
  call: callCodec,
});
export type TransactionBody = CodecType<typeof bodyCodec>;

/** A transaction may name a last height at most this far away. */
export const MAX_VALIDITY_BLOCKS = 65_536;

/** Version written into new transactions. */
export const TRANSACTION_VERSION = 1;

const transactionCodec = Struct({ body: bodyCodec, signature: Bytes(64) });
/** A signed transaction. */
export type Transaction = CodecType<typeof transactionCodec>;

const encoder = new TextEncoder();

/** The bytes that an account signs: purpose, network, body. `networkId` is the 8-byte id of the genesis. */
export function transactionSignBytes(networkId: Uint8Array, body: TransactionBody): Uint8Array {
  return Buffer.concat([encoder.encode('alice/transaction/1'), networkId, bodyCodec.enc(body)]);
}

/** Wire form of a signed transaction. */
export function encodeTransaction(transaction: Transaction): Uint8Array {
  return transactionCodec.enc(transaction);
}

/** Where the number of the call stands: after version, signer, nonce, last height and tip. */
const CALL_NUMBER_AT = 1 + 32 + 4 + 4 + 2;

/** Bytes of a transaction that are not its call's arguments: what comes before, the call's number, the signature. */
const ENVELOPE_BYTES = CALL_NUMBER_AT + 1 + 64;

/**
 * Most bytes of each call's arguments, so that nobody carries a load under a call that has no use for it. Texts: a device
 * 64, a content id 128, a peer id 128, a parameter change 4,096 bytes.
 */
const MAX_ARGUMENT_BYTES: Readonly<Record<Call['tag'], number>> = {
  transfer: 48,
  registerMiner: 2 + 64 + 32 + 8 + 8,
  commitSubmission: 41,
  revealSubmission: 5 + 2 + 128 + 4 + 32 + 2 + 128,
  commitScores: 36,
  revealScores: MAX_TRANSACTION_BYTES - ENVELOPE_BYTES,
  attestModel: 4 + 32 + 2 + 128,
  approve: 48,
  transferFrom: 80,
  bond: 16,
  unbond: 16,
  withdraw: 0,
  certifySessionKey: 96,
  unjail: 0,
  voteParameters: 2 + 4096 + 4,
  registerWithBond: 2 + 64,
};

/** The same by the number of the call. */
const MAX_BYTES_BY_NUMBER = Object.keys(callArguments).map(
  (tag) => ENVELOPE_BYTES + MAX_ARGUMENT_BYTES[tag as Call['tag']],
);

/**
 * Reads a transaction; throws DecodeError for anything but the canonical encoding, and, before it is looked at, for one
 * that is larger than its call may be. Does not check the signature.
 */
export function decodeTransaction(bytes: Uint8Array): Transaction {
  const largest = MAX_BYTES_BY_NUMBER[bytes[CALL_NUMBER_AT] ?? 0] ?? ENVELOPE_BYTES;
  if (bytes.length > largest)
    throw new DecodeError(`transaction: ${bytes.length} bytes, its call has at most ${largest}`);
  return decodeStrict(transactionCodec, bytes, MAX_TRANSACTION_BYTES, 'transaction');
}

/**
 * Most verdicts that one `revealScores` can hold. Beside round, salt, loss and the length of the list, each takes account,
 * slot, tag and score. Bounds the seats of a round (`checkParameters`).
 */
export const MAX_SCORES = Math.floor((MAX_ARGUMENT_BYTES.revealScores - (4 + 32 + 8 + 4)) / (32 + 1 + 1 + 8));

/** Identity of a transaction: the hash of its body. sr25519 signatures are randomized, so they are left out. */
export function transactionId(transaction: Transaction): Hash {
  return domainHash('alice/transaction-id/1', bodyCodec.enc(transaction.body));
}

/** Nonce of a seat's task in a round: only the beacon can know it in advance, and it fits one seat only. */
export function taskNonce(beacon: Hash, seat: Seat): Hash {
  return domainHash('alice/task-nonce/1', hashBytes(beacon), seatBytes(seat));
}

/** What a miner commits to: the blob, its own seat, the task nonce, the weights it started from, a 32-byte salt. */
export function submissionCommitment(parts: {
  cid: string;
  seat: Seat;
  nonce: Hash;
  modelRoot: Hash;
  salt: Uint8Array;
}): Hash {
  return domainHash(
    'alice/submission-commitment/1',
    str.enc(parts.cid),
    seatBytes(parts.seat),
    hashBytes(parts.nonce),
    hashBytes(parts.modelRoot),
    Bytes(32).enc(parts.salt),
  );
}

const scoresCodec = Struct({ heldOutLoss: i64, scores: Vector(scoreCodec) });

/** What a validator commits to before it reveals its scores of a round. */
export function scoresCommitment(parts: {
  round: number;
  validator: AccountId;
  salt: Uint8Array;
  heldOutLoss: bigint;
  scores: Score[];
}): Hash {
  return domainHash(
    'alice/scores-commitment/1',
    u32.enc(parts.round),
    accountCodec.enc(parts.validator),
    Bytes(32).enc(parts.salt),
    scoresCodec.enc({ heldOutLoss: parts.heldOutLoss, scores: parts.scores }),
  );
}
