/**
 * The few file operations under the write-ahead log and the signer guard, as an interface: simulations put a disk behind
 * it that loses and tears what was not synced.
 */
import { type FileHandle, mkdir, open, rename } from 'node:fs/promises';
import { join } from 'node:path';

/** A file that only grows, or is cut. */
export interface AppendFile {
  /** The whole content. */
  read(): Promise<Uint8Array>;
  /** Writes at the end. Not durable before {@link sync}. */
  append(bytes: Uint8Array): Promise<void>;
  /** Resolves when everything appended so far survives a power failure. */
  sync(): Promise<void>;
  /** Cuts the file to `length` bytes. */
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

/** A folder of such files. */
export interface Directory {
  /** Opens a file, creating it (durably) when it is not there. */
  open(name: string): Promise<AppendFile>;
  /** Puts a file with this content in place of another, atomically and durably, and opens it. */
  replace(name: string, content: Uint8Array): Promise<AppendFile>;
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open folders; there a rename is durable without it.
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function readFrom(handle: FileHandle): Promise<Uint8Array> {
  const { size } = await handle.stat();
  const bytes = Buffer.alloc(size);
  let at = 0;
  while (at < size) {
    const { bytesRead } = await handle.read(bytes, at, size - at, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}

function appendFile(handle: FileHandle): AppendFile {
  return {
    read: () => readFrom(handle),
    append: (bytes) => handle.appendFile(bytes),
    sync: () => handle.datasync(),
    truncate: (length) => handle.truncate(length),
    close: () => handle.close(),
  };
}

/** A folder on disk; made when it is not there. */
export function diskDirectory(path: string): Directory {
  return {
    async open(name) {
      await mkdir(path, { recursive: true });
      const handle = await open(join(path, name), 'a+');
      await syncFolder(path);
      return appendFile(handle);
    },
    async replace(name, content) {
      await mkdir(path, { recursive: true });
      const temporary = join(path, `${name}.new`);
      const handle = await open(temporary, 'w');
      try {
        await handle.writeFile(content);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, join(path, name));
      await syncFolder(path);
      return appendFile(await open(join(path, name), 'a+'));
    },
  };
}
