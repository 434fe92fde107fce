/**
 * The rules by which a light client believes a header (Tendermint's light client, [TMBC-VAL-COMMIT.1]): from a header
 * that it trusts, and nothing but signatures. Pure, and written over abstract headers, so that the rules which check our
 * own chain are the very ones that others' test cases check.
 *
 * A header is *invalid* when it is wrong whatever one trusts; it has *not enough trust* when it may be right, but too few
 * of the trusted validators signed it to tell: then a header in between may help (`bisect.ts`).
 */

/** What the rules need of a header. Times share one unit, whichever. */
export interface AbstractHeader {
  /** Names the chain. */
  readonly chain: string;
  readonly height: number;
  readonly time: bigint;
  /** Hash of the set that decides this height, and of the one that decides the next. */
  readonly validatorsHash: string;
  readonly nextValidatorsHash: string;
}

/** What the rules need of a validator. */
export interface AbstractValidator {
  /** Who it is; each once in a set. */
  readonly id: string;
  /** Voting power, not negative. */
  readonly power: bigint;
}

/** One signature of a commit. */
export interface AbstractSeal {
  /** `id` of the signer. */
  readonly signer: string;
  /** False for a vote for nil: it must be right, and counts for nothing. */
  readonly forBlock: boolean;
}

/** A header with what proves it. */
export interface AbstractLightBlock<V extends AbstractValidator, S extends AbstractSeal> {
  readonly header: AbstractHeader;
  readonly commit: { readonly height: number; readonly headerHash: string; readonly seals: readonly S[] };
  readonly validators: readonly V[];
  readonly nextValidators: readonly V[];
}

/** How a chain writes, hashes and signs. Functions may not throw. */
export interface LightScheme<V extends AbstractValidator, S extends AbstractSeal, B extends AbstractLightBlock<V, S>> {
  headerHash(block: B): string;
  setHash(validators: readonly V[]): string;
  /** True when the seal is `validator`'s, by the key that `validator` names. */
  verifySeal(block: B, seal: S, validator: V): boolean;
  /** Anything else that makes a block malformed, in words. */
  malformed?(block: B): string | undefined;
}

/** What a light client is willing to believe. Times are in the unit of the headers. */
export interface TrustOptions {
  /** A header older than this proves nothing: its validators may have left with their stake. */
  readonly trustingPeriod: bigint;
  /** How far a header may be ahead of this clock. */
  readonly clockDrift: bigint;
  /** Share of the trusted next set's power that must have signed; strictly more, at least a third (the default). */
  readonly trustLevel?: { readonly numerator: bigint; readonly denominator: bigint };
}

/** Why a header is refused. */
export type InvalidReason =
  | 'malformed'
  | 'wrongSet'
  | 'wrongCommit'
  | 'expired'
  | 'otherChain'
  | 'notLater'
  | 'notHigher'
  | 'fromFuture'
  | 'outsider'
  | 'noQuorum'
  | 'wrongSignature';

/** What the rules say of a header. `detail` is for people. */
export type Verdict =
  | { readonly verdict: 'success' }
  | { readonly verdict: 'notEnoughTrust'; readonly detail: string }
  | { readonly verdict: 'invalid'; readonly reason: InvalidReason; readonly detail: string };

const ONE_THIRD = { numerator: 1n, denominator: 3n };

function invalid(reason: InvalidReason, detail: string): Verdict {
  return { verdict: 'invalid', reason, detail };
}

const powerOf = (validators: readonly AbstractValidator[]): bigint =>
  validators.reduce((sum, { power }) => sum + power, 0n);

/** What is wrong with a block by itself, its signatures apart; undefined when nothing is. */
function checkContent<V extends AbstractValidator, S extends AbstractSeal, B extends AbstractLightBlock<V, S>>(
  scheme: LightScheme<V, S, B>,
  block: B,
): Verdict | undefined {
  const { header, commit, validators, nextValidators } = block;
  const problem = scheme.malformed?.(block);
  if (problem !== undefined) return invalid('malformed', problem);
  if (scheme.setHash(validators) !== header.validatorsHash)
    return invalid('wrongSet', 'the validators given are not those that the header names');
  if (scheme.setHash(nextValidators) !== header.nextValidatorsHash)
    return invalid('wrongSet', 'the next validators given are not those that the header names');
  if (commit.height !== header.height)
    return invalid('wrongCommit', `the commit is for height ${commit.height}, the header for ${header.height}`);
  if (commit.headerHash !== scheme.headerHash(block)) return invalid('wrongCommit', 'the commit is for another header');
  return undefined;
}

/** What is wrong with the signatures of a block under its own set; undefined when more than two thirds signed. */
function checkCommit<V extends AbstractValidator, S extends AbstractSeal, B extends AbstractLightBlock<V, S>>(
  scheme: LightScheme<V, S, B>,
  block: B,
): Verdict | undefined {
  const members = new Map(block.validators.map((validator) => [validator.id, validator]));
  if (members.size !== block.validators.length) return invalid('malformed', 'a validator is in the set twice');
  const seen = new Set<string>();
  let signed = 0n;
  for (const { signer, forBlock } of block.commit.seals) {
    if (seen.has(signer)) return invalid('malformed', `${signer} signed twice`);
    seen.add(signer);
    const member = members.get(signer);
    if (member === undefined) return invalid('outsider', `${signer} signed, and is not in the validator set`);
    if (forBlock) signed += member.power;
  }
  const total = powerOf(block.validators);
  // Before the signatures: adding up costs nothing.
  if (signed * 3n <= total * 2n) return invalid('noQuorum', `${signed} of ${total} of the power signed`);
  for (const seal of block.commit.seals) {
    const member = members.get(seal.signer);
    if (member === undefined || !scheme.verifySeal(block, seal, member))
      return invalid('wrongSignature', `the signature of ${seal.signer} is wrong`);
  }
  return undefined;
}

/**
 * Does a block by itself hold together: sets and commit are those of the header, and more than two thirds of its own set
 * signed it? That is all that can be said of the block with which trust begins.
 */
export function verifyAlone<V extends AbstractValidator, S extends AbstractSeal, B extends AbstractLightBlock<V, S>>(
  scheme: LightScheme<V, S, B>,
  block: B,
): Verdict {
  return checkContent(scheme, block) ?? checkCommit(scheme, block) ?? { verdict: 'success' };
}

/**
 * Is `block` to be believed, given that `trusted` is, at the time `now`? Of `trusted` only the header and the next
 * validators are used; that these match its header is the caller's to know (it holds for every verified block). An
 * adjacent header must be decided by the set that the trusted one named; any later one must be signed by more than
 * `trustLevel` of that set's power, by the keys that the set named; each by more than two thirds of its own set. A signer
 * outside the set, and any wrong signature, makes the header invalid.
 */
export function verifyNext<V extends AbstractValidator, S extends AbstractSeal, B extends AbstractLightBlock<V, S>>(
  scheme: LightScheme<V, S, B>,
  trusted: Pick<B, 'header' | 'nextValidators'>,
  block: B,
  options: TrustOptions,
  now: bigint,
): Verdict {
  const { header } = block;
  const content = checkContent(scheme, block);
  if (content !== undefined) return content;
  if (trusted.header.time + options.trustingPeriod <= now)
    return invalid('expired', `the trusted header ${trusted.header.height} is older than the trusting period`);
  if (header.chain !== trusted.header.chain) return invalid('otherChain', `the header is of chain ${header.chain}`);
  if (header.height <= trusted.header.height)
    return invalid('notHigher', `height ${header.height} does not follow ${trusted.header.height}`);
  if (header.time <= trusted.header.time) return invalid('notLater', 'the header is not later than the trusted one');
  if (header.time >= now + options.clockDrift) return invalid('fromFuture', 'the header is from the future');
  const adjacent = header.height === trusted.header.height + 1;
  if (adjacent && header.validatorsHash !== trusted.header.nextValidatorsHash)
    return invalid('wrongSet', 'the validators are not those that the header before named');
  const commit = checkCommit(scheme, block);
  if (commit !== undefined) return commit;
  if (adjacent) return { verdict: 'success' };
  const { numerator, denominator } = options.trustLevel ?? ONE_THIRD;
  const known = new Map(trusted.nextValidators.map((validator) => [validator.id, validator]));
  const total = powerOf(trusted.nextValidators);
  let signed = 0n;
  for (const seal of block.commit.seals) {
    const validator = known.get(seal.signer);
    // By the key of the trusted set: the name of a trusted validator with another key beside it earns no trust.
    if (seal.forBlock && validator !== undefined && scheme.verifySeal(block, seal, validator))
      signed += validator.power;
  }
  if (signed * denominator > total * numerator) return { verdict: 'success' };
  return { verdict: 'notEnoughTrust', detail: `${signed} of ${total} of the trusted power signed` };
}
