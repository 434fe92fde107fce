/** Finished runs as JSON lines: each is appended once and never repeated. */
import { createHash } from 'node:crypto';
import { appendFile, readFile } from 'node:fs/promises';
import type { Method } from './method.ts';
import type { StudyText } from './text.ts';
import type { RunOutcome, StudySettings } from './train.ts';

/** A run that is finished. */
export interface RunRecord {
  /** {@link runKey}. */
  readonly key: string;
  /** Name and digest of the text: see StudyText. */
  readonly corpus: string;
  readonly digest: string;
  readonly method: Method;
  readonly seed: number;
  /** Null where training diverged; `reason` says how. */
  readonly outcome: RunOutcome | null;
  readonly reason?: string;
  /** Wall-clock time on a machine that did other things as well: no figure. */
  readonly seconds: number;
}

/** Thrown when a line of a results file is not a finished run. */
export class BadResultsError extends Error {
  static readonly code = 'ERR_BAD_RESULTS';
  readonly code = BadResultsError.code;
  override readonly name = 'BadResultsError';
}

/** What makes a run that run: text, settings, method, seed. 16 hex characters. */
export function runKey(text: Pick<StudyText, 'digest'>, settings: StudySettings, method: Method, seed: number): string {
  // Fields in alphabetical order, so that the order in which code writes them does not matter.
  const ordered = (_: string, value: unknown) =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  const identity = JSON.stringify({ text: text.digest, settings, method, seed }, ordered);
  return createHash('sha256').update(identity).digest('hex').slice(0, 16);
}

/** Reads finished runs; none where there is no file. Throws {@link BadResultsError}, errors of the file system. */
export async function readResults(path: string): Promise<RunRecord[]> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return content.split('\n').flatMap((line, i) => {
    if (line === '') return [];
    try {
      const record = JSON.parse(line) as Partial<RunRecord>;
      if (typeof record.key === 'string' && record.method !== undefined) return [record as RunRecord];
    } catch (cause) {
      throw new BadResultsError(`${path}:${i + 1} is no JSON; delete the line to repeat that run`, { cause });
    }
    throw new BadResultsError(`${path}:${i + 1} is no finished run; delete the line`);
  });
}

/** Adds a finished run. Throws errors of the file system. */
export async function appendResult(path: string, record: RunRecord): Promise<void> {
  await appendFile(path, `${JSON.stringify(record)}\n`, { flush: true });
}
