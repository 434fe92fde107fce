/**
 * A log of records: each framed as length (u32), CRC-32 (u32), payload; little-endian. After a crash the end of the file
 * may be torn: opening keeps the longest valid prefix and cuts the rest. What was synced is never in the cut part unless
 * the disk itself failed.
 */
import { crc32 } from 'node:zlib';
import type { AppendFile } from './storage.ts';

const FRAME_HEADER_BYTES = 8;

/** Thrown when a record is empty or over the log's limit. */
export class InvalidRecordError extends Error {
  static readonly code = 'ERR_INVALID_RECORD';
  readonly code = InvalidRecordError.code;
  override readonly name = 'InvalidRecordError';
}

/** What opening a log found. */
export interface OpenedLog {
  readonly log: FramedLog;
  readonly records: readonly Uint8Array[];
  /** Bytes of a torn end that were cut off. */
  readonly cutBytes: number;
}

/** One record with its frame. */
export function frame(payload: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  bytes.writeUInt32LE(payload.length, 0);
  bytes.writeUInt32LE(crc32(payload), 4);
  bytes.set(payload, FRAME_HEADER_BYTES);
  return bytes;
}

/** The records of the longest valid prefix, and its length in bytes. */
export function readFrames(content: Uint8Array, maxRecordBytes: number): { records: Uint8Array[]; validBytes: number } {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  const records: Uint8Array[] = [];
  let at = 0;
  while (at + FRAME_HEADER_BYTES <= bytes.length) {
    const length = bytes.readUInt32LE(at);
    const end = at + FRAME_HEADER_BYTES + length;
    // Length 0 is refused because a zero-filled torn end would read as valid empty records.
    if (length === 0 || length > maxRecordBytes || end > bytes.length) break;
    const payload = bytes.subarray(at + FRAME_HEADER_BYTES, end);
    if (crc32(payload) !== bytes.readUInt32LE(at + 4)) break;
    records.push(new Uint8Array(payload));
    at = end;
  }
  return { records, validBytes: at };
}

/** An open log. One writer; calls to {@link sync} and {@link reset} must not overlap. */
export class FramedLog {
  readonly #file: AppendFile;
  readonly #maxRecordBytes: number;
  #pending: Uint8Array[] = [];
  #lengthBytes: number;
  #failed = false;

  private constructor(file: AppendFile, maxRecordBytes: number, lengthBytes: number) {
    this.#file = file;
    this.#maxRecordBytes = maxRecordBytes;
    this.#lengthBytes = lengthBytes;
  }

  /** Reads the log and repairs its end. */
  static async open(file: AppendFile, maxRecordBytes: number): Promise<OpenedLog> {
    const content = await file.read();
    const { records, validBytes } = readFrames(content, maxRecordBytes);
    if (validBytes < content.length) await file.truncate(validBytes);
    // What a killed process wrote may be in the system's memory only: a power failure after this must not take it back.
    if (content.length > 0) await file.sync();
    return {
      log: new FramedLog(file, maxRecordBytes, validBytes),
      records,
      cutBytes: content.length - validBytes,
    };
  }

  /** Bytes on disk, without what waits for {@link sync}. */
  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  /** Queues a record. It is on disk after {@link sync}. Throws {@link InvalidRecordError}. */
  append(payload: Uint8Array): void {
    if (payload.length === 0 || payload.length > this.#maxRecordBytes)
      throw new InvalidRecordError(
        `a record of this log has 1 to ${this.#maxRecordBytes} bytes, got ${payload.length}`,
      );
    this.#pending.push(frame(payload));
  }

  /** Writes and syncs what is queued, in one piece. After an error the queue is kept and the next call tries again. */
  async sync(): Promise<void> {
    if (this.#pending.length === 0) return;
    const count = this.#pending.length;
    const bytes = Buffer.concat(this.#pending);
    // A failed attempt may have left a part of a frame, behind which nothing would ever be read again.
    if (this.#failed) await this.#file.truncate(this.#lengthBytes);
    this.#failed = true;
    await this.#file.append(bytes);
    await this.#file.sync();
    this.#failed = false;
    this.#lengthBytes += bytes.length;
    this.#pending.splice(0, count);
  }

  /** Empties the log, queued records included. */
  async reset(): Promise<void> {
    this.#pending = [];
    await this.#file.truncate(0);
    this.#lengthBytes = 0;
    this.#failed = false;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
