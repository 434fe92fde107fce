/**
 * Rules that look at each coordinate by itself: median and trimmed mean over all submissions, those that do not have the
 * coordinate counting as zero. They do not weigh. Meant for dense submissions: in sparse ones zeros dominate (DESIGN 3.7).
 * Submissions are clipped to the median norm first, as for every rule.
 */
import type { SparseTensor } from '../gradient/layout.ts';
import { clipScale, medianNorm, normOf } from './norm.ts';
import type { AggregationRule, TensorRule } from './rule.ts';

/** Elements of a block: with 256 submissions its fp64 matrix takes 8 MiB. */
const BLOCK_ELEMENTS = 4096;

/** A statistic of fp64 values in ascending order (-0 before +0). */
type OrderStatistic = (sorted: Float64Array) => number;

/** Below this many values an insertion sort beats the engine's sort of typed arrays. */
const INSERTION_SORT_LIMIT = 48;

/** Sorts in place, ascending. Equal values are indistinguishable but for the sign of zero, which no statistic here shows. */
function sort(values: Float64Array): void {
  if (values.length > INSERTION_SORT_LIMIT) {
    values.sort();
    return;
  }
  for (let i = 1; i < values.length; i++) {
    const value = values[i];
    let to = i;
    for (; to > 0 && values[to - 1] > value; to--) values[to] = values[to - 1];
    values[to] = value;
  }
}

function coordinateRule(statistic: OrderStatistic, scales: readonly number[]): TensorRule {
  const count = scales.length;
  const rows = new Float64Array(count * BLOCK_ELEMENTS);
  const column = new Float64Array(count);
  const touched = new Uint8Array(BLOCK_ELEMENTS);
  return (length, parts) => {
    const entries = parts.reduce((sum, part) => sum + (part?.indices.length ?? 0), 0);
    const indices = new Uint32Array(Math.min(entries, length));
    const values = new Float32Array(indices.length);
    const cursors = new Uint32Array(count);
    let found = 0;
    const fill = (part: SparseTensor, i: number, start: number, end: number): void => {
      let at = cursors[i];
      for (; at < part.indices.length && part.indices[at] < end; at++) {
        const element = part.indices[at] - start;
        // Adding zero turns -0 into +0: absent and zero are the same.
        rows[element * count + i] = scales[i] * part.values[at] + 0;
        touched[element] = 1;
      }
      cursors[i] = at;
    };
    for (let start = 0; start < length; start += BLOCK_ELEMENTS) {
      const end = Math.min(start + BLOCK_ELEMENTS, length);
      parts.forEach((part, i) => {
        if (part !== undefined) fill(part, i, start, end);
      });
      for (let element = 0; element < end - start; element++) {
        if (touched[element] === 0) continue;
        const row = rows.subarray(element * count, (element + 1) * count);
        column.set(row);
        row.fill(0);
        touched[element] = 0;
        sort(column);
        const value = Math.fround(statistic(column));
        if (value === 0) continue;
        indices[found] = start + element;
        values[found] = value;
        found++;
      }
    }
    return { indices: indices.slice(0, found), values: values.slice(0, found) };
  };
}

function clippedRule(name: string, statistic: OrderStatistic): AggregationRule {
  return {
    name,
    prepare(submissions) {
      const norms = submissions.map(({ update }) => normOf(update));
      const limit = medianNorm(norms);
      return coordinateRule(
        statistic,
        norms.map((norm) => clipScale(norm, limit)),
      );
    },
  };
}

/** Coordinate-wise median; of an even number the mean of the two middle values. */
export function coordinateMedian(): AggregationRule {
  return clippedRule('coordinate-median', (sorted) => {
    const upper = sorted.length >>> 1;
    return sorted.length % 2 === 1 ? sorted[upper] : (sorted[upper - 1] + sorted[upper]) / 2;
  });
}

/**
 * Coordinate-wise mean without the `floor(trimShare * n)` smallest and as many largest values, summed in ascending order.
 * `trimShare` is at least 0 and below 0.5.
 */
export function trimmedMean(trimShare: number): AggregationRule {
  if (!(trimShare >= 0 && trimShare < 0.5)) throw new RangeError(`trim share ${trimShare}, expected 0 to below 0.5`);
  return clippedRule('trimmed-mean', (sorted) => {
    const trimmed = Math.floor(trimShare * sorted.length);
    let sum = 0;
    for (let i = trimmed; i < sorted.length - trimmed; i++) sum += sorted[i];
    return sum / (sorted.length - 2 * trimmed);
  });
}
