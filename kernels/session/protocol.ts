/**
 * What passes between a role's thread and the thread that hosts a model: typed jobs, one at a time, in order.
 *
 * To add a job: add its entry to {@link ModelJobs}, its handler to `jobHandlers` in `job-handlers.ts` (the compiler asks
 * for it), and a method to the client. Requests, results and progress must be structured-cloneable.
 */
import type { MemoryPlan } from '../engine/memory-plan.ts';
import type { InnerStepProgress } from '../train/inner-steps.ts';
import type { ErrorMessage } from './errors.ts';
import type {
  AcceptedSubmission,
  ModelSessionInit,
  OpenedWeights,
  RoundIdentity,
  ScoringProgress,
  ScoringWork,
  TrainingOutcome,
  TrainingWork,
} from './model-session.ts';
import type { ScoringOutcome } from './scoring.ts';

/** Types of one kind of job. `progress` is `never` where none is reported. */
export interface JobTypes<Request, Result, Progress = never> {
  readonly request: Request;
  readonly result: Result;
  readonly progress: Progress;
}

/** Every job, by name: the calls of `ModelSession`, which describes them. */
export interface ModelJobs {
  readonly initialize: JobTypes<{ readonly seed: Uint8Array }, string>;
  readonly load: JobTypes<{ readonly bytes: Uint8Array }, string>;
  readonly weights: JobTypes<undefined, Uint8Array<ArrayBuffer>>;
  readonly open: JobTypes<{ readonly path: string }, OpenedWeights | undefined>;
  readonly save: JobTypes<{ readonly path: string; readonly round: number }, undefined>;
  readonly aggregate: JobTypes<
    { readonly round: RoundIdentity; readonly submissions: readonly AcceptedSubmission[] },
    string
  >;
  readonly train: JobTypes<TrainingWork, TrainingOutcome, InnerStepProgress>;
  readonly pretend: JobTypes<{ readonly seed: number }, undefined>;
  readonly compress: JobTypes<
    { readonly round: RoundIdentity & { readonly author: string }; readonly feedbackPath: string },
    Uint8Array
  >;
  readonly openErrorFeedback: JobTypes<{ readonly path: string }, undefined>;
  readonly score: JobTypes<
    { readonly round: RoundIdentity; readonly work: ScoringWork },
    ScoringOutcome,
    ScoringProgress
  >;
}

export type JobName = keyof ModelJobs;

/** What the thread is started with. Structured-cloneable. */
export interface ModelWorkerData {
  readonly session: ModelSessionInit;
  /** Niceness of the thread and its helpers, 0 to 19 (Linux only). */
  readonly niceness: number;
}

/** From the role's thread. */
export type WorkerInput =
  | {
      readonly [Name in JobName]: {
        readonly kind: 'run';
        readonly id: number;
        readonly job: Name;
        readonly request: ModelJobs[Name]['request'];
      };
    }[JobName]
  | { readonly kind: 'cancel'; readonly id: number }
  /** Cancels everything, frees the model, ends the thread. */
  | { readonly kind: 'close' };

/** From the model's thread. */
export type WorkerOutput =
  | { readonly kind: 'ready'; readonly memory: MemoryPlan }
  /** The model could not be set up; the thread ends. */
  | { readonly kind: 'unusable'; readonly error: ErrorMessage }
  | { readonly kind: 'progress'; readonly id: number; readonly progress: ModelJobs[JobName]['progress'] }
  | { readonly kind: 'done'; readonly id: number; readonly result: ModelJobs[JobName]['result'] }
  | { readonly kind: 'cancelled'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly error: ErrorMessage };

/** The buffer of bytes that are all there is in it, to be moved between threads; none for a view of a part. */
export function ownBuffer({ buffer, byteLength }: Uint8Array): ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
}
