/** Sizes of what the native streamed engine holds, in one place: it allocates by them and the memory plan counts them. */
import { formatSize, MemoryBudgetError, type NativeStreaming } from '../engine/memory-plan.ts';
import { blockElements } from '../engine/streamed-memory.ts';
import type { Preset } from '../model/preset.ts';
import { HEAD_BYTES, nativeWorkBytes } from './native-memory.ts';

/** Most bytes of the head's gradient at once: the head of `alice-7b` is whole. */
export const HEAD_TILE_BYTES = 2 ** 30;

/** Rows of the vocabulary that go through the caches together in the library: parts of a head are whole blocks. */
const HEAD_BLOCK_ROWS = 2048;

/** One streamed call. */
export interface NativeStreamedShape {
  readonly preset: Preset;
  /** Sequences in one pass. */
  readonly batch: number;
  /** Tokens per sequence. */
  readonly context: number;
  /** Passes of a call: its sequences by `batch`, rounded up. */
  readonly passes: number;
  readonly headTileBytes: number;
  /** Whether the next weights are read while the present ones are in use. */
  readonly prefetch: boolean;
  /** Whether inputs of blocks lie in a file. */
  readonly spill: boolean;
}

/** Elements of each buffer of a training call, and how many there are of it. */
export interface NativeStreamedBuffers {
  /** Weights in use, and those read ahead: bfloat16 or float32. */
  readonly weights: { readonly length: number; readonly count: number };
  /** Gradient of a block or of a part of the head, float32. */
  readonly gradients: { readonly length: number; readonly count: number };
  /** Of a pass, float32: inputs of the blocks and of the head, or those on their way to a file, and the gradient of one. */
  readonly activations: { readonly length: number; readonly count: number };
  /** Gradient of a tied table, which is complete only after the first block, float32. */
  readonly tiedTables: { readonly length: number; readonly count: number };
}

/** Rows of the vocabulary in one part of a head: all, or as many as fit into `maxBytes`. */
export function nativeHeadTileRows({ vocabulary, hidden }: Preset, maxBytes: number): number {
  if (vocabulary * hidden * 4 <= maxBytes) return vocabulary;
  const blocks = Math.max(1, Math.floor(maxBytes / (hidden * 4 * HEAD_BLOCK_ROWS)));
  return Math.min(vocabulary, blocks * HEAD_BLOCK_ROWS);
}

/** Buffers of a training call. */
export function nativeStreamedBuffers(shape: NativeStreamedShape): NativeStreamedBuffers {
  const { preset, passes } = shape;
  const { vocabulary, hidden, layers, tied } = preset;
  const tile = nativeHeadTileRows(preset, shape.headTileBytes) * hidden;
  const group = Math.max(blockElements(preset), tile);
  return {
    weights: { length: group, count: shape.prefetch ? 2 : 1 },
    gradients: { length: group, count: 1 },
    activations: {
      length: shape.batch * shape.context * hidden,
      count: passes + (shape.spill ? 4 : passes * (layers + 1)),
    },
    tiedTables: { length: vocabulary * hidden, count: tied ? 1 : 0 },
  };
}

/** Numbers per row in a block's intermediates, forward and backward. */
function rowWidth({ hidden, ffn, queryHeads, keyValueHeads }: Preset): number {
  const queryKeyValue = hidden + 2 * keyValueHeads * (hidden / queryHeads);
  return 6 * hidden + 2 * queryKeyValue + 5 * ffn + queryHeads;
}

/** Upper estimate of what the library works in, bytes: intermediates of a pass through a block, packed operands, the head. */
function workBytes(shape: NativeStreamedShape, operandBytes: 2 | 4, threads: number): number {
  const { preset, batch, context, passes } = shape;
  const { hidden, ffn, vocabulary } = preset;
  const rows = batch * context;
  const block = 4 * rows * rowWidth(preset);
  const packed = operandBytes * (rows * 3 * ffn + 2 * hidden * ffn);
  const headRows = Math.min(rows * passes, Math.max(1, Math.floor(HEAD_BYTES / (operandBytes * vocabulary))));
  const head =
    operandBytes * (headRows * (vocabulary + 2 * hidden) + HEAD_BLOCK_ROWS * hidden) +
    // Largest logit, sum and factor of each 256 columns.
    4 * 3 * rows * passes * Math.ceil(vocabulary / 256);
  // Keys, values and stripes of scores of the head that a thread is at.
  const attention = threads * context * 4096;
  return block + packed + head + attention;
}

/** float32 elements of what a native scorer reads weights into, a block or the whole head, and how many there are of it. */
export function nativeScoringWeights(
  preset: Preset,
  prefetch: boolean,
): { readonly length: number; readonly count: number } {
  return { length: Math.max(blockElements(preset), preset.vocabulary * preset.hidden), count: prefetch ? 2 : 1 };
}

/** How a native streamed engine is to run, and what that takes. */
export interface NativeStreamedPlan {
  readonly mode: 'streamed' | 'streamed-no-prefetch';
  /** Estimated peak of the process. */
  readonly bytes: number;
  readonly native: NativeStreaming;
}

/** What is to be planned. */
export interface NativeStreamedRequest {
  readonly preset: Preset;
  /** Of a call. */
  readonly sequences: number;
  /** Tokens per sequence. */
  readonly context: number;
  readonly precision: 'fp32' | 'bf16';
  readonly threads: number;
  /** What the caller keeps in memory beside the engine. Default 0. */
  readonly besideStreamedBytes?: number;
}

/** Runtime and native library, and the share that allocators keep: as in `memory-plan.ts`. */
const BASE_BYTES = 170e6;
const SLACK = 1.05;

/** Estimated peak of a training process, bytes: an upper estimate, as `estimateMemory`. */
export function estimateNativeStreamed(
  { preset, sequences, context, precision, threads, besideStreamedBytes = 0 }: NativeStreamedRequest,
  { batch, spill, prefetch }: { readonly batch: number; readonly spill: boolean; readonly prefetch: boolean },
): number {
  const passes = Math.ceil(sequences / batch);
  const shape = { preset, batch, context, passes, headTileBytes: HEAD_TILE_BYTES, prefetch, spill };
  const { weights, gradients, activations, tiedTables } = nativeStreamedBuffers(shape);
  const operandBytes = precision === 'bf16' ? 2 : 4;
  const floats = [gradients, activations, tiedTables].reduce((sum, { length, count }) => sum + length * count, 0);
  const held = operandBytes * weights.length * weights.count + 4 * floats;
  return BASE_BYTES + SLACK * (held + workBytes(shape, operandBytes, threads) + besideStreamedBytes);
}

/**
 * The fastest way that fits into `budgetBytes`: with activations in memory and as many sequences at a time as possible;
 * with activations in a file; without reading ahead. Throws MemoryBudgetError that says how much the smallest needs.
 */
export function planNativeStreamed(
  request: NativeStreamedRequest,
  budgetBytes: number | undefined,
): NativeStreamedPlan {
  const { preset, sequences, context, precision } = request;
  let least = Number.POSITIVE_INFINITY;
  for (const prefetch of [true, false])
    for (const spill of [false, true])
      for (let batch = sequences; batch >= 1; batch--) {
        const bytes = estimateNativeStreamed(request, { batch, spill, prefetch });
        least = Math.min(least, bytes);
        if (budgetBytes !== undefined && bytes > budgetBytes) continue;
        return { mode: prefetch ? 'streamed' : 'streamed-no-prefetch', bytes, native: { precision, batch, spill } };
      }
  throw new MemoryBudgetError(
    `${preset.name} with ${sequences} x ${context} tokens needs ${formatSize(least)} streamed natively, ` +
      `more than the ${formatSize(budgetBytes as number)} allowed`,
    least,
  );
}

/**
 * Estimated peak of a process that evaluates a streamed model natively, bytes, but for activations side by side: a layer's
 * weights in fp32, its work, and `besideStreamedBytes`.
 */
export function estimateNativeScoring(
  {
    preset,
    context,
    besideStreamedBytes = 0,
  }: Pick<NativeStreamedRequest, 'preset' | 'context' | 'besideStreamedBytes'>,
  { batch, prefetch }: { readonly batch: number; readonly prefetch: boolean },
): number {
  const { length, count } = nativeScoringWeights(preset, prefetch);
  const work = nativeWorkBytes(preset, batch, context);
  return BASE_BYTES + SLACK * (4 * length * count + work + besideStreamedBytes);
}
