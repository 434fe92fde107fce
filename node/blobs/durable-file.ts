/**
 * Files that are whole or absent after a crash.
 */
import { type FileHandle, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CorruptBlobError } from './errors.ts';

/** Makes a rename in a folder durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Replaces a file: temporary file, fsync, rename, fsync of the folder. `temporary` must be on the same file system. */
export async function replaceFile(path: string, temporary: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(temporary, 'w');
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

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
