/**
 * Golomb-Rice coding of ascending positions.
 *
 * A chunk's positions p0 < p1 < ... are coded as gaps `p0`, `p1 - p0 - 1`, ... With parameter b a gap g is written as
 * `g >> b` zero bits, a one bit, and the low b bits of g; bits fill bytes from the least significant end. Gaps restart
 * with every chunk, because the number of positions per chunk is known: that is what brings the cost within 3 % of
 * log2(binomial(4096, k)) / k at the densities in use (a gap code over the whole tensor is 5-6 % above it at k = 4).
 */
import { IndexOutOfBoundsError, IndexStreamLengthError, NonZeroPaddingError } from './errors.ts';

/** Largest parameter: a code's one bit and low bits plus seven pending bits then fit a 32-bit word. */
export const MAX_RICE_PARAMETER = 24;

/** Bits that positions take. `counts[c]` positions belong to chunk c; `positions` holds all, ascending in a chunk. */
function riceBits(counts: Uint32Array, positions: Uint32Array, parameter: number): number {
  let quotients = 0;
  let at = 0;
  for (let chunk = 0; chunk < counts.length; chunk++) {
    let next = 0;
    for (const end = at + counts[chunk]; at < end; at++) {
      quotients += (positions[at] - next) >>> parameter;
      next = positions[at] + 1;
    }
  }
  return quotients + at * (parameter + 1);
}

/** The parameter with the shortest code (the smallest such one), and the bits of that code. */
export function bestRiceParameter(
  counts: Uint32Array,
  positions: Uint32Array,
  entries: number,
): { parameter: number; bits: number } {
  let reach = 0;
  let at = 0;
  for (let chunk = 0; chunk < counts.length; chunk++) {
    at += counts[chunk];
    if (counts[chunk] > 0) reach += positions[at - 1] + 1;
  }
  const meanGap = entries === 0 ? 0 : reach / entries - 1;
  // The best parameter of a geometric source lies at or next to log2(mean gap); the cost is unimodal around it.
  const guess = Math.min(MAX_RICE_PARAMETER, Math.max(0, 31 - Math.clz32(meanGap)));
  let best = { parameter: guess, bits: riceBits(counts, positions, guess) };
  for (const direction of [-1, 1]) {
    for (let parameter = guess + direction; parameter >= 0 && parameter <= MAX_RICE_PARAMETER; parameter += direction) {
      const bits = riceBits(counts, positions, parameter);
      if (bits > best.bits || (bits === best.bits && direction > 0)) break;
      best = { parameter, bits };
    }
  }
  return best;
}

/** Writes the code into `out`, which must be zero and have ceil(bits / 8) bytes. */
export function writeRice(counts: Uint32Array, positions: Uint32Array, parameter: number, out: Uint8Array): void {
  const mask = 2 ** parameter - 1;
  let pending = 0;
  let pendingBits = 0;
  let to = 0;
  let at = 0;
  for (let chunk = 0; chunk < counts.length; chunk++) {
    let next = 0;
    for (const end = at + counts[chunk]; at < end; at++) {
      const gap = positions[at] - next;
      next = positions[at] + 1;
      pendingBits += gap >>> parameter;
      while (pendingBits >= 8) {
        out[to++] = pending;
        pending = 0;
        pendingBits -= 8;
      }
      pending |= (((gap & mask) << 1) | 1) << pendingBits;
      pendingBits += parameter + 1;
      while (pendingBits >= 8) {
        out[to++] = pending & 0xff;
        pending >>>= 8;
        pendingBits -= 8;
      }
    }
  }
  if (pendingBits > 0) out[to] = pending;
}

/**
 * Reads positions, chunk after chunk, until the stream is used up exactly.
 * Errors: {@link IndexOutOfBoundsError}, {@link IndexStreamLengthError}, {@link NonZeroPaddingError}.
 */
export class RiceReader {
  readonly #bytes: Uint8Array;
  readonly #parameter: number;
  #at = 0;
  #window = 0;
  #windowBits = 0;

  constructor(bytes: Uint8Array, parameter: number) {
    this.#bytes = bytes;
    this.#parameter = parameter;
  }

  /** Reads `count` ascending positions below `size` into `out` from `to` on. */
  read(count: number, size: number, out: Uint32Array, to: number): void {
    const bytes = this.#bytes;
    const parameter = this.#parameter;
    const mask = 2 ** parameter - 1;
    const largestQuotient = size >>> parameter;
    let at = this.#at;
    let window = this.#window;
    let windowBits = this.#windowBits;
    let next = 0;
    for (const end = to + count; to < end; to++) {
      let quotient = 0;
      for (;;) {
        while (windowBits <= 24 && at < bytes.length) {
          window |= bytes[at++] << windowBits;
          windowBits += 8;
        }
        if (window !== 0) break;
        if (at >= bytes.length) throw new IndexStreamLengthError('index stream ends within an index');
        quotient += windowBits;
        windowBits = 0;
        if (quotient > largestQuotient) throw new IndexOutOfBoundsError('index outside its chunk');
      }
      const zeros = 31 - Math.clz32(window & -window);
      quotient += zeros;
      if (quotient > largestQuotient) throw new IndexOutOfBoundsError('index outside its chunk');
      // Two shifts, because a shift by 32 is none.
      window = (window >>> zeros) >>> 1;
      windowBits -= zeros + 1;
      while (windowBits <= 24 && at < bytes.length) {
        window |= bytes[at++] << windowBits;
        windowBits += 8;
      }
      if (windowBits < parameter) throw new IndexStreamLengthError('index stream ends within an index');
      const position = next + quotient * (mask + 1) + (window & mask);
      window >>>= parameter;
      windowBits -= parameter;
      if (position >= size) throw new IndexOutOfBoundsError('index outside its chunk');
      out[to] = position;
      next = position + 1;
    }
    this.#at = at;
    this.#window = window;
    this.#windowBits = windowBits;
  }

  /** Checks that nothing but the zero bits of the last byte is left. */
  finish(): void {
    if (this.#windowBits + 8 * (this.#bytes.length - this.#at) >= 8) {
      throw new IndexStreamLengthError('bytes left after the last index');
    }
    if (this.#window !== 0) throw new NonZeroPaddingError('unused bits of the index stream are not zero');
  }
}
