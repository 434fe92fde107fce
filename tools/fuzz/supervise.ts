/**
 * Feeds a target on several threads and survives whatever it does: a thread that hangs or dies is replaced by one that
 * goes on after the input that did it.
 */
import { Worker } from 'node:worker_threads';
import type { FuzzReport, FuzzShare } from './worker.ts';

/** How often the threads are looked at. */
const LOOK_MS = 250;

/** Heap of a thread: far above what any cap allows, far below what would hurt the machine. */
const HEAP_MB = 1024;

/** An input that did what it must not. */
export interface Failure {
  readonly kind: 'crash' | 'hang' | 'over-cap';
  readonly index: number;
  readonly message: string;
}

/** What to feed. */
export interface FuzzRun {
  readonly targetFile: string;
  readonly seed: number;
  /** Inputs `first` up to `first + inputs`. */
  readonly first: number;
  readonly inputs: number;
  readonly threads: number;
  /** An input that takes longer hangs. */
  readonly hangMs: number;
  readonly onFailure: (failure: Failure) => void;
  readonly onOutcomes: (outcomes: Readonly<Record<string, number>>) => void;
  readonly signal?: AbortSignal;
}

/** Runs one thread to its end. Returns the failure that ended it early, if one did. */
async function runThread(run: FuzzRun, share: FuzzShare): Promise<Failure | undefined> {
  const standing = new Int32Array(share.position);
  Atomics.store(standing, 0, 0);
  return await new Promise((resolve) => {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: share,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    });
    let early: Failure | undefined;
    let seenAt = performance.now();
    let seen = 0;
    const current = () => Atomics.load(standing, 0) - 1;
    const watchdog = setInterval(() => {
      const index = current();
      if (index !== seen || index < 0) {
        seen = index;
        seenAt = performance.now();
      } else if (performance.now() - seenAt > run.hangMs) {
        early = { kind: 'hang', index, message: `takes longer than ${run.hangMs} ms` };
        void worker.terminate();
      }
    }, LOOK_MS);
    const stop = () => void worker.terminate();
    run.signal?.addEventListener('abort', stop, { once: true });
    worker.on('message', (report: FuzzReport) => {
      if (report.kind === 'outcomes') run.onOutcomes(report.outcomes);
      else run.onFailure(report);
    });
    worker.on('error', (error: NodeJS.ErrnoException) => {
      const kind = error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'over-cap' : 'crash';
      early ??= { kind, index: current(), message: `ends its thread: ${error.message}` };
    });
    worker.on('exit', () => {
      clearInterval(watchdog);
      run.signal?.removeEventListener('abort', stop);
      resolve(early);
    });
  });
}

/** Thrown when a target fails before its first input. */
export class BrokenTargetError extends Error {
  static readonly code = 'ERR_BROKEN_TARGET';
  readonly code = BrokenTargetError.code;
  override readonly name = 'BrokenTargetError';
}

/** Feeds all inputs. Failures and outcomes are told as they come. Throws {@link BrokenTargetError}, the signal's reason. */
export async function supervise(run: FuzzRun): Promise<void> {
  const end = run.first + run.inputs;
  const threads = Math.min(run.threads, run.inputs);
  await Promise.all(
    Array.from({ length: threads }, async (_, thread) => {
      for (let first = run.first + thread; first < end; ) {
        const position = new SharedArrayBuffer(4);
        const share = { targetFile: run.targetFile, seed: run.seed, first, step: threads, end, position };
        const failure = await runThread(run, share);
        run.signal?.throwIfAborted();
        if (failure === undefined) return;
        if (failure.index < 0) throw new BrokenTargetError(failure.message);
        run.onFailure(failure);
        first = failure.index + threads;
      }
    }),
  );
}
