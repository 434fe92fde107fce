/**
 * What a miner must not forget between commit and reveal: kept on disk, so that a crash in between does not cost the
 * round.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { writeDurably } from '../../node/durable-file.ts';

const pendingSchema = v.strictObject({
  round: v.pipe(v.number(), v.integer()),
  /** Beacon of the round, which tells a repeated training phase from the first. */
  beacon: v.string(),
  cid: v.string(),
  sizeBytes: v.number(),
  salt: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
});

/** A submission that was committed, or is about to be. */
export type PendingSubmission = v.InferOutput<typeof pendingSchema>;

const FILE = 'pending-submission.json';

/** Keeps the submission; resolves after it is on disk. */
export async function savePending(dir: string, pending: PendingSubmission): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeDurably(join(dir, FILE), JSON.stringify(pending), { mode: 0o600 });
}

/** The kept submission, or undefined when there is none or it cannot be read: then the round is simply done again. */
export async function loadPending(dir: string): Promise<PendingSubmission | undefined> {
  try {
    const result = v.safeParse(pendingSchema, JSON.parse(await readFile(join(dir, FILE), 'utf8')));
    return result.success ? result.output : undefined;
  } catch {
    return undefined;
  }
}

/** Forgets the kept submission. */
export async function dropPending(dir: string): Promise<void> {
  await rm(join(dir, FILE), { force: true });
}
