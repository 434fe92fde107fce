/** Sizes of what the native streamed engine holds, in one place: it allocates by them and the memory plan counts them. */
import { blockElements } from '../engine/streamed-memory.ts';
import type { Preset } from '../model/preset.ts';

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
