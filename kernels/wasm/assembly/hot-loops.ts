/**
 * The hot loops of compression and aggregation in AssemblyScript, with SIMD. No runtime, no allocation: the caller lays
 * arrays out in memory and passes addresses (bytes). Arithmetic is that of the JavaScript versions, operation by operation:
 * products and sums in fp64, one rounding to fp32, nothing fused (WebAssembly has no fused operations outside of relaxed
 * SIMD, which is not used).
 *
 * Built by `npm run wasm` into ../hot-loops-binary.ts.
 */

/**
 * `into <- f32(decay * into + added)` over a chunk of `height` rows of `width` elements, `stride` bytes apart. Stores
 * positions in the chunk (u32) and magnitudes (f32) of results whose magnitude reaches `threshold`; returns how many.
 */
export function accumulateAndCollect(
  into: usize,
  added: usize,
  height: i32,
  width: i32,
  stride: i32,
  decay: f64,
  threshold: f32,
  positions: usize,
  magnitudes: usize,
): i32 {
  const decays = f64x2.splat(decay);
  const thresholds = f32x4.splat(threshold);
  const whole = width & ~3;
  let found: i32 = 0;
  let position: i32 = 0;
  for (let row: i32 = 0; row < height; row++) {
    let a = into + <usize>(row * stride);
    let b = added + <usize>(row * stride);
    for (const end = a + <usize>(whole << 2); a < end; a += 16, b += 16, position += 4) {
      const old = v128.load(a);
      const addend = v128.load(b);
      const low = f64x2.add(f64x2.mul(decays, f64x2.promote_low_f32x4(old)), f64x2.promote_low_f32x4(addend));
      const oldHigh = v128.shuffle<i64>(old, old, 1, 0);
      const addendHigh = v128.shuffle<i64>(addend, addend, 1, 0);
      const high = f64x2.add(f64x2.mul(decays, f64x2.promote_low_f32x4(oldHigh)), f64x2.promote_low_f32x4(addendHigh));
      const sum = v128.shuffle<i64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2);
      v128.store(a, sum);
      let mask = i32x4.bitmask(f32x4.ge(f32x4.abs(sum), thresholds));
      while (mask != 0) {
        const lane = ctz(mask);
        store<i32>(positions + <usize>(found << 2), position + lane);
        store<f32>(magnitudes + <usize>(found << 2), abs(load<f32>(a + <usize>(lane << 2))));
        found++;
        mask &= mask - 1;
      }
    }
    for (let rest = whole; rest < width; rest++, a += 4, b += 4, position++) {
      const sum = <f32>(decay * <f64>load<f32>(a) + <f64>load<f32>(b));
      store<f32>(a, sum);
      const magnitude = abs(sum);
      if (magnitude >= threshold) {
        store<i32>(positions + <usize>(found << 2), position);
        store<f32>(magnitudes + <usize>(found << 2), magnitude);
        found++;
      }
    }
  }
  return found;
}

/** `sums[index - start] += coefficient * value` in fp64, for `count` indices (u32) and values (f32). */
export function scatterAdd(
  sums: usize,
  indices: usize,
  values: usize,
  count: i32,
  coefficient: f64,
  start: u32,
): void {
  for (const end = indices + <usize>(count << 2); indices < end; indices += 4, values += 4) {
    const slot = sums + (<usize>(load<u32>(indices) - start) << 3);
    store<f64>(slot, load<f64>(slot) + coefficient * <f64>load<f32>(values));
  }
}

/**
 * Rounds `size` sums to fp32, clears them, and stores index (u32, from `start` on) and value (f32) of those that are not
 * zero. Returns how many.
 */
export function gather(sums: usize, size: i32, start: u32, indices: usize, values: usize): i32 {
  const zeros = f64x2.splat(0);
  let found: usize = 0;
  for (let i: i32 = 0; i < size; i += 2) {
    const at = sums + (<usize>i << 3);
    const pair = v128.load(at);
    // A size that is odd has a sum behind its end, which is always zero.
    if (!v128.any_true(f64x2.ne(pair, zeros))) continue;
    v128.store(at, zeros);
    const first = <f32>f64x2.extract_lane(pair, 0);
    const second = <f32>f64x2.extract_lane(pair, 1);
    if (first != 0) {
      store<u32>(indices + found, start + i);
      store<f32>(values + found, first);
      found += 4;
    }
    if (second != 0) {
      store<u32>(indices + found, start + i + 1);
      store<f32>(values + found, second);
      found += 4;
    }
  }
  return <i32>(found >> 2);
}
