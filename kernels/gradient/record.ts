/**
 * One tensor of an AGF1 submission: its selected elements as bytes, and back. Byte layout: `docs/agf1.md`.
 */
import { type ChunkGeometry, type Chunking, chunkGeometry, chunkSize, fullEntries, TILE_SIDE } from './chunks.ts';
import {
  InvalidCountError,
  InvalidTopKError,
  NonZeroPaddingError,
  RiceParameterError,
  TooManyEntriesError,
  TruncatedUpdateError,
  UnknownModeError,
  UnknownTensorError,
  UnknownValueTypeError,
} from './errors.ts';
import type { SparseTensor, TensorLayout } from './layout.ts';
import { codeBytes, dequantizeValues, quantizeValues, tableBytes, VALUE_BITS, type ValueBits } from './quantize.ts';
import { bestRiceParameter, MAX_RICE_PARAMETER, RiceReader, writeRice } from './rice.ts';
import { requireBounded, type ValueBounds } from './value-bounds.ts';

/** Bytes of a record before its streams. */
export const RECORD_HEADER_BYTES = 16;

/** Chunking on the wire, by code. */
const CHUNKINGS: readonly Chunking[] = ['tensor', 'tiles'];

/** Every chunk holds `topK` elements, or all it has where it has fewer. */
const COUNTS_FULL = 0;
/** A stream of counts follows. */
const COUNTS_LISTED = 1;

/** What a record says of its tensor, besides the elements. */
export interface RecordOptions {
  /** Index of the tensor in the layout. */
  readonly tensor: number;
  /** Most elements in a chunk. */
  readonly topK: number;
  readonly valueBits: ValueBits;
  readonly geometry: ChunkGeometry;
  readonly chunking: Chunking;
}

/** Bits of a listed count: enough for `topK`. */
function countBits(topK: number): number {
  return 32 - Math.clz32(topK);
}

/** Packs counts of `width` bits from the least significant end. */
function writeCounts(counts: Uint32Array, width: number): Uint8Array {
  const out = new Uint8Array(Math.ceil((counts.length * width) / 8));
  let bit = 0;
  for (const count of counts) {
    for (let i = 0; i < width; i++, bit++) out[bit >>> 3] |= ((count >>> i) & 1) << (bit & 7);
  }
  return out;
}

/** Reads `chunks` counts; checks the padding. The stream has exactly the bytes it needs. */
function readCounts(stream: Uint8Array, chunks: number, width: number): Uint32Array {
  const counts = new Uint32Array(chunks);
  let bit = 0;
  for (let chunk = 0; chunk < chunks; chunk++) {
    let count = 0;
    for (let i = 0; i < width; i++, bit++) count |= ((stream[bit >>> 3] >>> (bit & 7)) & 1) << i;
    counts[chunk] = count >>> 0;
  }
  if ((bit & 7) !== 0 && stream[stream.length - 1] >>> (bit & 7) !== 0) {
    throw new NonZeroPaddingError('unused bits of the counts are not zero');
  }
  return counts;
}

/**
 * Encodes the elements of one tensor. `counts` per chunk and `positions` within chunks are in chunk order, ascending in
 * each chunk; `values` are finite and go with the positions. Returns the record and the values as decoders will see them.
 * At least one element must be given: an empty tensor has no record.
 */
export function encodeRecord(
  options: RecordOptions,
  counts: Uint32Array,
  positions: Uint32Array,
  values: Float32Array,
): { record: Uint8Array; decoded: Float32Array } {
  const { geometry, valueBits } = options;
  const topK = Math.min(options.topK, geometry.largestChunk);
  const listed = values.length < fullEntries(geometry, topK);
  const countStream = listed ? writeCounts(counts, countBits(topK)) : new Uint8Array(0);
  const { parameter, bits } = bestRiceParameter(counts, positions, values.length);
  const indexBytes = Math.ceil(bits / 8);
  const { table, codes, decoded } = quantizeValues(valueBits, values);
  const record = new Uint8Array(RECORD_HEADER_BYTES + countStream.length + table.length + indexBytes + codes.length);
  const view = new DataView(record.buffer);
  view.setUint32(0, options.tensor, true);
  view.setUint8(4, valueBits);
  view.setUint8(5, CHUNKINGS.indexOf(options.chunking));
  view.setUint8(6, listed ? COUNTS_LISTED : COUNTS_FULL);
  view.setUint8(7, parameter);
  view.setUint32(8, topK, true);
  view.setUint32(12, indexBytes, true);
  let at = RECORD_HEADER_BYTES;
  record.set(countStream, at);
  at += countStream.length;
  record.set(table, at);
  at += table.length;
  writeRice(counts, positions, parameter, record.subarray(at, at + indexBytes));
  record.set(codes, at + indexBytes);
  return { record, decoded };
}

/** The fixed part of a record, checked. */
interface RecordHeader {
  readonly tensor: number;
  readonly valueBits: ValueBits;
  readonly geometry: ChunkGeometry;
  readonly listed: boolean;
  readonly riceParameter: number;
  readonly topK: number;
  readonly indexBytes: number;
}

function readHeader(bytes: Uint8Array, at: number, layout: TensorLayout): RecordHeader {
  if (bytes.length - at < RECORD_HEADER_BYTES) throw new TruncatedUpdateError('record header is cut off');
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, RECORD_HEADER_BYTES);
  const tensor = view.getUint32(0, true);
  const slot = layout[tensor];
  if (slot === undefined) throw new UnknownTensorError(`tensor ${tensor} of ${layout.length}`);
  const valueBits = VALUE_BITS.find((bits) => bits === view.getUint8(4));
  if (valueBits === undefined) throw new UnknownValueTypeError(`values of ${view.getUint8(4)} bits`);
  const chunking = CHUNKINGS[view.getUint8(5)];
  if (chunking === undefined) throw new UnknownModeError(`chunking ${view.getUint8(5)}`);
  const countMode = view.getUint8(6);
  if (countMode !== COUNTS_FULL && countMode !== COUNTS_LISTED) throw new UnknownModeError(`count mode ${countMode}`);
  const riceParameter = view.getUint8(7);
  if (riceParameter > MAX_RICE_PARAMETER) throw new RiceParameterError(`Rice parameter ${riceParameter}`);
  const topK = view.getUint32(8, true);
  const geometry = chunkGeometry(slot.shape, chunking);
  if (topK < 1 || topK > geometry.largestChunk) {
    throw new InvalidTopKError(`${topK} elements per chunk of at most ${geometry.largestChunk}`);
  }
  const indexBytes = view.getUint32(12, true);
  return { tensor, valueBits, geometry, listed: countMode === COUNTS_LISTED, riceParameter, topK, indexBytes };
}

/** Tiles come band by band, tile by tile; puts the elements of each band into row order, that is, ascending. */
function sortBand(
  from: number,
  to: number,
  firstRow: number,
  rowOf: Uint8Array,
  indices: Uint32Array,
  values: Float32Array,
): void {
  const starts = new Uint32Array(TILE_SIDE + 1);
  for (let i = from; i < to; i++) starts[rowOf[i - from] + 1]++;
  for (let row = 0; row < TILE_SIDE; row++) starts[row + 1] += starts[row];
  const columnsInOrder = indices.slice(from, to);
  const valuesInOrder = values.slice(from, to);
  // Within a row, tiles come from left to right and positions ascend, so a stable distribution by row sorts.
  for (let i = 0; i < columnsInOrder.length; i++) {
    const target = from + starts[rowOf[i]]++;
    indices[target] = firstRow + columnsInOrder[i];
    values[target] = valuesInOrder[i];
  }
}

/** Reads the positions of every chunk and turns them into ascending indices within the tensor; moves values along. */
function readIndices(
  header: RecordHeader,
  stream: Uint8Array,
  counts: Uint32Array | undefined,
  entries: number,
  values: Float32Array,
): Uint32Array {
  const { geometry, topK } = header;
  const { columns } = geometry;
  const reader = new RiceReader(stream, header.riceParameter);
  const indices = new Uint32Array(entries);
  const rowOf = new Uint8Array(geometry.tiled ? Math.min(entries, geometry.chunksPerBand * topK) : 0);
  let at = 0;
  for (let band = 0, chunkIndex = 0; band < geometry.bands; band++) {
    const bandStart = at;
    const bandOrigin = geometry.tiled ? band * TILE_SIDE * columns : band * geometry.largestChunk;
    for (let place = 0; place < geometry.chunksPerBand; place++, chunkIndex++) {
      const size = chunkSize(geometry, band, place);
      const count = counts === undefined ? Math.min(topK, size) : counts[chunkIndex];
      const first = at;
      reader.read(count, size, indices, at);
      at += count;
      if (!geometry.tiled) {
        for (let i = first; i < at; i++) indices[i] += bandOrigin;
        continue;
      }
      const origin = place * TILE_SIDE;
      const width = Math.min(TILE_SIDE, columns - origin);
      for (let i = first; i < at; i++) {
        const row = (indices[i] / width) | 0;
        rowOf[i - bandStart] = row;
        indices[i] = origin + row * columns + (indices[i] - row * width);
      }
    }
    if (geometry.tiled) sortBand(bandStart, at, bandOrigin, rowOf, indices, values);
  }
  reader.finish();
  return indices;
}

/** What a decoder accepts of one record. */
export interface RecordLimits {
  /** Most elements that the record may hold. */
  readonly maxEntries: number;
  /** Value types accepted. */
  readonly valueBits: readonly ValueBits[];
  /** Bounds on the values; none by default but that they are finite. */
  readonly bounds?: ValueBounds | undefined;
}

/**
 * Reads the record that starts at byte `at`. Nothing is allocated before the bytes that justify it were seen to be there:
 * the result is at most 22 times as large as the record, work space at most 32 times. Throws the errors of `errors.ts`.
 */
export function decodeRecord(
  bytes: Uint8Array,
  at: number,
  layout: TensorLayout,
  limits: RecordLimits,
): { tensor: SparseTensor; end: number } {
  const header = readHeader(bytes, at, layout);
  const { geometry, topK, valueBits, indexBytes, riceParameter } = header;
  if (!limits.valueBits.includes(valueBits)) throw new UnknownValueTypeError(`values of ${valueBits} bits not allowed`);
  let from = at + RECORD_HEADER_BYTES;
  const take = (length: number, what: string): Uint8Array => {
    if (bytes.length - from < length) throw new TruncatedUpdateError(`${what}: ${length} bytes, not that many left`);
    const part = bytes.subarray(from, from + length);
    from += length;
    return part;
  };
  const full = fullEntries(geometry, topK);
  let entries = full;
  let counts: Uint32Array | undefined;
  if (header.listed) {
    const width = countBits(topK);
    counts = readCounts(take(Math.ceil((geometry.chunks * width) / 8), 'counts'), geometry.chunks, width);
    entries = 0;
    for (let band = 0, chunk = 0; band < geometry.bands; band++) {
      for (let place = 0; place < geometry.chunksPerBand; place++, chunk++) {
        if (counts[chunk] > Math.min(topK, chunkSize(geometry, band, place))) {
          throw new InvalidCountError(`chunk ${chunk} holds ${counts[chunk]} elements`);
        }
        entries += counts[chunk];
      }
    }
    if (entries === 0) throw new InvalidCountError('a record without elements');
    if (entries === full) throw new InvalidCountError('counts are listed although every chunk is full');
  }
  if (entries > limits.maxEntries) throw new TooManyEntriesError(`${entries} elements, ${limits.maxEntries} left`);
  const table = take(tableBytes(valueBits), 'value table');
  // Every index takes at least its one bit and its low bits.
  if (indexBytes * 8 < entries * (riceParameter + 1)) throw new TruncatedUpdateError('index stream is too short');
  const indexStream = take(indexBytes, 'index stream');
  const codes = take(codeBytes(valueBits, entries), 'values');
  if (valueBits === 2 && (entries & 3) !== 0 && codes[codes.length - 1] >>> ((entries & 3) * 2) !== 0) {
    throw new NonZeroPaddingError('unused bits of the values are not zero');
  }
  const values = dequantizeValues(valueBits, entries, table, codes);
  const indices = readIndices(header, indexStream, counts, entries, values);
  // After sorting: a sum depends on the order of its terms.
  if (limits.bounds !== undefined) requireBounded(values, limits.bounds);
  return { tensor: { tensor: header.tensor, indices, values }, end: from };
}

/** The tensor that the record at byte `at` is for; decodes nothing else. Throws {@link TruncatedUpdateError}. */
export function recordTensor(bytes: Uint8Array, at: number): number {
  if (bytes.length - at < RECORD_HEADER_BYTES) throw new TruncatedUpdateError('record header is cut off');
  return new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
}
