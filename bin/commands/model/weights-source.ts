/**
 * What a path on the command line means: the tensor file of a node, or a folder that other programs read.
 */
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { readTensorFileHeader, type TensorFileHeader } from '../../../kernels/checkpoint/tensor-file.ts';
import { InvalidPresetError, type Preset, parsePreset, presetByName, presets } from '../../../kernels/model/preset.ts';
import { presetHash } from '../../../kernels/model/preset-hash.ts';
import { readNetworkFile } from '../../../node/chain/network-file.ts';
import { UsageError } from '../../report-failure.ts';

/** The weights in a node's data folder. */
const WEIGHTS_FILE = 'weights.bin';
/** The network file that `alice up` puts above the folders of its nodes. */
const NETWORK_FILE = 'network.json';

async function kindOf(path: string): Promise<'file' | 'folder' | 'none'> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return 'none';
    throw error;
  }
}

/** Weights of a node (tensor file), or a model of another program (`foreign`). */
export type WeightsSource =
  | { readonly kind: 'tensor-file'; readonly path: string; readonly header: TensorFileHeader }
  | { readonly kind: 'foreign'; readonly path: string };

/** Finds weights at a path. Throws {@link UsageError} that says what was expected, or a TensorFileError. */
export async function findWeights(path: string): Promise<WeightsSource> {
  const kind = await kindOf(path);
  if (kind === 'none') throw new UsageError(`there is nothing at ${path}`);
  if (kind === 'file') {
    if (path.endsWith('.safetensors')) return { kind: 'foreign', path };
    return { kind: 'tensor-file', path, header: await readTensorFileHeader(path) };
  }
  const inside = join(path, WEIGHTS_FILE);
  if ((await kindOf(inside)) === 'file') {
    return { kind: 'tensor-file', path: inside, header: await readTensorFileHeader(inside) };
  }
  for (const file of ['model.safetensors', 'model.safetensors.index.json']) {
    if ((await kindOf(join(path, file))) === 'file') return { kind: 'foreign', path };
  }
  const hint =
    (await kindOf(join(path, NETWORK_FILE))) === 'file'
      ? ': it holds a network; name the folder of one of its nodes'
      : '';
  throw new UsageError(`${path} holds neither ${WEIGHTS_FILE} nor model.safetensors${hint}`);
}

/** Where a tensor file of a node is to be written: a path, or a folder that gets a {@link WEIGHTS_FILE}. */
export async function targetFile(path: string, force: boolean): Promise<string> {
  const file = (await kindOf(path)) === 'folder' ? join(path, WEIGHTS_FILE) : path;
  if (!force && (await kindOf(file)) !== 'none') throw new UsageError(`${file} exists already: --force replaces it`);
  if ((await kindOf(join(dirname(file), 'node.lock'))) !== 'none') {
    throw new UsageError(`${dirname(file)} belongs to a running node: stop it first`);
  }
  return file;
}

/** Flags that name a preset. */
export interface PresetFlags {
  readonly preset?: string;
  readonly network?: string;
}

/** Adds them to a command. */
export function addPresetFlags(command: Command): Command {
  return command
    .option(
      '--preset <name|file>',
      'shape of the model: a known preset, or a JSON file with one (default: found by itself)',
    )
    .option('--network <file>', 'network file whose preset the model has');
}

/** The preset that flags name; undefined when they name none. Throws InvalidPresetError, InvalidGenesisError. */
export async function presetOfFlags({ preset, network }: PresetFlags): Promise<Preset | undefined> {
  if (preset !== undefined && network !== undefined) throw new UsageError('give --preset or --network, not both');
  if (network !== undefined) return parsePreset((await readNetworkFile(network)).genesis.preset);
  if (preset === undefined) return undefined;
  if (!preset.endsWith('.json')) return presetByName(preset);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(preset, 'utf8'));
  } catch (cause) {
    throw new InvalidPresetError(`cannot read a preset from ${preset}: ${(cause as Error).message}`, { cause });
  }
  return parsePreset(value as Record<string, unknown>);
}

/**
 * The preset of a tensor file, which names it by its hash: that of the flags, a known one, or that of a network file beside
 * or above. Undefined when none has the hash. Throws as {@link presetOfFlags}.
 */
export async function presetOfTensorFile(
  { path, header }: { readonly path: string; readonly header: TensorFileHeader },
  flags: PresetFlags,
): Promise<Preset | undefined> {
  const named = await presetOfFlags(flags);
  // A wrong one is not passed over: whoever gives it gets to know.
  if (named !== undefined) return named;
  const known = Object.values<Preset>(presets).find((preset) => presetHash(preset) === header.presetHash);
  if (known !== undefined) return known;
  for (const folder of [dirname(path), dirname(dirname(path))]) {
    const file = join(folder, NETWORK_FILE);
    if ((await kindOf(file)) !== 'file') continue;
    const preset = parsePreset((await readNetworkFile(file)).genesis.preset);
    if (presetHash(preset) === header.presetHash) return preset;
  }
  return undefined;
}

/** As {@link presetOfTensorFile}, but throws {@link UsageError} when there is none. */
export async function requirePreset(
  source: { readonly path: string; readonly header: TensorFileHeader },
  flags: PresetFlags,
): Promise<Preset> {
  const preset = await presetOfTensorFile(source, flags);
  if (preset !== undefined) return preset;
  const { header, path } = source;
  throw new UsageError(
    `${path} is of a model whose shape is not known here (preset ${header.presetHash.slice(0, 16)}): give --network or --preset`,
  );
}
