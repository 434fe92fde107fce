/** A `ModelSession` in a thread of its own, as a role uses it: the same calls, as promises, with the event loop free. */
import type { EngineCallOptions } from '../engine/engine.ts';
import type { MemoryPlan } from '../engine/memory-plan.ts';
import type { InnerStepProgress } from '../train/inner-steps.ts';
import type {
  AcceptedSubmission,
  ModelSessionInit,
  OpenedWeights,
  RoundIdentity,
  ScoringOptions,
  ScoringWork,
  TrainingOutcome,
  TrainingWork,
} from './model-session.ts';
import { ownBuffer } from './protocol.ts';
import type { ScoringOutcome } from './scoring.ts';
import { WorkerThread } from './worker-thread.ts';

/** Niceness of the model's thread where none is given: far enough from 0 that other threads are scheduled first. */
const DEFAULT_NICENESS = 10;

/** How a model's thread is started. */
export interface ModelClientInit extends ModelSessionInit {
  /** 0 to 19; Linux only. Default {@link DEFAULT_NICENESS}. */
  readonly niceness?: number;
}

/**
 * See the file comment; `ModelSession` describes the calls. They are worked off in order. Each rejects with the signal's
 * reason, `ModelJobError` (which carries the `code` of what went wrong), `ModelWorkerBusyError` when 64 wait already, or
 * `ModelWorkerExitedError`.
 */
export class ModelClient {
  readonly #thread: WorkerThread;

  private constructor(thread: WorkerThread) {
    this.#thread = thread;
  }

  /** Starts a thread with a session without weights. Throws `ModelJobError` for a bad init, or the signal's reason. */
  static async start(init: ModelClientInit, options: EngineCallOptions = {}): Promise<ModelClient> {
    const { niceness = DEFAULT_NICENESS, ...session } = init;
    return new ModelClient(await WorkerThread.start({ session, niceness }, options));
  }

  /** How the model is run, and what that takes. */
  get memory(): MemoryPlan {
    return this.#thread.memory;
  }

  /** Resolves when the thread ends without having been closed: no call succeeds after that. Never rejects. */
  get failed(): Promise<Error> {
    return this.#thread.failed;
  }

  initialize(seed: Uint8Array, options: EngineCallOptions = {}): Promise<string> {
    return this.#thread.run('initialize', { seed }, options);
  }

  /** `handOver`: an array that fills its buffer moves to the thread instead of being copied, and is empty afterwards. */
  load(bytes: Uint8Array, options: EngineCallOptions & { readonly handOver?: boolean } = {}): Promise<string> {
    const { handOver = false, ...callOptions } = options;
    const transfer = handOver ? ownBuffer(bytes) : [];
    return this.#thread.run('load', { bytes }, { ...callOptions, transfer });
  }

  weights(options: EngineCallOptions = {}): Promise<Uint8Array> {
    return this.#thread.run('weights', undefined, options);
  }

  open(path: string, options: EngineCallOptions = {}): Promise<OpenedWeights | undefined> {
    return this.#thread.run('open', { path }, options);
  }

  save(path: string, round: number, options: EngineCallOptions = {}): Promise<void> {
    return this.#thread.run('save', { path, round }, options);
  }

  aggregate(
    round: RoundIdentity,
    submissions: readonly AcceptedSubmission[],
    options: EngineCallOptions = {},
  ): Promise<string> {
    return this.#thread.run('aggregate', { round, submissions }, options);
  }

  train(
    work: TrainingWork,
    options: EngineCallOptions & { readonly onStep?: (progress: InnerStepProgress) => void } = {},
  ): Promise<TrainingOutcome> {
    const { onStep, ...callOptions } = options;
    return this.#thread.run('train', work, { ...callOptions, ...(onStep && { onProgress: onStep }) });
  }

  /** Tests only: see `ModelSession.pretend`. */
  pretend(seed: number, options: EngineCallOptions = {}): Promise<void> {
    return this.#thread.run('pretend', { seed }, options);
  }

  compress(
    round: RoundIdentity & { readonly author: string },
    feedbackPath: string,
    options: EngineCallOptions = {},
  ): Promise<Uint8Array> {
    return this.#thread.run('compress', { round, feedbackPath }, options);
  }

  openErrorFeedback(path: string, options: EngineCallOptions = {}): Promise<void> {
    return this.#thread.run('openErrorFeedback', { path }, options);
  }

  score(round: RoundIdentity, work: ScoringWork, options: ScoringOptions = {}): Promise<ScoringOutcome> {
    const { onPart, ...callOptions } = options;
    return this.#thread.run('score', { round, work }, { ...callOptions, ...(onPart && { onProgress: onPart }) });
  }

  /** Cancels what is pending, frees the model and waits until the thread has ended. Later calls are refused. */
  close(): Promise<void> {
    return this.#thread.close();
  }
}
