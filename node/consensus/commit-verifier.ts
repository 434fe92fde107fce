/**
 * Does a commit prove that a block is final? Used by block sync, and by light clients.
 */
import { type Commit, voteSignBytes } from '../chain/block.ts';
import type { Hash } from '../chain/hash.ts';
import { isQuorum, type SessionKey, totalPower, type ValidatorSet } from '../chain/validator-set.ts';
import { verifySession } from '../identity/signatures.ts';

/** Checks one ed25519 signature. */
export type VerifySession = (sessionKey: SessionKey, message: Uint8Array, signature: Uint8Array) => boolean;

/** Thrown when a commit proves nothing. The message says why. */
export class InvalidCommitError extends Error {
  static readonly code = 'ERR_INVALID_COMMIT';
  readonly code = InvalidCommitError.code;
  override readonly name = 'InvalidCommitError';
}

const PRECOMMIT = 1;

/**
 * Checks that validators with more than two thirds of the power of `validators`, the set of that height, precommitted
 * `blockId` at `height`. Every signature must be by a member, strictly ascending by account, and correct: one that is not
 * makes the commit invalid even where the rest would do, so that a commit has no room for rubbish.
 * Throws {@link InvalidCommitError}. Costs one signature check for each signature.
 */
export function verifyCommit(input: {
  readonly networkId: Uint8Array;
  readonly height: number;
  readonly blockId: Hash;
  readonly commit: Commit;
  readonly validators: ValidatorSet;
  readonly verify?: VerifySession;
}): void {
  const { networkId, height, blockId, commit, validators, verify = verifySession } = input;
  if (commit.height !== height) throw new InvalidCommitError(`commit of height ${commit.height}, expected ${height}`);
  if (commit.blockId !== blockId) throw new InvalidCommitError(`commit of another block at height ${height}`);
  if (commit.signatures.length > validators.length)
    throw new InvalidCommitError(`${commit.signatures.length} signatures, but only ${validators.length} validators`);
  const members = new Map(validators.map((validator) => [validator.account, validator]));
  const message = voteSignBytes(networkId, { type: PRECOMMIT, height, round: commit.round, blockId });
  let power = 0n;
  let previous = '';
  // Membership and power first: they cost nothing, signatures do.
  for (const { validator } of commit.signatures) {
    if (validator <= previous) throw new InvalidCommitError('signatures are not in strictly ascending order');
    previous = validator;
    const member = members.get(validator);
    if (member === undefined) throw new InvalidCommitError(`${validator} is not in the validator set`);
    power += member.power;
  }
  if (!isQuorum(power, totalPower(validators)))
    throw new InvalidCommitError(`signed by ${power} of ${totalPower(validators)} of the power: no quorum`);
  for (const { validator, signature } of commit.signatures) {
    const member = members.get(validator);
    if (member === undefined || !verify(member.sessionKey, message, signature))
      throw new InvalidCommitError(`wrong signature of ${validator}`);
  }
}
