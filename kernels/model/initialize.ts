/**
 * Random initialization, bit-identical on every machine: integers from AES-256 in counter mode, then IEEE-754 add,
 * multiply and square root only (no `log`, `sin` or `exp`, whose last bits differ between platforms).
 */
import { createCipheriv, createHash } from 'node:crypto';
import { type TensorSlot, tensorLayout } from './layout.ts';
import type { Preset } from './preset.ts';

/** Thrown when a seed is not 32 bytes. */
export class InvalidSeedError extends Error {
  static readonly code = 'ERR_INVALID_SEED';
  readonly code = InvalidSeedError.code;
  override readonly name = 'InvalidSeedError';
}

/** Standard deviation of initial matrices (GPT-2's; residual projections get it divided by sqrt(2 * layers)). */
export const INITIAL_DEVIATION = 0.02;

/** A value is the centred sum of this many uniform 16-bit integers (Irwin-Hall: close to normal, cut at 3.46 sigma). */
const UNIFORMS_PER_VALUE = 4;
/** Mean and standard deviation of that sum. */
const SUM_MEAN = (UNIFORMS_PER_VALUE * 0xffff) / 2;
const SUM_DEVIATION = Math.sqrt((UNIFORMS_PER_VALUE * (2 ** 32 - 1)) / 12);

/** Values drawn at a time: bounds the scratch memory at 512 KiB. */
const VALUES_PER_DRAW = 1 << 16;

/** Domain tag; change it and every network's initial weights change. */
const DOMAIN = 'alice/initial-weights/1';

/**
 * Fills `out` with one tensor's initial values. Each tensor has its own key, so that a machine that cannot hold the
 * model makes one tensor at a time, in any order.
 *
 * @param seed - 32 bytes, the same for the whole model. Throws {@link InvalidSeedError} otherwise.
 * @param out - `slot.length` elements.
 */
export function initializeTensor(preset: Preset, seed: Uint8Array, slot: TensorSlot, out: Float32Array): void {
  if (seed.length !== 32) throw new InvalidSeedError(`a seed has 32 bytes, got ${seed.length}`);
  if (out.length !== slot.length) throw new RangeError(`${slot.name} has ${slot.length} elements, not ${out.length}`);
  if (slot.role === 'norm') {
    out.fill(1);
    return;
  }
  const deviation =
    slot.role === 'residual-projection' ? INITIAL_DEVIATION / Math.sqrt(2 * preset.layers) : INITIAL_DEVIATION;
  const scale = deviation / SUM_DEVIATION;
  const key = createHash('sha256').update(DOMAIN).update(seed).update(slot.name, 'utf8').digest();
  const cipher = createCipheriv('aes-256-ctr', key, new Uint8Array(16));
  const zeros = new Uint8Array(Math.min(out.length, VALUES_PER_DRAW) * UNIFORMS_PER_VALUE * 2);
  for (let start = 0; start < out.length; start += VALUES_PER_DRAW) {
    const count = Math.min(VALUES_PER_DRAW, out.length - start);
    const stream = cipher.update(zeros.subarray(0, count * UNIFORMS_PER_VALUE * 2));
    for (let i = 0, at = 0; i < count; i++) {
      let sum = 0;
      // Little-endian by hand: the same on every machine.
      for (let j = 0; j < UNIFORMS_PER_VALUE; j++, at += 2)
        sum += (stream[at] as number) | ((stream[at + 1] as number) << 8);
      out[start + i] = (sum - SUM_MEAN) * scale;
    }
  }
}

/** All initial weights of a model in canonical order (`tensorLayout`), from 32 bytes of seed. */
export function initialWeights(preset: Preset, seed: Uint8Array): Float32Array<ArrayBuffer> {
  const layout = tensorLayout(preset);
  const last = layout.at(-1);
  const weights = new Float32Array(last === undefined ? 0 : last.offset + last.length);
  for (const slot of layout)
    initializeTensor(preset, seed, slot, weights.subarray(slot.offset, slot.offset + slot.length));
  return weights;
}
