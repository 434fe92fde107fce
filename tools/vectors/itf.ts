/** Reading ITF traces (the JSON of Quint and Apalache): https://apalache-mc.org/docs/adr/015adr-trace.html */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** A decoded value: numbers for integers, arrays for sets, tuples and lists, `Map` for maps, records for the rest. */
export type ItfValue = string | number | boolean | ItfValue[] | Map<ItfValue, ItfValue> | ItfRecord;
export interface ItfRecord {
  readonly [field: string]: ItfValue;
}

/** Thrown when a trace does not have the expected form. */
export class InvalidTraceError extends Error {
  static readonly code = 'ERR_INVALID_TRACE';
  readonly code = InvalidTraceError.code;
  override readonly name = 'InvalidTraceError';
}

function decode(value: unknown): ItfValue {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.map(decode);
  if (typeof value !== 'object' || value === null) throw new InvalidTraceError(`unexpected ${String(value)}`);
  const entries = new Map<string, unknown>(Object.entries(value));
  const integer = entries.get('#bigint');
  if (typeof integer === 'string') return Number(integer);
  const items = entries.get('#set') ?? entries.get('#tup');
  if (Array.isArray(items)) return items.map(decode);
  const pairs = entries.get('#map');
  if (Array.isArray(pairs)) return new Map(pairs.map((pair: unknown) => decodePair(pair)));
  return Object.fromEntries([...entries].filter(([key]) => key !== '#meta').map(([key, item]) => [key, decode(item)]));
}

function decodePair(pair: unknown): [ItfValue, ItfValue] {
  if (!Array.isArray(pair) || pair.length !== 2) throw new InvalidTraceError('a map entry is not a pair');
  return [decode(pair[0]), decode(pair[1])];
}

/** The states of a trace file, `.json` or `.json.gz`. Throws {@link InvalidTraceError}. */
export function readTrace(path: string): ItfRecord[] {
  const bytes = readFileSync(path);
  const trace: unknown = JSON.parse((path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'));
  const states = typeof trace === 'object' && trace !== null && 'states' in trace ? trace.states : undefined;
  if (!Array.isArray(states)) throw new InvalidTraceError(`${path}: no states`);
  return states.map((state) => record(decode(state)));
}

export function record(value: ItfValue | undefined): ItfRecord {
  if (typeof value !== 'object' || Array.isArray(value) || value instanceof Map)
    throw new InvalidTraceError(`expected a record, got ${JSON.stringify(value)}`);
  return value;
}
export function list(value: ItfValue | undefined): ItfValue[] {
  if (!Array.isArray(value)) throw new InvalidTraceError(`expected a list, got ${JSON.stringify(value)}`);
  return value;
}
export function map(value: ItfValue | undefined): Map<ItfValue, ItfValue> {
  if (!(value instanceof Map)) throw new InvalidTraceError(`expected a map, got ${JSON.stringify(value)}`);
  return value;
}
export function text(value: ItfValue | undefined): string {
  if (typeof value !== 'string') throw new InvalidTraceError(`expected text, got ${JSON.stringify(value)}`);
  return value;
}
export function integer(value: ItfValue | undefined): number {
  if (typeof value !== 'number') throw new InvalidTraceError(`expected an integer, got ${JSON.stringify(value)}`);
  return value;
}
/** A value of a sum type. */
export function tagged(value: ItfValue | undefined): { readonly tag: string; readonly value: ItfValue } {
  const { tag, value: inner } = record(value);
  return { tag: text(tag), value: inner ?? [] };
}
