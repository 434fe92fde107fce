/** What the model's thread does for each job: the call of the session that has its name. */
import type { ModelSession } from './model-session.ts';
import { type JobName, type ModelJobs, ownBuffer } from './protocol.ts';

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

/** Does one kind of job. However it ends early, the session is as before it, as far as the session's call promises. */
export type JobHandler<Name extends JobName> = (
  session: ModelSession,
  request: ModelJobs[Name]['request'],
  call: JobCall<ModelJobs[Name]['progress']>,
) => Promise<JobOutcome<ModelJobs[Name]['result']>>;

/** A result of bytes, moved where it can be. */
function handedOver<Bytes extends Uint8Array>(result: Bytes): JobOutcome<Bytes> {
  return { result, transfer: ownBuffer(result) };
}

/** Handlers of all jobs. */
export const jobHandlers: { readonly [Name in JobName]: JobHandler<Name> } = {
  initialize: async (session, { seed }, { signal }) => ({ result: await session.initialize(seed, { signal }) }),
  load: async (session, { bytes }, { signal }) => ({ result: await session.load(bytes, { signal }) }),
  weights: async (session, _, { signal }) => handedOver(await session.weights({ signal })),
  open: async (session, { path }, { signal }) => ({ result: await session.open(path, { signal }) }),
  save: async (session, { path, round }, { signal }) => {
    await session.save(path, round, { signal });
    return { result: undefined };
  },
  aggregate: async (session, { round, submissions }, { signal }) => ({
    result: await session.aggregate(round, submissions, { signal }),
  }),
  train: async (session, work, { signal, progress }) => ({
    result: await session.train(work, { signal, onStep: progress }),
  }),
  pretend: async (session, { seed }) => {
    await session.pretend(seed);
    return { result: undefined };
  },
  compress: async (session, { round, feedbackPath }, { signal }) =>
    handedOver(await session.compress(round, feedbackPath, { signal })),
  openErrorFeedback: async (session, { path }, { signal }) => {
    await session.openErrorFeedback(path, { signal });
    return { result: undefined };
  },
  score: async (session, { round, work }, { signal, progress }) => ({
    result: await session.score(round, work, { signal, onPart: progress }),
  }),
};
