/** What the built libraries were built from, so that libraries of other sources are never loaded. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The record's file in the folder of the libraries. */
export const RECORD_FILE = 'built-from';

const sources = fileURLToPath(new URL('./src/', import.meta.url));

/** What decides the flags. */
const RECIPES = ['./build.ts', './instruction-sets.ts'].map((file) => fileURLToPath(new URL(file, import.meta.url)));

/** Digest of the sources and how they are compiled; undefined in an installation that came without them. */
export function sourcesDigest(): string | undefined {
  if (!existsSync(sources)) return undefined;
  const digest = createHash('sha256');
  const files = readdirSync(sources).sort();
  for (const path of [...files.map((file) => join(sources, file)), ...RECIPES]) digest.update(readFileSync(path));
  return digest.digest('hex');
}

/** Says what the libraries in `folder` are built from. `options` are flags beside the usual ones. */
export async function writeBuildRecord(folder: string, options: readonly string[]): Promise<void> {
  await writeFile(join(folder, RECORD_FILE), [sourcesDigest(), ...options].join('\n'));
}

/** What the libraries in `folder` are built from; undefined where nothing is recorded. */
export function readBuildRecord(folder: string): { readonly digest: string; readonly options: string[] } | undefined {
  const path = join(folder, RECORD_FILE);
  if (!existsSync(path)) return undefined;
  const [digest = '', ...options] = readFileSync(path, 'utf8').split('\n');
  return { digest, options };
}
