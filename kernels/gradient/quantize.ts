/**
 * Value types of a submission: float32, 8 bits, 2 bits, each quantized over the kept values of one tensor.
 *
 * - 32: the fp32 bits.
 * - 8: sign and 7 bits of magnitude. The 128 magnitudes are spread evenly over the *bit patterns* between the smallest
 *   and the largest kept magnitude, that is, nearly evenly over their logarithm; integers only, so every machine decodes
 *   the same bytes. Kept values are heavy-tailed with a gap around zero: a linear scale would spend its codes on both.
 * - 2: four levels, a table of level means. Classes start from the steps of DESIGN 3.5 (mean m, deviation s, step
 *   6 s / 4) with borders at m - 1.5 s, m and m + 1.5 s, and are refined by Lloyd's algorithm. (Borders half a step
 *   aside, as when values are rounded to steps, would put the smaller values of both signs into one level: a fifth of the
 *   signs are lost, and the error is 1.7 times as large.) The decoder sees the table only.
 */
import { InvalidTableError, NonFiniteValueError } from './errors.ts';

/** Bits of a kept value. */
export type ValueBits = 2 | 8 | 32;

/** All value types. */
export const VALUE_BITS: readonly ValueBits[] = [2, 8, 32];

/** Largest magnitude level of an 8-bit value. */
const MAX_LEVEL = 127;

/** Bit pattern of the largest finite fp32. */
const LARGEST_FINITE_BITS = 0x7f7fffff;

/** Lloyd iterations at most: the error is then within 1 % of where it would settle. Each is a pass over the kept values. */
const MAX_LLOYD_ITERATIONS = 4;

/** Lloyd's algorithm ends when an iteration lowers the squared error by less than this share. */
const LLOYD_TOLERANCE = 0.002;

/** Values that decide on borders: enough to place them within a percent; passes over all values would cost more than selection. */
const BORDER_SAMPLE = 8192;

/** Values of one tensor as they are sent, and as a decoder will see them. */
export interface QuantizedValues {
  /** Little-endian table: none, 8 bytes (smallest and largest magnitude), or 16 bytes (four levels). */
  readonly table: Uint8Array;
  /** Codes, packed from the least significant end; unused bits are zero. */
  readonly codes: Uint8Array;
  readonly decoded: Float32Array;
}

/** Bytes of the table of a value type. */
export function tableBytes(bits: ValueBits): number {
  return bits === 32 ? 0 : bits === 8 ? 8 : 16;
}

/** Bytes of the codes of `entries` values. */
export function codeBytes(bits: ValueBits, entries: number): number {
  return bits === 2 ? Math.ceil(entries / 4) : entries * (bits / 8);
}

function bytesOf(array: Float32Array | Uint32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Magnitude of a level: integer interpolation between bit patterns. Exact, as the product stays below 2^53. */
function levelMagnitudes(lowBits: number, highBits: number): Float32Array {
  const bits = new Uint32Array(MAX_LEVEL + 1);
  for (let level = 0; level <= MAX_LEVEL; level++) {
    bits[level] = lowBits + Math.floor(((highBits - lowBits) * level) / MAX_LEVEL);
  }
  return new Float32Array(bits.buffer);
}

function quantize8(values: Float32Array): QuantizedValues {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let low = values.length === 0 ? 0 : LARGEST_FINITE_BITS;
  let high = 0;
  for (let i = 0; i < bits.length; i++) {
    const magnitude = bits[i] & 0x7fffffff;
    if (magnitude < low) low = magnitude;
    if (magnitude > high) high = magnitude;
  }
  const scale = high > low ? MAX_LEVEL / (high - low) : 0;
  const magnitudes = levelMagnitudes(low, high);
  const codes = new Uint8Array(values.length);
  const decoded = new Float32Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const level = Math.floor(((bits[i] & 0x7fffffff) - low) * scale + 0.5);
    const negative = bits[i] >>> 31;
    codes[i] = (negative << 7) | level;
    decoded[i] = negative === 1 ? -magnitudes[level] : magnitudes[level];
  }
  return { table: bytesOf(Uint32Array.of(low, high)), codes, decoded };
}

/** Four classes of values, cut by three borders: their fp32 means, and how much of the sum of squares those explain. */
interface FourClasses {
  readonly borders: readonly number[];
  /** Mean of each class; 0 for a class without values. */
  readonly levels: Float32Array;
  /** Sum over classes of count times squared mean: the larger, the smaller the squared error. */
  readonly explained: number;
}

/** Sums run in fp64, in index order. */
function classify(values: Float32Array, borders: readonly number[]): FourClasses {
  const [b0, b1, b2] = borders;
  let n0 = 0;
  let n1 = 0;
  let n2 = 0;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < b1) {
      if (value < b0) {
        s0 += value;
        n0++;
      } else {
        s1 += value;
        n1++;
      }
    } else if (value < b2) {
      s2 += value;
      n2++;
    } else s3 += value;
  }
  const counts = [n0, n1, n2, values.length - n0 - n1 - n2];
  const sums = [s0, s1, s2, s3];
  const means = sums.map((sum, i) => (counts[i] > 0 ? sum / counts[i] : 0));
  const explained = sums.reduce((total, sum, i) => total + sum * means[i], 0);
  return { borders, levels: Float32Array.from(means), explained };
}

/**
 * Four classes with a small squared error. Starts from the better of two cuts: the design's steps (good for heavy tails),
 * and halving each side of the mean at its own mean (good where all magnitudes are alike, when the steps would leave the
 * outer classes empty). Lloyd's algorithm then moves the borders to half-way between levels.
 */
function fourClasses(values: Float32Array): FourClasses {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  const mean = sum / values.length;
  let squares = 0;
  let deviations = 0;
  let below = 0;
  let belowCount = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    squares += value * value;
    deviations += (value - mean) * (value - mean);
    if (value < mean) {
      below += value;
      belowCount++;
    }
  }
  const step = 1.5 * Math.sqrt(deviations / values.length);
  const lower = belowCount > 0 ? below / belowCount : mean;
  const upper = (sum - below) / Math.max(1, values.length - belowCount);
  const steps = classify(values, [mean - step, mean, mean + step]);
  const halves = classify(values, [Math.min(lower, mean), mean, Math.max(upper, mean)]);
  let best = steps.explained >= halves.explained ? steps : halves;
  for (let iteration = 0; iteration < MAX_LLOYD_ITERATIONS; iteration++) {
    const [l0, l1, l2, l3] = best.levels;
    const next = classify(values, [(l0 + l1) / 2, (l1 + l2) / 2, (l2 + l3) / 2]);
    // Also ends where an empty class, whose level says nothing, has led the borders astray.
    if (!(next.explained > best.explained)) break;
    const gain = next.explained - best.explained;
    best = next;
    if (gain < LLOYD_TOLERANCE * (squares - next.explained)) break;
  }
  return best;
}

/** At most about {@link BORDER_SAMPLE} values, evenly spaced; all of them where there are not many more. */
function evenSample(values: Float32Array): Float32Array {
  // An odd stride takes turns through the places of a chunk, whose number is usually a power of two.
  const stride = Math.floor(values.length / BORDER_SAMPLE) | 1;
  if (stride === 1) return values;
  return Float32Array.from({ length: Math.ceil(values.length / stride) }, (_, i) => values[i * stride]);
}

function quantize2(values: Float32Array): QuantizedValues {
  const { borders } = fourClasses(evenSample(values));
  const { levels } = classify(values, borders);
  const [b0, b1, b2] = borders;
  const codes = new Uint8Array(codeBytes(2, values.length));
  const decoded = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    const code = value < b1 ? (value < b0 ? 0 : 1) : value < b2 ? 2 : 3;
    codes[i >>> 2] |= code << ((i & 3) << 1);
    decoded[i] = levels[code];
  }
  return { table: bytesOf(levels), codes, decoded };
}

/** Quantizes finite values. Deterministic: sums run in index order in fp64. */
export function quantizeValues(bits: ValueBits, values: Float32Array): QuantizedValues {
  if (bits === 8) return quantize8(values);
  if (bits === 2) return quantize2(values);
  const decoded = values.slice();
  return { table: new Uint8Array(0), codes: bytesOf(decoded).slice(), decoded };
}

/**
 * Values of a table and codes of exactly the right size.
 * Throws {@link NonFiniteValueError} and {@link InvalidTableError}. Padding is the caller's to check.
 */
export function dequantizeValues(bits: ValueBits, entries: number, table: Uint8Array, codes: Uint8Array): Float32Array {
  const values = new Float32Array(entries);
  if (bits === 32) {
    bytesOf(values).set(codes);
    for (let i = 0; i < entries; i++) {
      // x - x is 0 for finite x, NaN otherwise.
      if (values[i] - values[i] !== 0) throw new NonFiniteValueError('a value is not finite');
    }
    return values;
  }
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  if (bits === 8) {
    const low = view.getUint32(0, true);
    const high = view.getUint32(4, true);
    if (low > LARGEST_FINITE_BITS || high > LARGEST_FINITE_BITS) {
      throw new NonFiniteValueError('the 8-bit range is not finite');
    }
    if (low > high) throw new InvalidTableError('the 8-bit range ends below its start');
    const magnitudes = levelMagnitudes(low, high);
    for (let i = 0; i < entries; i++) {
      const magnitude = magnitudes[codes[i] & MAX_LEVEL];
      values[i] = codes[i] > MAX_LEVEL ? -magnitude : magnitude;
    }
    return values;
  }
  const levels = new Float32Array(4);
  for (let i = 0; i < 4; i++) {
    levels[i] = view.getFloat32(i * 4, true);
    if (!Number.isFinite(levels[i])) throw new NonFiniteValueError('a level of the table is not finite');
  }
  for (let i = 0; i < entries; i++) values[i] = levels[(codes[i >>> 2] >>> ((i & 3) << 1)) & 3];
  return values;
}
