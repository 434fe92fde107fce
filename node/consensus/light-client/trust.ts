/**
 * Trust as a person gives it, a height and the id of its block, and what follows from it.
 */
import { blockId } from '../../chain/block.ts';
import { type Hash, parseHash } from '../../chain/hash.ts';
import { type LightProvider, UntrustedHeaderError, verifyToHeight } from './bisect.ts';
import { type LightBlock, type LightBlockView, lightScheme, viewOf } from './light-block.ts';
import { type TrustOptions, verifyAlone } from './verify.ts';

/** A block that somebody believes, from a source of their own. */
export interface TrustedPoint {
  readonly height: number;
  readonly id: Hash;
}

/** Thrown for text that names no trusted block. */
export class InvalidTrustError extends Error {
  static readonly code = 'ERR_INVALID_TRUST';
  readonly code = InvalidTrustError.code;
  override readonly name = 'InvalidTrustError';
}

/** Reads `HEIGHT:HASH`. Throws {@link InvalidTrustError}. */
export function parseTrustedPoint(text: string): TrustedPoint {
  const match = /^(\d{1,10}):(?:0x)?([0-9a-fA-F]{64})$/.exec(text.trim());
  const height = Number(match?.[1]);
  if (match === null || height < 1 || height >= 2 ** 32)
    throw new InvalidTrustError(
      `not a trusted block: "${text.slice(0, 90)}" (expected HEIGHT:HASH, the height and id of a block as "alice block" shows them)`,
    );
  return { height, id: parseHash(match[2].toLowerCase()) };
}

const DAY_MS = 24 * 3600 * 1000;

/** Trust ends after two weeks at most unless told otherwise. */
const LONGEST_DEFAULT_MS = 14 * DAY_MS;

/**
 * For how long a trusted block is good, in milliseconds. Who signed it can be punished only while its stake is bound, so
 * trust has to end before the unbonding time of the network does. `days`: what somebody asked for; undefined is two thirds
 * of the unbonding time, and two weeks at most. Throws {@link InvalidTrustError} for a period that is not shorter.
 */
export function trustingPeriod(days: number | undefined, unbondingMs: number): number {
  if (days === undefined) return Math.min(LONGEST_DEFAULT_MS, Math.floor((unbondingMs * 2) / 3));
  const periodMs = days * DAY_MS;
  if (periodMs >= unbondingMs)
    throw new InvalidTrustError(
      `a trusting period of ${days} days is not shorter than the ${unbondingMs / DAY_MS} days that stake takes to leave on this network: those who signed the trusted block could be gone and unpunished`,
    );
  return periodMs;
}

/** How far a header may be ahead of this machine's clock. */
export const LIGHT_CLOCK_DRIFT_MS = 10_000;

/** What {@link followTrust} works with. */
export interface TrustPath {
  readonly trust: TrustedPoint;
  /** Wanted height; not below the trusted one. */
  readonly height: number;
  /** Whatever it gives is verified. */
  readonly provider: LightProvider<LightBlock>;
  /** In milliseconds. */
  readonly options: TrustOptions;
  readonly nowMs: () => number;
  readonly signal?: AbortSignal | undefined;
}

/** How a header came to be believed. */
export interface FollowedTrust {
  readonly block: LightBlock;
  /** Headers verified after the trusted one, this one included. */
  readonly headers: number;
  /** Signatures that these carry. */
  readonly signatures: number;
}

/**
 * The block at a height, verified from the trusted one. Throws {@link UntrustedHeaderError} when anything that the
 * provider gives does not follow, and what the provider throws.
 */
export async function followTrust({
  trust,
  height,
  provider,
  options,
  nowMs,
  signal,
}: TrustPath): Promise<FollowedTrust> {
  if (height < trust.height)
    throw new UntrustedHeaderError(`height ${height} is below the trusted one, ${trust.height}: trust an older block`);
  const scheme = lightScheme();
  const first = viewOf(await provider.lightBlock(trust.height, { signal }));
  const id = blockId(first.block.header);
  if (id !== trust.id || first.header.height !== trust.height)
    throw new UntrustedHeaderError(`block ${trust.height} is ${id} there, and ${trust.id} is trusted`);
  const alone = verifyAlone(scheme, first);
  if (alone.verdict !== 'success') throw new UntrustedHeaderError(`the trusted block ${trust.height}: ${alone.detail}`);
  if (first.header.time + options.trustingPeriod <= BigInt(nowMs()))
    throw new UntrustedHeaderError(`the trusted block ${trust.height} is older than the trusting period`);
  if (height === trust.height)
    return { block: first.block, headers: 0, signatures: first.block.commit.signatures.length };
  const views: LightProvider<LightBlockView> = {
    lightBlock: async (at, waiting) => viewOf(await provider.lightBlock(at, waiting)),
  };
  const now = () => BigInt(Math.floor(nowMs()));
  const { target, path } = await verifyToHeight({
    scheme,
    trusted: first,
    height,
    provider: views,
    options,
    now,
    signal,
  });
  const signatures = [first, ...path].reduce((sum, { block }) => sum + block.commit.signatures.length, 0);
  return { block: target.block, headers: path.length, signatures };
}
