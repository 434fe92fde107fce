/**
 * A thread that feeds a target. It says where it stands through shared memory, so that the main thread notices when it
 * hangs, and measures what every input makes it allocate.
 */
import { pathToFileURL } from 'node:url';
import { getHeapStatistics } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import { InputSource } from './inputs.ts';
import type { FuzzTarget } from './target.ts';

/** What the main thread asks for: inputs `first`, `first + step`, ... below `end`. */
export interface FuzzShare {
  readonly targetFile: string;
  readonly seed: number;
  readonly first: number;
  readonly step: number;
  readonly end: number;
  /** One number: the input being decoded, plus one; 0 before the first. */
  readonly position: SharedArrayBuffer;
}

/** What the thread reports: every failure at once, outcomes as they add up. */
export type FuzzReport =
  | { readonly kind: 'crash' | 'over-cap'; readonly index: number; readonly message: string }
  | { readonly kind: 'outcomes'; readonly outcomes: Readonly<Record<string, number>> };

/** Inputs between two reports of outcomes. */
const REPORT_EVERY = 20_000;

/** Times that an input over its cap is measured again: what the engine allocates for itself does not come twice. */
const REPEATS = 3;

/** Bytes on the heap and beside it. */
function allocated(): number {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
}

/** Runs an input and measures. Negative when a collection came in between. */
function measure(target: FuzzTarget, input: Uint8Array): { outcome: string; bytes: number } {
  const before = allocated();
  const outcome = target.run(input);
  return { outcome, bytes: allocated() - before };
}

/** Feeds one input. Reports what must not be. */
function feed(
  target: FuzzTarget,
  input: Uint8Array,
  report: (kind: 'crash' | 'over-cap', message: string) => void,
): string {
  try {
    const cap = target.allocationCap(input.length);
    let { outcome, bytes } = measure(target, input);
    for (let repeat = 0; repeat < REPEATS && (bytes > cap || bytes < 0); repeat++)
      ({ outcome, bytes } = measure(target, input));
    if (bytes > cap) report('over-cap', `${input.length} bytes of input allocate ${bytes}, at most ${cap} allowed`);
    return outcome;
  } catch (error) {
    report('crash', error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    return 'crash';
  }
}

async function work({ targetFile, seed, first, step, end, position }: FuzzShare): Promise<void> {
  // Traces of the many expected errors would take most of the time.
  Error.stackTraceLimit = 0;
  const post = (report: FuzzReport) => parentPort?.postMessage(report);
  const target = (await import(pathToFileURL(targetFile).href)) as FuzzTarget;
  const source = new InputSource(target, seed);
  const standing = new Int32Array(position);
  let outcomes: Record<string, number> = {};
  let sinceReport = 0;
  for (let index = first; index < end; index += step) {
    Atomics.store(standing, 0, index + 1);
    const outcome = feed(target, source.input(index), (kind, message) => post({ kind, index, message }));
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    if (++sinceReport === REPORT_EVERY) {
      post({ kind: 'outcomes', outcomes });
      outcomes = {};
      sinceReport = 0;
    }
  }
  post({ kind: 'outcomes', outcomes });
}

await work(workerData as FuzzShare);
