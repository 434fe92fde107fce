/**
 * Tensor files: one flat fp32 vector (weights, or a miner's error feedback) on disk, replaced atomically, verified whole.
 *
 * 4096 bytes of header, then the numbers, little-endian, in canonical tensor order: from byte 4096 on the file is exactly
 * the 1 MiB chunks that the model root covers and that a joiner downloads. Header fields, little-endian:
 *
 *     at  bytes
 *      0    4   "ALTF"; "ALTW" while the numbers are being changed in place (`tensor-store.ts`)
 *      4    4   version: 1
 *      8    4   kind: 1 weights, 2 error feedback, 3 first moment, 4 second moment, 5 gradient
 *     12    4   round
 *     16   32   preset hash
 *     48   32   root over the numbers
 *     80    8   number of elements
 *     88   32   SHA-256 of bytes 0 to 87
 *    120        zero
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  chunkCount,
  chunkDigest,
  chunkSize,
  MODEL_CHUNK_BYTES,
  ModelTree,
  weightChunk,
} from '../aggregate/model-root.ts';
import {
  TensorFileContentError,
  TensorFileHeaderError,
  TensorFileIncompleteError,
  TensorFileMismatchError,
  TensorFileSizeError,
} from './errors.ts';

/** Bytes before the numbers: a page, so that the numbers can be mapped. */
export const TENSOR_FILE_HEADER_BYTES = 4096;

/** "ALTF" as a little-endian number. */
const MAGIC = 0x46544c41;
/** "ALTW": what is in the file is no whole state. */
const INCOMPLETE_MAGIC = 0x57544c41;
const VERSION = 1;

/** What a tensor file holds. */
export type TensorFileKind = 'weights' | 'error-feedback' | 'first-moment' | 'second-moment' | 'gradient';
const KINDS: readonly (TensorFileKind | undefined)[] = [
  undefined,
  'weights',
  'error-feedback',
  'first-moment',
  'second-moment',
  'gradient',
];

/** Header of a tensor file. Hashes are 64 lower-case hex characters. */
export interface TensorFileHeader {
  readonly kind: TensorFileKind;
  /** Training round after which this is the state. */
  readonly round: number;
  readonly presetHash: string;
  /** Root over the numbers as of `model-root.ts`; for weights, the model root. */
  readonly root: string;
  /** Number of fp32 elements. */
  readonly elements: number;
}

function checksum(header: Buffer): Buffer {
  return createHash('sha256').update(header.subarray(0, 88)).digest();
}

/** The {@link TENSOR_FILE_HEADER_BYTES} bytes of a header; `incomplete` marks numbers that are being changed. */
export function encodeTensorFileHeader(fields: TensorFileHeader, { incomplete = false } = {}): Buffer {
  const header = Buffer.alloc(TENSOR_FILE_HEADER_BYTES);
  header.writeUInt32LE(incomplete ? INCOMPLETE_MAGIC : MAGIC, 0);
  header.writeUInt32LE(VERSION, 4);
  header.writeUInt32LE(KINDS.indexOf(fields.kind), 8);
  header.writeUInt32LE(fields.round, 12);
  header.write(fields.presetHash, 16, 'hex');
  header.write(fields.root, 48, 'hex');
  header.writeBigUInt64LE(BigInt(fields.elements), 80);
  checksum(header).copy(header, 88);
  return header;
}

function decodeHeader(header: Buffer, path: string): TensorFileHeader {
  const magic = header.readUInt32LE(0);
  if (magic === INCOMPLETE_MAGIC)
    throw new TensorFileIncompleteError(`${path} was being written when its program ended: it holds no whole state`);
  if (magic !== MAGIC) throw new TensorFileHeaderError(`${path} is no tensor file`);
  const version = header.readUInt32LE(4);
  if (version !== VERSION) throw new TensorFileHeaderError(`${path} has version ${version}, known is ${VERSION}`);
  const kind = KINDS[header.readUInt32LE(8)];
  const sound = checksum(header).equals(header.subarray(88, 120)) && header.subarray(120).every((byte) => byte === 0);
  if (kind === undefined || !sound) throw new TensorFileHeaderError(`the header of ${path} is damaged`);
  return {
    kind,
    round: header.readUInt32LE(12),
    presetHash: header.toString('hex', 16, 48),
    root: header.toString('hex', 48, 80),
    elements: Number(header.readBigUInt64LE(80)),
  };
}

/** Writes all of `bytes` at `position`; `write` may write less at a time. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Reads until `bytes` is full; false when the file ends before. */
export async function readAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<boolean> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

/**
 * Writes a tensor file so that, whenever the machine stops, `path` is the old file or the new one, whole: a temporary file
 * beside it, fsync, rename, fsync of the folder. A `root` that is given is not computed
 * again. `numbers` must not change meanwhile. One writer per path at a time. Errors are those of the file system, or the signal's reason.
 */
export async function writeTensorFile(
  path: string,
  content: Omit<TensorFileHeader, 'elements' | 'root'> & { readonly root?: string; readonly numbers: Float32Array },
  options: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { numbers, root: knownRoot, ...fields } = content;
  const temporary = join(dirname(path), `.${basename(path)}.new`);
  try {
    const file = await open(temporary, 'w');
    try {
      const digests: Uint8Array[] = [];
      for (let chunk = 0; chunk < chunkCount(numbers.length); chunk++) {
        options.signal?.throwIfAborted();
        const bytes = weightChunk(numbers, chunk);
        if (knownRoot === undefined) digests.push(chunkDigest(bytes));
        await writeAll(file, bytes, TENSOR_FILE_HEADER_BYTES + chunk * MODEL_CHUNK_BYTES);
      }
      const root = knownRoot ?? ModelTree.ofDigests(numbers.byteLength, Buffer.concat(digests)).root;
      await writeAll(file, encodeTensorFileHeader({ ...fields, root, elements: numbers.length }), 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Makes renames in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Opens a tensor file and checks its header and size, not the numbers. The caller closes it. Throws a {@link TensorFileError}. */
export async function openTensorFile(
  path: string,
  flags: 'r' | 'r+' = 'r',
): Promise<{ file: FileHandle; header: TensorFileHeader }> {
  const file = await open(path, flags);
  try {
    const bytes = Buffer.alloc(TENSOR_FILE_HEADER_BYTES);
    if (!(await readAll(file, bytes, 0))) throw new TensorFileSizeError(`${path} is too short for a header`);
    const header = decodeHeader(bytes, path);
    const expected = TENSOR_FILE_HEADER_BYTES + header.elements * 4;
    const { size } = await file.stat();
    if (size !== expected) throw new TensorFileSizeError(`${path} has ${size} bytes, its header says ${expected}`);
    return { file, header };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Reads and checks the header and the size of a tensor file, not the numbers. Throws a {@link TensorFileError}. */
export async function readTensorFileHeader(path: string): Promise<TensorFileHeader> {
  const { file, header } = await openTensorFile(path);
  await file.close();
  return header;
}

/** What a reader insists on. */
export interface TensorFileExpectation {
  readonly kind: TensorFileKind;
  readonly presetHash: string;
  /** Number of elements of the layout. Nothing of that size is allocated before it was compared. */
  readonly elements: number;
}

/** Throws {@link TensorFileMismatchError} naming the first field that differs. */
export function checkExpectation(path: string, header: TensorFileHeader, expected: TensorFileExpectation): void {
  for (const field of ['kind', 'presetHash', 'elements'] as const) {
    if (header[field] !== expected[field]) {
      throw new TensorFileMismatchError(`${path}: ${field} is ${header[field]}, expected ${expected[field]}`);
    }
  }
}

/** A tensor file in memory: its header, its numbers, and the chunk tree over them. */
export interface TensorFileContent {
  readonly header: TensorFileHeader;
  readonly numbers: Float32Array;
  readonly tree: ModelTree;
}

/**
 * Reads a tensor file and verifies everything: header, size, preset, and the root over all numbers.
 * Throws a {@link TensorFileError}, an error of the file system (ENOENT where there is no file), or the signal's reason.
 */
export async function readTensorFile(
  path: string,
  expected: TensorFileExpectation,
  options: { readonly signal?: AbortSignal } = {},
): Promise<TensorFileContent> {
  const { file, header } = await openTensorFile(path);
  try {
    checkExpectation(path, header, expected);
    const numbers = new Float32Array(header.elements);
    const digests: Uint8Array[] = [];
    for (let chunk = 0; chunk < chunkCount(numbers.length); chunk++) {
      options.signal?.throwIfAborted();
      const position = TENSOR_FILE_HEADER_BYTES + chunk * MODEL_CHUNK_BYTES;
      const bytes = weightChunk(numbers, chunk);
      if (!(await readAll(file, bytes, position))) {
        throw new TensorFileSizeError(`${path} became shorter while it was read`);
      }
      // Hashed between reads, so that the event loop is never held for longer than a chunk takes.
      digests.push(chunkDigest(bytes));
    }
    const tree = ModelTree.ofDigests(numbers.byteLength, Buffer.concat(digests));
    if (tree.root !== header.root) throw new TensorFileContentError(`the numbers in ${path} are damaged`);
    return { header, numbers, tree };
  } finally {
    await file.close();
  }
}

/**
 * One 1 MiB chunk of a tensor file, for serving it as a blob without loading the rest. The caller (or the receiver) checks
 * it against its digest. Throws a {@link TensorFileError}; RangeError for a chunk that is not there.
 */
export async function readTensorFileChunk(path: string, chunk: number): Promise<Uint8Array> {
  const { file, header } = await openTensorFile(path);
  try {
    if (!(Number.isInteger(chunk) && chunk >= 0 && chunk < chunkCount(header.elements))) {
      throw new RangeError(`chunk ${chunk} of ${chunkCount(header.elements)}`);
    }
    const bytes = new Uint8Array(chunkSize(header.elements * 4, chunk));
    if (!(await readAll(file, bytes, TENSOR_FILE_HEADER_BYTES + chunk * MODEL_CHUNK_BYTES))) {
      throw new TensorFileSizeError(`${path} became shorter while it was read`);
    }
    return bytes;
  } finally {
    await file.close();
  }
}
