/**
 * A tensor file that is read and written by tensor, for models that do not fit into memory: weights, optimizer moments,
 * gradients, error feedback. The format is that of `tensor-file.ts`; nothing of the size of the model is ever held.
 *
 * What is whole: a new store lies under a hidden name beside its path until it is sealed, and a sealed one is marked in its
 * header, durably, before its first number changes. So a crash leaves the old state, the new one, or a file that says that
 * it is neither. What is sound: opening a store verifies all of it against its root; each later read is verified against
 * checksums that were taken then, or when the numbers were written.
 */
import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { chunkCount, chunkDigest, chunkSize, MODEL_CHUNK_BYTES, ModelTree } from '../aggregate/model-root.ts';
import type { TensorSlot } from '../model/layout.ts';
import { TensorFileContentError, TensorFileSizeError } from './errors.ts';
import {
  checkExpectation,
  encodeTensorFileHeader,
  openTensorFile,
  readAll,
  syncFolder,
  TENSOR_FILE_HEADER_BYTES,
  type TensorFileHeader,
  type TensorFileKind,
  writeAll,
} from './tensor-file.ts';

/** Elements under one checksum, but for embedding and head, which are read by row: 1 MiB. */
const PIECE_ELEMENTS = 1 << 18;

/** Most bytes in one read: each occupies a thread of the pool, and the system reads less than 2 GiB at a time. */
const SPAN_BYTES = 1 << 28;

/** What a store holds, and for which model. */
export interface TensorStoreInit {
  readonly kind: TensorFileKind;
  /** 64 lower-case hex characters. */
  readonly presetHash: string;
  /** Canonical order, without gaps. */
  readonly layout: readonly TensorSlot[];
}

/** A run of elements of one tensor. */
export interface TensorPart {
  readonly slot: TensorSlot;
  /** First element, counted from the tensor's. */
  readonly start: number;
  readonly length: number;
}

/** All of a tensor as a part. */
export function wholeTensor(slot: TensorSlot): TensorPart {
  return { slot, start: 0, length: slot.length };
}

/**
 * Parts of a tensor of at most `maxElements` each (one row, where rows are longer), for work at bounded memory. They end
 * where the pieces do that a {@link TensorStore} checks, and between the 64-row tiles of compression.
 */
export function tensorParts(slot: TensorSlot, maxElements: number): TensorPart[] {
  const granule = 64 * pieceLength(slot);
  const fitting = Math.floor(maxElements / granule) * granule;
  const length = fitting > 0 ? fitting : pieceLength(slot) * Math.max(1, Math.floor(maxElements / pieceLength(slot)));
  const parts: TensorPart[] = [];
  for (let start = 0; start < slot.length; start += length)
    parts.push({ slot, start, length: Math.min(length, slot.length - start) });
  return parts;
}

/** Rows of what is as long as the vocabulary are read in any number, rows of other matrices some at a time. */
function pieceLength({ role, shape, length }: TensorSlot): number {
  const row = shape.length === 2 ? (shape[1] ?? length) : length;
  if (role === 'embedding' || role === 'head') return row;
  return row * Math.max(1, Math.floor(PIECE_ELEMENTS / row));
}

/** Where a part of a store lies in its file, for who reads it without the store: see {@link TensorStore.region}. */
export interface StoredRegion {
  /** Descriptor of the open file. */
  readonly file: number;
  /** Of the first byte. */
  readonly position: number;
  /** Bytes under one checksum; the last piece may be shorter. */
  readonly pieceBytes: number;
  /** CRC-32 of each piece, as it must be. */
  readonly sums: Uint32Array<ArrayBuffer>;
}

/** Thrown for parts that do not lie on the borders of checked pieces, and for a store that was never filled. */
export class TensorStoreUseError extends Error {
  static readonly code = 'ERR_TENSOR_STORE_USE';
  readonly code = TensorStoreUseError.code;
  override readonly name = 'TensorStoreUseError';
}

function bytesOf(values: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Checksums of a tensor's pieces. A piece that was not written yet is zero. */
class Checksums {
  readonly pieceBytes: number;
  readonly #values: Uint32Array<ArrayBuffer>;
  readonly #written: Uint8Array;

  constructor(slot: TensorSlot) {
    this.pieceBytes = pieceLength(slot) * 4;
    const pieces = Math.ceil((slot.length * 4) / this.pieceBytes);
    this.#values = new Uint32Array(pieces);
    this.#written = new Uint8Array(pieces);
    const zeros = new Uint8Array(Math.min(this.pieceBytes, slot.length * 4));
    this.#values.fill(crc32(zeros));
    const last = slot.length * 4 - (pieces - 1) * this.pieceBytes;
    this.#values[pieces - 1] = crc32(zeros.subarray(0, last));
  }

  /** Those of some pieces, as they are now. */
  slice(first: number, count: number): Uint32Array<ArrayBuffer> {
    return this.#values.slice(first, first + count);
  }

  get complete(): boolean {
    return this.#written.every((flag) => flag === 1);
  }

  get(piece: number): number {
    return this.#values[piece] as number;
  }

  /** Takes over those of the same tensor in another file. */
  take(other: Checksums): void {
    this.#values.set(other.#values);
    this.#written.set(other.#written);
  }

  set(piece: number, value: number): void {
    this.#values[piece] = value;
    this.#written[piece] = 1;
  }
}

/** A tensor file, open for reading and writing by tensor. One owner at a time; reads may overlap, writes not. */
export class TensorStore {
  #path: string;
  readonly kind: TensorFileKind;
  readonly presetHash: string;
  readonly layout: readonly TensorSlot[];
  readonly #elements: number;
  readonly #file: FileHandle;
  /** By tensor name. */
  readonly #checksums: ReadonlyMap<string, Checksums>;
  /** By tensor name: how often it was written. */
  readonly #writes = new Map<string, number>();
  /** Where the file lies until it is sealed for the first time. */
  #temporary: string | undefined;
  #header: TensorFileHeader;
  #whole: boolean;
  /** The mark that the file is being changed; written once per change. */
  #marking: Promise<void> | undefined;

  private constructor(path: string, init: TensorStoreInit, file: FileHandle, header: TensorFileHeader, whole: boolean) {
    this.#path = path;
    this.kind = init.kind;
    this.presetHash = init.presetHash;
    this.layout = init.layout;
    this.#elements = header.elements;
    this.#file = file;
    this.#header = header;
    this.#whole = whole;
    this.#checksums = new Map(init.layout.map((slot) => [slot.name, new Checksums(slot)]));
  }

  /** Makes a store of zeros that takes the name `path` when it is sealed. Errors are those of the file system. */
  static async create(path: string, init: TensorStoreInit): Promise<TensorStore> {
    const elements = elementsOf(init.layout);
    const header = { kind: init.kind, presetHash: init.presetHash, round: 0, root: '0'.repeat(64), elements };
    const temporary = temporaryName(path);
    const file = await open(temporary, 'w+');
    try {
      await file.truncate(TENSOR_FILE_HEADER_BYTES + elements * 4);
      await writeAll(file, encodeTensorFileHeader(header, { incomplete: true }), 0);
      const store = new TensorStore(path, init, file, header, false);
      store.#temporary = temporary;
      return store;
    } catch (error) {
      await file.close();
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /**
   * Opens a sealed store and verifies every byte of it, a chunk at a time. Throws a TensorFileError (truncated, damaged,
   * another preset, not whole), ENOENT where there is none, or the signal's reason.
   */
  static async open(
    path: string,
    init: TensorStoreInit,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<TensorStore> {
    const { file, header } = await openTensorFile(path, 'r+');
    try {
      const { kind, presetHash } = init;
      checkExpectation(path, header, { kind, presetHash, elements: elementsOf(init.layout) });
      const store = new TensorStore(path, init, file, header, true);
      const root = await store.#scan(signal, true);
      if (root !== header.root) throw new TensorFileContentError(`the numbers in ${path} are damaged`);
      return store;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * A copy of this store that takes the name `path` when it is sealed; shares disk blocks where the file system can.
   * The numbers are those that this store would verify: they need no verification again.
   */
  async copy(path: string): Promise<TensorStore> {
    const temporary = temporaryName(path);
    await copyFile(this.#temporary ?? this.path, temporary, constants.COPYFILE_FICLONE);
    const file = await open(temporary, 'r+');
    await writeAll(file, encodeTensorFileHeader(this.#header, { incomplete: true }), 0);
    const store = new TensorStore(path, this, file, this.#header, false);
    store.#temporary = temporary;
    for (const [name, sums] of this.#checksums) store.#checksums.get(name)?.take(sums);
    return store;
  }

  /** Where the file lies, or will once it is sealed. */
  get path(): string {
    return this.#path;
  }

  /** Training round after which this was the state, as of the last seal. */
  get round(): number {
    return this.#header.round;
  }

  /** Root over the numbers as of the last seal: for weights, the model root. */
  get root(): string {
    return this.#header.root;
  }

  /** The tensor of that name. Throws RangeError. */
  slot(name: string): TensorSlot {
    const slot = this.layout.find((candidate) => candidate.name === name);
    if (slot === undefined) throw new RangeError(`no tensor named ${name}`);
    return slot;
  }

  /**
   * Reads a part into `out`. It must begin where a checked piece does and end where one does: parts of
   * {@link tensorParts}, whole tensors, rows of embedding or head. All reading has begun when the call returns its promise, so
   * that it goes on while the calling thread computes.
   *
   * Throws TensorFileSizeError, TensorFileContentError (naming file and tensor), {@link TensorStoreUseError}.
   */
  async read(part: TensorPart, out: Float32Array<ArrayBuffer>): Promise<void> {
    const { slot, start, length } = part;
    this.#checkBorders(part, out.length);
    const bytes = bytesOf(out);
    const position = TENSOR_FILE_HEADER_BYTES + (slot.offset + start) * 4;
    const spans: Promise<boolean>[] = [];
    for (let at = 0; at < length * 4; at += SPAN_BYTES)
      spans.push(readAll(this.#file, bytes.subarray(at, at + SPAN_BYTES), position + at));
    if ((await Promise.all(spans)).includes(false))
      throw new TensorFileSizeError(`${this.path} became shorter: ${slot.name} is cut off`);
    const sums = this.#sums(slot);
    const first = (start * 4) / sums.pieceBytes;
    for (let at = 0, piece = first; at < bytes.length; at += sums.pieceBytes, piece++)
      if (crc32(bytes.subarray(at, at + sums.pieceBytes)) !== sums.get(piece))
        throw new TensorFileContentError(`${slot.name} in ${this.path} is damaged`);
  }

  /**
   * Writes a part, with borders as for {@link read}. The first write after a seal marks the file, durably, as not whole.
   * Throws {@link TensorStoreUseError}, errors of the file system.
   */
  async write(part: TensorPart, values: Float32Array<ArrayBuffer>): Promise<void> {
    const { slot, start } = part;
    this.#checkBorders(part, values.length);
    this.#writes.set(slot.name, this.writesOf(slot) + 1);
    if (this.#whole) this.#marking ??= this.#mark();
    await this.#marking;
    const bytes = bytesOf(values);
    const sums = this.#sums(slot);
    const first = (start * 4) / sums.pieceBytes;
    for (let at = 0, piece = first; at < bytes.length; at += sums.pieceBytes, piece++)
      sums.set(piece, crc32(bytes.subarray(at, at + sums.pieceBytes)));
    await writeAll(this.#file, bytes, TENSOR_FILE_HEADER_BYTES + (slot.offset + start) * 4);
  }

  /**
   * Where a part lies, with borders as for {@link read}. The checksums are those of now: who reads by them verifies as
   * {@link read} does. Throws {@link TensorStoreUseError}.
   */
  region({ slot, start, length }: TensorPart): StoredRegion {
    this.#checkBorders({ slot, start, length }, length);
    const sums = this.#sums(slot);
    const first = (start * 4) / sums.pieceBytes;
    return {
      file: this.#file.fd,
      position: TENSOR_FILE_HEADER_BYTES + (slot.offset + start) * 4,
      pieceBytes: sums.pieceBytes,
      sums: sums.slice(first, Math.ceil((length * 4) / sums.pieceBytes)),
    };
  }

  /** How often a tensor was written since the store was opened: what was made of it earlier is out of date. */
  writesOf({ name }: TensorSlot): number {
    return this.#writes.get(name) ?? 0;
  }

  /**
   * Declares what was written a whole state, durably, as that after `round`; returns its root. A new store gets its name
   * by this. Throws {@link TensorStoreUseError} when some of a new store was never written.
   */
  async seal(round: number, { signal }: { readonly signal?: AbortSignal } = {}): Promise<string> {
    for (const [name, sums] of this.#checksums)
      if (this.#temporary !== undefined && !sums.complete)
        throw new TensorStoreUseError(`${name} was never written to ${this.path}`);
    const root = await this.#scan(signal, false);
    // The numbers first: a whole header over numbers that were lost would be found out only by the root.
    await this.#file.sync();
    const header = { ...this.#header, round, root };
    await writeAll(this.#file, encodeTensorFileHeader(header), 0);
    await this.#file.sync();
    this.#header = header;
    this.#whole = true;
    this.#marking = undefined;
    if (this.#temporary !== undefined) {
      await rename(this.#temporary, this.path);
      this.#temporary = undefined;
      await syncFolder(dirname(this.path));
    }
    return root;
  }

  /**
   * Renames a sealed store to `path` on the same file system, over what is there, durably, as the state after `round`. It
   * stays open. Throws {@link TensorStoreUseError} for a store that is not sealed, errors of the file system.
   */
  async moveTo(path: string, round: number): Promise<void> {
    if (!this.#whole) throw new TensorStoreUseError(`${this.path} is not sealed`);
    if (round !== this.#header.round) {
      const header = { ...this.#header, round };
      await writeAll(this.#file, encodeTensorFileHeader(header), 0);
      await this.#file.sync();
      this.#header = header;
    }
    await rename(this.#path, path);
    this.#path = path;
    await syncFolder(dirname(path));
  }

  /** Closes the file. A new store that was not sealed is deleted. */
  async close(): Promise<void> {
    await this.#file.close();
    if (this.#temporary !== undefined) await rm(this.#temporary, { force: true });
  }

  async #mark(): Promise<void> {
    await writeAll(this.#file, encodeTensorFileHeader(this.#header, { incomplete: true }), 0);
    await this.#file.datasync();
    this.#whole = false;
  }

  #sums(slot: TensorSlot): Checksums {
    const sums = this.#checksums.get(slot.name);
    if (sums === undefined) throw new RangeError(`no tensor named ${slot.name}`);
    return sums;
  }

  #checkBorders({ slot, start, length }: TensorPart, elements: number): void {
    const piece = this.#sums(slot).pieceBytes / 4;
    const end = start + length;
    const aligned = start % piece === 0 && (end % piece === 0 || end === slot.length);
    if (!aligned || start < 0 || length < 1 || end > slot.length || elements !== length)
      throw new TensorStoreUseError(
        `elements ${start} to ${end} of ${slot.name} are no pieces of it, or not ${elements}`,
      );
  }

  /**
   * Reads the whole file a chunk at a time; returns the root over it. With `learn`, takes the checksums of all pieces;
   * without, compares them.
   */
  async #scan(signal: AbortSignal | undefined, learn: boolean): Promise<string> {
    const totalBytes = this.#elements * 4;
    const digests: Uint8Array[] = [];
    const pieces = this.#pieces();
    let piece = pieces.next();
    let sum = 0;
    let seen = 0;
    const chunk = new Uint8Array(Math.min(MODEL_CHUNK_BYTES, totalBytes));
    for (let index = 0; index < chunkCount(this.#elements); index++) {
      signal?.throwIfAborted();
      const bytes = chunk.subarray(0, chunkSize(totalBytes, index));
      if (!(await readAll(this.#file, bytes, TENSOR_FILE_HEADER_BYTES + index * MODEL_CHUNK_BYTES)))
        throw new TensorFileSizeError(`${this.path} became shorter while it was read`);
      digests.push(chunkDigest(bytes));
      for (let at = 0; at < bytes.length && !piece.done; ) {
        const { slot, number, size } = piece.value;
        const taken = Math.min(size - seen, bytes.length - at);
        sum = crc32(bytes.subarray(at, at + taken), sum);
        at += taken;
        seen += taken;
        if (seen < size) continue;
        const sums = this.#sums(slot);
        if (learn) sums.set(number, sum);
        else if (sums.get(number) !== sum) throw new TensorFileContentError(`${slot.name} in ${this.path} is damaged`);
        piece = pieces.next();
        sum = 0;
        seen = 0;
      }
    }
    return ModelTree.ofDigests(totalBytes, Buffer.concat(digests)).root;
  }

  *#pieces(): Generator<{ readonly slot: TensorSlot; readonly number: number; readonly size: number }, undefined> {
    for (const slot of this.layout) {
      const { pieceBytes } = this.#sums(slot);
      for (let at = 0, number = 0; at < slot.length * 4; at += pieceBytes, number++)
        yield { slot, number, size: Math.min(pieceBytes, slot.length * 4 - at) };
    }
  }
}

function elementsOf(layout: readonly TensorSlot[]): number {
  const last = layout.at(-1);
  return last === undefined ? 0 : last.offset + last.length;
}

function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.new`);
}
