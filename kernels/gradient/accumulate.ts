/**
 * The first half of selection: the sum of error feedback and pseudo-gradient, and the elements of it that may be among the
 * largest, in one pass over memory. In JavaScript on the arrays themselves, or in WebAssembly on copies of a band.
 */
import { type HotLoops, hotLoops, MAX_HOT_LOOP_BYTES } from '../wasm/hot-loops.ts';
import { type Chunk, type ChunkGeometry, TILE_SIDE } from './chunks.ts';

/** Candidates of one chunk. */
export interface Candidates {
  readonly positions: Uint32Array;
  readonly magnitudes: Float32Array;
}

/** Room for so many candidates. */
export function candidatesFor(elements: number): Candidates {
  return { positions: new Uint32Array(elements), magnitudes: new Float32Array(elements) };
}

/** `into <- fround(decay * into + added)` over a chunk, collecting positions whose magnitude reaches the threshold. */
function accumulateAndCollect(
  into: Float32Array,
  added: Float32Array,
  decay: number,
  chunk: Chunk,
  columns: number,
  threshold: number,
  candidates: Candidates,
): number {
  const { positions, magnitudes } = candidates;
  let found = 0;
  let position = 0;
  for (let row = 0; row < chunk.height; row++) {
    let at = chunk.start + row * columns;
    for (const end = at + chunk.width; at < end; at++, position++) {
      const sum = Math.fround(decay * into[at] + added[at]);
      into[at] = sum;
      const magnitude = Math.abs(sum);
      if (magnitude >= threshold) {
        positions[found] = position;
        magnitudes[found] = magnitude;
        found++;
      }
    }
  }
  return found;
}

/** Where the chunks of a tensor are worked on, band after band. */
export interface Workplace {
  /** Holds the sums of the chunks that {@link Workplace.collect} was called for. */
  readonly sums: Float32Array;
  /** The same as bits. */
  readonly bits: Int32Array;
  /** What `collect` finds. */
  readonly candidates: Candidates;
  /** Takes in the elements `start` to `end` of the tensor. Returns the element that is the first of `sums`. */
  open(start: number, end: number): number;
  /**
   * Accumulates one chunk, which starts where `sums` counts from, and collects what reaches the threshold. Returns how
   * many there are.
   */
  collect(chunk: Chunk, threshold: number): number;
  /** Gives the elements back. */
  close(): void;
}

/** What a workplace works on. Inputs must be finite and their sums must fit fp32: the caller has checked. */
export interface Accumulation {
  readonly delta: Float32Array;
  /** Updated in place: `feedback <- fround(decay * feedback + delta)`, the product and the sum in fp64. */
  readonly feedback: Float32Array;
  readonly decay: number;
  readonly geometry: ChunkGeometry;
}

function plainWorkplace({ delta, feedback, decay, geometry }: Accumulation): Workplace {
  // A chunk that is a whole tensor gets room when it is known how much: its first threshold lets nothing pass.
  const room = isWholeTensor(geometry) ? 0 : geometry.largestChunk;
  const candidates = candidatesFor(room);
  return {
    sums: feedback,
    bits: new Int32Array(feedback.buffer, feedback.byteOffset, feedback.length),
    candidates,
    open: () => 0,
    collect: (chunk, threshold) =>
      accumulateAndCollect(feedback, delta, decay, chunk, geometry.columns, threshold, candidates),
    close() {},
  };
}

/** Two copies in and one back cost less than SIMD saves. */
function wasmWorkplace({ delta, feedback, decay, geometry }: Accumulation, loops: HotLoops): Workplace {
  const { columns, largestChunk } = geometry;
  const bandBytes = bandElements(geometry) * 4;
  const positionsAt = 2 * bandBytes;
  const magnitudesAt = positionsAt + largestChunk * 4;
  const memory = loops.reserve(wasmBytes(geometry));
  const sums = new Float32Array(memory, 0, bandBytes / 4);
  const added = new Float32Array(memory, bandBytes, bandBytes / 4);
  let band = feedback.subarray(0, 0);
  return {
    sums,
    bits: new Int32Array(memory, 0, bandBytes / 4),
    candidates: {
      positions: new Uint32Array(memory, positionsAt, largestChunk),
      magnitudes: new Float32Array(memory, magnitudesAt, largestChunk),
    },
    open(start, end) {
      band = feedback.subarray(start, end);
      sums.set(band);
      added.set(delta.subarray(start, end));
      return start;
    },
    collect({ start, height, width }, threshold) {
      const [into, from, stride] = [start * 4, bandBytes + start * 4, columns * 4];
      // The threshold is rounded to fp32 on the way: it decides on the number of candidates only, not on the selection.
      const { accumulateAndCollect: run } = loops.run;
      return run(into, from, height, width, stride, decay, threshold, positionsAt, magnitudesAt);
    },
    close() {
      band.set(sums.subarray(0, band.length));
    },
  };
}

function isWholeTensor(geometry: ChunkGeometry): boolean {
  return !geometry.tiled && geometry.chunks === 1;
}

/** Elements of a full band: they lie one behind the other. */
export function bandElements(geometry: ChunkGeometry): number {
  return geometry.tiled ? TILE_SIDE * geometry.columns : geometry.largestChunk;
}

function wasmBytes(geometry: ChunkGeometry): number {
  return (2 * bandElements(geometry) + 2 * geometry.largestChunk) * 4;
}

/**
 * The faster place for a tensor. `loops` null: JavaScript. Both give the same sums and, in the end, the same selection.
 */
export function workplaceFor(accumulation: Accumulation, loops: HotLoops | null = hotLoops): Workplace {
  const { geometry } = accumulation;
  if (loops === null || isWholeTensor(geometry) || wasmBytes(geometry) > MAX_HOT_LOOP_BYTES) {
    return plainWorkplace(accumulation);
  }
  return wasmWorkplace(accumulation, loops);
}
