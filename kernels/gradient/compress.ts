/**
 * A miner's side of a submission: error feedback, selection, quantization, encoding (DESIGN 3.5), one tensor at a time.
 *
 * With Δ the pseudo-gradient and e the error feedback, per element: `a = fround(decay * e + Δ)` (product and sum in fp64),
 * the selected elements are sent, and `e = fround(a - decoded)` with `decoded` exactly what every decoder reads, `e = a`
 * for elements not sent. Deterministic: the same inputs give the same bytes on every machine.
 */
import { assembleUpdate, type UpdateHeader } from './agf1.ts';
import { CHUNK_ELEMENTS, type Chunking, chunkGeometry, fullEntries } from './chunks.ts';
import { layoutElements, type TensorLayout, type TensorSlot } from './layout.ts';
import { VALUE_BITS, type ValueBits } from './quantize.ts';
import { encodeRecord } from './record.ts';
import { accumulateAndSelect } from './top-k.ts';
import { bounded, type ValueBounds } from './value-bounds.ts';

/** How to compress. */
export interface CompressionOptions {
  /** Elements kept of each chunk of 4096; clamped for smaller chunks. */
  readonly topK: number;
  readonly valueBits: ValueBits;
  /** Factor on the error feedback of earlier rounds, 0 to 1. */
  readonly decay: number;
  /** `tiles` by default. With `tensor`, each tensor keeps the share topK / 4096 of its elements, wherever they are. */
  readonly chunking?: Chunking;
  /** What decoders accept; values beyond are sent smaller, and what is missing stays in the error feedback. */
  readonly bounds?: ValueBounds;
}

/** Thrown for options out of range and for arrays that do not fit the layout: a fault of the caller. */
export class InvalidCompressionError extends Error {
  static readonly code = 'ERR_INVALID_COMPRESSION';
  readonly code = InvalidCompressionError.code;
  override readonly name = 'InvalidCompressionError';
}

/** Thrown when a pseudo-gradient, or its sum with the error feedback, is not finite: training has diverged. */
export class NonFiniteGradientError extends Error {
  static readonly code = 'ERR_NON_FINITE_GRADIENT';
  readonly code = NonFiniteGradientError.code;
  override readonly name = 'NonFiniteGradientError';
}

function checkOptions({ topK, valueBits, decay }: CompressionOptions): void {
  if (!Number.isInteger(topK) || topK < 1 || topK > CHUNK_ELEMENTS) {
    throw new InvalidCompressionError(`topK is ${topK}, expected 1 to ${CHUNK_ELEMENTS}`);
  }
  if (!VALUE_BITS.includes(valueBits)) throw new InvalidCompressionError(`values of ${valueBits} bits`);
  if (!(decay >= 0 && decay <= 1)) throw new InvalidCompressionError(`decay is ${decay}, expected 0 to 1`);
}

/** Checks every sum before anything is changed. */
function requireFinite(slot: TensorSlot, delta: Float32Array, feedback: Float32Array, decay: number): void {
  // x - x is 0 for finite x, NaN for others, and NaN stays: no branch in the loop, which makes it twice as fast.
  let spoilt = 0;
  for (let i = 0; i < delta.length; i++) {
    const sum = Math.fround(decay * feedback[i] + delta[i]);
    spoilt += sum - sum;
  }
  if (spoilt === 0) return;
  const at = delta.findIndex((added, i) => !Number.isFinite(Math.fround(decay * feedback[i] + added)));
  throw new NonFiniteGradientError(`${slot.name}, element ${at}: pseudo-gradient plus error feedback is not finite`);
}

/** One tensor to compress. */
export interface TensorToCompress {
  readonly slot: TensorSlot;
  /** Index of the tensor in its layout. */
  readonly tensor: number;
  /** Pseudo-gradient, `slot.length` elements. */
  readonly delta: Float32Array;
  /** Error feedback, `slot.length` elements; updated in place. */
  readonly feedback: Float32Array;
  readonly options: CompressionOptions;
}

/** Compresses inputs that were checked. */
function compressChecked({ slot, tensor, delta, feedback, options }: TensorToCompress): Uint8Array | undefined {
  const { valueBits, decay, chunking = 'tiles', bounds } = options;
  const geometry = chunkGeometry(slot.shape, chunking);
  const topK =
    chunking === 'tiles'
      ? Math.min(options.topK, geometry.largestChunk)
      : Math.ceil((slot.length * options.topK) / CHUNK_ELEMENTS);
  const { counts, positions, indices, values } = accumulateAndSelect(delta, feedback, geometry, topK, decay);
  if (values.length === 0) return undefined;
  const sent = bounds === undefined ? values : bounded(values, bounds);
  const { record, decoded } = encodeRecord({ tensor, topK, valueBits, geometry, chunking }, counts, positions, sent);
  for (let i = 0; i < indices.length; i++) feedback[indices[i]] = values[i] - decoded[i];
  return record;
}

/**
 * Compresses one tensor: returns its AGF1 record, or undefined where the sum of pseudo-gradient and error feedback is zero
 * everywhere. Throws {@link InvalidCompressionError}, {@link NonFiniteGradientError}; then `feedback` is unchanged.
 */
export function compressTensor(input: TensorToCompress): Uint8Array | undefined {
  const { slot, delta, feedback, options } = input;
  checkOptions(options);
  if (delta.length !== slot.length || feedback.length !== slot.length) {
    throw new InvalidCompressionError(`tensor ${slot.name} has ${slot.length} elements, arrays do not fit`);
  }
  requireFinite(slot, delta, feedback, options.decay);
  return compressChecked(input);
}

/**
 * Compresses a whole model held in flat vectors: returns the bytes of the submission and updates `errorFeedback` in place.
 * Throws as {@link compressTensor}, and InvalidUpdateHeaderError; then `errorFeedback` is unchanged.
 */
export function compressUpdate(input: {
  readonly layout: TensorLayout;
  readonly delta: Float32Array;
  readonly errorFeedback: Float32Array;
  readonly options: CompressionOptions;
  readonly header: UpdateHeader;
}): Uint8Array {
  const { layout, delta, errorFeedback, options, header } = input;
  checkOptions(options);
  const elements = layoutElements(layout);
  if (delta.length !== elements || errorFeedback.length !== elements) {
    throw new InvalidCompressionError(`the layout has ${elements} elements, arrays have ${delta.length}`);
  }
  const parts = layout.map((slot, tensor) => {
    const end = slot.offset + slot.length;
    const part = { slot, tensor, options };
    return { ...part, delta: delta.subarray(slot.offset, end), feedback: errorFeedback.subarray(slot.offset, end) };
  });
  // Refuses a bad header before any error feedback changes.
  assembleUpdate(header, []);
  for (const part of parts) requireFinite(part.slot, part.delta, part.feedback, options.decay);
  return assembleUpdate(
    header,
    parts.map(compressChecked).filter((record) => record !== undefined),
  );
}

/** Elements that a submission keeps when every chunk is full. */
export function keptElements(layout: TensorLayout, topK: number): number {
  return layout.reduce((sum, slot) => sum + fullEntries(chunkGeometry(slot.shape, 'tiles'), topK), 0);
}
