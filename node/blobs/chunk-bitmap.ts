/**
 * Which chunks of a blob are there: one bit each, chunk 0 in the lowest bit of byte 0. Also its form on the wire.
 */
export class ChunkBitmap {
  readonly bytes: Uint8Array;
  readonly length: number;
  #count = 0;

  /** All chunks absent. */
  constructor(length: number) {
    this.length = length;
    this.bytes = new Uint8Array(Math.ceil(length / 8));
  }

  /** Reads a bitmap from the wire; undefined when it does not fit the number of chunks. */
  static from(bytes: Uint8Array, length: number): ChunkBitmap | undefined {
    if (bytes.length !== Math.ceil(length / 8)) return undefined;
    const bitmap = new ChunkBitmap(length);
    for (let index = 0; index < length; index++) {
      if (((bytes[index >> 3] ?? 0) >> (index & 7)) & 1) bitmap.set(index);
    }
    return bitmap;
  }

  /** Number of chunks that are there. */
  get count(): number {
    return this.#count;
  }

  get complete(): boolean {
    return this.#count === this.length;
  }

  has(index: number): boolean {
    return (((this.bytes[index >> 3] ?? 0) >> (index & 7)) & 1) === 1;
  }

  set(index: number): void {
    if (index < 0 || index >= this.length || this.has(index)) return;
    this.bytes[index >> 3] = (this.bytes[index >> 3] ?? 0) | (1 << (index & 7));
    this.#count += 1;
  }

  clear(index: number): void {
    if (!this.has(index)) return;
    this.bytes[index >> 3] = (this.bytes[index >> 3] ?? 0) & ~(1 << (index & 7));
    this.#count -= 1;
  }
}
