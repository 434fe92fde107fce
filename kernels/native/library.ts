/** Finds and loads the native library for this processor. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { readBuildRecord, sourcesDigest } from './build-record.ts';
import { builtFolder, instructionSets, libraryName } from './instruction-sets.ts';

/** Shape of an engine: a preset's fields and how to run it. Booleans are 0 or 1. */
export interface NativeShape {
  readonly vocabulary: number;
  readonly hidden: number;
  readonly layers: number;
  readonly queryHeads: number;
  readonly keyValueHeads: number;
  readonly ffn: number;
  readonly context: number;
  /** Most sequences of a call. */
  readonly batch: number;
  readonly ropeTheta: number;
  readonly normEpsilon: number;
  readonly tied: number;
  /** Recompute each block in the backward pass. */
  readonly recompute: number;
  /** Most bytes of probabilities over the vocabulary at once; at least one row's exist. */
  readonly headBytes: number;
  readonly threads: number;
  readonly bf16: number;
}

/** Constants of an AdamW step over one tensor, as `kernels/train/adamw.ts` makes them. */
export interface NativeAdamWConstants {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly clip: number;
  readonly meanCorrection: number;
  readonly squareCorrection: number;
  readonly keep: number;
}

/** A part of a tensor's file to be read, whole pieces of it. */
export interface NativeReadPart {
  /** Descriptor. */
  readonly file: number;
  readonly position: number;
  /** Bytes under one checksum; the last piece may be shorter. */
  readonly pieceBytes: number;
  /** Of float32: CRC-32. Of bfloat16: what the copy's `sums` were filled with. */
  readonly sums: Uint32Array;
  /** As long as the part; bfloat16 in a Uint16Array. */
  readonly to: Float32Array | Uint16Array;
  /** 1 if the file holds float32 that is to be rounded; else it holds what `to` does. */
  readonly rounds: number;
  /** With `rounds`: where the rounded ones are written, and their checksums. */
  readonly copy?: { readonly file: number; readonly position: number; readonly sums: Uint32Array };
}

/** Matrices of a block, or rows of a head: float32, or bfloat16 for an engine in bf16. */
export type NativeWeights = Float32Array | Uint16Array;

/** Seconds by phase of a training step; recomputed blocks count as forward, the gradient's norm as optimizer. */
export interface NativeProfile {
  readonly embedding: number;
  /** But for attention, which has its own. */
  readonly blocks_forward: number;
  readonly attention_forward: number;
  readonly head_forward: number;
  readonly head_backward: number;
  readonly blocks_backward: number;
  readonly attention_backward: number;
  readonly optimizer: number;
}

/** An engine inside the library. */
export type NativeHandle = object;

/**
 * Losses of sparse variants as differences from a base (src/variants.h), in an fp32 engine. Changes are ascending flat
 * indices and what is added there. Out of order, calls throw as for bad arguments.
 */
export interface NativeDifferences {
  /** A block of the base, y = block(x). `pack` is 0 where the weights are those of the last call. */
  base(engine: NativeHandle, blockWeights: Float32Array, x: Float32Array, y: Float32Array, pack: number): void;
  /**
   * The same block of a variant: `stream`, its residual stream minus the base's, becomes that behind the block. `offset`
   * is the flat index of the block's first weight.
   */
  block(engine: NativeHandle, stream: Float32Array, offset: number, indices: Uint32Array, deltas: Float32Array): void;
  /** Begins the head for the base's stream and so many variants, numbered from 1. */
  head(engine: NativeHandle, norm: Float32Array, x: Float32Array, targets: Int32Array, variants: number): void;
  /** Gives a variant's stream to the head, and its changes of the final norm, which begins at `offset`. */
  headVariant(
    engine: NativeHandle,
    variant: number,
    stream: Float32Array,
    offset: number,
    indices: Uint32Array,
    deltas: Float32Array,
  ): void;
  /** Goes through some columns of the head, whose first weight is number `offset`, for all. Returns the next column. */
  headColumns(
    engine: NativeHandle,
    head: Float32Array,
    column: number,
    offset: number,
    indices: readonly Uint32Array[],
    deltas: readonly Float32Array[],
  ): number;
  /** Fills the cross-entropy of each row of the base (0) or a variant, after the last column. */
  losses(engine: NativeHandle, variant: number, rowLosses: Float32Array): void;
  /** Frees the memory of the others. */
  end(engine: NativeHandle): void;
}

/**
 * A library, as src/addon.cpp exports it. Calls are synchronous. Every argument is checked against the shape; what does
 * not fit throws an Error with the code ERR_NATIVE_ARGUMENT, lack of memory one with ERR_NATIVE_MEMORY.
 */
export interface NativeLibrary {
  /** The instruction set it was compiled for. */
  readonly isa: string;
  /** Whether it has matrix products in bf16. */
  readonly bf16: boolean;
  /** Instruction sets that this processor has. */
  supported(): readonly string[];
  create(shape: NativeShape): NativeHandle;
  /** Frees an engine; later calls with it throw. */
  close(engine: NativeHandle): void;
  /** Fills the cross-entropy of each row. */
  losses(engine: NativeHandle, weights: Float32Array, tokens: Int32Array, rowLosses: Float32Array): void;
  /** And writes (or adds to) the gradient of `rowWeight` times their sum. */
  train(
    engine: NativeHandle,
    weights: Float32Array,
    tokens: Int32Array,
    rowLosses: Float32Array,
    rowWeight: number,
    gradient: Float32Array,
    accumulate: number,
  ): void;
  /** One block forward over whole sequences; its tensors lie one after the other in `blockWeights`. `y` is not `x`. */
  block(engine: NativeHandle, blockWeights: Float32Array, x: Float32Array, y: Float32Array): void;
  /** Fills the cross-entropy of rows of the stream under a final norm and a head. */
  headLosses(
    engine: NativeHandle,
    norm: Float32Array,
    head: Float32Array,
    x: Float32Array,
    targets: Int32Array,
    rowLosses: Float32Array,
  ): void;
  /**
   * One block forward, as {@link block}: `weights` has its tensors one after the other, but the norms, which are ignored
   * there and lie in `norms`. `y` may be `x`.
   */
  blockForward(
    engine: NativeHandle,
    norms: Float32Array,
    weights: NativeWeights,
    x: Float32Array,
    y: Float32Array,
  ): void;
  /** Turns the gradient of a block's output, `dStream`, into that of `x`; writes (or adds to) that of the weights. */
  blockBackward(
    engine: NativeHandle,
    norms: Float32Array,
    weights: NativeWeights,
    x: Float32Array,
    dStream: Float32Array,
    gradient: Float32Array,
    accumulate: number,
  ): void;
  /**
   * Begins the head for rows with these targets. Then `headForward` for all rows with each part of the vocabulary,
   * `headFinish`, and for a gradient `headBackward` likewise, parts in order, and `headEnd`. Parts are whole blocks of 2048
   * rows of the head, from `start` on; `x` are rows of the stream from `first` on, at most as many as the engine's batch.
   */
  headBegin(engine: NativeHandle, targets: Int32Array, gradient: number): void;
  headForward(
    engine: NativeHandle,
    norm: Float32Array,
    weights: NativeWeights,
    start: number,
    x: Float32Array,
    first: number,
  ): void;
  /** Fills the cross-entropy of all rows. */
  headFinish(engine: NativeHandle, rowWeight: number, rowLosses: Float32Array): void;
  /** `dNormalized` adds up over the parts; `gradient` is the part's, written or added to. */
  headBackward(
    engine: NativeHandle,
    norm: Float32Array,
    weights: NativeWeights,
    start: number,
    x: Float32Array,
    first: number,
    dNormalized: Float32Array,
    gradient: Float32Array,
    accumulate: number,
  ): void;
  /** Turns `dNormalized`, in place, into the gradient of the stream. */
  headEnd(
    engine: NativeHandle,
    norm: Float32Array,
    x: Float32Array,
    dNormalized: Float32Array,
    dNorm: Float32Array,
    accumulate: number,
  ): void;
  /**
   * Reads parts one after the other in a thread of the runtime's pool, and verifies them. Resolves to undefined, or to
   * the index of the first one that is damaged or cut off; rejects with what the system says. The arrays must stay
   * as they are until then, and the files open.
   */
  read(parts: readonly NativeReadPart[]): Promise<number | undefined>;
  /** Only where `bf16` is. */
  readonly differences?: NativeDifferences;
  /** Sum of squares in float64. */
  squares(engine: NativeHandle, values: Float32Array): number;
  /** One AdamW step over a tensor. */
  step(
    engine: NativeHandle,
    weights: Float32Array,
    gradient: Float32Array,
    mean: Float32Array,
    square: Float32Array,
    constants: NativeAdamWConstants,
  ): void;
  /** What the engine's calls took since the last call of this one. */
  profile(engine: NativeHandle): NativeProfile;
  /** Seconds of products of packed square matrices, in the engine's precision and by its threads. */
  products(engine: NativeHandle, options: { readonly size: number; readonly repeats: number }): number;
}

/** Thrown when there is no library to load. */
export class NativeUnavailableError extends Error {
  static readonly code = 'ERR_NATIVE_UNAVAILABLE';
  readonly code = NativeUnavailableError.code;
  override readonly name = 'NativeUnavailableError';
}

const require = createRequire(import.meta.url);

function load(name: string): NativeLibrary {
  return require(join(builtFolder, libraryName(name))) as NativeLibrary;
}

/**
 * Names of the instruction sets that are built and that this processor has, slowest first; empty if none is. Those that
 * are `emulated` come along when asked for. Throws {@link NativeUnavailableError} for libraries of other sources than
 * these, such as those of before an update.
 */
export function usableInstructionSets({ emulated = false }: { readonly emulated?: boolean } = {}): readonly string[] {
  const [first, ...others] = instructionSets(process.arch);
  if (first === undefined || !existsSync(join(builtFolder, libraryName(first.name)))) return [];
  const digest = sourcesDigest();
  if (digest !== undefined && readBuildRecord(builtFolder)?.digest !== digest)
    throw new NativeUnavailableError(
      'the native CPU backend was built from other sources than these: run `npm run build:native`',
    );
  const supported = load(first.name).supported();
  return [first, ...others]
    .filter((set) => emulated || set.emulated !== true)
    .map(({ name }) => name)
    .filter((name) => supported.includes(name) && existsSync(join(builtFolder, libraryName(name))));
}

/**
 * Loads the library for an instruction set: the one asked for, else that of the environment variable ALICE_NATIVE_ISA,
 * else the best that is usable. Throws {@link NativeUnavailableError} that says what to do.
 */
export function loadNativeLibrary(wanted: string | undefined = process.env.ALICE_NATIVE_ISA): NativeLibrary {
  const usable = usableInstructionSets();
  if (usable.length === 0)
    throw new NativeUnavailableError('the native CPU backend is not built here: run `npm run build:native`');
  const name = wanted ?? usable.at(-1) ?? '';
  if (!usableInstructionSets({ emulated: true }).includes(name))
    throw new NativeUnavailableError(
      `the native CPU backend cannot use "${name}" here (ALICE_NATIVE_ISA?); usable: ${usable.join(', ')}`,
    );
  return load(name);
}
