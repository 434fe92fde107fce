/** Deterministic numbers for kernel tests. */

/** Numbers in [0, 1) from a 32-bit seed (mulberry32). */
export function seededUniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `length` float32 values in [low, high). */
export function seededValues(seed: number, length: number, low = -1, high = 1): Float32Array<ArrayBuffer> {
  const uniform = seededUniform(seed);
  return Float32Array.from({ length }, () => low + (high - low) * uniform());
}

/** `sequences` x (context + 1) token ids below `vocabulary`. */
export function seededTokens(
  seed: number,
  sequences: number,
  context: number,
  vocabulary: number,
): Int32Array<ArrayBuffer> {
  const uniform = seededUniform(seed);
  return Int32Array.from({ length: sequences * (context + 1) }, () => Math.floor(uniform() * vocabulary));
}
