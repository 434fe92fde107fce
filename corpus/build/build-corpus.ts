/**
 * Builds the shards of a corpus in a folder: text -> documents -> tokens -> shards -> manifest.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeDurably, writeSynced } from '../durable-file.ts';
import { CorpusError, CorpusOutputError, EmptySourceError, InvalidCorpusOptionError } from '../errors.ts';
import { readDocuments } from '../read/documents.ts';
import { findSources, type SourceFile } from '../read/sources.ts';
import { readWordnet, wordnetSources } from '../read/wordnet.ts';
import {
  checkShard,
  encodeManifest,
  MANIFEST_FILE,
  MANIFEST_FORMAT,
  type Manifest,
  parseManifest,
} from '../shard/manifest.ts';
import { SEED_BYTES } from '../shard/windows.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { DocumentOrder } from './document-order.ts';
import { type PackedShards, packShards } from './pack.ts';
import { checkPlanOptions, MIN_TRAINING_SHARDS, type PlanOptions, planShards, tooSmall } from './plan.ts';
import { type BuildProgress, ProgressMeter } from './progress.ts';

/** Goes up whenever equal inputs would give other shards, so that old results are not taken for new ones. */
const BUILD_VERSION = 1;

/** Records in the folder what the shards were built from, to build only once. Not part of the corpus. */
const INPUTS_FILE = 'inputs.json';

/** Everything unfinished is in this folder inside the output folder. */
const WORK_FOLDER = '.building';

/** Running text is cut into about this many documents, so that even one book can be shuffled and held out from. */
const WANTED_TEXT_DOCUMENTS = 256;
/** Bounds on the length of documents cut from running text, in UTF-16 code units: about 600 and 20,000 tokens. */
const MIN_DOCUMENT_LENGTH = 2048;
const MAX_DOCUMENT_LENGTH = 65_536;

/** Zstandard shrinks text about so much; only for guesses. */
const ZSTD_RATIO = 4;

/** What to build. */
export interface BuildCorpusOptions extends PlanOptions {
  /** Files, folders and patterns (see findSources), or the WordNet sentences that come with the program. */
  readonly sources: 'default' | readonly string[];
  /** Folder of the result; made when it is not there. One build at a time in a folder. */
  readonly outDir: string;
  /** Tokens of the vocabulary, 512 to 50,257: see createTokenizer. */
  readonly vocabulary: number;
  /** 32 bytes that decide the order of the documents and which are held out. */
  readonly seed: Uint8Array;
  readonly onProgress?: (progress: BuildProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * Builds a corpus in `outDir`, or returns the manifest that is there when it was built from the same inputs (files by
 * path, size and time) and all its shards are intact. The result depends on the documents, vocabulary, seed and sizes
 * only: not on the machine, the paths, or the order of the files. The manifest is written last and at once; an interrupted
 * build leaves the former corpus as it was, or none. Throws the errors of `errors.ts`, or the reason of `signal`.
 * Memory: measured up to 0.5 GB of resident set for 0.6 GB of text as for 0.15 GB, most of it garbage not yet collected;
 * it grows beyond about 8 GiB of tokens. Space on disk: the shards twice while building.
 */
export async function buildCorpus(options: BuildCorpusOptions): Promise<Manifest> {
  const { outDir, seed, signal } = options;
  checkPlanOptions(options);
  if (seed.length !== SEED_BYTES) {
    throw new InvalidCorpusOptionError(`a corpus seed has ${SEED_BYTES} bytes, got ${seed.length}`);
  }
  const tokenizer = createTokenizer(options.vocabulary);
  const files = options.sources === 'default' ? await wordnetSources() : await findSources(options.sources, { signal });
  const meter = new ProgressMeter(
    files.reduce((sum, file) => sum + file.bytes, 0),
    options.onProgress,
  );
  const inputs = fingerprint(options, files);
  const former = await reusable(outDir, inputs, signal);
  if (former !== undefined) {
    meter.finish('reused', { ...former.totals, shards: former.training.length + former.heldOut.length });
    return former;
  }

  const work = join(outDir, WORK_FOLDER);
  try {
    await rm(work, { recursive: true, force: true });
    await mkdir(work, { recursive: true });
    const expectedBytes = files.reduce((sum, file) => sum + textBytesOf(file), 0);
    const order = new DocumentOrder({ folder: work, seed, expectedBytes });
    for await (const text of documentsOf(options.sources, files, { onBytes: (bytes) => meter.read(bytes), signal })) {
      signal?.throwIfAborted();
      const encoded = tokenizer.encode(text);
      const tokens = new Uint16Array(encoded.length + 1);
      tokens.set(encoded);
      tokens[encoded.length] = tokenizer.endOfText;
      await order.add(text, tokens);
      meter.document(tokens.length);
    }
    const totals = await order.settle({ signal });
    if (totals.documents === 0) {
      throw new EmptySourceError(`${names(files)}: nothing but white space in the corpus; name files with text`);
    }
    const plan = planShards(totals, options);
    const packed = await packShards(
      order.documents(),
      { ...plan, vocabulary: tokenizer.vocabulary },
      async (entry, bytes) => {
        signal?.throwIfAborted();
        await writeSynced(join(work, entry.file), bytes);
        meter.shard();
      },
    );
    if (packed.training.length < MIN_TRAINING_SHARDS || packed.heldOut.length < plan.heldOutShards) {
      throw tooSmall(totals, plan.shardTokens);
    }
    const shards = packed.training.length + packed.heldOut.length;
    const manifest: Manifest = {
      format: MANIFEST_FORMAT,
      tokenizer: {
        name: 'r50k_base-prefix',
        vocabulary: tokenizer.vocabulary,
        endOfText: tokenizer.endOfText,
      },
      shardTokens: plan.shardTokens,
      seed: Buffer.from(seed).toString('hex'),
      source: describe(options.sources, files),
      totals: {
        documents: totals.documents,
        heldOutDocuments: packed.heldOutDocuments,
        duplicates: totals.duplicates,
        textBytes: totals.textBytes,
        tokens: totals.tokens,
        droppedTokens: totals.tokens - shards * plan.shardTokens,
      },
      training: [...packed.training],
      heldOut: [...packed.heldOut],
    };
    signal?.throwIfAborted();
    await publish(outDir, manifest, packed, inputs);
    meter.finish('done', { ...manifest.totals, shards });
    return manifest;
  } catch (cause) {
    signal?.throwIfAborted();
    // Failures to read are CorpusErrors already, so what the file system refused was the output.
    const { code, syscall } = cause as NodeJS.ErrnoException;
    if (cause instanceof CorpusError || syscall === undefined) throw cause;
    throw new CorpusOutputError(`${outDir}: cannot be written (${code}); choose another folder or free some space`, {
      cause,
    });
  } finally {
    await rm(work, { recursive: true, force: true }).catch(() => {
      // Not ours to report: the next build clears it, and the outcome above matters more.
    });
  }
}

/** Moves finished shards to their place and makes them the corpus by writing the manifest; then clears old shards. */
async function publish(outDir: string, manifest: Manifest, packed: PackedShards, inputs: string): Promise<void> {
  // Shards are named by their content: none of the former corpus is overwritten by another.
  const names = new Set([...packed.training, ...packed.heldOut].map((entry) => entry.file));
  for (const name of names) await rename(join(outDir, WORK_FOLDER, name), join(outDir, name));
  await syncFolder(outDir);
  const bytes = encodeManifest(manifest);
  await writeDurably(join(outDir, MANIFEST_FILE), bytes);
  await writeDurably(join(outDir, INPUTS_FILE), `${JSON.stringify({ inputs, manifest: sha256(bytes) })}\n`);
  for (const name of await readdir(outDir)) {
    if (name.endsWith('.shard') && !names.has(name)) await rm(join(outDir, name), { force: true });
  }
}

/** The manifest in `outDir` when it was made from these inputs and everything is intact; otherwise undefined. */
async function reusable(outDir: string, inputs: string, signal?: AbortSignal): Promise<Manifest | undefined> {
  try {
    const record: unknown = JSON.parse(await readFile(join(outDir, INPUTS_FILE), 'utf8'));
    const bytes = await readFile(join(outDir, MANIFEST_FILE));
    const expected = { inputs, manifest: sha256(bytes) };
    if (JSON.stringify(record) !== JSON.stringify(expected)) return undefined;
    const manifest = parseManifest(bytes);
    for (const entry of [...manifest.training, ...manifest.heldOut]) {
      signal?.throwIfAborted();
      checkShard(await readFile(join(outDir, entry.file)), manifest, entry);
    }
    return manifest;
  } catch {
    // Missing or damaged, whatever the reason: it is built again.
    signal?.throwIfAborted();
    return undefined;
  }
}

/** Hash of all that decides the result, as far as it can be told without reading the text. */
function fingerprint(options: BuildCorpusOptions, files: readonly SourceFile[]): string {
  return sha256(
    JSON.stringify([
      BUILD_VERSION,
      MANIFEST_FORMAT,
      // Which characters are letters decides where text is split.
      process.versions.unicode,
      options.vocabulary,
      options.shardTokens ?? null,
      options.heldOutFraction ?? null,
      Buffer.from(options.seed).toString('hex'),
      options.sources === 'default',
      files.map((file) => [file.path, file.bytes, file.modifiedMs]),
    ]),
  );
}

async function* documentsOf(
  sources: BuildCorpusOptions['sources'],
  files: readonly SourceFile[],
  options: { onBytes: (bytes: number) => void; signal?: AbortSignal },
): AsyncGenerator<string> {
  const documentLength = textDocumentLength(files);
  for (const file of files) {
    yield* sources === 'default' ? readWordnet(file, options) : readDocuments(file, { ...options, documentLength });
  }
}

/** Length of documents cut from running text: a power of two that gives about {@link WANTED_TEXT_DOCUMENTS}. */
function textDocumentLength(files: readonly SourceFile[]): number {
  const bytes = files.reduce((sum, file) => sum + (file.format === 'text' ? file.bytes : 0), 0);
  const wished = 2 ** Math.floor(Math.log2(Math.max(1, bytes / WANTED_TEXT_DOCUMENTS)));
  return Math.min(MAX_DOCUMENT_LENGTH, Math.max(MIN_DOCUMENT_LENGTH, wished));
}

function textBytesOf(file: SourceFile): number {
  return file.format === 'jsonl.zst' ? file.bytes * ZSTD_RATIO : file.bytes;
}

/** What the manifest says of the text. No paths: they would tell about the machine, and make equal corpora differ. */
function describe(sources: BuildCorpusOptions['sources'], files: readonly SourceFile[]): Manifest['source'] {
  return {
    kind: sources === 'default' ? 'wordnet' : 'files',
    description:
      sources === 'default'
        ? 'definitions and examples of WordNet 3.1, Copyright 2011 by Princeton University'
        : names(files),
    files: files.length,
    bytes: files.reduce((sum, file) => sum + file.bytes, 0),
  };
}

/** Most file names that a description lists, and most characters of each. */
const MAX_LISTED_FILES = 8;
const MAX_LISTED_NAME = 80;

function names(files: readonly SourceFile[]): string {
  const listed = files
    .slice(0, MAX_LISTED_FILES)
    .map((file) => (file.path.split(/[\\/]/).pop() ?? '').slice(0, MAX_LISTED_NAME).toWellFormed());
  const more = files.length - listed.length;
  return more > 0 ? `${listed.join(', ')} and ${more} more` : listed.join(', ');
}

function sha256(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex');
}
