/**
 * How a corpus is divided into shards. Pure.
 */
import { CorpusTooSmallError, InvalidCorpusOptionError } from '../errors.ts';
import { MAX_SHARD_TOKENS } from '../shard/shard.ts';

/** Smallest shard that is chosen automatically: 32 windows of context 128. */
export const MIN_AUTOMATIC_SHARD_TOKENS = 4096;
/** Smallest shard that may be asked for: one window of context 255. */
export const MIN_SHARD_TOKENS = 256;
/** Shards wanted at least, so that a few miners get several different ones each in a round. */
export const WANTED_SHARDS = 64;
/** The fewest training shards with which two miners train on different data. */
export const MIN_TRAINING_SHARDS = 2;
/** Held-out share unless asked otherwise: with 64 shards, three of them. */
export const DEFAULT_HELD_OUT_FRACTION = 0.05;
/** Large corpora need no larger sample: the published one holds out 50 of 60,001 shards. */
export const MAX_DEFAULT_HELD_OUT_SHARDS = 64;

/** What the user may ask for. */
export interface PlanOptions {
  /** Tokens in every shard; automatic when undefined. */
  readonly shardTokens?: number;
  /** Share of the tokens to hold out, above 0 and at most 0.5; {@link DEFAULT_HELD_OUT_FRACTION} when undefined. */
  readonly heldOutFraction?: number;
}

/** Sizes for a corpus of a known number of tokens. */
export interface ShardPlan {
  readonly shardTokens: number;
  readonly heldOutShards: number;
}

/** Throws {@link InvalidCorpusOptionError} when an option is out of its range. */
export function checkPlanOptions({ shardTokens, heldOutFraction }: PlanOptions): void {
  if (
    shardTokens !== undefined &&
    !(Number.isInteger(shardTokens) && shardTokens >= MIN_SHARD_TOKENS && shardTokens <= MAX_SHARD_TOKENS)
  ) {
    throw new InvalidCorpusOptionError(
      `shardTokens must be an integer from ${MIN_SHARD_TOKENS} to ${MAX_SHARD_TOKENS}, got ${shardTokens}`,
    );
  }
  if (heldOutFraction !== undefined && !(heldOutFraction > 0 && heldOutFraction <= 0.5)) {
    throw new InvalidCorpusOptionError(`heldOutFraction must be above 0 and at most 0.5, got ${heldOutFraction}`);
  }
}

/**
 * Sizes for a corpus of `tokens` tokens. Automatic shards are the largest power of two from
 * {@link MIN_AUTOMATIC_SHARD_TOKENS} to {@link MAX_SHARD_TOKENS} that gives {@link WANTED_SHARDS}, or the smallest. At least
 * one shard is held out. Throws {@link CorpusTooSmallError} when fewer than {@link MIN_TRAINING_SHARDS} would be left:
 * with automatic sizes that means below 12,288 tokens, some 40 kB of English.
 */
export function planShards(totals: { documents: number; tokens: number }, options: PlanOptions): ShardPlan {
  checkPlanOptions(options);
  let shardTokens = options.shardTokens ?? MAX_SHARD_TOKENS;
  if (options.shardTokens === undefined) {
    while (shardTokens > MIN_AUTOMATIC_SHARD_TOKENS && totals.tokens / shardTokens < WANTED_SHARDS) shardTokens /= 2;
  }
  const share = (totals.tokens * (options.heldOutFraction ?? DEFAULT_HELD_OUT_FRACTION)) / shardTokens;
  const wanted = Math.max(1, Math.round(share));
  const heldOutShards = options.heldOutFraction === undefined ? Math.min(wanted, MAX_DEFAULT_HELD_OUT_SHARDS) : wanted;
  if (totals.tokens < (heldOutShards + MIN_TRAINING_SHARDS) * shardTokens) throw tooSmall(totals, shardTokens);
  return { shardTokens, heldOutShards };
}

/** The error for a corpus that does not fill its shards. */
export function tooSmall(totals: { documents: number; tokens: number }, shardTokens: number): CorpusTooSmallError {
  return new CorpusTooSmallError(
    `corpus too small: ${totals.documents} documents with ${totals.tokens} tokens do not fill ${MIN_TRAINING_SHARDS} ` +
      `training shards and held-out ones of ${shardTokens} tokens from different documents; add text or documents`,
  );
}
