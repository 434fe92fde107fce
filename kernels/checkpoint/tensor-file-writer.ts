/**
 * Writing a tensor file piece by piece, so that the numbers need not fit memory.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ChunkDigests } from './chunk-digests.ts';
import { encodeTensorFileHeader, TENSOR_FILE_HEADER_BYTES, type TensorFileHeader, writeAll } from './tensor-file.ts';

/** A tensor file that is being written; the file at its path stays as it was until {@link TensorFileWriter.finish}. */
export class TensorFileWriter {
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: FileHandle;
  readonly #digests = new ChunkDigests();
  #bytes = 0;

  private constructor(path: string, temporary: string, file: FileHandle) {
    this.#path = path;
    this.#temporary = temporary;
    this.#file = file;
  }

  /** Starts a file that will be at `path`. One writer per path at a time. End it with `finish` or `discard`. */
  static async create(path: string): Promise<TensorFileWriter> {
    const temporary = join(dirname(path), `.${basename(path)}.new`);
    return new TensorFileWriter(path, temporary, await open(temporary, 'w'));
  }

  /** Adds fp32 numbers, little-endian. */
  async append(bytes: Uint8Array): Promise<void> {
    this.#digests.update(bytes);
    await writeAll(this.#file, bytes, TENSOR_FILE_HEADER_BYTES + this.#bytes);
    this.#bytes += bytes.length;
  }

  /** Root of what was appended; nothing can be appended afterwards. */
  root(): string {
    return this.#digests.root();
  }

  /** Writes the header and puts the file in its place, durably. `root` is what {@link root} gave. */
  async finish(fields: Omit<TensorFileHeader, 'elements'>): Promise<void> {
    await writeAll(this.#file, encodeTensorFileHeader({ ...fields, elements: this.#bytes / 4 }), 0);
    await this.#file.sync();
    await this.#file.close();
    await rename(this.#temporary, this.#path);
    const folder = await open(dirname(this.#path), 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  /** Ends without a file. Does nothing after `finish`. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => {});
    await rm(this.#temporary, { force: true });
  }
}
