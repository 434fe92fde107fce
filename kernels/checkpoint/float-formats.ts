/**
 * Weights of other formats as fp32. Every value of F16 and BF16 is an fp32 value, so nothing is rounded.
 */
import { SafetensorsDtypeError } from './safetensors-errors.ts';

/** Dtypes from which weights are read, with the bytes of an element. */
export const WEIGHT_DTYPE_BYTES: ReadonlyMap<string, number> = new Map([
  ['F32', 4],
  ['F16', 2],
  ['BF16', 2],
]);

/** fp32 bits of IEEE binary16 bits. */
function widenHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // A denormal half is a normal fp32: its leading one moves to the implied place.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}

/**
 * Elements of little-endian `bytes` (a whole number of them) as little-endian fp32 bytes; F32 comes back as it is, other
 * dtypes in a new array. Throws {@link SafetensorsDtypeError} for a dtype that is not in {@link WEIGHT_DTYPE_BYTES}.
 */
export function toFloat32Bytes(dtype: string, bytes: Uint8Array): Uint8Array {
  if (dtype === 'F32') return bytes;
  if (dtype !== 'F16' && dtype !== 'BF16') throw new SafetensorsDtypeError(`weights of dtype ${dtype} are not read`);
  const widen = dtype === 'F16' ? widenHalf : (bits: number) => bits << 16;
  const out = new Uint8Array(bytes.length * 2);
  const from = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const to = new DataView(out.buffer);
  for (let at = 0; at < bytes.length; at += 2) to.setInt32(at * 2, widen(from.getUint16(at, true)), true);
  return out;
}

/** True when all fp32 numbers of little-endian `bytes` are finite. */
export function allFinite(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let spoilt = 0;
  for (let at = 0; at < bytes.length; at += 4) {
    const value = view.getFloat32(at, true);
    // 0 for finite numbers, NaN for others; NaN stays.
    spoilt += value - value;
  }
  return spoilt === 0;
}
