/**
 * Weights of a tensor file as a Hugging Face folder: `model.safetensors` (or numbered shards and their index) and
 * `config.json`. The numbers pass through once, 1 MiB at a time, and their root is checked on the way.
 */
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { MODEL_CHUNK_BYTES } from '../aggregate/model-root.ts';
import { parameterCount, type TensorSlot, tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { ChunkDigests } from './chunk-digests.ts';
import { TensorFileContentError, TensorFileMismatchError, TensorFileSizeError } from './errors.ts';
import { encodeConfig, huggingFaceName } from './hugging-face-config.ts';
import { ModelTargetError } from './safetensors-errors.ts';
import { encodeSafetensorsHeader } from './safetensors-header.ts';
import { openTensorFile, readAll, TENSOR_FILE_HEADER_BYTES, type TensorFileHeader, writeAll } from './tensor-file.ts';

/** Largest shard by default, as the format's own writer has it: file systems and hosts that stop at 5 GB can hold it. */
export const DEFAULT_SHARD_BYTES = 5_000_000_000;

/** Name of the one weights file of a small model. */
export const SAFETENSORS_FILE = 'model.safetensors';

/** Name of the index of a model in shards. */
export const SAFETENSORS_INDEX_FILE = 'model.safetensors.index.json';

/** Metadata keys that name what was exported. */
export const METADATA = {
  presetHash: 'alice.preset_hash',
  modelRoot: 'alice.model_root',
  round: 'alice.round',
} as const;

/** What to export, and where to. */
export interface ModelExport {
  /** Tensor file with weights. */
  readonly source: string;
  readonly preset: Preset;
  /** Folder to make; it may exist when it is empty. */
  readonly folder: string;
  /** Further files of the folder by name (tokenizer), as text. */
  readonly files?: Readonly<Record<string, string>>;
  /** Most bytes of weights in one file; a larger tensor has a file of its own. {@link DEFAULT_SHARD_BYTES} by default. */
  readonly shardBytes?: number;
}

/** What was exported. */
export interface ExportedModel {
  readonly round: number;
  readonly modelRoot: string;
  readonly parameters: number;
  /** Names of the files in the folder. */
  readonly files: readonly string[];
}

/** Options of what moves a whole model. */
export interface TransferOptions {
  readonly signal?: AbortSignal;
  /** Called after every piece with the bytes of weights that are done. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** Consecutive tensors that share a file. */
interface Shard {
  readonly file: string;
  readonly slots: readonly TensorSlot[];
}

/** Fills shards in canonical order. */
function planShards(layout: readonly TensorSlot[], shardBytes: number): Shard[] {
  const groups: TensorSlot[][] = [];
  let room = 0;
  for (const slot of layout) {
    const bytes = slot.length * 4;
    const last = groups.at(-1);
    if (last === undefined || bytes > room) {
      groups.push([slot]);
      room = shardBytes - bytes;
    } else {
      last.push(slot);
      room -= bytes;
    }
  }
  const number = (value: number) => String(value).padStart(5, '0');
  return groups.map((slots, i) => ({
    file: groups.length === 1 ? SAFETENSORS_FILE : `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`,
    slots,
  }));
}

function shardHeader({ slots }: Shard, header: TensorFileHeader): Uint8Array {
  const start = slots[0].offset;
  const entries = slots.map(({ name, shape, offset, length }) => {
    const begin = (offset - start) * 4;
    return { name: huggingFaceName(name), dtype: 'F32', shape, begin, end: begin + length * 4 };
  });
  return encodeSafetensorsHeader(entries, {
    // What readers of such files look for: the tensors are as PyTorch has them.
    format: 'pt',
    [METADATA.presetHash]: header.presetHash,
    [METADATA.modelRoot]: header.root,
    [METADATA.round]: String(header.round),
  });
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Copies numbers of the source behind the header of a shard. */
async function writeShard(
  path: string,
  head: Uint8Array,
  source: FileHandle,
  range: { readonly begin: number; readonly end: number },
  seen: (bytes: Uint8Array) => void,
): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await writeAll(file, head, 0);
    const buffer = new Uint8Array(MODEL_CHUNK_BYTES);
    for (let at = range.begin; at < range.end; at += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, range.end - at));
      if (!(await readAll(source, piece, TENSOR_FILE_HEADER_BYTES + at))) {
        throw new TensorFileSizeError('the tensor file became shorter while it was read');
      }
      seen(piece);
      await writeAll(file, piece, head.length + at - range.begin);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function requireFree(folder: string): Promise<void> {
  try {
    if ((await readdir(folder)).length === 0) return;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    if (code !== 'ENOTDIR') throw error;
  }
  throw new ModelTargetError(`${folder} exists already: choose a folder that does not, or an empty one`);
}

/**
 * Exports weights. The folder appears whole or not at all. Throws a TensorFileError when the source is damaged or of
 * another preset, {@link ModelTargetError} when the folder is taken, an error of the file system, the signal's reason.
 */
export async function exportModel(
  { source, preset, folder, files = {}, shardBytes = DEFAULT_SHARD_BYTES }: ModelExport,
  { signal, onProgress }: TransferOptions = {},
): Promise<ExportedModel> {
  await requireFree(folder);
  const { file: tensors, header } = await openTensorFile(source);
  const temporary = join(dirname(folder), `.${basename(folder)}.new`);
  try {
    const elements = parameterCount(preset);
    const expected = { kind: 'weights', presetHash: presetHash(preset), elements } as const;
    for (const field of ['kind', 'presetHash', 'elements'] as const) {
      if (header[field] === expected[field]) continue;
      throw new TensorFileMismatchError(`${source}: ${field} is ${header[field]}, expected ${expected[field]}`);
    }
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    const digests = new ChunkDigests();
    let done = 0;
    const seen = (bytes: Uint8Array) => {
      signal?.throwIfAborted();
      digests.update(bytes);
      done += bytes.length;
      onProgress?.(done, elements * 4);
    };
    const shards = planShards(tensorLayout(preset), shardBytes);
    for (const shard of shards) {
      const begin = shard.slots[0].offset * 4;
      const end = shard.slots.reduce((bytes, { length }) => bytes + length * 4, begin);
      await writeShard(join(temporary, shard.file), shardHeader(shard, header), tensors, { begin, end }, seen);
    }
    const root = digests.root();
    if (root !== header.root) throw new TensorFileContentError(`the numbers in ${source} are damaged`);
    const texts: Record<string, string> = { 'config.json': encodeConfig(preset), ...files };
    if (shards.length > 1) {
      const weightMap = shards.flatMap(({ file, slots }) => slots.map(({ name }) => [huggingFaceName(name), file]));
      const index = { metadata: { total_size: elements * 4 }, weight_map: Object.fromEntries(weightMap) };
      texts[SAFETENSORS_INDEX_FILE] = `${JSON.stringify(index, null, 2)}\n`;
    }
    for (const [name, text] of Object.entries(texts)) await writeSynced(join(temporary, name), text);
    // Replaces an empty folder, and refuses one that was filled meanwhile.
    await rename(temporary, folder);
    const names = [...shards.map(({ file }) => file), ...Object.keys(texts)].sort();
    return { round: header.round, modelRoot: root, parameters: elements, files: names };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  } finally {
    await tensors.close();
  }
}
