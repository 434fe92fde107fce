/**
 * The header of a safetensors file (public format description: https://huggingface.co/docs/safetensors): 8 bytes with the
 * header's length N, unsigned little-endian; N bytes of JSON, one object that maps each tensor's name to
 * `{dtype, shape, data_offsets: [begin, end]}` and may hold `__metadata__`, a map of strings; then the data, which the
 * tensors fill without holes or overlaps, offsets counting from its start.
 *
 * Files come from strangers: lengths are checked before anything of that size is allocated, and whatever the format does
 * not allow is refused.
 */
import {
  SafetensorsDtypeError,
  SafetensorsHeaderError,
  SafetensorsHeaderTooLargeError,
  SafetensorsOffsetsError,
  SafetensorsTruncatedError,
} from './safetensors-errors.ts';

/** Longest header of the format. */
export const MAX_SAFETENSORS_HEADER_BYTES = 100_000_000;

/** Bytes of the length in front of the header. */
export const SAFETENSORS_PREFIX_BYTES = 8;

/** Bits of an element of every dtype of the format. */
const DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ...(['BOOL', 'U8', 'I8', 'F8_E5M2', 'F8_E4M3', 'F8_E8M0'] as const).map((dtype) => [dtype, 8] as const),
  ...(['U16', 'I16', 'F16', 'BF16'] as const).map((dtype) => [dtype, 16] as const),
  ...(['U32', 'I32', 'F32'] as const).map((dtype) => [dtype, 32] as const),
  ...(['U64', 'I64', 'F64', 'C64'] as const).map((dtype) => [dtype, 64] as const),
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
]);

/** Most dimensions of a tensor: far above any in use. */
const MAX_DIMENSIONS = 64;

/** Where a tensor lies in its file. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** First byte, from the start of the data. */
  readonly begin: number;
  /** Byte after the last one. */
  readonly end: number;
}

/** A header, checked. */
export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their data. */
  readonly tensors: readonly SafetensorsEntry[];
}

/**
 * Length of the JSON header from the first 8 bytes of a file of `fileBytes`.
 * Throws {@link SafetensorsTruncatedError}, {@link SafetensorsHeaderTooLargeError}.
 */
export function safetensorsHeaderLength(prefix: Uint8Array, fileBytes: number): number {
  if (prefix.length < SAFETENSORS_PREFIX_BYTES || fileBytes < SAFETENSORS_PREFIX_BYTES) {
    throw new SafetensorsTruncatedError(`${fileBytes} bytes are no safetensors file`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, SAFETENSORS_PREFIX_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_SAFETENSORS_HEADER_BYTES)) {
    throw new SafetensorsHeaderTooLargeError(`a header of ${length} bytes, at most ${MAX_SAFETENSORS_HEADER_BYTES}`);
  }
  if (Number(length) > fileBytes - SAFETENSORS_PREFIX_BYTES) {
    throw new SafetensorsTruncatedError(`a header of ${length} bytes in a file of ${fileBytes}`);
  }
  return Number(length);
}

/**
 * The names that the object of a JSON text (already known to be valid) holds, as often as they come: JSON.parse keeps
 * only the last of equal ones, and readers that keep the first would see another model.
 */
function* topLevelNames(text: string): Generator<string> {
  let depth = 0;
  let name = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      const start = at++;
      for (; text[at] !== '"'; at++) if (text[at] === '\\') at++;
      if (depth === 1) name = text.slice(start, at + 1);
    } else if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    else if (character === ':' && depth === 1) yield JSON.parse(name) as string;
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** JSON.stringify with an end, for names in messages. */
function quoted(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}...` : name);
}

function readMetadata(value: unknown): ReadonlyMap<string, string> {
  if (!isRecord(value)) throw new SafetensorsHeaderError('__metadata__ is no object');
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw new SafetensorsHeaderError(`__metadata__: ${quoted(key)} is no text`);
    metadata.set(key, text);
  }
  return metadata;
}

function readEntry(name: string, value: unknown): SafetensorsEntry {
  if (!isRecord(value)) throw new SafetensorsHeaderError(`tensor ${quoted(name)} is no object`);
  const { dtype, shape, data_offsets: offsets, ...others } = value;
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw new SafetensorsHeaderError(`tensor ${quoted(name)}: field ${quoted(unknown)}`);
  if (typeof dtype !== 'string') throw new SafetensorsHeaderError(`tensor ${quoted(name)} has no dtype`);
  const bits = DTYPE_BITS.get(dtype);
  if (bits === undefined) throw new SafetensorsDtypeError(`tensor ${quoted(name)}: unknown dtype ${quoted(dtype)}`);
  if (!Array.isArray(shape) || shape.length > MAX_DIMENSIONS || !shape.every(isCount)) {
    throw new SafetensorsHeaderError(`tensor ${quoted(name)}: shape is no list of counts`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw new SafetensorsHeaderError(`tensor ${quoted(name)}: data_offsets are no two counts`);
  }
  const [begin, end] = offsets as [number, number];
  const elements = shape.reduce((size: number, dimension: number) => size * dimension, 1);
  // Products beyond 2^53 are inexact or infinite, and no file is that large.
  if (!Number.isSafeInteger(elements * bits) || (elements * bits) / 8 !== end - begin) {
    throw new SafetensorsOffsetsError(
      `tensor ${quoted(name)}: ${dtype} [${shape.slice(0, 8).join(', ')}] does not take bytes ${begin} to ${end}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

/**
 * Reads and checks the JSON of a header whose file holds `dataBytes` after it. Pure; memory in proportion to the header.
 * Throws {@link SafetensorsHeaderError}, {@link SafetensorsDtypeError}, {@link SafetensorsOffsetsError},
 * {@link SafetensorsTruncatedError}.
 */
export function parseSafetensorsHeader(json: Uint8Array, dataBytes: number): SafetensorsHeader {
  if (json[0] !== 0x7b) throw new SafetensorsHeaderError('the header does not start with "{"');
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(json);
    value = JSON.parse(text);
  } catch (cause) {
    throw new SafetensorsHeaderError('the header is not JSON', { cause });
  }
  if (!isRecord(value)) throw new SafetensorsHeaderError('the header is no JSON object');
  const names = new Set<string>();
  for (const name of topLevelNames(text)) {
    if (names.has(name)) throw new SafetensorsHeaderError(`tensor ${quoted(name)} is there twice`);
    names.add(name);
  }
  let metadata: ReadonlyMap<string, string> = new Map();
  const tensors: SafetensorsEntry[] = [];
  for (const [name, entry] of Object.entries(value)) {
    if (name === '__metadata__') metadata = readMetadata(entry);
    else tensors.push(readEntry(name, entry));
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const { name, begin, end } of tensors) {
    if (begin !== at) throw new SafetensorsOffsetsError(`tensor ${quoted(name)} starts at ${begin}, expected ${at}`);
    at = end;
  }
  if (at > dataBytes)
    throw new SafetensorsTruncatedError(`the header promises ${at} bytes of data, ${dataBytes} are there`);
  if (at < dataBytes) throw new SafetensorsOffsetsError(`${dataBytes - at} bytes after the last tensor`);
  return { metadata, tensors };
}

/**
 * Length, header and padding of a file with these tensors, in the order of their data. The JSON is padded with spaces so
 * that the data starts at a multiple of 8, as the format's own writer does.
 */
export function encodeSafetensorsHeader(
  tensors: readonly SafetensorsEntry[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const entries = tensors.map(({ name, dtype, shape, begin, end }) => [
    name,
    { dtype, shape, data_offsets: [begin, end] },
  ]);
  const text = JSON.stringify(Object.fromEntries([['__metadata__', metadata], ...entries]));
  const json = new TextEncoder().encode(text);
  const length = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(SAFETENSORS_PREFIX_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, SAFETENSORS_PREFIX_BYTES);
  return bytes;
}
