/**
 * Weights of a store rounded to bfloat16, as a native engine multiplies them, in a file of half the size: what was rounded
 * once is read from there until the store's tensor is written again.
 *
 * Nothing outlives the object: the file is made empty, what it holds is known in memory alone, by the store's count of
 * writes, and it is deleted in the end. So a copy that does not fit its store is never used, whenever the program stops.
 */
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { TensorPart, TensorStore } from '../checkpoint/tensor-store.ts';
import type { NativeReadPart } from './library.ts';

/** A piece that was never rounded; the store counts from 0. */
const NEVER = -1;

interface CopiedTensor {
  /** By piece of the store: its count of writes when the piece was rounded. */
  readonly writes: Int32Array;
  readonly sums: Uint32Array<ArrayBuffer>;
}

/** See the file comment. */
export class RoundedCopy {
  readonly #store: TensorStore;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #tensors = new Map<string, CopiedTensor>();

  private constructor(store: TensorStore, path: string, file: FileHandle) {
    this.#store = store;
    this.#path = path;
    this.#file = file;
  }

  /** Makes an empty file, over one that is there. Errors are those of the file system. */
  static async create(store: TensorStore, path: string): Promise<RoundedCopy> {
    return new RoundedCopy(store, path, await open(path, 'w+'));
  }

  /**
   * How to read a part of a matrix into `to`: from the copy where that is up to date, else from the store and into the copy.
   * `done` is to be called when that was read.
   */
  plan(part: TensorPart, to: Uint16Array<ArrayBuffer>): { readonly read: NativeReadPart; readonly done: () => void } {
    const { slot, start } = part;
    const region = this.#store.region(part);
    const first = (start * 4) / region.pieceBytes;
    const tensor = this.#tensor(part, region.pieceBytes);
    const written = this.#store.writesOf(slot);
    const [writes, sums] = [tensor.writes, tensor.sums].map((of) => of.subarray(first, first + region.sums.length)) as [
      Int32Array,
      Uint32Array<ArrayBuffer>,
    ];
    const copy = { file: this.#file.fd, position: (slot.offset + start) * 2, sums };
    if (writes.every((count) => count === written))
      return { read: { ...copy, pieceBytes: region.pieceBytes / 2, to, rounds: 0 }, done: () => {} };
    // What is there may be overwritten in part when the reading fails.
    writes.fill(NEVER);
    return { read: { ...region, to, rounds: 1, copy }, done: () => void writes.fill(written) };
  }

  /** Deletes the file. Nothing may be read any more. */
  async close(): Promise<void> {
    await this.#file.close();
    await rm(this.#path, { force: true });
  }

  #tensor({ slot }: TensorPart, pieceBytes: number): CopiedTensor {
    const known = this.#tensors.get(slot.name);
    if (known !== undefined) return known;
    const pieces = Math.ceil((slot.length * 4) / pieceBytes);
    const tensor = { writes: new Int32Array(pieces).fill(NEVER), sums: new Uint32Array(pieces) };
    this.#tensors.set(slot.name, tensor);
    return tensor;
  }
}
