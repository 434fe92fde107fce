/**
 * What a miner must not forget between training and reveal: kept on disk, so that a crash in between does not cost the
 * round. The submission itself is kept here and not in the blob store, which serves all that it holds to whoever knows the
 * digest: until the reveal phase nobody but its author may have it.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { blobCid } from '../../node/blobs/manifest.ts';
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
const BYTES_FILE = 'pending-submission.bin';

/** Only for the owner: who reads it can submit it as its own. */
const MODE = 0o600;

/** Keeps the submission and its bytes; resolves after both are on disk. */
export async function savePending(dir: string, pending: PendingSubmission, bytes: Uint8Array): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeDurably(join(dir, BYTES_FILE), bytes, { mode: MODE });
  await writeDurably(join(dir, FILE), JSON.stringify(pending), { mode: MODE });
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

/** The bytes of the kept submission; undefined where they cannot be read, or are not those that were committed to. */
export async function loadPendingBytes(dir: string, { cid }: PendingSubmission): Promise<Uint8Array | undefined> {
  try {
    const bytes = await readFile(join(dir, BYTES_FILE));
    return blobCid(bytes) === cid ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** Forgets the kept submission. */
export async function dropPending(dir: string): Promise<void> {
  await rm(join(dir, FILE), { force: true });
  await rm(join(dir, BYTES_FILE), { force: true });
}
