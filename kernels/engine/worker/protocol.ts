/**
 * What passes between the main thread and the thread that runs a model: typed jobs, one at a time, in order.
 *
 * To add a job: add its entry to {@link ModelJobs} and its handler to `jobHandlers` in `job-handlers.ts` (the compiler
 * asks for it). Requests, results and progress must be structured-cloneable.
 */
import type { SparseDelta, VariantLosses } from '../../train/evaluate.ts';
import type { InnerStepProgress, InnerStepsInit, InnerStepsResult } from '../../train/inner-steps.ts';
import type { EngineOptions } from '../onnx-engine.ts';

/** Types of one kind of job. `progress` is `never` where none is reported. */
export interface JobTypes<Request, Result, Progress = never> {
  readonly request: Request;
  readonly result: Result;
  readonly progress: Progress;
}

/** Asks for inner steps; the model's weights are the same afterwards. */
export interface TrainRequest extends InnerStepsInit {
  /** Whether the optimizer's moments go on from the last training job instead of from zero. */
  readonly keepMoments: boolean;
}

/** Asks for losses of the weights and of sparse variations of them. */
export interface EvaluateRequest {
  /** `sequences x (context + 1)` token ids. */
  readonly tokens: Int32Array;
  readonly variants: readonly SparseDelta[];
}

/** Result of the `gradient` job. */
export interface GradientResult {
  readonly loss: number;
  /** In canonical order. */
  readonly gradient: Float32Array<ArrayBuffer>;
  readonly gradientNorm: number;
}

/** Every job, by name. */
export interface ModelJobs {
  /** Replaces the weights (canonical order). */
  readonly 'load-weights': JobTypes<{ readonly weights: Float32Array }, undefined>;
  /** A copy of the weights. */
  readonly 'read-weights': JobTypes<undefined, { readonly weights: Float32Array<ArrayBuffer> }>;
  /** Inner steps of a round; weights restored. */
  readonly train: JobTypes<TrainRequest, InnerStepsResult, InnerStepProgress>;
  /** Per-sequence losses; weights restored bit for bit. Progress counts evaluated models, base first. */
  readonly evaluate: JobTypes<EvaluateRequest, VariantLosses, { readonly done: number; readonly of: number }>;
  /** Mean loss of sequences and its gradient. */
  readonly gradient: JobTypes<{ readonly tokens: Int32Array }, GradientResult>;
}

export type JobName = keyof ModelJobs;

/** What the thread is started with. Structured-cloneable. */
export interface ModelWorkerData {
  readonly engine: EngineOptions;
  /** Niceness of the thread and its helpers, 0 to 19 (Linux only). */
  readonly niceness: number;
}

/** From the main thread. */
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

/** An error as it crosses threads. */
export interface ErrorMessage {
  readonly name: string;
  readonly message: string;
  /** The `code` of the error's class, or 'ERR_UNKNOWN'. */
  readonly code: string;
  readonly stack: string;
}

/** From the worker. */
export type WorkerOutput =
  | { readonly kind: 'ready' }
  /** The model could not be set up; the thread ends. */
  | { readonly kind: 'unusable'; readonly error: ErrorMessage }
  | { readonly kind: 'progress'; readonly id: number; readonly progress: ModelJobs[JobName]['progress'] }
  | { readonly kind: 'done'; readonly id: number; readonly result: ModelJobs[JobName]['result'] }
  | { readonly kind: 'cancelled'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly error: ErrorMessage };

/** An error in its crossing form. */
export function errorMessage(error: unknown): ErrorMessage {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), code: 'ERR_UNKNOWN', stack: '' };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : 'ERR_UNKNOWN';
  return { name: error.name, message: error.message, code, stack: error.stack ?? '' };
}
