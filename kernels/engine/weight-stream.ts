/** Weights on their way from a store to the device: groups of tensors in a known order, the next one read ahead. */
import { performance } from 'node:perf_hooks';
import type { TensorPart, TensorStore } from '../checkpoint/tensor-store.ts';

type Floats = Float32Array<ArrayBuffer>;

/** Elements of a group. */
export function groupLength(group: readonly TensorPart[]): number {
  return group.reduce((sum, { length }) => sum + length, 0);
}

/** Reads a group into a memory; what it returns lies there. */
export type GroupReader<Memory, Weights> = (group: readonly TensorPart[], memory: Memory) => Promise<Weights>;

/** Reads groups of parts, in order, into one or two memories that it reuses. */
export class WeightStream<Memory, Weights> {
  readonly #reader: GroupReader<Memory, Weights>;
  readonly #memories: readonly Memory[];
  readonly #groups: readonly (readonly TensorPart[])[];
  #next = 0;
  #waitedMs = 0;
  #elementsRead = 0;
  /** The group after the present one, being read. */
  #ahead: Promise<Weights> | undefined;

  /**
   * @param memories - each as long as the longest group. With two, a group is read while the one before is in use.
   * @param groups - all that will be asked for
   */
  constructor(
    reader: GroupReader<Memory, Weights>,
    memories: readonly Memory[],
    groups: readonly (readonly TensorPart[])[],
  ) {
    this.#reader = reader;
    this.#memories = memories;
    this.#groups = groups;
  }

  /** Time in {@link next}: nothing was computed meanwhile. */
  get waitedMs(): number {
    return this.#waitedMs;
  }

  /** Elements of the groups that were asked for, also ahead. */
  get elementsRead(): number {
    return this.#elementsRead;
  }

  /** The next group's weights; those handed out before are overwritten. Throws what the reader throws. */
  async next(): Promise<Weights> {
    const began = performance.now();
    const current = await (this.#ahead ?? this.#read());
    this.#waitedMs += performance.now() - began;
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

  async #read(): Promise<Weights> {
    const group = this.#groups[this.#next];
    if (group === undefined) throw new RangeError(`there are ${this.#groups.length} groups of weights`);
    const memory = this.#memories[this.#next % this.#memories.length] as Memory;
    this.#next++;
    this.#elementsRead += groupLength(group);
    return await this.#reader(group, memory);
  }
}

/** A reader of a store: arrays in a group's order, one after the other in the memory. Throws what the store throws. */
export function readerOf(store: TensorStore): GroupReader<Floats, Floats[]> {
  return async (group, memory) => {
    let at = 0;
    const arrays = group.map(({ length }) => {
      at += length;
      return memory.subarray(at - length, at);
    });
    // All of them to the end, also when one fails: nothing may write into the memory later.
    const reads = await Promise.allSettled(group.map((part, index) => store.read(part, arrays[index] as Floats)));
    for (const read of reads) if (read.status === 'rejected') throw read.reason;
    return arrays;
  };
}
