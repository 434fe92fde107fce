/** Model sessions small enough for tests, and submissions made with them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Preset } from '../../kernels/model/preset.ts';
import type {
  EncodedSubmission,
  ModelSession,
  ModelSessionInit,
  TrainingRecipe,
} from '../../kernels/session/model-session.ts';
import { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { StreamedModelSession } from '../../kernels/session/streamed-session.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';

/** No time limit, so that every run takes the steps its tokens allow. */
export const smallRecipe: TrainingRecipe = {
  batchSequences: 4,
  minInnerSteps: 1,
  maxInnerSteps: 64,
  innerLearningRate: 0.003,
  trainTargetMs: 1e9,
  weightDecay: 0.1,
  outerStep: 2,
  scoringStepShare: 0.2,
  errorFeedbackDecay: 0.95,
  topK: 64,
  valueBits: 8,
};

export interface SessionChange {
  readonly preset?: Preset;
  readonly recipe?: Partial<TrainingRecipe>;
}

export function sessionInit({ preset = smallPreset, recipe = {} }: SessionChange = {}): ModelSessionInit {
  return { preset, recipe: { ...smallRecipe, ...recipe }, threads: 1 };
}

export const seed = new Uint8Array(32).fill(5);

/** Runs `body` with new sessions, all with the weights of {@link seed}, and closes them. */
export async function withSessions(
  changes: readonly SessionChange[],
  body: (...sessions: ResidentModelSession[]) => Promise<void>,
): Promise<void> {
  const sessions = changes.map((change) => new ResidentModelSession(sessionInit(change)));
  try {
    for (const session of sessions) session.initialize(seed);
    await body(...sessions);
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
  }
}

export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'alice-session-'));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

export const tokensFor = (sequences: number, from = 1) =>
  seededTokens(from, sequences, smallPreset.context, smallPreset.vocabulary);

/** The account of a digit: 64 hex characters. */
export const accountOf = (digit: number) => String(digit).repeat(64);

/** A submission of `account` for the round, which the session makes from noise. */
export async function noiseSubmission(
  session: ModelSession,
  folder: string,
  round: { readonly round: number; readonly modelRoot: string },
  author: number,
): Promise<EncodedSubmission> {
  await session.pretend(author);
  const account = accountOf(author);
  return { account, bytes: await session.compress({ ...round, author: account }, join(folder, `feedback-${author}`)) };
}

export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error('it did not reject with an error');
  return error;
}

/** Reads tensors in parts of so many elements, so that even small ones have several. */
const PART_ELEMENTS = 64 * 32;

/** A session with its weights on disk. */
export function streamedSession(folder: string, change: SessionChange = {}): Promise<StreamedModelSession> {
  const init = { ...sessionInit(change), streamFolder: folder };
  return StreamedModelSession.create(init, { backend: 'onnx', mode: 'streamed', bytes: 0 }, PART_ELEMENTS);
}
