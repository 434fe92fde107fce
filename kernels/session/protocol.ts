/**
 * What travels between a role and its model worker: calls of a {@link ModelSession} by name, their results, progress.
 */
import type { InnerStepProgress } from '../train/inner-steps.ts';
import type { ModelSession } from './model-session.ts';

/** Calls that a worker takes, with the arguments that can be sent (no callbacks, no signals). */
export interface SessionCalls {
  initialize: [seed: Uint8Array];
  load: [bytes: Uint8Array];
  weights: [];
  open: [path: string];
  save: [path: string, round: number];
  aggregate: Parameters<ModelSession['aggregate']>;
  train: [work: Parameters<ModelSession['train']>[0]];
  pretend: [seed: number];
  compress: Parameters<ModelSession['compress']>;
  openErrorFeedback: [path: string];
  score: [round: Parameters<ModelSession['score']>[0], work: Parameters<ModelSession['score']>[1]];
}
export type SessionCall = keyof SessionCalls;

/** From the role to the worker. `abort` ends the call with that id at its next chance. */
export type ToWorker =
  | {
      readonly [Call in SessionCall]: {
        readonly type: 'call';
        readonly id: number;
        readonly call: Call;
        readonly args: SessionCalls[Call];
      };
    }[SessionCall]
  | { readonly type: 'abort'; readonly id: number }
  | { readonly type: 'close' };

/** An error as it crosses threads: class and code survive, the class itself does not. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code: string | undefined;
  readonly stack: string | undefined;
}

/** From the worker to the role. */
export type FromWorker =
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: SentError }
  | { readonly type: 'step'; readonly id: number; readonly progress: InnerStepProgress };
