/** The role's end of a model's thread: sends jobs, keeps the promises of their results. */
import { Worker } from 'node:worker_threads';
import type { EngineCallOptions } from '../engine/engine.ts';
import type { MemoryPlan } from '../engine/memory-plan.ts';
import { ModelJobError, ModelWorkerBusyError, ModelWorkerExitedError } from './errors.ts';
import type { JobName, ModelJobs, ModelWorkerData, WorkerInput, WorkerOutput } from './protocol.ts';

/** Jobs that may wait at once; more are refused, since each holds its request's memory. */
const MAX_PENDING_JOBS = 64;

/** How long `close()` waits for the thread to end by itself: longer than one pass over a model that suits a thread. */
const CLOSE_LIMIT_MS = 10_000;

/** Options of a job. */
export interface JobOptions<Progress> extends EngineCallOptions {
  /** Buffers of the request that move to the thread instead of being copied; unusable here afterwards. */
  readonly transfer?: readonly ArrayBuffer[];
  readonly onProgress?: (progress: Progress) => void;
}

interface Pending {
  readonly resolve: (result: ModelJobs[JobName]['result']) => void;
  readonly reject: (reason: unknown) => void;
  readonly onProgress: ((progress: ModelJobs[JobName]['progress']) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

/**
 * A thread with a model session. Jobs run one at a time in the order of their calls. An aborted job ends at its next
 * chance and then rejects with the signal's reason.
 */
export class WorkerThread {
  /** How the thread's session runs its model. */
  readonly memory: MemoryPlan;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #exited: Promise<void>;
  readonly #failed = Promise.withResolvers<ModelWorkerExitedError>();
  #ended: ModelWorkerExitedError | undefined;
  #nextId = 1;

  private constructor(worker: Worker, memory: MemoryPlan) {
    this.memory = memory;
    this.#worker = worker;
    this.#exited = new Promise((resolve) => {
      worker.once('exit', (exitCode) => {
        this.#end(new ModelWorkerExitedError(`the model's thread ended with code ${exitCode}`));
        resolve();
      });
    });
    worker.on('error', (cause) =>
      this.#end(new ModelWorkerExitedError(`the model's thread failed: ${cause}`, { cause })),
    );
    worker.on('message', (message: WorkerOutput) => this.#receive(message));
  }

  /** Starts a thread. Throws {@link ModelJobError} when the session cannot be made, or the signal's reason. */
  static async start(data: ModelWorkerData, { signal }: EngineCallOptions = {}): Promise<WorkerThread> {
    signal?.throwIfAborted();
    // Before the native library loads, and here, because a worker cannot change what native code sees.
    process.env.ORT_DISABLE_TELEMETRY = '1';
    const worker = new Worker(new URL('./model-worker.ts', import.meta.url), { workerData: data });
    let memory: MemoryPlan;
    try {
      memory = await readiness(worker, signal);
    } catch (error) {
      // What the thread says while it ends changes nothing any more.
      worker.on('error', () => {});
      await worker.terminate();
      throw error;
    }
    return new WorkerThread(worker, memory);
  }

  /** Resolves when the thread ends by itself. */
  get failed(): Promise<ModelWorkerExitedError> {
    return this.#failed.promise;
  }

  /** Runs a job. Throws {@link ModelJobError}, {@link ModelWorkerExitedError}, {@link ModelWorkerBusyError}. */
  async run<Name extends JobName>(
    job: Name,
    request: ModelJobs[Name]['request'],
    options: JobOptions<ModelJobs[Name]['progress']> = {},
  ): Promise<ModelJobs[Name]['result']> {
    const { signal, transfer = [], onProgress } = options;
    signal?.throwIfAborted();
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#pending.size >= MAX_PENDING_JOBS)
      throw new ModelWorkerBusyError(`${this.#pending.size} jobs wait for the model already`);
    const id = this.#nextId++;
    const onAbort = () => this.#send({ kind: 'cancel', id });
    const { promise, resolve, reject } = Promise.withResolvers<ModelJobs[JobName]['result']>();
    // Name, request and result belong together; the compiler does not follow that through a union of messages.
    this.#send({ kind: 'run', id, job, request } as WorkerInput, transfer);
    this.#pending.set(id, {
      resolve,
      reject,
      onProgress: onProgress as Pending['onProgress'],
      signal,
      onAbort,
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    return (await promise) as ModelJobs[Name]['result'];
  }

  /** Cancels what is pending, refuses further jobs, frees the model and waits until the thread has ended. */
  async close(): Promise<void> {
    if (this.#ended === undefined) {
      this.#ended = new ModelWorkerExitedError("the model's thread was closed");
      this.#send({ kind: 'close' });
    }
    const timer = setTimeout(() => void this.#worker.terminate(), CLOSE_LIMIT_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  #send(message: WorkerInput, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, [...transfer]);
  }

  #receive(message: WorkerOutput): void {
    if (message.kind === 'ready' || message.kind === 'unusable') return;
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    if (message.kind === 'progress') {
      pending.onProgress?.(message.progress);
      return;
    }
    this.#pending.delete(message.id);
    pending.signal?.removeEventListener('abort', pending.onAbort);
    if (message.kind === 'done') pending.resolve(message.result);
    else if (message.kind === 'failed') pending.reject(new ModelJobError(message.error));
    else pending.reject(pending.signal?.reason ?? this.#ended);
  }

  #end(error: ModelWorkerExitedError): void {
    if (this.#ended === undefined) {
      this.#ended = error;
      this.#failed.resolve(error);
    }
    for (const pending of this.#pending.values()) {
      pending.signal?.removeEventListener('abort', pending.onAbort);
      pending.reject(this.#ended);
    }
    this.#pending.clear();
  }
}

/** Waits until the thread is ready; returns how it runs its model. */
async function readiness(worker: Worker, signal: AbortSignal | undefined): Promise<MemoryPlan> {
  const { promise, resolve, reject } = Promise.withResolvers<WorkerOutput>();
  const onAbort = () => reject(signal?.reason);
  const onExit = () => reject(new ModelWorkerExitedError("the model's thread ended before it was ready"));
  worker.once('message', resolve);
  worker.once('error', reject);
  worker.once('exit', onExit);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const message = await promise;
    if (message.kind === 'unusable') throw new ModelJobError(message.error);
    if (message.kind !== 'ready') throw new ModelWorkerExitedError(`the model's thread began with ${message.kind}`);
    return message.memory;
  } finally {
    worker.off('message', resolve);
    worker.off('error', reject);
    worker.off('exit', onExit);
    signal?.removeEventListener('abort', onAbort);
  }
}
