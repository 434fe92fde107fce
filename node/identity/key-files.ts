/**
 * Secret files: readable by their owner only, written whole or not at all, never overwritten.
 */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KeyDamagedError, KeyExistsError, KeyPermissionsError, KeyUnavailableError } from './errors.ts';

/** Bytes of every seed. */
export const SEED_BYTES = 32;

/** A secret file is a few hundred bytes; nothing larger is read. */
const MAX_SECRET_FILE_BYTES = 64 * 1024;

function systemCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : undefined;
}

function unavailable(path: string, cause: unknown): KeyUnavailableError {
  return new KeyUnavailableError(
    `cannot use ${path} (${systemCode(cause) ?? 'unknown error'}): check the folder and its permissions`,
    {
      cause,
    },
  );
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open folders; there, the file system orders renames itself.
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function writeNew(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A name beside `path` that nothing else uses. */
function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
}

/**
 * Writes one secret file, mode 0600. Throws {@link KeyExistsError} when it exists and {@link KeyUnavailableError}.
 */
export async function writeSecretFile(path: string, text: string): Promise<void> {
  const temporary = temporaryBeside(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeNew(temporary, text);
    // A link, unlike a rename, does not replace what is there.
    await link(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw new KeyExistsError(`${path} exists already: choose another file`);
    throw unavailable(path, error);
  } finally {
    await rm(temporary, { force: true });
  }
}

/**
 * Makes a folder (mode 0700) of secret files (0600) in one step: after a crash there is all of it or nothing. Throws
 * {@link KeyExistsError} when the folder has something in it, and {@link KeyUnavailableError}.
 */
export async function writeSecretFolder(path: string, files: ReadonlyMap<string, string>): Promise<void> {
  const temporary = temporaryBeside(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    await mkdir(temporary, { mode: 0o700 });
    for (const [name, text] of files) await writeNew(join(temporary, name), text);
    await syncFolder(temporary);
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOTEMPTY' || code === 'EEXIST') throw new KeyExistsError(`${path} holds keys already`);
    throw unavailable(path, error);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Names in a folder; none when it does not exist. Throws {@link KeyUnavailableError}. */
export async function secretNames(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).sort();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw unavailable(path, error);
  }
}

/**
 * Reads a secret file. Throws {@link KeyDamagedError} when it is missing or too large, {@link KeyPermissionsError} when
 * others may read it, {@link KeyUnavailableError} otherwise.
 */
export async function readSecretFile(path: string): Promise<string> {
  try {
    const { mode, size } = await stat(path);
    // Windows has no such modes.
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw new KeyPermissionsError(`others may read ${path}: run chmod 600 on it`);
    }
    if (size > MAX_SECRET_FILE_BYTES) throw new KeyDamagedError(`${path} is no key file: put the right one back`);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof KeyPermissionsError || error instanceof KeyDamagedError) throw error;
    if (systemCode(error) === 'ENOENT') {
      throw new KeyDamagedError(
        `${path} is missing: put it back from a copy, or move the folder away to make new keys`,
      );
    }
    throw unavailable(path, error);
  }
}

/** Text form of a seed in a file. */
export function seedText(seed: Uint8Array): string {
  return `${Buffer.from(seed).toString('hex')}\n`;
}

/** Reads a seed file. Throws what {@link readSecretFile} throws. */
export async function readSeedFile(path: string): Promise<Uint8Array> {
  const match = /^([0-9a-f]{64})\n?$/.exec(await readSecretFile(path));
  if (match === null) {
    throw new KeyDamagedError(
      `${path} does not hold a key: put it back from a copy, or move the folder away to make new keys`,
    );
  }
  return new Uint8Array(Buffer.from(match[1], 'hex'));
}
