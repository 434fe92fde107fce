/**
 * The manifest of a corpus: which shards there are, which of them are held out, and what they were made of.
 */
import { createHash } from 'node:crypto';
import { readFile as readWhole, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { InvalidManifestError, InvalidShardError } from '../errors.ts';
import { decodeWhole } from '../read/utf8.ts';
import { FULL_VOCABULARY, MIN_VOCABULARY } from '../tokenizer/tokenizer.ts';
import { MAX_SHARD_BYTES, MAX_SHARD_TOKENS, readShard, type Shard } from './shard.ts';

/** Name of the manifest in the folder of a corpus. */
export const MANIFEST_FILE = 'manifest.json';

/** Largest manifest that is read: some 100,000 shards, the published corpus has 60,001. */
export const MAX_MANIFEST_BYTES = 32 * 1024 * 1024;

/** What `format` says; other versions are refused. */
export const MANIFEST_FORMAT = 'alice-corpus/1';

const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));

const shardEntrySchema = v.strictObject({
  /** Name in the folder of the corpus: the hash and ".shard", so no name leads out of the folder. */
  file: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}\.shard$/)),
  /** SHA-256 of the whole file, hex. */
  sha256,
  tokens: v.pipe(count, v.minValue(1), v.maxValue(MAX_SHARD_TOKENS)),
});
/** One shard in a manifest. */
export type ShardEntry = v.InferOutput<typeof shardEntrySchema>;

const manifestSchema = v.strictObject({
  format: v.literal(MANIFEST_FORMAT),
  tokenizer: v.strictObject({
    /** GPT-2 byte-pair encoding, the first `vocabulary - 1` ranks and end-of-text as the last id. */
    name: v.literal('r50k_base-prefix'),
    vocabulary: v.pipe(count, v.minValue(MIN_VOCABULARY), v.maxValue(FULL_VOCABULARY)),
    endOfText: count,
  }),
  /** Tokens in every shard. */
  shardTokens: v.pipe(count, v.minValue(1), v.maxValue(MAX_SHARD_TOKENS)),
  /** Seed of the order and of the held-out choice, hex. */
  seed: sha256,
  source: v.strictObject({
    kind: v.picklist(['wordnet', 'files']),
    /** For people: what the text is. */
    description: v.pipe(v.string(), v.maxLength(1024)),
    files: count,
    /** Bytes on disk that were read. */
    bytes: count,
  }),
  totals: v.strictObject({
    /** Different documents, held out ones included. */
    documents: count,
    heldOutDocuments: count,
    /** Documents left out because the very same text was there already. */
    duplicates: count,
    /** UTF-8 bytes of the different documents. */
    textBytes: count,
    /** Tokens of the different documents, one end-of-text for each included. */
    tokens: count,
    /** Tokens in no shard: what was left when the last shard of either kind was full. */
    droppedTokens: count,
  }),
  training: v.pipe(v.array(shardEntrySchema), v.minLength(1)),
  /** Shards that nobody trains on. No document is in a shard of both kinds. */
  heldOut: v.pipe(v.array(shardEntrySchema), v.minLength(1)),
});

/** A corpus manifest. Shards are referred to by their index in `training` or `heldOut`. */
export type Manifest = v.InferOutput<typeof manifestSchema>;

/** The one text of a manifest: what is written, hashed and sent. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(manifest, null, 1)}\n`);
}

/**
 * Reads the bytes of a manifest, whoever sent them. Pure. Throws {@link InvalidManifestError} for what is too large, not
 * JSON, of another format or version, out of range, or contradicts itself.
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw new InvalidManifestError(`corpus manifest of ${bytes.length} bytes, at most ${MAX_MANIFEST_BYTES} are read`);
  }
  let value: unknown;
  try {
    value = JSON.parse(decodeWhole(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), MANIFEST_FILE, 0));
  } catch (cause) {
    throw new InvalidManifestError('corpus manifest damaged: not JSON; build the corpus again', { cause });
  }
  const result = v.safeParse(manifestSchema, value, { abortEarly: true });
  if (!result.success) {
    const issue = result.issues[0];
    const where = v.getDotPath(issue) ?? 'top level';
    throw new InvalidManifestError(`corpus manifest invalid at ${where}: ${issue.message.slice(0, 200)}`);
  }
  const manifest = result.output;
  for (const shard of [...manifest.training, ...manifest.heldOut]) {
    if (shard.file !== `${shard.sha256}.shard` || shard.tokens !== manifest.shardTokens) {
      throw new InvalidManifestError(`corpus manifest contradicts itself about shard ${shard.file}`);
    }
  }
  const heldOut = new Set(manifest.heldOut.map((shard) => shard.sha256));
  if (manifest.training.some((shard) => heldOut.has(shard.sha256))) {
    throw new InvalidManifestError('corpus manifest has a shard both for training and held out');
  }
  if (manifest.tokenizer.endOfText !== manifest.tokenizer.vocabulary - 1) {
    throw new InvalidManifestError('corpus manifest names an end-of-text token that is not the last of the vocabulary');
  }
  return manifest;
}

/** Reads the manifest in the folder of a corpus. Throws {@link InvalidManifestError}, also when there is none. */
export async function readManifest(folder: string): Promise<Manifest> {
  const path = join(folder, MANIFEST_FILE);
  return parseManifest(await readLimited(path, MAX_MANIFEST_BYTES, InvalidManifestError));
}

/**
 * Reads a shard of a corpus folder and checks it against its entry in the manifest. Throws {@link InvalidShardError}.
 */
export async function loadShard(folder: string, manifest: Manifest, entry: ShardEntry): Promise<Shard> {
  const path = join(folder, entry.file);
  return checkShard(await readLimited(path, MAX_SHARD_BYTES, InvalidShardError), manifest, entry);
}

/** Checks the bytes of a shard against its entry in the manifest and reads them. Throws {@link InvalidShardError}. */
export function checkShard(bytes: Uint8Array, manifest: Manifest, entry: ShardEntry): Shard {
  if (createHash('sha256').update(bytes).digest('hex') !== entry.sha256) {
    throw new InvalidShardError(`shard ${entry.file} damaged: not the bytes that the manifest names; fetch it again`);
  }
  const shard = readShard(bytes);
  if (shard.vocabulary !== manifest.tokenizer.vocabulary || shard.tokens.length !== entry.tokens) {
    throw new InvalidShardError(`shard ${entry.file} is not of the vocabulary or length that the manifest names`);
  }
  return shard;
}

async function readLimited(
  path: string,
  limitBytes: number,
  Failure: typeof InvalidManifestError | typeof InvalidShardError,
): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > limitBytes) throw new Failure(`${path}: ${size} bytes, more than the ${limitBytes} that it may have`);
    return await readWhole(path);
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const reason = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
    throw new Failure(`${path}: cannot be read (${reason}); build or fetch the corpus again`, { cause });
  }
}
