/**
 * Weights of a Hugging Face folder as a tensor file, and the root of either: each number passes through once.
 */

import { MODEL_CHUNK_BYTES } from '../aggregate/model-root.ts';
import { parameterCount } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { ChunkDigests } from './chunk-digests.ts';
import { TensorFileSizeError } from './errors.ts';
import type { TransferOptions } from './model-export.ts';
import { ModelFolder } from './model-folder.ts';
import { ModelRootMismatchError } from './safetensors-errors.ts';
import { openTensorFile, readAll, TENSOR_FILE_HEADER_BYTES, type TensorFileHeader } from './tensor-file.ts';
import { TensorFileWriter } from './tensor-file-writer.ts';

/** What to import, and where to. */
export interface ModelImport {
  /** Folder, or one .safetensors file. */
  readonly source: string;
  /** Path of the tensor file; replaced when it exists. */
  readonly target: string;
  /** Preset where the source has no `config.json`, or instead of it. */
  readonly preset?: Preset;
}

/** What was imported. */
export interface ImportedModel {
  readonly preset: Preset;
  readonly round: number;
  readonly modelRoot: string;
  readonly parameters: number;
  /** Dtypes of the source; from any but F32 the root is that of the widened weights. */
  readonly dtypes: readonly string[];
}

/** A root that a folder claims for itself binds only when its numbers are as they were exported. */
function checkClaim(folder: ModelFolder, root: string, source: string): void {
  const { modelRoot, presetHash: claimed } = folder.origin;
  const unchanged = folder.dtypes.every((dtype) => dtype === 'F32') && claimed === presetHash(folder.preset);
  if (!unchanged || modelRoot === undefined || modelRoot === root) return;
  throw new ModelRootMismatchError(`${source}: the weights have the root ${root}, its header says ${modelRoot}`);
}

/**
 * Imports weights; the tensor file appears whole or not at all. Throws a ModelFolderError for whatever is wrong with the
 * source, an error of the file system, the signal's reason.
 */
export async function importModel(
  { source, target, preset }: ModelImport,
  { signal, onProgress }: TransferOptions = {},
): Promise<ImportedModel> {
  const folder = await ModelFolder.open(source, { preset });
  try {
    const parameters = parameterCount(folder.preset);
    const writer = await TensorFileWriter.create(target);
    try {
      let done = 0;
      for await (const piece of folder.pieces()) {
        signal?.throwIfAborted();
        await writer.append(piece);
        done += piece.length;
        onProgress?.(done, parameters * 4);
      }
      const root = writer.root();
      checkClaim(folder, root, source);
      const round = folder.origin.round ?? 0;
      await writer.finish({ kind: 'weights', round, presetHash: presetHash(folder.preset), root });
      return { preset: folder.preset, round, modelRoot: root, parameters, dtypes: folder.dtypes };
    } catch (error) {
      await writer.discard();
      throw error;
    }
  } finally {
    await folder.close();
  }
}

/** What {@link rootOfFolder} and {@link rootOfTensorFile} found. */
export interface ComputedRoot {
  /** Root over the numbers as they are. */
  readonly computed: string;
  /** Root that the files claim; undefined where they claim none, or no longer can (other dtype). */
  readonly claimed: string | undefined;
}

/** Reads all weights of a folder or .safetensors file and computes their root. Throws as {@link importModel}. */
export async function rootOfFolder(
  source: string,
  { preset, signal, onProgress }: TransferOptions & { readonly preset?: Preset } = {},
): Promise<ComputedRoot> {
  const folder = await ModelFolder.open(source, { preset });
  try {
    const total = parameterCount(folder.preset) * 4;
    const digests = new ChunkDigests();
    let done = 0;
    for await (const piece of folder.pieces()) {
      signal?.throwIfAborted();
      digests.update(piece);
      done += piece.length;
      onProgress?.(done, total);
    }
    const exact = folder.dtypes.every((dtype) => dtype === 'F32');
    return { computed: digests.root(), claimed: exact ? folder.origin.modelRoot : undefined };
  } finally {
    await folder.close();
  }
}

/** Reads all numbers of a tensor file and computes their root. Throws a TensorFileError for a bad header or size. */
export async function rootOfTensorFile(
  path: string,
  { signal, onProgress }: TransferOptions = {},
): Promise<ComputedRoot & { readonly header: TensorFileHeader }> {
  const { file, header } = await openTensorFile(path);
  try {
    const total = header.elements * 4;
    const digests = new ChunkDigests();
    const buffer = new Uint8Array(MODEL_CHUNK_BYTES);
    for (let at = 0; at < total; at += buffer.length) {
      signal?.throwIfAborted();
      const piece = buffer.subarray(0, Math.min(buffer.length, total - at));
      if (!(await readAll(file, piece, TENSOR_FILE_HEADER_BYTES + at))) {
        throw new TensorFileSizeError(`${path} became shorter while it was read`);
      }
      digests.update(piece);
      onProgress?.(at + piece.length, total);
    }
    return { computed: digests.root(), claimed: header.root, header };
  } finally {
    await file.close();
  }
}
