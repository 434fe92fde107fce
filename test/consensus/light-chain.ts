/** A chain of light blocks with real ed25519 signatures, for tests: any validator set at any height. */
import type { AccountId } from '../../node/chain/account.ts';
import { blockId, type Commit, type Header, voteSignBytes } from '../../node/chain/block.ts';
import { domainHash, ZERO_HASH } from '../../node/chain/hash.ts';
import { type ValidatorSet, validatorSetHash } from '../../node/chain/validator-set.ts';
import type { LightBlock } from '../../node/consensus/light-client/light-block.ts';
import { type SessionSigner, sessionSigner } from '../../node/identity/signatures.ts';

export const NETWORK = new Uint8Array(8).fill(9);

/** Session key of the validator with this number; `version` counts its key changes. */
export function sessionOf(index: number, version = 0): SessionSigner {
  return sessionSigner(new Uint8Array(32).fill(index).fill(version, 16));
}

export const accountOf = (index: number) => index.toString(16).padStart(2, '0').repeat(32) as AccountId;

/** The set of these validators, each with ten units of power. */
export function setOf(...indices: number[]): ValidatorSet {
  return indices.map((index) => ({ account: accountOf(index), sessionKey: sessionOf(index).sessionKey, power: 10n }));
}

const sessions = new Map(
  Array.from({ length: 64 }, (_, index) => [sessionOf(index).sessionKey, sessionOf(index)] as const),
);

/** Precommits of these members for a header. */
export function commitOf(header: Header, signers: ValidatorSet, session = (key: string) => sessions.get(key as never)) {
  const body = { type: 1, height: header.height, round: 0, blockId: blockId(header) };
  const message = voteSignBytes(header.network, body);
  const signatures = signers.map(({ account, sessionKey }) => ({
    validator: account,
    signature: session(sessionKey)?.sign(message) ?? new Uint8Array(64),
  }));
  return { height: header.height, round: 0, blockId: blockId(header), signatures } satisfies Commit;
}

export interface LightChainInit {
  readonly length: number;
  /** Those who decide a height. */
  readonly setAt: (height: number) => ValidatorSet;
  readonly header?: (header: Header) => Header;
}

/** Blocks 1 to `length`, a second apart, signed by everyone. */
export function lightChain({ length, setAt, header: change = (header) => header }: LightChainInit): LightBlock[] {
  const blocks: LightBlock[] = [];
  for (let height = 1; height <= length; height++) {
    const previous = blocks.at(-1);
    const header = change({
      network: NETWORK,
      height,
      timeMs: BigInt(height) * 1000n,
      previous: previous === undefined ? ZERO_HASH : blockId(previous.header),
      proposer: setAt(height)[0].account,
      validatorsHash: validatorSetHash(setAt(height)),
      nextValidatorsHash: validatorSetHash(setAt(height + 1)),
      transactionsRoot: ZERO_HASH,
      evidenceRoot: ZERO_HASH,
      stateRoot: domainHash('test/state', Buffer.from([height])),
      modelRoot: ZERO_HASH,
      trainingRound: 1,
      beacon: ZERO_HASH,
      beaconProofHash: ZERO_HASH,
    });
    const commit = commitOf(header, setAt(height));
    blocks.push({ header, commit, validators: setAt(height), nextValidators: setAt(height + 1) });
  }
  return blocks;
}
