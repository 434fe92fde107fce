/**
 * Prepares the folder of a local network: shards, keys, genesis; or opens the one that is there.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import * as v from 'valibot';
import { buildCorpus } from '../../corpus/build/build-corpus.ts';
import { initialRoot } from '../../kernels/checkpoint/initial-store.ts';
import { type Preset, parsePreset, presetByName, presetRecord } from '../../kernels/model/preset.ts';
import { resolvePreset, samePreset } from '../../kernels/model/preset-file.ts';
import { GENESIS_MESSAGE, type Genesis, InvalidGenesisError, type NetworkFile } from '../../node/chain/genesis.ts';
import { readNetworkFile } from '../../node/chain/network-file.ts';
import { DataFolderError } from '../../node/data-folder.ts';
import { writeDurably } from '../../node/durable-file.ts';
import { loadOrCreateIdentity } from '../../node/identity/identity.ts';
import { publishedCorpusOf } from '../corpus-seeder.ts';
import { localParameters } from './parameters.ts';
import type { LocalRunOptions } from './run.ts';
import type { Member } from './supervisor.ts';

/** A local network that is ready to start. */
export interface LocalNetwork {
  readonly dir: string;
  readonly genesis: Genesis;
  readonly bootstrap: Member;
  readonly validators: readonly Member[];
  readonly miners: readonly Member[];
}

/** Thrown when the folder holds a network that was made with other settings. */
export class OtherNetworkError extends Error {
  static readonly code = 'ERR_OTHER_NETWORK';
  readonly code = OtherNetworkError.code;
  override readonly name = 'OtherNetworkError';
}

/** Thrown when the folder holds something else, or a network that was left half-made or damaged. */
export class LocalFolderError extends Error {
  static readonly code = 'ERR_LOCAL_FOLDER';
  readonly code = LocalFolderError.code;
  override readonly name = 'LocalFolderError';
}

/** Written last: a folder with it holds a whole network. */
const SETTINGS_FILE = 'local-network.json';
const NETWORK_FILE = 'network.json';
const CORPUS_FOLDER = 'corpus';

/** Voting power of each founding validator. */
const FOUNDING_WEIGHT = '1000';

const settingsSchema = v.strictObject({
  version: v.literal(1),
  model: v.string(),
  corpus: v.union([v.literal('default'), v.array(v.string())]),
  validators: v.pipe(v.number(), v.integer(), v.minValue(1)),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
  trainSeconds: v.pipe(v.number(), v.minValue(0)),
});
type Settings = v.InferOutput<typeof settingsSchema>;

interface PrepareContext {
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** 32 bytes from the seed on the command line, a different one for each purpose. */
function seedBytes(purpose: string, seed: number): Uint8Array {
  return new Uint8Array(createHash('sha256').update(`alice/local-seed/1/${purpose}/${seed}`).digest());
}

/** True when a folder holds nothing that is no part of a built corpus: such a one may be written to, and deleted. */
async function isCorpusFolder(path: string): Promise<boolean> {
  const names: string[] = await readdir(path).catch(() => ['']);
  return names.every((name) => /^(manifest|inputs)\.json(\.tmp)?$|^\.building$|\.shard$/.test(name));
}

/** True for what this command made in the folder of a local network; others may keep their own things there. */
async function isOurs(dir: string, name: string): Promise<boolean> {
  const path = join(dir, name);
  if (/^(local-network\.json|network\.json\.new|local-network\.json\.new)$/.test(name)) return true;
  if (name === NETWORK_FILE) return (await readFile(path, 'utf8').catch(() => '')).includes('"genesis"');
  if (name === CORPUS_FOLDER) return isCorpusFolder(path);
  if (!/^(bootstrap|(validator|miner)-\d+)$/.test(name)) return false;
  return existsSync(join(path, 'keys')) || existsSync(join(path, 'output.log'));
}

/** Deletes the network in the folder and nothing else, after asking where there is someone to ask. */
async function clear(options: LocalRunOptions, { say, signal }: PrepareContext): Promise<void> {
  const { dir } = options;
  const entries: string[] = await readdir(dir).catch(() => []);
  if (entries.length === 0) return;
  const ours: string[] = [];
  for (const name of entries) if (await isOurs(dir, name)) ours.push(name);
  // Folders of nodes alone may hold keys of another network.
  if (!ours.some((name) => [SETTINGS_FILE, NETWORK_FILE, CORPUS_FOLDER].includes(name))) {
    throw new LocalFolderError(`${dir} holds no local network: --fresh deletes nothing there; choose another --dir`);
  }
  if (process.stdin.isTTY && process.stderr.isTTY && !options.assumeYes) {
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    try {
      const question = `delete the network in ${dir}, its keys and its weights? [y/N] `;
      const answer = await terminal.question(question, { signal });
      if (!/^y(es)?$/i.test(answer.trim())) throw new LocalFolderError('nothing was deleted; run without --fresh');
    } finally {
      terminal.close();
    }
  }
  say(`deleting ${dir}`);
  for (const name of ours) await rm(join(dir, name), { recursive: true });
}

async function readSettings(dir: string): Promise<Settings | undefined> {
  let text: string;
  try {
    text = await readFile(join(dir, SETTINGS_FILE), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return v.parse(settingsSchema, JSON.parse(text));
  } catch (cause) {
    throw new LocalFolderError(`${join(dir, SETTINGS_FILE)} is damaged: start anew with --fresh`, { cause });
  }
}

/** Builds the shards, showing progress. */
async function buildShards(dir: string, settings: Settings, preset: Preset, { say, signal }: PrepareContext) {
  let lastPercent = -25;
  const manifest = await buildCorpus({
    sources: settings.corpus,
    outDir: join(dir, CORPUS_FOLDER),
    vocabulary: preset.vocabulary,
    seed: seedBytes('corpus', settings.seed),
    signal,
    onProgress: ({ phase, bytesRead, bytesTotal, tokens, megabytesPerSecond }) => {
      const percent = bytesTotal === 0 ? 100 : Math.floor((100 * bytesRead) / bytesTotal);
      if (phase !== 'reading' || percent < lastPercent + 25) return;
      lastPercent = percent;
      say(`corpus: ${percent} % read, ${tokens} tokens, ${megabytesPerSecond.toFixed(1)} MB/s`);
    },
  });
  say(
    `corpus: ${manifest.source.description}: ${manifest.totals.tokens} tokens in ${manifest.training.length} training and ${manifest.heldOut.length} held-out shards of ${manifest.shardTokens}`,
  );
  return manifest;
}

/** Makes keys, shards and the genesis. The settings are written last. */
async function create(
  { dir }: LocalRunOptions,
  settings: Settings,
  preset: Preset,
  context: PrepareContext,
): Promise<Genesis> {
  const manifest = await buildShards(dir, settings, preset, context);
  const published = await publishedCorpusOf(join(dir, CORPUS_FOLDER), manifest, context);
  context.say(`genesis: random weights of ${preset.name} from seed ${settings.seed}`);
  const seed = seedBytes('weights', settings.seed);
  const validators = await Promise.all(
    Array.from({ length: settings.validators }, async (_, index) => {
      const identity = await loadOrCreateIdentity(join(dir, `validator-${index + 1}`, 'keys'));
      return {
        address: identity.address as string,
        sessionKey: identity.sessionKey as string,
        certificate: Buffer.from(identity.certificate()).toString('hex'),
        weight: FOUNDING_WEIGHT,
      };
    }),
  );
  const genesis: Genesis = {
    version: 1,
    name: 'local',
    timeMs: Date.now(),
    message: GENESIS_MESSAGE,
    preset: presetRecord(preset),
    seed: Buffer.from(seed).toString('hex'),
    modelRoot: initialRoot(preset, seed),
    corpus: {
      manifest: published.cid,
      trainingShards: manifest.training.length,
      heldOutShards: manifest.heldOut.length,
      shardTokens: manifest.shardTokens,
    },
    validators,
    parameters: localParameters(settings.trainSeconds, manifest.training.length),
  };
  await writeDurably(
    join(dir, NETWORK_FILE),
    `${JSON.stringify({ genesis, bootstrap: [] } satisfies NetworkFile, null, 1)}\n`,
  );
  await writeDurably(join(dir, SETTINGS_FILE), `${JSON.stringify(settings, null, 1)}\n`);
  return genesis;
}

/** Settings of a network that nobody asked to be otherwise. */
const DEFAULTS: Settings = {
  version: 1,
  model: 'alice-nano',
  corpus: 'default',
  validators: 4,
  seed: 1,
  trainSeconds: 5,
};

/** Settings that the command line asks for; those it says nothing about are left out. */
function askedFor(options: LocalRunOptions, preset: Preset | undefined): Partial<Settings> {
  const { corpus, validators, seed, trainSeconds } = options;
  const asked = { model: preset?.name, validators, seed, trainSeconds, corpus: corpus?.map((path) => resolve(path)) };
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
}

/** The first thing that was asked for and is not so, in words; undefined when there is none. */
function contradiction(found: Settings, asked: Partial<Settings>): string | undefined {
  const same = (key: keyof Settings) => !(key in asked) || JSON.stringify(asked[key]) === JSON.stringify(found[key]);
  if (!same('model')) return `--model ${found.model}`;
  if (!same('corpus')) return found.corpus === 'default' ? 'the default corpus' : `--corpus ${found.corpus.join(' ')}`;
  if (!same('validators')) return `--validators ${found.validators}`;
  if (!same('seed')) return `--seed ${found.seed}`;
  if (!same('trainSeconds')) return `--train-seconds ${found.trainSeconds}`;
  return undefined;
}

/**
 * Prepares the network of a folder. Throws {@link OtherNetworkError} when one with other settings is there,
 * {@link LocalFolderError}, DataFolderError, and what reading the corpus throws.
 */
export async function prepareLocalNetwork(options: LocalRunOptions, context: PrepareContext): Promise<LocalNetwork> {
  const { dir } = options;
  // Before anything is deleted or made: a misspelt preset is found at once.
  const preset = options.model === undefined ? undefined : await resolvePreset(options.model);
  const asked = askedFor(options, preset);
  if (options.fresh) await clear(options, context);
  try {
    await mkdir(dir, { recursive: true });
  } catch (cause) {
    throw new DataFolderError(
      `cannot make the folder ${dir} (${(cause as NodeJS.ErrnoException).code ?? 'unknown'}): choose another with --dir`,
      { cause },
    );
  }
  const found = await readSettings(dir);
  let genesis: Genesis;
  if (found === undefined) {
    if (existsSync(join(dir, CORPUS_FOLDER)) && !(await isCorpusFolder(join(dir, CORPUS_FOLDER)))) {
      throw new LocalFolderError(
        `${join(dir, CORPUS_FOLDER)} holds something else, and token shards would go there: choose another --dir`,
      );
    }
    genesis = await create(options, { ...DEFAULTS, ...asked }, preset ?? presetByName(DEFAULTS.model), context);
  } else {
    const difference = contradiction(found, asked);
    if (difference !== undefined) {
      throw new OtherNetworkError(
        `${dir} holds a network made with ${difference}: use that, another --dir, or --fresh`,
      );
    }
    genesis = await genesisIn(dir);
    if (preset !== undefined && !samePreset(preset, parsePreset(genesis.preset))) {
      throw new OtherNetworkError(
        `${dir} holds a network whose ${preset.name} has another shape: use its preset, another --dir, or --fresh`,
      );
    }
    context.say(`going on with the network in ${dir}`);
  }
  return { dir, genesis, ...members(options, genesis.validators.length) };
}

/** Genesis of the network that a folder holds. Throws {@link OtherNetworkError} for one that this program cannot run. */
async function genesisIn(dir: string): Promise<Genesis> {
  try {
    return (await readNetworkFile(join(dir, NETWORK_FILE))).genesis;
  } catch (cause) {
    if (!(cause instanceof InvalidGenesisError)) throw cause;
    throw new OtherNetworkError(
      `${dir} holds a network that this version of Alice cannot go on with (${cause.message}): use another --dir, or --fresh`,
      { cause },
    );
  }
}

/**
 * How a member computes. The device was tried once for all. What was left to `auto` is not repeated: it would hide what
 * `alice.json` in a member's folder says.
 */
function computing({ device, backend, precision }: LocalRunOptions): string[] {
  const asked = Object.entries({ backend, precision }).filter(([, choice]) => choice !== 'auto');
  return ['--device', device, ...asked.flatMap(([name, choice]) => [`--${name}`, choice])];
}

function members(
  options: LocalRunOptions,
  validators: number,
): Pick<LocalNetwork, 'bootstrap' | 'validators' | 'miners'> {
  const { dir } = options;
  const member = (role: Member['role'], name: string, more: readonly string[] = []): Member => ({
    name,
    role,
    dir: join(dir, name),
    arguments: [
      role,
      ...['--network', join(dir, NETWORK_FILE)],
      ...['--dir', join(dir, name)],
      ...['--name', name],
      ...['--listen', '/ip4/127.0.0.1/tcp/0'],
      // Several members share the cores: one thread each.
      ...['--threads', '1'],
      ...(role === 'bootstrap' ? [] : computing(options)),
      ...more,
    ],
  });
  const numbered = (role: 'validator' | 'miner', count: number) =>
    Array.from({ length: count }, (_, index) => member(role, `${role}-${index + 1}`));
  return {
    bootstrap: member('bootstrap', 'bootstrap', ['--corpus', join(dir, CORPUS_FOLDER)]),
    validators: numbered('validator', validators),
    miners: numbered('miner', options.miners),
  };
}

/** Writes the network file that the members and later joiners are given, with the present bootstrap addresses. */
export async function writeNetworkFile(network: LocalNetwork, bootstrap: readonly string[]): Promise<void> {
  const file: NetworkFile = { genesis: network.genesis, bootstrap: [...bootstrap] };
  await writeDurably(join(network.dir, NETWORK_FILE), `${JSON.stringify(file, null, 1)}\n`);
}
