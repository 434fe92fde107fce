/**
 * The weights in a Hugging Face folder (or one safetensors file), opened and checked, to be read tensor by tensor.
 */
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { MODEL_CHUNK_BYTES } from '../aggregate/model-root.ts';
import { type TensorSlot, tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { allFinite, toFloat32Bytes, WEIGHT_DTYPE_BYTES } from './float-formats.ts';
import { huggingFaceName, isDerivedTensor, parseConfig } from './hugging-face-config.ts';
import { METADATA, SAFETENSORS_FILE, SAFETENSORS_INDEX_FILE } from './model-export.ts';
import {
  ExtraTensorError,
  MissingTensorError,
  ModelConfigError,
  ModelIndexError,
  NonFiniteTensorError,
  SafetensorsDtypeError,
  SafetensorsTruncatedError,
  TensorShapeError,
} from './safetensors-errors.ts';
import {
  parseSafetensorsHeader,
  SAFETENSORS_PREFIX_BYTES,
  type SafetensorsEntry,
  safetensorsHeaderLength,
} from './safetensors-header.ts';
import { readAll } from './tensor-file.ts';

/** Largest `config.json` or index that is read: both grow with the number of tensors, some 100 bytes each. */
const MAX_JSON_BYTES = 16 * 1024 * 1024;

/** What a file says of its weights, in its own words: to be checked. */
export interface ClaimedOrigin {
  readonly presetHash?: string;
  readonly modelRoot?: string;
  readonly round?: number;
}

/** A tensor of the model and where its bytes are. */
interface Located {
  readonly slot: TensorSlot;
  readonly file: FileHandle;
  readonly path: string;
  readonly dtype: string;
  /** First byte in the file. */
  readonly at: number;
}

const indexSchema = v.looseObject({ weight_map: v.record(v.string(), v.string()) });

async function readText(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > MAX_JSON_BYTES) throw new ModelIndexError(`${path} has ${size} bytes, at most ${MAX_JSON_BYTES} are read`);
  return await readFile(path, 'utf8');
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw error;
  }
}

/** The weight files of a folder, and what its index (if any) says which tensor is in. */
async function listFiles(folder: string): Promise<{ files: string[]; index?: ReadonlyMap<string, string> }> {
  if (await exists(join(folder, SAFETENSORS_FILE))) return { files: [SAFETENSORS_FILE] };
  const path = join(folder, SAFETENSORS_INDEX_FILE);
  if (!(await exists(path))) {
    throw new ModelIndexError(`${folder} has neither ${SAFETENSORS_FILE} nor ${SAFETENSORS_INDEX_FILE}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(await readText(path));
  } catch (cause) {
    if (cause instanceof ModelIndexError) throw cause;
    throw new ModelIndexError(`${path} is not JSON`, { cause });
  }
  const result = v.safeParse(indexSchema, value);
  if (!result.success) throw new ModelIndexError(`${path}: weight_map is no map of names to files`);
  const index = new Map(Object.entries(result.output.weight_map));
  const files = [...new Set(index.values())].sort();
  for (const file of files) {
    // An index must not lead out of its folder.
    if (file !== basename(file) || !file.endsWith('.safetensors') || file.includes('\\')) {
      throw new ModelIndexError(`${path}: ${JSON.stringify(file)} is no file of the folder`);
    }
  }
  return { files, index };
}

function readOrigin(metadata: ReadonlyMap<string, string>): ClaimedOrigin {
  const hex = (key: string) => metadata.get(key)?.match(/^[0-9a-f]{64}$/)?.[0];
  const round = Number(metadata.get(METADATA.round)?.match(/^\d{1,10}$/)?.[0] ?? Number.NaN);
  return {
    presetHash: hex(METADATA.presetHash),
    modelRoot: hex(METADATA.modelRoot),
    round: round <= 0xffffffff ? round : undefined,
  };
}

/** Opened weights of a model; close them. */
export class ModelFolder {
  readonly preset: Preset;
  readonly origin: ClaimedOrigin;
  readonly #files: readonly FileHandle[];
  readonly #tensors: readonly Located[];

  private constructor(
    preset: Preset,
    origin: ClaimedOrigin,
    files: readonly FileHandle[],
    tensors: readonly Located[],
  ) {
    this.preset = preset;
    this.origin = origin;
    this.#files = files;
    this.#tensors = tensors;
  }

  /**
   * Opens the folder (or the one .safetensors file) at `path` and checks configuration, index and headers: every tensor
   * of the model is there once, with its shape and a dtype that can be read, and no other. `preset` is needed where there
   * is no `config.json`. Throws a {@link import('./safetensors-errors.ts').ModelFolderError} or an error of the file
   * system.
   */
  static async open(path: string, options: { readonly preset?: Preset } = {}): Promise<ModelFolder> {
    const isFolder = (await stat(path)).isDirectory();
    const folder = isFolder ? path : join(path, '..');
    const configPath = join(folder, 'config.json');
    const preset = options.preset ?? ((await exists(configPath)) ? parseConfig(await readText(configPath)) : undefined);
    if (preset === undefined) throw new ModelConfigError(`there is no ${configPath}: name the preset of the model`);
    const { files, index } = isFolder ? await listFiles(path) : { files: [basename(path)], index: undefined };
    const handles: FileHandle[] = [];
    try {
      const found = new Map<string, Located>();
      const wanted = new Map(tensorLayout(preset).map((slot) => [huggingFaceName(slot.name), slot]));
      let origin: ClaimedOrigin = {};
      for (const name of files) {
        const place = join(folder, name);
        const file = await open(place, 'r');
        handles.push(file);
        const { metadata, tensors, dataStart } = await readHeader(file, place);
        origin = { ...readOrigin(metadata), ...origin };
        for (const entry of tensors) {
          if (index !== undefined && index.get(entry.name) !== name) {
            throw new ModelIndexError(`${place} holds ${JSON.stringify(entry.name)}, which the index does not say`);
          }
          if (isDerivedTensor(entry.name)) continue;
          found.set(entry.name, { ...locate(entry, wanted, place), file, path: place, at: dataStart + entry.begin });
        }
      }
      const tensors = [...wanted.keys()].map((name) => {
        const tensor = found.get(name);
        if (tensor === undefined) throw new MissingTensorError(`${path}: tensor ${name} is missing`);
        return tensor;
      });
      return new ModelFolder(preset, origin, handles, tensors);
    } catch (error) {
      for (const handle of handles) await handle.close();
      throw error;
    }
  }

  /** Dtypes of the weights, without repetition. */
  get dtypes(): string[] {
    return [...new Set(this.#tensors.map(({ dtype }) => dtype))];
  }

  /** Number of files that hold weights. */
  get files(): number {
    return this.#files.length;
  }

  /**
   * All weights as little-endian fp32 bytes, in canonical order, in pieces of at most 1 MiB that are overwritten by the
   * next. Throws NonFiniteTensorError, SafetensorsTruncatedError.
   */
  async *pieces(): AsyncGenerator<Uint8Array> {
    const buffer = new Uint8Array(MODEL_CHUNK_BYTES);
    for (const { slot, file, path, dtype, at } of this.#tensors) {
      const width = WEIGHT_DTYPE_BYTES.get(dtype) ?? 0;
      const step = MODEL_CHUNK_BYTES / 4;
      for (let element = 0; element < slot.length; element += step) {
        const piece = buffer.subarray(0, Math.min(step, slot.length - element) * width);
        if (!(await readAll(file, piece, at + element * width))) {
          throw new SafetensorsTruncatedError(`${path} became shorter while it was read`);
        }
        const numbers = toFloat32Bytes(dtype, piece);
        if (!allFinite(numbers)) {
          throw new NonFiniteTensorError(`${path}: tensor ${huggingFaceName(slot.name)} holds a NaN or an infinity`);
        }
        yield numbers;
      }
    }
  }

  /** Closes the files. */
  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }
}

async function readHeader(file: FileHandle, path: string) {
  const { size } = await file.stat();
  const prefix = new Uint8Array(SAFETENSORS_PREFIX_BYTES);
  if (!(await readAll(file, prefix, 0))) throw new SafetensorsTruncatedError(`${path}: ${size} bytes`);
  const length = safetensorsHeaderLength(prefix, size);
  const json = new Uint8Array(length);
  if (!(await readAll(file, json, prefix.length)))
    throw new SafetensorsTruncatedError(`${path}: its header is cut off`);
  const dataStart = prefix.length + length;
  return { ...parseSafetensorsHeader(json, size - dataStart), dataStart };
}

function locate(
  { name, dtype, shape }: SafetensorsEntry,
  wanted: ReadonlyMap<string, TensorSlot>,
  path: string,
): Pick<Located, 'slot' | 'dtype'> {
  const slot = wanted.get(name);
  if (slot === undefined) throw new ExtraTensorError(`${path}: the model has no tensor ${JSON.stringify(name)}`);
  if (shape.length !== slot.shape.length || shape.some((size, i) => size !== slot.shape[i])) {
    throw new TensorShapeError(
      `${path}: tensor ${name} is [${shape.join(', ')}], the model's is [${slot.shape.join(', ')}]`,
    );
  }
  if (!WEIGHT_DTYPE_BYTES.has(dtype)) {
    const known = [...WEIGHT_DTYPE_BYTES.keys()].join(', ');
    throw new SafetensorsDtypeError(`${path}: tensor ${name} is ${dtype}; weights are read from ${known}`);
  }
  return { slot, dtype };
}
