/** Room on a disk, asked for before it is used. */
import { statfs } from 'node:fs/promises';
import { formatSize } from '../engine/memory-plan.ts';
import { DiskSpaceError } from './errors.ts';

/** Bytes that a process without privileges may still write in the file system of a folder. */
async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/**
 * Throws {@link DiskSpaceError} that says how much is needed, where, and for `what`.
 *
 * @param free - tells the room in a folder; the file system's word unless given
 */
export async function requireDiskSpace(
  folder: string,
  bytes: number,
  what: string,
  free: (folder: string) => Promise<number> = freeBytes,
): Promise<void> {
  const available = await free(folder);
  if (available >= bytes) return;
  throw new DiskSpaceError(
    `${what} needs ${formatSize(bytes)} in ${folder}, where ${formatSize(available)} are free: ` +
      'make room, choose another data folder, or allow more memory',
  );
}
