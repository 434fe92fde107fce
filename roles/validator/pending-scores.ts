/**
 * Scores that a validator has committed to and must be able to reveal, also after a crash.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import type { AccountId } from '../../node/chain/account.ts';
import type { Score, Verdict } from '../../node/chain/transaction.ts';
import { writeDurably } from '../../node/durable-file.ts';

const hex32 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));

const pendingSchema = v.strictObject({
  round: v.pipe(v.number(), v.integer()),
  drawBeacon: hex32,
  salt: hex32,
  heldOutLoss: v.pipe(v.string(), v.regex(/^-?\d+$/)),
  /** Nano-nats, or the tag of a verdict without a score. */
  scores: v.array(
    v.strictObject({
      miner: hex32,
      slot: v.number(),
      verdict: v.pipe(v.string(), v.regex(/^(-?\d+|unavailable|malformed)$/)),
    }),
  ),
});

/** One validator's scores of one round. */
export interface PendingScores {
  readonly round: number;
  readonly drawBeacon: string;
  readonly salt: Uint8Array;
  readonly heldOutLoss: bigint;
  readonly scores: Score[];
}

const FILE = 'pending-scores.json';

/** Keeps the scores; resolves after they are on disk. */
export async function saveScores(dir: string, pending: PendingScores): Promise<void> {
  await mkdir(dir, { recursive: true });
  const text = JSON.stringify({
    round: pending.round,
    drawBeacon: pending.drawBeacon,
    salt: Buffer.from(pending.salt).toString('hex'),
    heldOutLoss: pending.heldOutLoss.toString(),
    scores: pending.scores.map(({ miner, slot, verdict }) => ({
      miner,
      slot,
      verdict: verdict.tag === 'scored' ? verdict.value.toString() : verdict.tag,
    })),
  });
  await writeDurably(join(dir, FILE), text, { mode: 0o600 });
}

/** The kept scores, or undefined when there are none or they cannot be read: then the round is scored again. */
export async function loadScores(dir: string): Promise<PendingScores | undefined> {
  try {
    const result = v.safeParse(pendingSchema, JSON.parse(await readFile(join(dir, FILE), 'utf8')));
    if (!result.success) return undefined;
    const { round, drawBeacon, salt, heldOutLoss, scores } = result.output;
    return {
      round,
      drawBeacon,
      salt: new Uint8Array(Buffer.from(salt, 'hex')),
      heldOutLoss: BigInt(heldOutLoss),
      scores: scores.map(({ miner, slot, verdict }) => ({
        miner: miner as AccountId,
        slot,
        verdict: parseVerdict(verdict),
      })),
    };
  } catch {
    return undefined;
  }
}

function parseVerdict(text: string): Verdict {
  if (text === 'unavailable' || text === 'malformed') return { tag: text, value: undefined };
  return { tag: 'scored', value: BigInt(text) };
}
