/** Finished courses of learning: one JSON object on a line, so that what is done is never done again. */
import { appendFile, readFile } from 'node:fs/promises';
import type { CurvePoint } from './course.ts';
import type { LearnerName } from './learner.ts';

/** What was learned: equal settings give equal curves on one machine. */
export interface CourseSettings {
  readonly preset: string;
  /** Of the text's tokens. */
  readonly digest: string;
  readonly steps: number;
  readonly batch: number;
  readonly context: number;
}

/** One finished course. */
export interface CourseResult extends CourseSettings {
  readonly learner: LearnerName;
  readonly seed: number;
  readonly curve: readonly CurvePoint[];
}

/** Reads a results file; none is an empty one. Throws SyntaxError for a line that is no JSON. */
export async function readResults(path: string): Promise<CourseResult[]> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as CourseResult);
}

/** Adds a finished course. */
export async function appendResult(path: string, result: CourseResult): Promise<void> {
  await appendFile(path, `${JSON.stringify(result)}\n`);
}

/** Whether a result is of these settings. */
export function isOf(result: CourseResult, settings: CourseSettings): boolean {
  return (['preset', 'digest', 'steps', 'batch', 'context'] as const).every((key) => result[key] === settings[key]);
}
