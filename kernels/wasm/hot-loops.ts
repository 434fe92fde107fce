/**
 * The hot loops in WebAssembly with SIMD, for arrays that are copied into its memory piece by piece. Results are the same
 * bytes as those of the JavaScript loops, which stay in place where there is no SIMD.
 */
import { HOT_LOOPS_BASE64 } from './hot-loops-binary.ts';

const PAGE_BYTES = 65_536;

/** Most memory that is reserved: callers whose arrays take more use the JavaScript loops. */
export const MAX_HOT_LOOP_BYTES = 64 * 1024 * 1024;

/** Exports of the module; assembly/hot-loops.ts describes them. Addresses are bytes. */
interface Exports {
  accumulateAndCollect(
    into: number,
    added: number,
    height: number,
    width: number,
    stride: number,
    decay: number,
    threshold: number,
    positions: number,
    magnitudes: number,
  ): number;
  scatterAdd(sums: number, indices: number, values: number, count: number, coefficient: number, start: number): void;
  gather(sums: number, size: number, start: number, indices: number, values: number): number;
}

/** An instance with its memory: scratch space, without content between calls of who uses it. */
export class HotLoops {
  readonly run: Exports;
  readonly #memory: WebAssembly.Memory;

  private constructor(run: Exports, memory: WebAssembly.Memory) {
    this.run = run;
    this.#memory = memory;
  }

  /** Makes an instance; null on an engine without SIMD, or on a big-endian machine. */
  static create(): HotLoops | null {
    const binary = Buffer.from(HOT_LOOPS_BASE64, 'base64');
    if (!WebAssembly.validate(binary) || new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1) return null;
    const maximum = MAX_HOT_LOOP_BYTES / PAGE_BYTES;
    const memory = new WebAssembly.Memory({ initial: 1, maximum });
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary), { env: { memory } });
    return new HotLoops(exports as unknown as Exports, memory);
  }

  /**
   * Memory of at least so many bytes (at most {@link MAX_HOT_LOOP_BYTES}). Views of it end with the next call: a larger
   * memory is another buffer.
   */
  reserve(bytes: number): ArrayBuffer {
    const missing = bytes - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / PAGE_BYTES));
    return this.#memory.buffer;
  }
}

/** The instance of this thread, for loops that do not give way to others while they use it. */
export const hotLoops: HotLoops | null = HotLoops.create();
