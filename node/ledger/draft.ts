/**
 * Typed records over the state tree, and drafts: the changes that a block makes before they become the next state.
 */
import { type Codec, enhanceCodec, u8, Vector } from 'scale-ts';
import type { StateTree } from './tree.ts';

/** Where a value lives in the state and how it is written. */
export interface StateRecord<T> {
  readonly key: string;
  readonly codec: Codec<T>;
}

/** Yes or no, one byte. */
export const flagCodec = enhanceCodec(
  u8,
  (value: boolean) => (value ? 1 : 0),
  (byte) => byte === 1,
);

/** A list that nobody changes in place. */
export function listCodec<T>(item: Codec<T>): Codec<readonly T[]> {
  return enhanceCodec<T[], readonly T[]>(
    Vector(item),
    (list) => [...list],
    (list) => list,
  );
}

/** Reads records. Values read are shared: they may never be changed in place. */
export interface StateReader {
  get<T>(record: StateRecord<T>): T | undefined;
}

/** Thrown when a record that every state has is missing: the state did not come from this program. */
export class MissingRecordError extends Error {
  static readonly code = 'ERR_MISSING_STATE_RECORD';
  readonly code = MissingRecordError.code;
  override readonly name = 'MissingRecordError';
}

/** Reads a record that must be there. Throws {@link MissingRecordError}. */
export function need<T>(reader: StateReader, record: StateRecord<T>): T {
  const value = reader.get(record);
  if (value === undefined) throw new MissingRecordError(`the state has no record "${record.key}"`);
  return value;
}

/** Reads a record from a tree, decoding each version of it once. */
export function readRecord<T>(tree: StateTree, record: StateRecord<T>): T | undefined {
  const leaf = tree.leaf(record.key);
  if (leaf === undefined) return undefined;
  // A copy, because scale-ts reads from the start of the underlying buffer and so misreads a view into a larger one.
  leaf.decoded ??= record.codec.dec(new Uint8Array(leaf.value));
  return leaf.decoded as T;
}

/** A value set in a draft; `value` undefined means removed. */
interface DraftEntry {
  readonly record: StateRecord<unknown>;
  readonly value: unknown;
}

/**
 * Changes on top of a state. A draft on a draft is how a failing transaction leaves nothing behind: its draft is dropped
 * instead of merged.
 */
export class Draft implements StateReader {
  readonly #base: StateReader;
  readonly #entries = new Map<string, DraftEntry>();

  constructor(base: StateReader) {
    this.#base = base;
  }

  get<T>(record: StateRecord<T>): T | undefined {
    const entry = this.#entries.get(record.key);
    return entry === undefined ? this.#base.get(record) : (entry.value as T | undefined);
  }

  /** Sets a record to a value that nobody changes afterwards. */
  set<T>(record: StateRecord<T>, value: T): void {
    this.#entries.set(record.key, { record: record as StateRecord<unknown>, value });
  }

  /** Removes a record. */
  delete<T>(record: StateRecord<T>): void {
    this.#entries.set(record.key, { record: record as StateRecord<unknown>, value: undefined });
  }

  /** Takes over the changes of a draft made on this one. */
  merge(child: Draft): void {
    for (const [key, entry] of child.#entries) this.#entries.set(key, entry);
  }

  /** Records that were set or removed, in the order of first change. */
  *touched(): IterableIterator<{ readonly record: StateRecord<unknown>; readonly value: unknown }> {
    yield* this.#entries.values();
  }

  /** Encoded changes by key. */
  changes(): Map<string, Uint8Array | undefined> {
    const changes = new Map<string, Uint8Array | undefined>();
    for (const [key, { record, value }] of this.#entries) {
      changes.set(key, value === undefined ? undefined : record.codec.enc(value));
    }
    return changes;
  }
}
