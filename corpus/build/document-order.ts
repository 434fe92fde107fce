/**
 * Puts documents into a pseudo-random order and leaves out repetitions, in bounded memory.
 *
 * Every document has a key made of a seed and its text; the order is that of the keys. It is therefore the same in
 * whatever order the documents come, equal texts meet, and the first documents of the order are a fair sample of all.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Bytes of a key: enough that different texts never share one. */
const KEY_BYTES = 16;
/** Key, UTF-8 bytes of the text, number of tokens. */
const RECORD_HEADER_BYTES = KEY_BYTES + 8;

/** A bucket is sorted in memory, so it should have about this many bytes of tokens and keys. */
const BUCKET_BYTES = 32 * 1024 * 1024;
/** More buckets would mean tiny writes. With this many, memory grows with the corpus beyond about 8 GiB of tokens. */
const MAX_BUCKETS = 256;
/** Memory for records that wait to be written, over all buckets. */
const WAITING_BYTES = 16 * 1024 * 1024;

/** What the different documents add up to. */
export interface DocumentTotals {
  readonly documents: number;
  readonly duplicates: number;
  readonly textBytes: number;
  readonly tokens: number;
}

/** Collects documents in files of a folder, then hands them out in order: `add`* `settle` `documents`. */
export class DocumentOrder {
  readonly #seed: Uint8Array;
  readonly #buckets: { readonly path: string; waiting: Buffer[]; waitingBytes: number }[];
  readonly #flushBytes: number;

  /** `expectedBytes` is a guess at the bytes of all tokens, and decides on the number of files. */
  constructor(init: { folder: string; seed: Uint8Array; expectedBytes: number }) {
    const buckets = Math.min(MAX_BUCKETS, Math.max(1, Math.ceil(init.expectedBytes / BUCKET_BYTES)));
    this.#seed = init.seed;
    this.#flushBytes = Math.min(1024 * 1024, WAITING_BYTES / buckets);
    this.#buckets = Array.from({ length: buckets }, (_, index) => ({
      path: join(init.folder, `documents-${index}`),
      waiting: [],
      waitingBytes: 0,
    }));
  }

  /** Takes a document: its text, and the tokens to hand out later. */
  async add(text: string, tokens: Uint16Array): Promise<void> {
    const hash = createHash('sha256').update('alice/document-order/1').update(this.#seed).update(text, 'utf8').digest();
    const payloadBytes = tokens.length * 2;
    const record = Buffer.allocUnsafe(RECORD_HEADER_BYTES + payloadBytes);
    hash.copy(record, 0, 0, KEY_BYTES);
    record.writeUInt32LE(Buffer.byteLength(text, 'utf8'), KEY_BYTES);
    record.writeUInt32LE(tokens.length, KEY_BYTES + 4);
    Buffer.from(tokens.buffer, tokens.byteOffset, payloadBytes).copy(record, RECORD_HEADER_BYTES);
    // The leading bits choose the bucket, so the buckets one after the other are in the order of the keys.
    const bucket = this.#buckets[Math.floor((hash.readUInt32BE(0) * this.#buckets.length) / 2 ** 32)];
    bucket.waiting.push(record);
    bucket.waitingBytes += record.length;
    if (bucket.waitingBytes >= this.#flushBytes) await this.#flush(bucket);
  }

  /** Sorts what was added and drops repetitions. Call once, after the last `add`. */
  async settle({ signal }: { signal?: AbortSignal } = {}): Promise<DocumentTotals> {
    const totals = { documents: 0, duplicates: 0, textBytes: 0, tokens: 0 };
    for (const bucket of this.#buckets) {
      signal?.throwIfAborted();
      await this.#flush(bucket);
      const records = recordsOf(await readFile(bucket.path)).sort(byKey);
      const different = records.filter((record, index) => index === 0 || byKey(records[index - 1], record) !== 0);
      totals.documents += different.length;
      totals.duplicates += records.length - different.length;
      for (const record of different) {
        totals.textBytes += record.readUInt32LE(KEY_BYTES);
        totals.tokens += record.readUInt32LE(KEY_BYTES + 4);
      }
      await writeFile(bucket.path, Buffer.concat(different));
    }
    return totals;
  }

  /** The tokens of every document, in order. Call after `settle`, as often as wanted. */
  async *documents(): AsyncGenerator<Uint16Array> {
    for (const bucket of this.#buckets) {
      for (const record of recordsOf(await readFile(bucket.path))) {
        const tokens = new Uint16Array((record.length - RECORD_HEADER_BYTES) / 2);
        new Uint8Array(tokens.buffer).set(record.subarray(RECORD_HEADER_BYTES));
        yield tokens;
      }
    }
  }

  async #flush(bucket: { readonly path: string; waiting: Buffer[]; waitingBytes: number }): Promise<void> {
    // Also with nothing to write: the file must exist afterwards.
    await appendFile(bucket.path, Buffer.concat(bucket.waiting));
    bucket.waiting = [];
    bucket.waitingBytes = 0;
  }
}

/** Cuts the content of a bucket into its records. */
function recordsOf(bucket: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let start = 0; start < bucket.length; ) {
    const end = start + RECORD_HEADER_BYTES + bucket.readUInt32LE(start + KEY_BYTES + 4) * 2;
    records.push(bucket.subarray(start, end));
    start = end;
  }
  return records;
}

function byKey(a: Buffer, b: Buffer): number {
  return a.compare(b, 0, KEY_BYTES, 0, KEY_BYTES);
}
