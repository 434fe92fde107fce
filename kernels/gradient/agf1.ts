/**
 * `AGF1`: the bytes of a submission (DESIGN 3.6). A header, then one record per tensor that has elements, ascending.
 * `docs/agf1.md` gives the format to the byte. Decoding is pure, strict, and allocates in proportion to the input.
 */
import { chunkGeometry, fullEntries } from './chunks.ts';
import {
  BadMagicError,
  HeaderMismatchError,
  ReservedBitsError,
  TensorOrderError,
  TooManyEntriesError,
  TrailingBytesError,
  TruncatedUpdateError,
  UnknownTensorError,
  UnsupportedVersionError,
  UpdateTooLargeError,
} from './errors.ts';
import type { SparseTensor, TensorLayout } from './layout.ts';
import { codeBytes, tableBytes, VALUE_BITS, type ValueBits } from './quantize.ts';
import { decodeRecord, RECORD_HEADER_BYTES, type RecordLimits, recordTensor } from './record.ts';
import { type ValueBounds, type ValueRecipe, valueBounds } from './value-bounds.ts';

/** "AGF1" as a little-endian number. */
const MAGIC = 0x31464741;
const VERSION = 1;

/** Bytes before the first record. */
export const UPDATE_HEADER_BYTES = 112;

/** Whom and what a submission is for. Hashes and keys are 64 lower-case hex characters. */
export interface UpdateHeader {
  /** Training round, unsigned 32-bit. */
  readonly round: number;
  /** sr25519 public key of the miner. */
  readonly author: string;
  /** Root of the weights from which training started. */
  readonly modelRoot: string;
  /** Hash of the preset, which fixes the layout. */
  readonly presetHash: string;
}

/** A submission in memory. */
export interface DecodedUpdate {
  readonly header: UpdateHeader;
  /** Tensors that have elements, ascending. Positive values mean: subtract (a pseudo-gradient, start minus end). */
  readonly tensors: readonly SparseTensor[];
}

/** What a decoder accepts. */
export interface UpdateLimits {
  /** Most bytes of a submission. */
  readonly maxBytes: number;
  /** Most elements in a submission; each takes 8 bytes when decoded. */
  readonly maxEntries: number;
  /** Value types accepted; all of them by default. */
  readonly valueBits?: readonly ValueBits[];
  /** Bounds on the values of each tensor; none by default but that they are finite. */
  readonly bounds?: ValueBounds;
}

/** Thrown when a header to be written does not fit the format: a fault of the caller. */
export class InvalidUpdateHeaderError extends Error {
  static readonly code = 'ERR_INVALID_UPDATE_HEADER';
  readonly code = InvalidUpdateHeaderError.code;
  override readonly name = 'InvalidUpdateHeaderError';
}

/**
 * Limits for a network whose submissions keep at most `topK` elements per chunk of a layout, with values that its recipe
 * can bring about. The byte limit leaves room for
 * the worst positions that a sensible encoder meets: with any best Rice parameter an index costs at most 2 bits more than
 * log2 of the mean distance between elements, plus one, and listed counts cost at most 13 bits a chunk.
 */
export function updateLimits(
  layout: TensorLayout,
  options: { readonly topK: number; readonly valueBits: ValueBits } & ValueRecipe,
): UpdateLimits {
  let maxEntries = 0;
  let maxBytes = UPDATE_HEADER_BYTES;
  for (const slot of layout) {
    const geometry = chunkGeometry(slot.shape, 'tiles');
    const entries = fullEntries(geometry, Math.min(options.topK, geometry.largestChunk));
    maxEntries += entries;
    const indexBits = Math.ceil(Math.log2(slot.length / entries)) + 3;
    maxBytes += RECORD_HEADER_BYTES + Math.ceil((geometry.chunks * 13) / 8) + tableBytes(options.valueBits);
    maxBytes += Math.ceil((entries * indexBits) / 8) + codeBytes(options.valueBits, entries);
  }
  return { maxBytes, maxEntries, valueBits: [options.valueBits], bounds: valueBounds(options) };
}

function hexBytes(text: string, what: string): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new InvalidUpdateHeaderError(`${what} is not 32 bytes of lower-case hex`);
  return Buffer.from(text, 'hex');
}

function bytesHex(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, 32).toString('hex');
}

/**
 * Puts a submission together from records of `compressTensor`, which may come in any order (backward passes walk down).
 * Throws {@link InvalidUpdateHeaderError} for a header that cannot be written.
 */
export function assembleUpdate(header: UpdateHeader, records: readonly Uint8Array[]): Uint8Array {
  if (!Number.isInteger(header.round) || header.round < 0 || header.round > 0xffffffff) {
    throw new InvalidUpdateHeaderError(`round ${header.round} is not an unsigned 32-bit number`);
  }
  const ordered = [...records].sort((a, b) => recordTensor(a, 0) - recordTensor(b, 0));
  const size = ordered.reduce((sum, record) => sum + record.length, UPDATE_HEADER_BYTES);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, VERSION, true);
  view.setUint16(6, 0, true);
  view.setUint32(8, header.round, true);
  view.setUint32(12, ordered.length, true);
  bytes.set(hexBytes(header.author, 'author'), 16);
  bytes.set(hexBytes(header.modelRoot, 'model root'), 48);
  bytes.set(hexBytes(header.presetHash, 'preset hash'), 80);
  let at = UPDATE_HEADER_BYTES;
  let previous = -1;
  for (const record of ordered) {
    const tensor = recordTensor(record, 0);
    if (tensor === previous) throw new InvalidUpdateHeaderError(`two records for tensor ${tensor}`);
    previous = tensor;
    bytes.set(record, at);
    at += record.length;
  }
  return bytes;
}

function readHeader(bytes: Uint8Array): { header: UpdateHeader; records: number } {
  if (bytes.length < UPDATE_HEADER_BYTES) throw new TruncatedUpdateError(`${bytes.length} bytes are no header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, UPDATE_HEADER_BYTES);
  if (view.getUint32(0, true) !== MAGIC) throw new BadMagicError('does not start with AGF1');
  if (view.getUint16(4, true) !== VERSION) throw new UnsupportedVersionError(`version ${view.getUint16(4, true)}`);
  if (view.getUint16(6, true) !== 0) throw new ReservedBitsError('reserved field of the header is not zero');
  const header = {
    round: view.getUint32(8, true),
    author: bytesHex(bytes, 16),
    modelRoot: bytesHex(bytes, 48),
    presetHash: bytesHex(bytes, 80),
  };
  return { header, records: view.getUint32(12, true) };
}

/** Throws {@link HeaderMismatchError} when a header differs from what is expected in one of the given fields. */
export function requireHeader(header: UpdateHeader, expected: Partial<UpdateHeader>): void {
  for (const field of ['round', 'author', 'modelRoot', 'presetHash'] as const) {
    if (expected[field] !== undefined && expected[field] !== header[field]) {
      throw new HeaderMismatchError(`${field} is ${header[field]}, expected ${expected[field]}`);
    }
  }
}

/** What a decoder needs besides the bytes. */
export interface DecodeOptions {
  readonly layout: TensorLayout;
  readonly limits: UpdateLimits;
  /** Header fields that must match. */
  readonly expected?: Partial<UpdateHeader>;
}

/** A submission that is decoded tensor by tensor, each time it is iterated. */
export interface UpdateReader {
  readonly header: UpdateHeader;
  /** Iterating throws a {@link MalformedUpdateError} when it meets what is wrong, at the latest at the end. */
  readonly tensors: Iterable<SparseTensor>;
  /**
   * One tensor, decoded by itself; undefined where the submission does not change it. For submissions that were iterated
   * to the end before, without an error: only then is it known where tensors are.
   */
  tensor(tensor: number): SparseTensor | undefined;
}

function recordLimitsOf({ valueBits = VALUE_BITS, bounds }: UpdateLimits, maxEntries: number): RecordLimits {
  return { maxEntries, valueBits, bounds };
}

/** @param positions - filled with where the record of each tensor begins */
function* readRecords(
  bytes: Uint8Array,
  records: number,
  { layout, limits }: DecodeOptions,
  positions: Map<number, number>,
): Generator<SparseTensor> {
  let at = UPDATE_HEADER_BYTES;
  let entriesLeft = limits.maxEntries;
  let previous = -1;
  for (let record = 0; record < records; record++) {
    const tensorIndex = recordTensor(bytes, at);
    if (tensorIndex <= previous) throw new TensorOrderError(`tensor ${tensorIndex} after tensor ${previous}`);
    const recordLimits = recordLimitsOf(limits, entriesLeft);
    const { tensor, end } = decodeRecord(bytes, at, layout, recordLimits);
    entriesLeft -= tensor.indices.length;
    previous = tensorIndex;
    positions.set(tensorIndex, at);
    at = end;
    yield tensor;
  }
  if (at !== bytes.length) throw new TrailingBytesError(`${bytes.length - at} bytes after the last record`);
}

/**
 * Checks size and header of a submission and leaves its records to be read: memory of one tensor at a time.
 * Throws a {@link MalformedUpdateError}.
 */
export function openUpdate(bytes: Uint8Array, options: DecodeOptions): UpdateReader {
  const { layout, limits } = options;
  if (bytes.length > limits.maxBytes) {
    throw new UpdateTooLargeError(`${bytes.length} bytes, at most ${limits.maxBytes} allowed`);
  }
  const { header, records } = readHeader(bytes);
  if (options.expected !== undefined) requireHeader(header, options.expected);
  if (records > layout.length) throw new UnknownTensorError(`${records} records for ${layout.length} tensors`);
  if (records > limits.maxEntries) throw new TooManyEntriesError(`${records} records, ${limits.maxEntries} elements`);
  const positions = new Map<number, number>();
  return {
    header,
    tensors: { [Symbol.iterator]: () => readRecords(bytes, records, options, positions) },
    tensor(tensor) {
      const at = positions.get(tensor);
      if (at === undefined) return undefined;
      return decodeRecord(bytes, at, layout, recordLimitsOf(limits, limits.maxEntries)).tensor;
    },
  };
}

/** Decodes a whole submission. Pure. Throws a {@link MalformedUpdateError} for anything but a well-formed one. */
export function decodeUpdate(bytes: Uint8Array, options: DecodeOptions): DecodedUpdate {
  const { header, tensors } = openUpdate(bytes, options);
  return { header, tensors: [...tensors] };
}

/** All elements of an update over the flat parameter vector, ascending. */
export interface SparseVector {
  readonly indices: Uint32Array;
  readonly values: Float32Array;
}

/** Number of elements in an update. */
export function entriesOf(update: { readonly tensors: Iterable<SparseTensor> }): number {
  let entries = 0;
  for (const tensor of update.tensors) entries += tensor.indices.length;
  return entries;
}

/** Concatenates the tensors of an update into one vector over all parameters; models below 2^32 parameters only. */
export function flattenUpdate(
  update: { readonly tensors: readonly SparseTensor[] },
  layout: TensorLayout,
): SparseVector {
  const last = layout.at(-1);
  if (last !== undefined && last.offset + last.length > 2 ** 32) {
    throw new RangeError('flat 32-bit indices reach 2^32 parameters; work tensor by tensor');
  }
  const entries = entriesOf(update);
  const indices = new Uint32Array(entries);
  const values = new Float32Array(entries);
  let at = 0;
  for (const tensor of update.tensors) {
    const { offset } = layout[tensor.tensor];
    for (let i = 0; i < tensor.indices.length; i++) indices[at + i] = offset + tensor.indices[i];
    values.set(tensor.values, at);
    at += tensor.indices.length;
  }
  return { indices, values };
}
