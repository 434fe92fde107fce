/** What an attack does by chance, the same for the same seed. */
import { createHash } from 'node:crypto';

/** A seeded source: SHA-256 in counter mode, which is fast enough and has no state to get wrong. */
export class SeededRandom {
  readonly #seed: string;
  #block = Buffer.alloc(0);
  #at = 0;
  #counter = 0;

  constructor(seed: string) {
    this.#seed = seed;
  }

  bytes(count: number): Uint8Array {
    const out = Buffer.alloc(count);
    for (let filled = 0; filled < count; ) {
      if (this.#at === this.#block.length) {
        this.#block = createHash('sha256')
          .update(`${this.#seed}/${this.#counter++}`)
          .digest();
        this.#at = 0;
      }
      const taken = this.#block.copy(out, filled, this.#at);
      filled += taken;
      this.#at += taken;
    }
    return out;
  }

  /** A whole number from 0 to below `bound`. */
  below(bound: number): number {
    return Buffer.from(this.bytes(4)).readUInt32LE() % bound;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}
