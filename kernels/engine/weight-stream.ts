/** Weights on their way from a store to the device: groups of tensors in a known order, the next one read ahead. */
import type { TensorPart, TensorStore } from '../checkpoint/tensor-store.ts';

type Floats = Float32Array<ArrayBuffer>;

/** Elements of a group. */
export function groupLength(group: readonly TensorPart[]): number {
  return group.reduce((sum, { length }) => sum + length, 0);
}

/** Reads groups of parts, in order, into one or two memories that it reuses. */
export class WeightStream {
  readonly #store: TensorStore;
  readonly #memories: readonly Floats[];
  readonly #groups: readonly (readonly TensorPart[])[];
  #next = 0;
  /** The group after the present one, being read. */
  #ahead: Promise<Floats[]> | undefined;

  /**
   * @param memories - each as long as the longest group. With two, a group is read while the one before is in use.
   * @param groups - all that will be asked for
   */
  constructor(store: TensorStore, memories: readonly Floats[], groups: readonly (readonly TensorPart[])[]) {
    this.#store = store;
    this.#memories = memories;
    this.#groups = groups;
  }

  /** The next group's arrays, in its order; those handed out before are overwritten. Throws what the store throws. */
  async next(): Promise<Floats[]> {
    const current = await (this.#ahead ?? this.#read());
    this.#ahead = undefined;
    if (this.#memories.length > 1 && this.#next < this.#groups.length) {
      this.#ahead = this.#read();
      // A failure is told when the group is asked for.
      this.#ahead.catch(() => {});
    }
    return current;
  }

  /** Waits until nothing is being read. */
  async close(): Promise<void> {
    await this.#ahead?.catch(() => {});
  }

  async #read(): Promise<Floats[]> {
    const group = this.#groups[this.#next];
    if (group === undefined) throw new RangeError(`there are ${this.#groups.length} groups of weights`);
    const memory = this.#memories[this.#next % this.#memories.length] as Floats;
    this.#next++;
    let at = 0;
    const arrays = group.map(({ length }) => {
      at += length;
      return memory.subarray(at - length, at);
    });
    // All of them to the end, also when one fails: nothing may write into the memory later.
    const reads = await Promise.allSettled(group.map((part, index) => this.#store.read(part, arrays[index] as Floats)));
    for (const read of reads) if (read.status === 'rejected') throw read.reason;
    return arrays;
  }
}
