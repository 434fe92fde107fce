/** Sizes of what the streamed engine holds, in one place: the engine allocates by them and the memory plan counts them. */
import { headTileRows } from '../model/head.ts';
import { blockTensorNames, tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';

/** One streamed call. */
export interface StreamedShape {
  readonly preset: Preset;
  /** Sequences in one pass. */
  readonly batch: number;
  /** Tokens per sequence. */
  readonly context: number;
  /** Passes of a call: its sequences by `batch`, rounded up. */
  readonly passes: number;
  /** Rows of one head pass. */
  readonly headRows: number;
  readonly headTileBytes: number;
  /** Whether the next weights are read while the present ones are in use. */
  readonly prefetch: boolean;
}

/** fp32 elements of each buffer of a training call, and how many there are of it. */
export interface StreamedBuffers {
  /** Weights in use, and those read ahead. */
  readonly weights: { readonly length: number; readonly count: number };
  /** Gradient of a block or tile, and of a pass that is not the first. */
  readonly gradients: { readonly length: number; readonly count: number };
  /** Gradient of a head tile for rows that are not a pass's first. */
  readonly headChunk: { readonly length: number; readonly count: number };
  /** Inputs of the blocks and of the head, gradients of one of them by pass, and a spare one. */
  readonly activations: { readonly length: number; readonly count: number };
  /** Gradient of a tied table, which is complete only after the first block; one a pass. */
  readonly tiedTables: { readonly length: number; readonly count: number };
}

/** Parameters of one block. */
export function blockElements(preset: Preset): number {
  return tensorLayout(preset)
    .slice(1, 1 + blockTensorNames.length)
    .reduce((sum, { length }) => sum + length, 0);
}

/** Buffers of a training call. */
export function streamedBuffers(shape: StreamedShape): StreamedBuffers {
  const { preset, passes } = shape;
  const { vocabulary, hidden, layers, tied } = preset;
  const rows = shape.batch * shape.context;
  const tile = headTileRows(preset, shape.headTileBytes) * hidden;
  const block = blockElements(preset);
  const group = Math.max(block, tile);
  return {
    weights: { length: group, count: shape.prefetch ? 2 : 1 },
    // A tied head's gradient has its table.
    gradients: { length: tied ? block : group, count: passes > 1 ? 2 : 1 },
    headChunk: { length: tile, count: shape.headRows < rows ? 1 : 0 },
    activations: { length: rows * hidden, count: passes * (layers + 2) + 1 },
    tiedTables: { length: vocabulary * hidden, count: tied ? passes : 0 },
  };
}
