/** What the model's thread does for each job. */
import { AdamW } from '../../train/adamw.ts';
import { evaluateVariants } from '../../train/evaluate.ts';
import { innerSteps } from '../../train/inner-steps.ts';
import type { Engine } from '../engine.ts';
import type { JobName, ModelJobs } from './protocol.ts';

/** What lives in the thread from job to job. */
export interface JobContext {
  readonly engine: Engine;
}

/** How a running job is cancelled and reports. */
export interface JobCall<Progress> {
  readonly signal: AbortSignal;
  readonly progress: (progress: Progress) => void;
}

/** What a job hands back. `transfer` lists buffers in the result that move instead of being copied. */
export interface JobOutcome<Result> {
  readonly result: Result;
  readonly transfer?: readonly ArrayBuffer[];
}

/** Does one kind of job. A job that changes the weights for a while puts them back however it ends. */
export type JobHandler<Name extends JobName> = (
  context: JobContext,
  request: ModelJobs[Name]['request'],
  call: JobCall<ModelJobs[Name]['progress']>,
) => Promise<JobOutcome<ModelJobs[Name]['result']>>;

/**
 * State of jobs that lasts as long as the thread's model: made on first use. For optimizer moments, error feedback and
 * the like.
 */
export function lasting<State>(make: (engine: Engine) => State): (context: JobContext) => State {
  const states = new WeakMap<JobContext, { readonly state: State }>();
  return (context) => {
    const known = states.get(context) ?? { state: make(context.engine) };
    states.set(context, known);
    return known.state;
  };
}

const optimizerOf = lasting((engine) => new AdamW(engine.layout));

/** Handlers of all jobs. */
export const jobHandlers: { readonly [Name in JobName]: JobHandler<Name> } = {
  'load-weights': async ({ engine }, { weights }) => {
    engine.loadWeights(weights);
    return { result: undefined };
  },

  'read-weights': async ({ engine }) => {
    const weights = engine.weights.slice();
    return { result: { weights }, transfer: [weights.buffer] };
  },

  train: async (context, request, { signal, progress }) => {
    const optimizer = optimizerOf(context);
    if (!request.keepMoments) optimizer.reset();
    const result = await innerSteps(context.engine, optimizer, request, { signal, onStep: progress });
    return { result, transfer: [result.pseudoGradient.buffer, result.losses.buffer] };
  },

  evaluate: async ({ engine }, { tokens, variants }, { signal, progress }) => {
    const of = variants.length + 1;
    const result = await evaluateVariants(engine, tokens, variants, {
      signal,
      onVariant: (index) => progress({ done: index + 1, of }),
    });
    return { result };
  },

  gradient: async ({ engine }, { tokens }, { signal }) => {
    const { loss, gradient, gradientNorm } = await engine.lossAndGradient(tokens, { signal });
    const copy = gradient.slice();
    return { result: { loss, gradient: copy, gradientNorm }, transfer: [copy.buffer] };
  },
};
