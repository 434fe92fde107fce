/**
 * Inputs and yardsticks of the benchmarks of submissions.
 */
import { secondsOf } from '../measure.ts';
import { randomSource } from '../random.ts';

/**
 * Numbers of Student's t distribution with two degrees of freedom (by its inverse), scaled per row and column: heavier
 * tails than gradients have, so that no figure profits from a tame input.
 */
export function syntheticGradient(rows: number, columns: number, seed: number): Float32Array {
  const random = randomSource(seed);
  const scale = () => Math.exp(random() + random() - 1);
  const rowScale = Float64Array.from({ length: rows }, scale);
  const columnScale = Float64Array.from({ length: columns }, scale);
  const out = new Float32Array(rows * columns);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const u = random() * (1 - 2 ** -30) + 2 ** -31;
      out[at] = 1e-3 * rowScale[row] * columnScale[column] * ((2 * u - 1) / Math.sqrt(2 * u * (1 - u)));
    }
  }
  return out;
}

/** Megabytes (10^6) per second at which `work` gets through `bytes`; for `compare` of measure.ts. */
export function speedOf(bytes: number, work: () => unknown): () => Promise<number> {
  return async () => bytes / 1e6 / (await secondsOf(work));
}

/** Speed of copying an array to another, in MB/s of its bytes; for `compare` of measure.ts. */
export function memcpySpeed(source: Float32Array): () => Promise<number> {
  const target = new Float32Array(source.length);
  return speedOf(source.byteLength, () => target.set(source));
}
