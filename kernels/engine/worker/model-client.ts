/** The main thread's end of a model in a worker thread: the event loop stays free while the model works. */
import { Worker } from 'node:worker_threads';
import type { SparseDelta, VariantLosses } from '../../train/evaluate.ts';
import type { InnerStepProgress, InnerStepsResult } from '../../train/inner-steps.ts';
import type { EngineCallOptions } from '../engine.ts';
import type { EngineOptions } from '../onnx-engine.ts';
import type {
  ErrorMessage,
  GradientResult,
  JobName,
  ModelJobs,
  ModelWorkerData,
  TrainRequest,
  WorkerInput,
  WorkerOutput,
} from './protocol.ts';

/** Niceness of the model's thread where none is given: far enough from 0 that other threads are scheduled first. */
const DEFAULT_NICENESS = 10;

/** Jobs that may wait at once; more are refused, since each holds its request's memory. */
const MAX_PENDING_JOBS = 64;

/** How long `close()` waits for the thread to end by itself: longer than one pass over a model that suits a thread. */
const CLOSE_LIMIT_MS = 10_000;

/** How a model's thread is started. */
export interface ModelWorkerOptions extends EngineOptions {
  /** 0 to 19; Linux only. Default {@link DEFAULT_NICENESS}. */
  readonly niceness?: number;
}

/** Options of a job. */
export interface JobOptions<Progress> extends EngineCallOptions {
  /** Buffers of the request that move to the thread instead of being copied; unusable here afterwards. */
  readonly transfer?: readonly ArrayBuffer[];
  readonly onProgress?: (progress: Progress) => void;
}

/** Thrown when a job fails in the thread. Carries the name, code and message of the error there. */
export class ModelJobError extends Error {
  /** The `code` of the original error's class. */
  readonly code: string;
  /** Name of the original error's class. */
  readonly originalName: string;
  override readonly name = 'ModelJobError';

  constructor({ name, message, code, stack }: ErrorMessage) {
    super(message);
    this.originalName = name;
    this.code = code;
    this.stack = `${this.name}: ${message}\n  in the model's thread: ${stack}`;
  }
}

/** Thrown by jobs that were pending when the thread ended, and by jobs after that. */
export class ModelWorkerExitedError extends Error {
  static readonly code = 'ERR_MODEL_WORKER_EXITED';
  readonly code = ModelWorkerExitedError.code;
  override readonly name = 'ModelWorkerExitedError';
}

/** Thrown when too many jobs wait. */
export class ModelWorkerBusyError extends Error {
  static readonly code = 'ERR_MODEL_WORKER_BUSY';
  readonly code = ModelWorkerBusyError.code;
  override readonly name = 'ModelWorkerBusyError';
}

interface Pending {
  readonly resolve: (result: ModelJobs[JobName]['result']) => void;
  readonly reject: (reason: unknown) => void;
  readonly onProgress: ((progress: ModelJobs[JobName]['progress']) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

/**
 * A model in a thread of its own. Jobs run one at a time in the order of their calls. An aborted job ends at its next
 * pass over the model, with the weights as they were before it, and then rejects with the signal's reason.
 */
export class ModelWorker {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #exited: Promise<void>;
  #ended: ModelWorkerExitedError | undefined;
  #nextId = 1;

  private constructor(worker: Worker) {
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

  /** Starts a thread with all weights zero. Throws {@link ModelJobError} when the options are no model's. */
  static async start(options: ModelWorkerOptions, { signal }: EngineCallOptions = {}): Promise<ModelWorker> {
    signal?.throwIfAborted();
    // Before the native library loads, and here, because a worker cannot change what native code sees.
    process.env.ORT_DISABLE_TELEMETRY = '1';
    const { niceness = DEFAULT_NICENESS, ...engine } = options;
    const workerData: ModelWorkerData = { engine, niceness };
    const worker = new Worker(new URL('./model-worker.ts', import.meta.url), { workerData });
    try {
      await firstMessage(worker, signal);
    } catch (error) {
      await worker.terminate();
      throw error;
    }
    return new ModelWorker(worker);
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

  /** Replaces the weights (canonical order, copied). */
  async loadWeights(weights: Float32Array, options: EngineCallOptions = {}): Promise<void> {
    await this.run('load-weights', { weights }, options);
  }

  /** A copy of the weights. */
  async readWeights(options: EngineCallOptions = {}): Promise<Float32Array<ArrayBuffer>> {
    return (await this.run('read-weights', undefined, options)).weights;
  }

  /** Inner steps from the current weights, which stay as they are: see `innerSteps`. */
  async train(request: TrainRequest, options: JobOptions<InnerStepProgress> = {}): Promise<InnerStepsResult> {
    return await this.run('train', request, options);
  }

  /** Per-sequence losses of the weights and of variations of them: see `evaluateVariants`. */
  async evaluate(
    tokens: Int32Array,
    variants: readonly SparseDelta[] = [],
    options: JobOptions<ModelJobs['evaluate']['progress']> = {},
  ): Promise<VariantLosses> {
    return await this.run('evaluate', { tokens, variants }, options);
  }

  /** Mean loss of sequences and its gradient. */
  async gradient(tokens: Int32Array, options: EngineCallOptions = {}): Promise<GradientResult> {
    return await this.run('gradient', { tokens }, options);
  }

  /** Cancels what is pending, frees the model and waits until the thread has ended. */
  async close(): Promise<void> {
    if (this.#ended === undefined) this.#send({ kind: 'close' });
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
    else pending.reject(pending.signal?.reason ?? new ModelWorkerExitedError("the model's thread was closed"));
  }

  #end(error: ModelWorkerExitedError): void {
    this.#ended ??= error;
    for (const pending of this.#pending.values()) {
      pending.signal?.removeEventListener('abort', pending.onAbort);
      pending.reject(this.#ended);
    }
    this.#pending.clear();
  }
}

/** Waits until the thread is ready. */
async function firstMessage(worker: Worker, signal: AbortSignal | undefined): Promise<void> {
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
  } finally {
    worker.off('message', resolve);
    worker.off('error', reject);
    worker.off('exit', onExit);
    signal?.removeEventListener('abort', onAbort);
  }
}
