/**
 * Seeded random tensors that look like pseudo-gradients: heavy tails, rows and columns of different scale.
 */

/** Deterministic generator of numbers in [0, 1): mulberry32, 32 bits of state. */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers from a uniform source (Box-Muller). */
export function normalSource(random: () => number): () => number {
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/**
 * A matrix of normal numbers, each divided by a random root (Student's t with `degrees` degrees of freedom: 4 gives the
 * heavy tails of gradients), times a log-normal scale of its row and column.
 */
export function heavyTailed(rows: number, columns: number, seed: number, degrees = 4, spread = 0.5): Float32Array {
  const random = randomSource(seed);
  const normal = normalSource(random);
  const rowScale = Float64Array.from({ length: rows }, () => Math.exp(spread * normal()));
  const columnScale = Float64Array.from({ length: columns }, () => Math.exp(spread * normal()));
  const out = new Float32Array(rows * columns);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      // -2 log u is chi-squared with two degrees of freedom; degrees / 2 of them add up.
      let squares = 0;
      for (let i = 0; i < degrees / 2; i++) squares -= 2 * Math.log(1 - random());
      out[at] = 1e-3 * rowScale[row] * columnScale[column] * (normal() / Math.sqrt(squares / degrees));
    }
  }
  return out;
}
