/**
 * Light blocks of this chain: a header, the commit that made it final, and the two validator sets that it names; how
 * they go over a wire, and how `verify.ts` reads them.
 */
import { Bytes, Struct } from 'scale-ts';
import {
  blockId,
  type Commit,
  decodeCommit,
  decodeHeader,
  encodeCommit,
  encodeHeader,
  type Header,
  voteSignBytes,
} from '../../chain/block.ts';
import { decodeStrict } from '../../chain/codec.ts';
import type { Hash } from '../../chain/hash.ts';
import { type ValidatorSet, validatorSetHash } from '../../chain/validator-set.ts';
import { verifySession } from '../../identity/signatures.ts';
import { validatorSetCodec } from '../../ledger/validators.ts';
import type { VerifySession } from '../commit-verifier.ts';
import type { AbstractLightBlock, AbstractSeal, AbstractValidator, LightScheme } from './verify.ts';

/** A finalized header and all that it takes to believe it. */
export interface LightBlock {
  readonly header: Header;
  readonly commit: Commit;
  /** Those who decided this height. */
  readonly validators: ValidatorSet;
  /** Those who decide the next. */
  readonly nextValidators: ValidatorSet;
}

/** A light block takes at most this many bytes: two sets of 256 validators and their signatures. */
export const MAX_LIGHT_BLOCK_BYTES = 128 * 1024;

const lightBlockCodec = Struct({ header: Bytes(), commit: Bytes(), validators: Bytes(), nextValidators: Bytes() });

export function encodeLightBlock(block: LightBlock): Uint8Array {
  return lightBlockCodec.enc({
    header: encodeHeader(block.header),
    commit: encodeCommit(block.commit),
    validators: validatorSetCodec.enc(block.validators),
    nextValidators: validatorSetCodec.enc(block.nextValidators),
  });
}

/** Reads a light block; throws DecodeError. Nothing of it is verified. */
export function decodeLightBlock(bytes: Uint8Array): LightBlock {
  const parts = decodeStrict(lightBlockCodec, bytes, MAX_LIGHT_BLOCK_BYTES, 'light block');
  const set = (encoded: Uint8Array) => decodeStrict(validatorSetCodec, encoded, MAX_LIGHT_BLOCK_BYTES, 'validator set');
  return {
    header: decodeHeader(parts.header),
    commit: decodeCommit(parts.commit),
    validators: set(parts.validators),
    nextValidators: set(parts.nextValidators),
  };
}

interface Member extends AbstractValidator {
  readonly sessionKey: Hash;
}

interface Seal extends AbstractSeal {
  readonly signature: Uint8Array;
}

/** A {@link LightBlock} as the rules see it. Make one with {@link viewOf}. */
export interface LightBlockView extends AbstractLightBlock<Member, Seal> {
  readonly block: LightBlock;
}

const membersOf = (set: ValidatorSet): Member[] =>
  set.map(({ account, sessionKey, power }) => ({ id: account, sessionKey, power }));

/** Shows a light block to the rules. Times are milliseconds since the Unix epoch. */
export function viewOf(block: LightBlock): LightBlockView {
  const { header, commit } = block;
  return {
    block,
    header: {
      chain: Buffer.from(header.network).toString('hex'),
      height: header.height,
      time: header.timeMs,
      validatorsHash: header.validatorsHash,
      nextValidatorsHash: header.nextValidatorsHash,
    },
    commit: {
      height: commit.height,
      headerHash: commit.blockId,
      // A commit of this chain holds precommits for its block and nothing else.
      seals: commit.signatures.map(({ validator, signature }) => ({ signer: validator, forBlock: true, signature })),
    },
    validators: membersOf(block.validators),
    nextValidators: membersOf(block.nextValidators),
  };
}

/** True when the members stand in the order in which a set is hashed. */
function isAscending(names: readonly string[]): boolean {
  return names.every((name, index) => index === 0 || names[index - 1] < name);
}

/** How this chain hashes and signs. `verify`: another check of ed25519 signatures, for simulations. */
export function lightScheme(verify: VerifySession = verifySession): LightScheme<Member, Seal, LightBlockView> {
  return {
    headerHash: ({ block }) => blockId(block.header),
    setHash: (members) =>
      validatorSetHash(
        members.map(({ id, sessionKey, power }) => ({
          account: id as ValidatorSet[number]['account'],
          sessionKey,
          power,
        })),
      ),
    verifySeal: ({ block }, { signature }, { sessionKey }) => {
      const { height, round, blockId: voted } = block.commit;
      const message = voteSignBytes(block.header.network, { type: 1, height, round, blockId: voted });
      return verify(sessionKey, message, signature);
    },
    malformed: ({ block }) => {
      if (!isAscending(block.commit.signatures.map(({ validator }) => validator)))
        return 'the signatures are not in ascending order';
      if (![block.validators, block.nextValidators].every((set) => isAscending(set.map(({ account }) => account))))
        return 'a validator set is not in ascending order';
      return undefined;
    },
  };
}
