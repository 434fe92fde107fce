/**
 * Which way of running a model fits into a memory budget: weights and all activations in memory (`whole`), weights in memory
 * and activations recomputed block by block (`blocks`), or weights on disk (`streamed`).
 */
import { headChunkRows } from '../model/head.ts';
import { parameterCount } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { nativeActivationBytes, nativeWorkBytes } from '../native/native-memory.ts';
import type { Backend } from './backend.ts';
import { MAX_HEAD_TILE_BYTES } from './head-programs.ts';
import { activationBytes, MAX_HEAD_ROWS, WHOLE_ACTIVATION_BYTES } from './onnx-engine.ts';
import { type StreamedShape, streamedBuffers } from './streamed-memory.ts';

/** Ways of running a model, from fast to small. `streamed-no-prefetch` reads weights only when they are needed. */
export type MemoryMode = 'whole' | 'blocks' | 'streamed' | 'streamed-no-prefetch';

/** Ways with the weights in memory. */
export const RESIDENT_MODES: readonly MemoryMode[] = ['whole', 'blocks'];

/** What is to run. */
export interface MemoryRequest {
  readonly preset: Preset;
  /** What computes. Default `onnx`; what is streamed from disk always is. */
  readonly backend?: Backend;
  /** Sequences in one pass. */
  readonly batch: number;
  /** Tokens per sequence. */
  readonly context: number;
  /** Passes of a call. Default 1. */
  readonly passes?: number;
  readonly headRows?: number;
  readonly headTileBytes?: number;
  /**
   * Vectors as long as the model that the caller keeps in memory beside an engine's weights and gradient. Default
   * {@link TRAINING_VECTORS}.
   */
  readonly residentVectors?: number;
  /** What the caller of a streamed engine keeps in memory beside it. Default 0. */
  readonly besideStreamedBytes?: number;
}

/** What a training session keeps: start, two moments, pseudo-gradient, error feedback and the copy that is being written. */
export const TRAINING_VECTORS = 6;

/** How the native library streams a model (`native-streamed-memory.ts` plans it). */
export interface NativeStreaming {
  readonly precision: 'fp32' | 'bf16';
  /** Sequences that go through a layer together. */
  readonly batch: number;
  /** Whether inputs of blocks lie in a file. */
  readonly spill: boolean;
}

/** A mode and what it takes. */
export interface MemoryPlan {
  readonly backend: Backend;
  readonly mode: MemoryMode;
  /** Estimated peak of the process. */
  readonly bytes: number;
  /** Streamed by the native library, and how; absent where onnxruntime computes. */
  readonly native?: NativeStreaming;
}

/** Thrown when a model fits in no way that is allowed. */
export class MemoryBudgetError extends Error {
  static readonly code = 'ERR_MEMORY_BUDGET';
  readonly code = MemoryBudgetError.code;
  override readonly name = 'MemoryBudgetError';
  /** What the smallest way needs. */
  readonly neededBytes: number;

  constructor(message: string, neededBytes: number) {
    super(message);
    this.neededBytes = neededBytes;
  }
}

/** Thrown when text is no size. */
export class InvalidSizeError extends Error {
  static readonly code = 'ERR_INVALID_SIZE';
  readonly code = InvalidSizeError.code;
  override readonly name = 'InvalidSizeError';
}

/** Runtime, native library and compiled graphs: measured 130 MB with the graphs of `alice-7b` on Linux, and code grows. */
const BASE_BYTES = 170e6;

/** Share that allocators keep and tables take beside what is counted: measured 3 % for a streamed `alice-7b`. */
const SLACK = 1.05;

const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Bytes of a size such as `6GiB`, `512 MiB` or `1.5GB`. Throws {@link InvalidSizeError} that says what is accepted. */
export function parseSize(text: string): number {
  const [, number, unit] = /^\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]+)\s*$/.exec(text) ?? [];
  const factor = unit === undefined ? undefined : UNITS[unit];
  const bytes = Math.floor(Number(number) * (factor ?? Number.NaN));
  if (!Number.isSafeInteger(bytes) || bytes < 1)
    throw new InvalidSizeError(
      `${JSON.stringify(text)} is no size: expected a number and one of ${Object.keys(UNITS).join(', ')}, such as 6GiB`,
    );
  return bytes;
}

/** A size for people, such as `5.76 GiB`. */
export function formatSize(bytes: number): string {
  const unit = bytes >= 2 ** 30 ? 'GiB' : 'MiB';
  return `${(bytes / (UNITS[unit] as number)).toFixed(2)} ${unit}`;
}

/** Intermediates of one block's backward pass over one pass of tokens. */
function blockWorkBytes({ preset, batch, context }: MemoryRequest): number {
  return activationBytes({ ...preset, layers: 1, vocabulary: 1 }, batch, context);
}

/** Intermediates of the head over one chunk of rows: logits, probabilities, and their difference from the targets. */
function headWorkBytes(preset: Preset, rows: number): number {
  return 4 * rows * (3 * preset.vocabulary + 4 * preset.hidden);
}

/**
 * Estimated peak of a training process in a mode, bytes. An upper estimate: what only exists at different times is not
 * told apart where it is small.
 */
export function estimateMemory(request: MemoryRequest, mode: MemoryMode): number {
  const { preset, batch, context, passes = 1, residentVectors = TRAINING_VECTORS, besideStreamedBytes = 0 } = request;
  const rows = batch * context;
  const headRows = headChunkRows(rows, request.headRows ?? MAX_HEAD_ROWS);
  const headTileBytes = request.headTileBytes ?? MAX_HEAD_TILE_BYTES;
  const shape: StreamedShape = {
    preset,
    batch,
    context,
    passes,
    headRows,
    headTileBytes,
    prefetch: mode !== 'streamed-no-prefetch',
  };
  const buffers = streamedBuffers(shape);
  const works = [blockWorkBytes(request), headWorkBytes(preset, headRows)];
  // The binding copies what a run puts out before it is freed (`session.ts`).
  const copies = 4 * buffers.weights.length;
  if (mode === 'streamed' || mode === 'streamed-no-prefetch') {
    const held = Object.values(buffers).reduce((sum, { length, count }) => sum + length * count, 0);
    return BASE_BYTES + SLACK * (4 * held + copies + Math.max(...works) + besideStreamedBytes);
  }
  const model = 4 * parameterCount(preset);
  if (request.backend === 'native') {
    const kept =
      mode === 'whole'
        ? nativeActivationBytes(preset, batch, context)
        : nativeActivationBytes({ ...preset, layers: 1 }, batch, context) + 4 * rows * preset.hidden * preset.layers;
    return BASE_BYTES + SLACK * ((residentVectors + 2) * model + kept + nativeWorkBytes(preset, batch, context));
  }
  const vectors = residentVectors + 2 + (passes > 1 ? 1 : 0);
  // Resident sessions have arenas, which keep what they once had.
  const work = works.reduce((sum, bytes) => sum + bytes, 0);
  if (mode === 'whole')
    return BASE_BYTES + SLACK * ((vectors + 1) * model + activationBytes(preset, batch, context) + work);
  const activations = 4 * rows * preset.hidden * (preset.layers + 3);
  return BASE_BYTES + SLACK * (vectors * model + copies + activations + work);
}

/**
 * Estimated peak of a process that evaluates a streamed model, bytes, but for activations side by side: a layer's weights,
 * its work, and `besideStreamedBytes`. Never above {@link estimateMemory} for the same mode and the same rest.
 */
export function estimateStreamedScoring(
  request: MemoryRequest,
  mode: Extract<MemoryMode, 'streamed' | 'streamed-no-prefetch'>,
): number {
  const { preset, batch, context, besideStreamedBytes = 0 } = request;
  const headRows = headChunkRows(batch * context, request.headRows ?? MAX_HEAD_ROWS);
  const headTileBytes = request.headTileBytes ?? MAX_HEAD_TILE_BYTES;
  const { weights } = streamedBuffers({
    preset,
    batch,
    context,
    passes: 1,
    headRows,
    headTileBytes,
    prefetch: mode === 'streamed',
  });
  // The binding copies what a run puts out before it is freed (`session.ts`).
  const copies = 4 * batch * context * preset.hidden;
  const work = Math.max(blockWorkBytes(request), headWorkBytes(preset, headRows));
  return BASE_BYTES + SLACK * (4 * weights.length * weights.count + copies + work + besideStreamedBytes);
}

/**
 * The fastest mode that fits into `budgetBytes`; without a budget, the faster resident one. Throws
 * {@link MemoryBudgetError} that says how much the smallest of `modes` needs.
 */
export function planMemory(
  request: MemoryRequest,
  budgetBytes: number | undefined,
  modes: readonly MemoryMode[] = ['whole', 'blocks', 'streamed', 'streamed-no-prefetch'],
): MemoryPlan {
  const { preset, batch, context } = request;
  const activations = request.backend === 'native' ? nativeActivationBytes : activationBytes;
  const keepsActivations = activations(preset, batch, context) <= WHOLE_ACTIVATION_BYTES;
  const plans = modes
    .filter((mode) => mode !== 'whole' || keepsActivations)
    .map((mode) => ({
      backend: RESIDENT_MODES.includes(mode) ? (request.backend ?? 'onnx') : 'onnx',
      mode,
      bytes: estimateMemory(request, mode),
    }));
  const [fastest] = plans;
  if (fastest === undefined) throw new RangeError('no modes to choose from');
  if (budgetBytes === undefined) return fastest;
  const fitting = plans.find(({ bytes }) => bytes <= budgetBytes);
  if (fitting !== undefined) return fitting;
  const smallest = plans.reduce((least, plan) => (plan.bytes < least.bytes ? plan : least));
  throw new MemoryBudgetError(
    `${preset.name} with ${batch} x ${context} tokens at a time needs ${formatSize(smallest.bytes)} (${smallest.mode}), ` +
      `more than the ${formatSize(budgetBytes)} allowed`,
    smallest.bytes,
  );
}
