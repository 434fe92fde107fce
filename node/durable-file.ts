/**
 * Small files that are whole or absent after a crash, and there after a power cut.
 */
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Makes the names in a folder durable. Windows cannot open folders, and keeps names durable by itself. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Replaces a file: temporary file beside it (`temporary`, or the path and `.new`), fsync, rename, fsync of the folder.
 * `mode` is that of a new file.
 */
export async function writeDurably(
  path: string,
  content: Uint8Array | string,
  { temporary = `${path}.new`, mode = 0o644 }: { temporary?: string; mode?: number } = {},
): Promise<void> {
  const file = await open(temporary, 'w', mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncFolder(dirname(path));
}
