/**
 * The data folder of a node: made on first use, used by one process at a time, and telling others where it listens.
 */
import { access, constants, link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ENDPOINT_FILE } from './api/client.ts';
import { writeDurably } from './durable-file.ts';

/** Thrown when a data folder cannot be made or written. */
export class DataFolderError extends Error {
  static readonly code = 'ERR_DATA_FOLDER';
  readonly code = DataFolderError.code;
  override readonly name = 'DataFolderError';
}

/** Thrown when another process uses the folder. */
export class DataFolderInUseError extends Error {
  static readonly code = 'ERR_DATA_FOLDER_IN_USE';
  readonly code = DataFolderInUseError.code;
  override readonly name = 'DataFolderInUseError';
}

const LOCK_FILE = 'node.lock';

/** How often, and how many times, a lock is looked at again: a process that was just killed takes a moment to go. */
const LOCK_RETRY_MS = 100;
const LOCK_ATTEMPTS = 20;

/**
 * What tells one run of a process number from another: its start time as the kernel counts it, on Linux; undefined when
 * it is dead and only waits to be noticed. Elsewhere the process number alone has to do.
 */
async function incarnation(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Fields are counted after the command name, which may itself hold spaces and parentheses: state, then the 19th on.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : (fields[19] ?? '');
  } catch {
    return '';
  }
}

/** The living process that a lock names, or undefined. */
async function holderOf(text: string): Promise<number | undefined> {
  const [pidText, started] = text.split(' ');
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid < 1 || pid === process.pid) return undefined;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return undefined;
  }
  return (await incarnation(pid)) === (started ?? '') ? pid : undefined;
}

/** Removes a lock that holds this text; one that another process put there meanwhile goes back to its place. */
async function discard(lock: string, text: string): Promise<void> {
  const aside = `${lock}.${process.pid}`;
  try {
    await rename(lock, aside);
  } catch (error) {
    // Another process was faster.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if ((await readFile(aside, 'utf8')) !== text) await link(aside, lock).catch(() => {});
  await rm(aside, { force: true });
}

/** An opened data folder; release it when the process is done with it. */
export class DataFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Makes the folder if need be and takes its lock; a lock left by a process that is gone is taken over.
   * Throws {@link DataFolderError} or {@link DataFolderInUseError}.
   */
  static async open(path: string): Promise<DataFolder> {
    try {
      await mkdir(path, { recursive: true });
      await access(path, constants.W_OK);
    } catch (cause) {
      throw new DataFolderError(
        `cannot write to the data folder ${path} (${(cause as NodeJS.ErrnoException).code ?? 'unknown'}): choose another with --dir`,
        { cause },
      );
    }
    const lock = join(path, LOCK_FILE);
    const text = `${process.pid} ${(await incarnation(process.pid)) ?? ''}`;
    for (let attempt = 1; ; attempt++) {
      try {
        await writeFile(lock, text, { flag: 'wx' });
        return new DataFolder(path);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
          throw new DataFolderError(`cannot write to the data folder ${path}: choose another with --dir`, { cause });
        }
      }
      const found = await readFile(lock, 'utf8').catch((error: NodeJS.ErrnoException) => error.code ?? '');
      if (found === 'ENOENT') continue;
      const holder = await holderOf(found);
      // An empty lock is just being written, or was left by a crash at that moment: time tells.
      const abandoned = holder === undefined && (found !== '' || attempt >= LOCK_ATTEMPTS);
      if (abandoned) {
        await discard(lock, found);
      } else if (attempt < LOCK_ATTEMPTS) {
        await pause(LOCK_RETRY_MS);
      } else {
        throw new DataFolderInUseError(
          `process ${holder} is already running in ${path}: stop it, or choose another folder with --dir`,
        );
      }
    }
  }

  /** A file or folder inside. */
  join(...names: string[]): string {
    return join(this.path, ...names);
  }

  /** Writes down where the node listens, for `alice status` and the like. */
  async announce(endpoint: { pid: number; api: string; multiaddrs: readonly string[] }): Promise<void> {
    await writeDurably(this.join(ENDPOINT_FILE), `${JSON.stringify(endpoint, null, 1)}\n`);
  }

  /** Lets another process use the folder. */
  async release(): Promise<void> {
    await rm(this.join(ENDPOINT_FILE), { force: true });
    await rm(this.join(LOCK_FILE), { force: true });
  }
}
