/** Which runs of the study are still to be done, and doing them. */

import { NonFiniteError } from '../../kernels/engine/engine.ts';
import { NonFiniteGradientError } from '../../kernels/gradient/compress.ts';
import type { Entry } from './catalogue.ts';
import { WeightAtBoundError } from './outer-step.ts';
import { appendResult, type RunRecord, runKey } from './results.ts';
import type { StudyText } from './text.ts';
import { type RunOutcome, type StudySettings, trainOnce } from './train.ts';

/** How much of the catalogue. */
export type Extent = 'none' | 'key' | 'all';

/** One run. */
export interface PlannedRun {
  readonly entry: Entry;
  readonly seed: number;
  readonly key: string;
}

/** Runs of an extent, finished or not, in the order of the catalogue, first seeds first. */
export function planRuns(
  catalogue: readonly Entry[],
  text: Pick<StudyText, 'digest'>,
  settings: StudySettings,
  { extent, only }: { extent: Extent; only?: readonly string[] },
): PlannedRun[] {
  const planned = catalogue
    .filter(({ name, question }) => only === undefined || only.some((words) => `${question}: ${name}`.includes(words)))
    .flatMap((entry) => {
      const seeds = extent === 'none' ? 0 : extent === 'key' ? entry.keySeeds : Math.max(entry.seeds, entry.keySeeds);
      return Array.from({ length: seeds }, (_, i) => {
        const seed = i + 1;
        return { entry, seed, key: runKey(text, settings, entry.method, seed) };
      });
    });
  // Two entries may be the same method, as the default is the first of several rows.
  const unique = [...new Map(planned.map((run) => [run.key, run])).values()];
  return unique.sort((a, b) => a.seed - b.seed);
}

/** True when training broke down, which is a finding; other errors are faults. */
function isDivergence(error: unknown): error is Error {
  return [NonFiniteError, NonFiniteGradientError, WeightAtBoundError].some((kind) => error instanceof kind);
}

/**
 * Carries out runs one after the other; each is in the results file before the next begins. Returns the new records.
 * When the signal fires, the run under way is given up and the records so far are returned.
 */
export async function carryOut(
  runs: readonly PlannedRun[],
  options: {
    readonly text: StudyText;
    readonly settings: StudySettings;
    readonly resultsPath: string;
    readonly progress: (message: string) => void;
    readonly signal?: AbortSignal;
  },
): Promise<RunRecord[]> {
  const { text, settings, resultsPath, progress, signal } = options;
  const records: RunRecord[] = [];
  for (const [i, { entry, seed, key }] of runs.entries()) {
    const name = `${i + 1}/${runs.length} ${entry.question}: ${entry.name}, seed ${seed}`;
    progress(name);
    const began = performance.now();
    let outcome: RunOutcome | null = null;
    let reason: string | undefined;
    try {
      const onPoint = ({ tokens, loss }: { tokens: number; loss: number }) =>
        progress(`  ${Math.round((100 * tokens) / (settings.tokens * entry.method.tokenShare))} %: ${loss.toFixed(4)}`);
      outcome = await trainOnce(text, settings, entry.method, seed, { ...(signal && { signal }), onPoint });
    } catch (error) {
      if (signal?.aborted === true) return records;
      if (!isDivergence(error)) throw error;
      reason = error.message;
      progress(`  diverged: ${reason}`);
    }
    const record: RunRecord = {
      key,
      corpus: text.name,
      digest: text.digest,
      method: entry.method,
      seed,
      outcome,
      ...(reason !== undefined && { reason }),
      seconds: Math.round((performance.now() - began) / 1000),
    };
    await appendResult(resultsPath, record);
    records.push(record);
  }
  return records;
}
