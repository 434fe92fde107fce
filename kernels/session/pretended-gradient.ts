/** What a cheat submits who did not train: noise. For tests of the network's defences only. */

/** Range of the noise, in units of a weight: about what some inner steps of a small model amount to. */
const NOISE_RANGE = 0.02;

/** `length` numbers around zero from a 32-bit seed (mulberry32; nothing depends on its quality). */
export function pretendedGradient(length: number, seed: number): Float32Array<ArrayBuffer> {
  const noise = new Float32Array(length);
  noiseFrom(seed)(noise);
  return noise;
}

/** The same numbers by and by: each call fills an array with the next ones. */
export function noiseFrom(seed: number): (noise: Float32Array) => void {
  let state = seed >>> 0;
  return (noise) => {
    for (let i = 0; i < noise.length; i++) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      noise[i] = (((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 - 0.5) * NOISE_RANGE;
    }
  };
}
