/**
 * Which files a corpus is made of: what the user named, resolved to files that a reader knows.
 */
import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import {
  EmptySourceError,
  MissingSourceError,
  NoSourceFilesError,
  UnreadableSourceError,
  UnsupportedFormatError,
} from '../errors.ts';

/** How the bytes of a file become documents. */
export type SourceFormat = 'text' | 'jsonl' | 'jsonl.zst';

/** One file of a corpus. */
export interface SourceFile {
  /** Absolute path. */
  readonly path: string;
  /** Path as the user may recognize it; for messages. */
  readonly name: string;
  readonly format: SourceFormat;
  /** Size on disk. */
  readonly bytes: number;
  /** Time of the last change, in milliseconds. */
  readonly modifiedMs: number;
}

const FORMATS: readonly (readonly [extension: string, format: SourceFormat])[] = [
  ['.txt', 'text'],
  ['.md', 'text'],
  ['.jsonl', 'jsonl'],
  ['.jsonl.zst', 'jsonl.zst'],
];

/** Extensions that can be read, for messages and help. */
export const SOURCE_EXTENSIONS: readonly string[] = FORMATS.map(([extension]) => extension);

/** How a file would be read, by its extension in any case; undefined when it would not. */
export function sourceFormat(path: string): SourceFormat | undefined {
  const lower = path.toLowerCase();
  return FORMATS.find(([extension]) => lower.endsWith(extension))?.[1];
}

/**
 * Files that `paths` name: files, folders (with all that is in them, hidden files left out) and glob patterns (`*`, `**`,
 * `?`, `[...]`, `{...}`); a path that exists is never taken for a pattern. Each file once, ordered by path. In folders and
 * patterns, empty files and other formats are passed over; a file named by itself must have text and a known extension.
 * Throws {@link MissingSourceError}, {@link UnreadableSourceError}, {@link EmptySourceError},
 * {@link UnsupportedFormatError}, {@link NoSourceFilesError}.
 */
export async function findSources(
  paths: readonly string[],
  { signal }: { signal?: AbortSignal } = {},
): Promise<readonly SourceFile[]> {
  if (paths.length === 0) throw new NoSourceFilesError('no corpus named; name at least one file, folder or pattern');
  const files = new Map<string, SourceFile>();
  for (const path of paths) {
    signal?.throwIfAborted();
    const status = await statusOf(path, path);
    const found =
      status?.isDirectory() === true
        ? await inFolder(path, signal)
        : status !== undefined
          ? [namedFile(path, status)]
          : await matching(path, signal);
    for (const file of found) files.set(file.path, file);
  }
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** What the system says of a path; undefined when nothing is there. */
async function statusOf(path: string, name: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw unreadable(name, cause);
  }
}

/** Wraps an error of the file system about a source. */
export function unreadable(name: string, cause: unknown): UnreadableSourceError | MissingSourceError {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === 'ENOENT')
    return new MissingSourceError(`${name}: no such file any more; name one that exists`, { cause });
  return new UnreadableSourceError(`${name}: cannot be read (${code ?? message}); check its permissions`, { cause });
}

function namedFile(path: string, status: Stats): SourceFile {
  if (!status.isFile()) throw new UnreadableSourceError(`${path}: neither a file nor a folder; name one of these`);
  const format = sourceFormat(path);
  if (format === undefined) {
    const known = SOURCE_EXTENSIONS.join(', ');
    throw new UnsupportedFormatError(`${path}: unknown kind of file; convert it to one of ${known}`);
  }
  if (status.size === 0) throw new EmptySourceError(`${path}: the file is empty; name one with text`);
  return sourceFile(path, format, status);
}

async function inFolder(folder: string, signal?: AbortSignal): Promise<SourceFile[]> {
  const names = await search('**/*', folder, signal);
  const found = await readable(names.map((name) => join(folder, name)));
  if (found.length > 0) return found;
  throw new NoSourceFilesError(
    `${folder}: no file with text in this folder (${SOURCE_EXTENSIONS.join(', ')}); add one`,
  );
}

async function matching(pattern: string, signal?: AbortSignal): Promise<SourceFile[]> {
  if (!isDynamicPattern(pattern)) {
    throw new MissingSourceError(`${pattern}: no such file or folder; check the path`);
  }
  const found = await readable(await search(pattern, process.cwd(), signal));
  if (found.length > 0) return found;
  const known = SOURCE_EXTENSIONS.join(', ');
  throw new NoSourceFilesError(`${pattern}: the pattern matches no file with text (${known}); check the pattern`);
}

async function search(pattern: string, cwd: string, signal?: AbortSignal): Promise<string[]> {
  try {
    return await glob(pattern, { cwd, expandDirectories: false, signal });
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreadable(cwd, cause);
  }
}

/** Those of the paths that are files of a known format and not empty. */
async function readable(paths: readonly string[]): Promise<SourceFile[]> {
  const found: SourceFile[] = [];
  for (const path of paths) {
    const format = sourceFormat(path);
    if (format === undefined) continue;
    const status = await statusOf(path, path);
    if (status?.isFile() === true && status.size > 0) found.push(sourceFile(path, format, status));
  }
  return found;
}

function sourceFile(path: string, format: SourceFormat, status: Stats): SourceFile {
  return { path: resolve(path), name: path, format, bytes: status.size, modifiedMs: status.mtimeMs };
}
