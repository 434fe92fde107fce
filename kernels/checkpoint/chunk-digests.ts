/**
 * The chunk tree of numbers that pass by once, in order, in pieces of any size: what a stream needs to know its root.
 */
import { createHash } from 'node:crypto';
import { MODEL_CHUNK_BYTES, ModelTree } from '../aggregate/model-root.ts';

/** Digests of the 1 MiB chunks of a stream of fp32 numbers, little-endian. Memory: 32 bytes per chunk. */
export class ChunkDigests {
  readonly #digests: Uint8Array[] = [];
  #hasher = createHash('sha256');
  #inChunk = 0;
  #bytes = 0;

  /** Takes the next bytes. */
  update(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + MODEL_CHUNK_BYTES - this.#inChunk);
      this.#hasher.update(part);
      at += part.length;
      this.#inChunk += part.length;
      this.#bytes += part.length;
      if (this.#inChunk === MODEL_CHUNK_BYTES) this.#closeChunk();
    }
  }

  #closeChunk(): void {
    this.#digests.push(this.#hasher.digest());
    this.#hasher = createHash('sha256');
    this.#inChunk = 0;
  }

  /** Root over everything that was taken; nothing can be added afterwards. Throws InvalidModelChunksError for nothing. */
  root(): string {
    if (this.#inChunk > 0) this.#closeChunk();
    return ModelTree.ofDigests(this.#bytes, Buffer.concat(this.#digests)).root;
  }
}
