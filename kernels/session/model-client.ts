/**
 * A {@link ModelSession} in a worker thread, as a role uses it: the same calls, as promises, with the event loop free.
 */
import { Worker } from 'node:worker_threads';
import type { InnerStepProgress } from '../train/inner-steps.ts';
import type { ModelSession, ModelSessionInit } from './model-session.ts';
import type { FromWorker, SentError, SessionCall, SessionCalls } from './protocol.ts';

/** An error of the worker: message, code and stack are those of the original. */
export class ModelWorkerError extends Error {
  static readonly code = 'ERR_MODEL_WORKER';
  readonly code: string;
  override readonly name: string;
  constructor(sent: SentError) {
    super(sent.message);
    this.name = sent.name;
    this.code = sent.code ?? ModelWorkerError.code;
    if (sent.stack !== undefined) this.stack = sent.stack;
  }
}

/** Result of a call of the session, whether it returns a promise or not. */
type Result<Call extends SessionCall> = Awaited<ReturnType<ModelSession[Call]>>;

interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onStep?: (progress: InnerStepProgress) => void;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
  readonly onStep: ((progress: InnerStepProgress) => void) | undefined;
}

/** See the file comment. Calls are worked off in order; each rejects with {@link ModelWorkerError} or the signal's reason. */
export class ModelClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly #exited: Promise<void>;
  #nextId = 1;
  #failure: Error | undefined;

  constructor(init: ModelSessionInit) {
    this.#worker = new Worker(new URL('./model-worker.ts', import.meta.url), { workerData: init });
    this.#worker.on('message', (message: FromWorker) => this.#receive(message));
    this.#worker.on('error', (error: Error) => this.#fail(error));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (exitCode) => {
        this.#fail(
          new ModelWorkerError({
            name: 'ModelWorkerError',
            message: `the model worker ended with code ${exitCode}`,
            code: undefined,
            stack: undefined,
          }),
        );
        resolve();
      });
    });
  }

  initialize(seed: Uint8Array): Promise<string> {
    return this.#call('initialize', [seed]);
  }

  load(bytes: Uint8Array): Promise<string> {
    return this.#call('load', [bytes]);
  }

  weights(): Promise<Uint8Array> {
    return this.#call('weights', []);
  }

  open(path: string): Promise<{ round: number; modelRoot: string } | undefined> {
    return this.#call('open', [path]);
  }

  save(path: string, round: number): Promise<void> {
    return this.#call('save', [path, round]);
  }

  aggregate(...args: SessionCalls['aggregate']): Promise<string> {
    return this.#call('aggregate', args);
  }

  train(work: SessionCalls['train'][0], options: CallOptions): Promise<Result<'train'>> {
    return this.#call('train', [work], options);
  }

  /** Takes noise from a seed for a pseudo-gradient; see {@link ModelSession.pretend}. */
  pretend(seed: number): Promise<void> {
    return this.#call('pretend', [seed]);
  }

  compress(...args: SessionCalls['compress']): Promise<Uint8Array> {
    return this.#call('compress', args);
  }

  openErrorFeedback(path: string): Promise<void> {
    return this.#call('openErrorFeedback', [path]);
  }

  score(
    round: SessionCalls['score'][0],
    work: SessionCalls['score'][1],
    options: CallOptions,
  ): Promise<Result<'score'>> {
    return this.#call('score', [round, work], options);
  }

  /** Aborts what runs and ends the thread. */
  async close(): Promise<void> {
    this.#worker.postMessage({ type: 'close' });
    await this.#exited;
  }

  #call<Call extends SessionCall>(
    call: Call,
    args: SessionCalls[Call],
    { signal, onStep }: CallOptions = {},
  ): Promise<Result<Call>> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.#nextId++;
    return new Promise<Result<Call>>((resolve, reject) => {
      const onAbort = () => this.#worker.postMessage({ type: 'abort', id });
      const done = () => signal?.removeEventListener('abort', onAbort);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.set(id, {
        onStep,
        resolve: (value) => {
          done();
          resolve(value as Result<Call>);
        },
        reject: (error) => {
          done();
          reject(signal?.aborted ? signal.reason : error);
        },
      });
      this.#worker.postMessage({ type: 'call', id, call, args });
    });
  }

  #receive(message: FromWorker): void {
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) return;
    if (message.type === 'step') {
      waiting.onStep?.(message.progress);
      return;
    }
    this.#waiting.delete(message.id);
    if (message.type === 'result') waiting.resolve(message.value);
    else waiting.reject(new ModelWorkerError(message.error));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}
