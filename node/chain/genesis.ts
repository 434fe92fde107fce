/**
 * Genesis: the file that defines a network. Its hash names the network, so networks never mix.
 */
import * as v from 'valibot';
import { type AccountId, accountFromAddress } from './account.ts';
import { domainHash, type Hash, hashBytes, parseHash } from './hash.ts';
import { checkParameters, parametersSchema } from './parameters.ts';
import type { SessionKey } from './validator-set.ts';

/** The message of the first block (MISSION.md). */
export const GENESIS_MESSAGE =
  'OpenAI officially reaches deal with the Pentagon to deploy its AI models for military use. 2/27/2026 / 800 million people use their products. Zero people own them. / Alice - Trained by the people, from scratch.';

const hex = (bytes: number) => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`)));
const count = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(Number.MAX_SAFE_INTEGER));

/** Schema of a genesis. Numbers that can be large are decimal strings. */
export const genesisSchema = v.strictObject({
  version: v.literal(1),
  name: v.pipe(v.string(), v.regex(/^[a-z0-9-]{1,32}$/)),
  timeMs: count,
  message: v.pipe(v.string(), v.maxLength(1024)),
  /** Model architecture, checked by `kernels/model`. */
  preset: v.record(v.string(), v.union([v.string(), v.number(), v.boolean()])),
  /** Seed of the random initialization. */
  seed: hex(32),
  /** Root of the initial weights. */
  modelRoot: hex(32),
  corpus: v.strictObject({
    /** CID of the corpus manifest blob. */
    manifest: v.pipe(v.string(), v.minLength(8), v.maxLength(128)),
    trainingShards: count,
    heldOutShards: count,
    /** Tokens in every shard. */
    shardTokens: count,
  }),
  /** Founding validators. `weight` is voting power that is worth no tokens. */
  validators: v.pipe(
    v.array(
      v.strictObject({
        address: v.string(),
        sessionKey: hex(32),
        /** sr25519 signature of the account over {@link sessionCertificateBytes}, 64 bytes. */
        certificate: hex(64),
        weight: v.pipe(v.string(), v.regex(/^[1-9]\d{0,15}$/)),
      }),
    ),
    v.minLength(1),
    v.maxLength(256),
  ),
  parameters: parametersSchema,
  /** A fork or upgrade: the state of another network with which this one begins (`alice state export`). */
  initialState: v.optional(
    v.strictObject({
      root: hex(32),
      /** Genesis hash of the other network, and the height at which its state was taken. */
      network: hex(32),
      height: v.pipe(v.number(), v.integer(), v.minValue(0)),
    }),
  ),
});

/** A genesis as the file holds it. */
export type Genesis = v.InferOutput<typeof genesisSchema>;

/** A network as an operator gets it in one JSON file: the genesis and where to knock first. */
export const networkFileSchema = v.strictObject({
  genesis: genesisSchema,
  /** Multiaddrs of bootstrap nodes, with `/p2p/<peer id>`. */
  bootstrap: v.array(v.pipe(v.string(), v.startsWith('/'))),
});
export type NetworkFile = v.InferOutput<typeof networkFileSchema>;

/** Thrown when a genesis or network file cannot be read, does not fit its schema, or contradicts itself. */
export class InvalidGenesisError extends Error {
  static readonly code = 'ERR_INVALID_GENESIS';
  readonly code = InvalidGenesisError.code;
  override readonly name = 'InvalidGenesisError';
}

/** JSON with object keys in sorted order and no white space: one text per value. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}

/** Hash of a genesis: the identity of the network. */
export function genesisHash(genesis: Genesis): Hash {
  return domainHash('alice/genesis/1', Buffer.from(canonicalJson(genesis), 'utf8'));
}

/** First 8 bytes of the genesis hash; part of everything that is signed. */
export function networkId(genesis: Genesis): Uint8Array {
  return hashBytes(genesisHash(genesis)).slice(0, 8);
}

/** The network id in RFC 4648 base32, lower case, as protocol names carry it. */
export function networkName(genesis: Genesis): string {
  let bits = '';
  for (const byte of networkId(genesis)) bits += byte.toString(2).padStart(8, '0');
  return (bits.match(/.{1,5}/g) ?? [])
    .map((group) => 'abcdefghijklmnopqrstuvwxyz234567'[Number.parseInt(group.padEnd(5, '0'), 2)])
    .join('');
}

/** What an account signs to let a session key vote for it. Not bound to a network: genesis names the key. */
export function sessionCertificateBytes(account: AccountId, sessionKey: SessionKey): Uint8Array {
  return Buffer.concat([Buffer.from('alice/session-key/1'), Buffer.from(account, 'hex'), hashBytes(sessionKey)]);
}

/** Checks an already parsed network file. Throws {@link InvalidGenesisError} naming the first thing that is wrong. */
export function checkNetworkFile(value: unknown): NetworkFile {
  const result = v.safeParse(networkFileSchema, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw new InvalidGenesisError(`network file: ${v.getDotPath(issue) ?? 'top level'}: ${issue.message}`);
  }
  const { genesis } = result.output;
  const accounts = genesis.validators.map((validator) => accountFromAddress(validator.address));
  if (new Set(accounts).size !== accounts.length)
    throw new InvalidGenesisError('network file: a validator is named twice');
  const keys = genesis.validators.map(({ sessionKey }) => sessionKey);
  if (new Set(keys).size !== keys.length)
    throw new InvalidGenesisError('network file: two validators have one session key');
  try {
    checkParameters(genesis.parameters);
  } catch (cause) {
    throw new InvalidGenesisError(`network file: ${(cause as Error).message}`, { cause });
  }
  const { rounds } = genesis.parameters;
  if (genesis.corpus.trainingShards < 2 * rounds.shardsPerMiner) {
    throw new InvalidGenesisError(
      `network file: ${genesis.corpus.trainingShards} training shards have no room for two seats of ${rounds.shardsPerMiner} shards: make more shards, or give fewer to a seat`,
    );
  }
  parseHash(genesis.modelRoot);
  return result.output;
}
