/**
 * Light blocks in the JSON of Tendermint 0.34 (RPC and tendermint-rs), read for this project's light client: its
 * Merkle hashes (RFC 6962 over protobuf), and the canonical votes that its validators sign.
 *
 * Encodings: github.com/tendermint/tendermint v0.34, types/block.go, types/validator.go, types/canonical.go.
 */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { hashFromBytes } from '../../node/chain/hash.ts';
import type {
  AbstractLightBlock,
  AbstractSeal,
  AbstractValidator,
  LightScheme,
} from '../../node/consensus/light-client/verify.ts';
import { verifySession } from '../../node/identity/signatures.ts';

const hex = v.pipe(
  v.nullish(v.string(), ''),
  v.regex(/^([0-9a-fA-F]{2})*$/, 'expected hexadecimal bytes'),
  v.transform((text) => new Uint8Array(Buffer.from(text, 'hex'))),
);
const base64 = v.pipe(
  v.nullish(v.string(), ''),
  v.transform((text) => new Uint8Array(Buffer.from(text, 'base64'))),
);
/** 64-bit numbers come as decimal strings. */
const int64 = v.pipe(
  v.union([v.pipe(v.string(), v.regex(/^-?\d{1,19}$/)), v.pipe(v.number(), v.safeInteger())]),
  v.transform((value) => BigInt(value)),
);
const height = v.pipe(
  int64,
  v.check((value) => value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER), 'height out of range'),
  v.transform((value) => Number(value)),
);
/** RFC 3339 in UTC, up to nanoseconds, as nanoseconds since the Unix epoch. */
export const timeSchema = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/, 'expected an RFC 3339 time'),
  v.check((text) => Number.isFinite(Date.parse(text.replace(/\.\d+/, ''))), 'expected a time that exists'),
  v.transform((text) => {
    const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
    return BigInt(Date.parse(text.replace(/\.\d+/, ''))) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
  }),
);

const partsSchema = v.object({ total: int64, hash: hex });
const blockIdSchema = v.pipe(
  v.object({ hash: hex, part_set_header: v.optional(partsSchema), parts: v.optional(partsSchema) }),
  v.transform(({ hash, part_set_header, parts }) => ({
    hash,
    parts: part_set_header ?? parts ?? { total: 0n, hash: new Uint8Array() },
  })),
);
type BlockId = v.InferOutput<typeof blockIdSchema>;

const headerSchema = v.object({
  version: v.object({ block: int64, app: v.optional(int64, '0') }),
  chain_id: v.string(),
  height,
  time: timeSchema,
  last_block_id: v.nullish(blockIdSchema),
  last_commit_hash: hex,
  data_hash: hex,
  validators_hash: hex,
  next_validators_hash: hex,
  consensus_hash: hex,
  app_hash: hex,
  last_results_hash: hex,
  evidence_hash: hex,
  proposer_address: hex,
});
type Header = v.InferOutput<typeof headerSchema>;

/** `block_id_flag` of a signature: no vote, a vote for the block, a vote for nil. */
const ABSENT = 1;
const FOR_BLOCK = 2;
const FOR_NIL = 3;

const commitSchema = v.object({
  height,
  round: v.pipe(int64, v.minValue(0n), v.maxValue(2n ** 31n - 1n)),
  block_id: blockIdSchema,
  signatures: v.nullish(
    v.array(
      v.object({
        block_id_flag: v.picklist([ABSENT, FOR_BLOCK, FOR_NIL]),
        validator_address: hex,
        timestamp: v.nullish(timeSchema),
        signature: base64,
      }),
    ),
    [],
  ),
});
type Commit = v.InferOutput<typeof commitSchema>;

export const validatorSetSchema = v.object({
  validators: v.nullish(
    v.array(
      v.object({
        address: hex,
        pub_key: v.object({ type: v.literal('tendermint/PubKeyEd25519'), value: v.pipe(base64, v.length(32)) }),
        voting_power: v.optional(int64),
        power: v.optional(int64),
      }),
    ),
    [],
  ),
});
type ValidatorSet = v.InferOutput<typeof validatorSetSchema>;

export const signedHeaderSchema = v.object({ header: headerSchema, commit: commitSchema });
export type SignedHeader = v.InferOutput<typeof signedHeaderSchema>;

/** A light block of Tendermint. */
export const lightBlockSchema = v.object({
  signed_header: signedHeaderSchema,
  validator_set: validatorSetSchema,
  next_validator_set: validatorSetSchema,
});

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hasher = createHash('sha256');
  for (const part of parts) hasher.update(part);
  return new Uint8Array(hasher.digest());
}

/** Merkle root of RFC 6962, section 2.1. */
function merkleRoot(items: readonly Uint8Array[]): Uint8Array {
  if (items.length === 0) return sha256();
  if (items.length === 1) return sha256(Uint8Array.of(0), items[0]);
  let left = 1;
  while (left * 2 < items.length) left *= 2;
  return sha256(Uint8Array.of(1), merkleRoot(items.slice(0, left)), merkleRoot(items.slice(left)));
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 127n) | (rest > 127n ? 128 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

/** A protobuf field of each kind; those with the default value are left out, as proto3 does. */
const tag = (field: number, wire: number) => varint(BigInt((field << 3) | wire));
const numberField = (field: number, value: bigint) =>
  value === 0n ? new Uint8Array() : Buffer.concat([tag(field, 0), varint(value)]);
const messageField = (field: number, bytes: Uint8Array) =>
  Buffer.concat([tag(field, 2), varint(BigInt(bytes.length)), bytes]);
const bytesField = (field: number, bytes: Uint8Array) =>
  bytes.length === 0 ? new Uint8Array() : messageField(field, bytes);
const fixedField = (field: number, value: bigint) => {
  if (value === 0n) return new Uint8Array();
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  return Buffer.concat([tag(field, 1), bytes]);
};
const text = (value: string) => Buffer.from(value, 'utf8');

function timestamp(nanoseconds: bigint): Uint8Array {
  const inSecond = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return Buffer.concat([numberField(1, (nanoseconds - inSecond) / 1_000_000_000n), numberField(2, inSecond)]);
}

function blockIdBytes({ hash, parts }: BlockId): Uint8Array {
  const header = Buffer.concat([numberField(1, parts.total), bytesField(2, parts.hash)]);
  return Buffer.concat([bytesField(1, hash), messageField(2, header)]);
}

function hashOfHeader(header: Header): Uint8Array {
  const none = { hash: new Uint8Array(), parts: { total: 0n, hash: new Uint8Array() } };
  return merkleRoot([
    Buffer.concat([numberField(1, header.version.block), numberField(2, header.version.app)]),
    bytesField(1, text(header.chain_id)),
    numberField(1, BigInt(header.height)),
    timestamp(header.time),
    blockIdBytes(header.last_block_id ?? none),
    ...[
      header.last_commit_hash,
      header.data_hash,
      header.validators_hash,
      header.next_validators_hash,
      header.consensus_hash,
      header.app_hash,
      header.last_results_hash,
      header.evidence_hash,
      header.proposer_address,
    ].map((bytes) => bytesField(1, bytes)),
  ]);
}

const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

interface Member extends AbstractValidator {
  readonly publicKey: Uint8Array;
}

interface Seal extends AbstractSeal {
  readonly timestamp: bigint | undefined;
  readonly signature: Uint8Array;
}

/** A light block of Tendermint as the rules see it. */
export interface TendermintBlock extends AbstractLightBlock<Member, Seal> {
  readonly raw: { readonly header: Header; readonly commit: Commit };
  /** What is wrong with it before anything is verified. */
  readonly problem: string | undefined;
}

/** The address of a key: the first 20 bytes of its SHA-256. */
const addressOf = (publicKey: Uint8Array): string => toHex(sha256(publicKey).subarray(0, 20));

/** Members in the order in which Tendermint hashes them: by falling power, then by address. */
export function membersOf({ validators }: ValidatorSet): { members: Member[]; problem: string | undefined } {
  let problem: string | undefined;
  const members = validators.map(({ address, pub_key, voting_power, power = 0n }) => {
    const id = addressOf(pub_key.value);
    if (id !== toHex(address)) problem = `${toHex(address)} is not the address of its key`;
    const weight = voting_power ?? power;
    if (weight < 0n) problem = `${id} has negative power`;
    return { id, publicKey: pub_key.value, power: weight };
  });
  members.sort((a, b) => (a.power === b.power ? (a.id < b.id ? -1 : 1) : a.power > b.power ? -1 : 1));
  return { members, problem };
}

/** Shows a signed header with its sets to the rules. Times are nanoseconds since the Unix epoch. */
export function tendermintBlock(
  { header, commit }: SignedHeader,
  validators: ValidatorSet,
  nextValidators: ValidatorSet,
): TendermintBlock {
  const own = membersOf(validators);
  const next = membersOf(nextValidators);
  const present = commit.signatures.filter(({ block_id_flag }) => block_id_flag !== ABSENT);
  // A commit has one entry for each validator, in the order of the set.
  const misses = commit.signatures.length === own.members.length ? undefined : 'the commit is not as long as the set';
  return {
    raw: { header, commit },
    problem: own.problem ?? next.problem ?? (present.length === 0 ? 'nobody signed' : misses),
    header: {
      chain: header.chain_id,
      height: header.height,
      time: header.time,
      validatorsHash: toHex(header.validators_hash),
      nextValidatorsHash: toHex(header.next_validators_hash),
    },
    commit: {
      height: commit.height,
      headerHash: toHex(commit.block_id.hash),
      seals: present.map((entry) => ({
        signer: toHex(entry.validator_address),
        forBlock: entry.block_id_flag === FOR_BLOCK,
        timestamp: entry.timestamp ?? undefined,
        signature: entry.signature,
      })),
    },
    validators: own.members,
    nextValidators: next.members,
  };
}

/** How Tendermint hashes and signs. */
export const tendermintScheme: LightScheme<Member, Seal, TendermintBlock> = {
  headerHash: ({ raw }) => toHex(hashOfHeader(raw.header)),
  setHash: (members) =>
    toHex(
      merkleRoot(
        members.map(({ publicKey, power }) =>
          Buffer.concat([messageField(1, bytesField(1, publicKey)), numberField(2, power)]),
        ),
      ),
    ),
  verifySeal: ({ raw }, { forBlock, timestamp: signedAt, signature }, { publicKey }) => {
    const { height: at, round, block_id } = raw.commit;
    // CanonicalVote, type 2 (precommit), preceded by its length.
    const vote = Buffer.concat([
      numberField(1, 2n),
      fixedField(2, BigInt(at)),
      fixedField(3, round),
      forBlock ? messageField(4, blockIdBytes(block_id)) : new Uint8Array(),
      messageField(5, signedAt === undefined ? new Uint8Array() : timestamp(signedAt)),
      bytesField(6, text(raw.header.chain_id)),
    ]);
    return verifySession(hashFromBytes(publicKey), Buffer.concat([varint(BigInt(vote.length)), vote]), signature);
  },
  malformed: ({ problem }) => problem,
};
