/** Inputs of all blocks for all passes of a streamed call: in memory, or in a file where they are too many. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { readAll, writeAll } from '../checkpoint/tensor-file.ts';

type Floats = Float32Array<ArrayBuffer>;

/** Thrown when a file of activations does not hold what was written to it. */
export class ActivationFileError extends Error {
  static readonly code = 'ERR_ACTIVATION_FILE';
  readonly code = ActivationFileError.code;
  override readonly name = 'ActivationFileError';
}

/** Activations by layer and pass; that of layer `layers` is the head's input. */
export interface Activations {
  /** Memory to compute one into; it is valid until {@link keep} is called for it. */
  room(layer: number, pass: number): Promise<Floats>;
  /** Keeps what was computed into {@link room}. */
  keep(layer: number, pass: number): Promise<void>;
  /** One that was kept; valid until the next one is asked for, which will be `next`. */
  of(layer: number, pass: number, next?: readonly [layer: number, pass: number]): Promise<Floats>;
  /** Waits until nothing is read or written any more. */
  settle(): Promise<void>;
}

/** All in memory, which is kept from call to call. */
export class ActivationsInMemory implements Activations {
  readonly #arrays: Floats[][] = [];
  #lengths: readonly number[] = [];

  /** Begins a call, with the elements of each pass. */
  begin(lengths: readonly number[]): void {
    this.#lengths = lengths;
  }

  async room(layer: number, pass: number): Promise<Floats> {
    return this.#at(layer, pass);
  }

  async keep(): Promise<void> {}

  async of(layer: number, pass: number): Promise<Floats> {
    return this.#at(layer, pass);
  }

  async settle(): Promise<void> {}

  #at(layer: number, pass: number): Floats {
    const length = this.#lengths[pass] as number;
    const arrays = this.#arrays[pass] ?? [];
    this.#arrays[pass] = arrays;
    const array = arrays[layer];
    if (array !== undefined && array.length >= length) return array.subarray(0, length);
    arrays[layer] = new Float32Array(length);
    return arrays[layer];
  }
}

/** Arrays of an {@link ActivationFile}: two are read, two written in turns. */
export const ACTIVATION_FILE_ARRAYS = 4;

/** A file as long as all activations; four of them are in memory. Reading and writing goes on while others compute. */
export class ActivationFile implements Activations {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #layers: number;
  readonly #longest: number;
  #lengths: readonly number[] = [];
  readonly #arrays: readonly Floats[];
  /** Of the arrays that are written in turns: what is being written from them. */
  readonly #writing: (Promise<void> | undefined)[] = [undefined, undefined];
  #rooms = 0;
  #reads = 0;
  #ahead: { readonly place: number; readonly read: Promise<Floats> } | undefined;
  readonly #sums = new Map<number, number>();

  private constructor(path: string, file: FileHandle, layers: number, longest: number) {
    this.#path = path;
    this.#file = file;
    this.#layers = layers;
    this.#longest = longest;
    this.#arrays = Array.from({ length: ACTIVATION_FILE_ARRAYS }, () => new Float32Array(longest));
  }

  /** Makes the file. Errors are those of the file system. */
  static async create(path: string, layers: number, longest: number): Promise<ActivationFile> {
    return new ActivationFile(path, await open(path, 'w+'), layers, longest);
  }

  /** Begins a call, with the elements of each pass: none more than `longest`. */
  begin(lengths: readonly number[]): void {
    this.#lengths = lengths;
    this.#ahead = undefined;
    this.#sums.clear();
  }

  async room(layer: number, pass: number): Promise<Floats> {
    const turn = this.#rooms % 2;
    await this.#writing[turn];
    this.#writing[turn] = undefined;
    return this.#cut(2 + turn, layer, pass);
  }

  async keep(layer: number, pass: number): Promise<void> {
    const turn = this.#rooms++ % 2;
    const values = this.#cut(2 + turn, layer, pass);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const place = this.#place(layer, pass);
    this.#sums.set(place, crc32(bytes));
    const write = writeAll(this.#file, bytes, place * this.#longest * 4);
    // A failure is told when the array is wanted again, or the number.
    write.catch(() => {});
    this.#writing[turn] = write;
  }

  async of(layer: number, pass: number, next?: readonly [number, number]): Promise<Floats> {
    const place = this.#place(layer, pass);
    const ahead = this.#ahead?.place === place ? this.#ahead.read : undefined;
    if (ahead === undefined) await this.#ahead?.read.catch(() => {});
    const values = await (ahead ?? this.#read(layer, pass));
    this.#ahead = undefined;
    if (next !== undefined && this.#sums.has(this.#place(...next))) {
      const read = this.#read(...next);
      read.catch(() => {});
      this.#ahead = { place: this.#place(...next), read };
    }
    return values;
  }

  async settle(): Promise<void> {
    await this.#ahead?.read.catch(() => {});
    this.#ahead = undefined;
    await Promise.allSettled(this.#writing);
  }

  /** Deletes the file. */
  async close(): Promise<void> {
    await this.settle();
    await this.#file.close();
    await rm(this.#path, { force: true });
  }

  async #read(layer: number, pass: number): Promise<Floats> {
    const values = this.#cut(this.#reads++ % 2, layer, pass);
    // It may be among what is still being written.
    await Promise.all(this.#writing);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const place = this.#place(layer, pass);
    const whole = await readAll(this.#file, bytes, place * this.#longest * 4);
    if (!whole || crc32(bytes) !== this.#sums.get(place))
      throw new ActivationFileError(`activations in ${this.#path} are damaged`);
    return values;
  }

  #place(layer: number, pass: number): number {
    return pass * (this.#layers + 1) + layer;
  }

  #cut(array: number, _layer: number, pass: number): Floats {
    return (this.#arrays[array] as Floats).subarray(0, this.#lengths[pass]);
  }
}
