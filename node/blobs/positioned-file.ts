/**
 * Whole reads and writes at a position of an open file.
 */
import type { FileHandle } from 'node:fs/promises';
import { CorruptBlobError } from './errors.ts';

/** Writes all bytes at a position. */
export async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/** Fills a buffer from a position. Throws `ERR_BLOB_CORRUPT` when the file ends before. */
export async function readAt(handle: FileHandle, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await handle.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new CorruptBlobError('the file is too short');
    done += bytesRead;
  }
}
