/**
 * From a trusted header to a later one, through as few in between as their signatures allow: the target is tried first,
 * and wherever too few of the trusted validators signed, the header half-way is tried before it.
 */
import {
  type AbstractLightBlock,
  type AbstractSeal,
  type AbstractValidator,
  type LightScheme,
  type TrustOptions,
  verifyNext,
} from './verify.ts';

/** Thrown when a header cannot be believed. The message says which, and why. */
export class UntrustedHeaderError extends Error {
  static readonly code = 'ERR_UNTRUSTED_HEADER';
  readonly code = UntrustedHeaderError.code;
  override readonly name = 'UntrustedHeaderError';
}

/** Where headers come from: anyone, for nothing that it says is believed. */
export interface LightProvider<B> {
  /** The block at a height. Throws when there is none to be had. */
  lightBlock(height: number, options: { signal?: AbortSignal | undefined }): Promise<B>;
}

/** What {@link verifyToHeight} works with. */
export interface Bisection<V extends AbstractValidator, S extends AbstractSeal, B extends AbstractLightBlock<V, S>> {
  readonly scheme: LightScheme<V, S, B>;
  /** A block that is believed already, its next validators matching its header. */
  readonly trusted: B;
  readonly height: number;
  readonly provider: LightProvider<B>;
  readonly options: TrustOptions;
  /** The time now, in the unit of the headers; asked for each header. */
  readonly now: () => bigint;
  readonly signal?: AbortSignal | undefined;
}

/** What led to the target. */
export interface VerifiedPath<B> {
  readonly target: B;
  /** Verified blocks, ascending, the target last, the trusted one not among them. */
  readonly path: readonly B[];
  /** Blocks that the provider was asked for. */
  readonly fetched: number;
}

/**
 * Verifies the block at `height`, which is above the trusted one. Throws {@link UntrustedHeaderError}, what the provider
 * throws, or the signal's reason. Asks for at most one header per height and holds at most log2(distance) unverified ones.
 */
export async function verifyToHeight<
  V extends AbstractValidator,
  S extends AbstractSeal,
  B extends AbstractLightBlock<V, S>,
>(bisection: Bisection<V, S, B>): Promise<VerifiedPath<B>> {
  const { scheme, height, provider, options, now, signal } = bisection;
  let trusted = bisection.trusted;
  let fetched = 0;
  const fetch = async (at: number): Promise<B> => {
    signal?.throwIfAborted();
    const block = await provider.lightBlock(at, { signal });
    fetched += 1;
    if (block.header.height !== at)
      throw new UntrustedHeaderError(`asked for header ${at}, got ${block.header.height}`);
    return block;
  };
  const path: B[] = [];
  /** Not verified yet, descending in height: the last one is tried next. */
  const waiting: B[] = [await fetch(height)];
  for (let block = waiting.at(-1); block !== undefined; block = waiting.at(-1)) {
    const verdict = verifyNext(scheme, trusted, block, options, now());
    if (verdict.verdict === 'success') {
      trusted = block;
      path.push(block);
      waiting.pop();
    } else if (verdict.verdict === 'notEnoughTrust') {
      waiting.push(await fetch(trusted.header.height + ((block.header.height - trusted.header.height) >> 1)));
    } else {
      throw new UntrustedHeaderError(`header ${block.header.height}: ${verdict.detail}`);
    }
  }
  return { target: trusted, path, fetched };
}
