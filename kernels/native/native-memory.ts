/** What the native backend takes in memory beside weights and gradient. */
import { headWidth, type Preset } from '../model/preset.ts';

/** Enough for 1,300 rows of 50,257 columns in bf16: the head's weights and gradients are gone through once a pass. */
export const HEAD_BYTES = 2 ** 27;

/** Threads' stripes of attention and of logits, tables of angles. */
const STRIPES_BYTES = 16e6;

/** Columns of queries, keys and values side by side. */
const queryKeyValueWidth = (preset: Preset): number => preset.hidden + 2 * preset.keyValueHeads * headWidth(preset);

/** Bytes that a training pass keeps from forward for backward. */
export function nativeActivationBytes(preset: Preset, batch: number, context: number): number {
  // Stream, middle of the block, attention's result, its operands, gate and up.
  const perRow = 3 * preset.hidden + queryKeyValueWidth(preset) + 2 * preset.ffn;
  return 4 * batch * context * preset.layers * perRow;
}

/** Upper estimate of the bytes that one block and the head work in at a time. They are kept from call to call. */
export function nativeWorkBytes(preset: Preset, batch: number, context: number): number {
  const rows = batch * context;
  const { hidden, ffn, vocabulary } = preset;
  const widest = Math.max(2 * ffn, queryKeyValueWidth(preset));
  // Rows: normalized twice, the stream's gradient twice, keys' and values', gate and up, inner, operands of attention.
  const vectors = 4 * rows * (6 * hidden + 3 * ffn + 2 * queryKeyValueWidth(preset));
  // Packed: the widest rows and the largest weights of a product, in fp32 at most.
  const packed = 4 * (rows * (widest + hidden) + hidden * Math.max(widest, 2 * hidden));
  // Probabilities of some rows, those rows and the head's columns packed, for training.
  const head = Math.min(HEAD_BYTES, 4 * rows * vocabulary) + 4 * hidden * (2 * rows + Math.min(vocabulary, 2048));
  return vectors + packed + head + STRIPES_BYTES;
}
