/**
 * Error feedback and exact selection of the largest elements of each chunk, fused into one pass over memory.
 *
 * Neighbouring chunks of a tensor have similar magnitudes, so a share of the last chunk's k-th magnitude is a good first
 * threshold: few elements pass it, and if at least k do, the k largest are among them. Where too few pass, a histogram of
 * the leading bits of the magnitudes gives a threshold that cannot fail. Either way the result is exact: the k largest
 * magnitudes, ties to the lowest position, zeros never.
 */
import type { HotLoops } from '../wasm/hot-loops.ts';
import { bandElements, type Candidates, candidatesFor, workplaceFor } from './accumulate.ts';
import { type Chunk, type ChunkGeometry, chunkAt, fullEntries } from './chunks.ts';

/** Smallest positive fp32: the threshold that lets everything but zeros (of either sign) pass. */
const SMALLEST_MAGNITUDE = 2 ** -149;

/** First threshold for a chunk as a share of the last chunk's k-th magnitude: lets about 3 k of a normal chunk pass. */
const THRESHOLD_SHARE = 0.8;

/** Leading bits (8 of exponent, 3 of mantissa) that the histogram looks at. */
const HISTOGRAM_BITS = 11;
const HISTOGRAM_SHIFT = 31 - HISTOGRAM_BITS;

/** What was selected of a tensor, in chunk order. */
export interface Selection {
  /** Elements selected in each chunk. */
  readonly counts: Uint32Array;
  /** Positions within their chunk, ascending in each chunk. */
  readonly positions: Uint32Array;
  /** Element indices within the tensor, in the same order. */
  readonly indices: Uint32Array;
  /** Values, in the same order. */
  readonly values: Float32Array;
}

/** Collects positions whose magnitude reaches the threshold. */
function collect(values: Float32Array, chunk: Chunk, columns: number, threshold: number, to: Candidates): number {
  const { positions, magnitudes } = to;
  let found = 0;
  let position = 0;
  for (let row = 0; row < chunk.height; row++) {
    let at = chunk.start + row * columns;
    for (const end = at + chunk.width; at < end; at++, position++) {
      const magnitude = Math.abs(values[at]);
      if (magnitude >= threshold) {
        positions[found] = position;
        magnitudes[found] = magnitude;
        found++;
      }
    }
  }
  return found;
}

/** A threshold that at least `k` elements of the chunk reach (all non-zero ones if those are fewer), and how many do. */
function histogramThreshold(
  bits: Int32Array,
  chunk: Chunk,
  columns: number,
  k: number,
  histogram: Uint32Array,
): { threshold: number; reaching: number } {
  histogram.fill(0);
  for (let row = 0; row < chunk.height; row++) {
    let at = chunk.start + row * columns;
    for (const end = at + chunk.width; at < end; at++) histogram[(bits[at] & 0x7fffffff) >>> HISTOGRAM_SHIFT]++;
  }
  let reaching = 0;
  for (let bin = histogram.length - 1; bin > 0; bin--) {
    reaching += histogram[bin];
    if (reaching >= k) {
      const threshold = new Float32Array(Uint32Array.of(bin << HISTOGRAM_SHIFT).buffer)[0];
      return { threshold, reaching };
    }
  }
  // Bin 0 holds zeros besides the smallest denormals: an upper bound, not a count.
  return { threshold: SMALLEST_MAGNITUDE, reaching: reaching + histogram[0] };
}

/** The k-th largest of the first `count` values (1 <= k <= count); reorders them. Hoare's selection, median of three. */
function kthLargest(values: Float32Array, count: number, k: number): number {
  let low = 0;
  let high = count - 1;
  const target = k - 1;
  while (low < high) {
    const a = values[low];
    const b = values[(low + high) >>> 1];
    const c = values[high];
    const pivot = Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
    let left = low;
    let right = high;
    while (left <= right) {
      while (values[left] > pivot) left++;
      while (values[right] < pivot) right--;
      if (left <= right) {
        const swapped = values[left];
        values[left++] = values[right];
        values[right--] = swapped;
      }
    }
    if (target <= right) high = right;
    else if (target >= left) low = left;
    else return values[target];
  }
  return values[target];
}

/**
 * Updates the error feedback of a tensor, `feedback <- fround(decay * feedback + delta)` (the product and the sum in
 * fp64), and selects the `topK` largest elements of each chunk of the result. Elements that are zero are not selected.
 * Inputs must be finite and their sums must fit fp32: the caller has checked. `loops` null works in JavaScript alone; the
 * result is the same.
 */
export function accumulateAndSelect(
  delta: Float32Array,
  feedback: Float32Array,
  geometry: ChunkGeometry,
  topK: number,
  decay: number,
  loops?: HotLoops | null,
): Selection {
  const capacity = fullEntries(geometry, topK);
  const counts = new Uint32Array(geometry.chunks);
  const positions = new Uint32Array(capacity);
  const indices = new Uint32Array(capacity);
  const values = new Float32Array(capacity);
  const histogram = new Uint32Array(2 ** HISTOGRAM_BITS);
  const workplace = workplaceFor({ delta, feedback, decay, geometry }, loops);
  const { sums, bits } = workplace;
  let candidates = workplace.candidates;
  let work = new Float32Array(candidates.magnitudes.length);
  const { columns, length } = geometry;
  const bandLength = bandElements(geometry);
  let guess = Number.POSITIVE_INFINITY;
  let entries = 0;
  for (let band = 0, chunkIndex = 0; band < geometry.bands; band++) {
    const origin = workplace.open(band * bandLength, Math.min(length, (band + 1) * bandLength));
    for (let place = 0; place < geometry.chunksPerBand; place++, chunkIndex++) {
      const { start, height, width } = chunkAt(geometry, band, place);
      const chunk = { start: start - origin, height, width };
      const keep = Math.min(topK, height * width);
      let found = workplace.collect(chunk, guess);
      if (found < keep) {
        const exact = histogramThreshold(bits, chunk, columns, keep, histogram);
        if (exact.reaching > candidates.positions.length) {
          candidates = candidatesFor(exact.reaching);
          work = new Float32Array(exact.reaching);
        }
        found = collect(sums, chunk, columns, exact.threshold, candidates);
      }
      let kthMagnitude = SMALLEST_MAGNITUDE;
      let ties = found;
      if (found >= keep) {
        work.set(candidates.magnitudes.subarray(0, found));
        kthMagnitude = kthLargest(work, found, keep);
        let larger = 0;
        for (let i = 0; i < found; i++) if (candidates.magnitudes[i] > kthMagnitude) larger++;
        ties = keep - larger;
      }
      const first = entries;
      for (let i = 0; i < found; i++) {
        const magnitude = candidates.magnitudes[i];
        if (magnitude < kthMagnitude) continue;
        // Candidates come in ascending order of position, so the ties that fit are those at the lowest positions.
        if (magnitude === kthMagnitude && ties-- <= 0) continue;
        const position = candidates.positions[i];
        const row = (position / width) | 0;
        const at = chunk.start + row * columns + (position - row * width);
        positions[entries] = position;
        indices[entries] = origin + at;
        values[entries] = sums[at];
        entries++;
      }
      counts[chunkIndex] = entries - first;
      // An infinite guess collects nothing and goes straight to the histogram: right after a chunk of zeros.
      guess = entries > first ? kthMagnitude * THRESHOLD_SHARE : Number.POSITIVE_INFINITY;
    }
    workplace.close();
  }
  return {
    counts,
    positions: positions.subarray(0, entries),
    indices: indices.subarray(0, entries),
    values: values.subarray(0, entries),
  };
}
