/**
 * Module past validators: who decided earlier heights, for as long as evidence about them counts. It is part of the state,
 * so that a node that began at a snapshot judges evidence as everybody does: by the sets themselves, with nobody's word
 * for them.
 *
 * Kept are differences: where the set of H + 1 is another than that of H, block H records what its members were who
 * changed. That is what one stake changed, or, where genesis weights fade, once in `validatorSetIntervalBlocks` the whole
 * set: at 100 validators and an hourly interval 4 MB for three weeks. The records are a list, from the newest to the
 * oldest, and go when evidence of their height is too old.
 */
import { type Codec, Option, Struct, u32, u64 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec, hashCodec } from '../chain/codec.ts';
import type { SessionKey, Validator, ValidatorSet } from '../chain/validator-set.ts';
import { type Draft, listCodec, need, type StateReader, type StateRecord } from './draft.ts';
import { CHAIN } from './parameters.ts';

/** What an account was in a set: absent when it was no member. */
interface FormerMember {
  readonly account: AccountId;
  readonly before: { readonly sessionKey: SessionKey; readonly power: bigint } | undefined;
}

/** How the set that decided up to a height differs from the one that follows it. */
interface PastSet {
  /** Heights of the neighbours in the list; 0 where there is none. */
  readonly older: number;
  readonly newer: number;
  /** Ascending by account. */
  readonly members: readonly FormerMember[];
}

const memberCodec: Codec<FormerMember> = Struct({
  account: accountCodec,
  before: Option(Struct({ sessionKey: hashCodec, power: u64 })),
}) as Codec<FormerMember>;

/** By the last height that the set decided. */
const pastSet = (lastHeight: number): StateRecord<PastSet> => ({
  key: `pastValidators/${lastHeight}`,
  codec: Struct({ older: u32, newer: u32, members: listCodec(memberCodec) }),
});

/** Ends of the list, 0 where it is empty, and the last height of which nothing is known any more. */
const PAST_SETS: StateRecord<{ newest: number; oldest: number; forgotten: number }> = {
  key: 'pastValidators',
  codec: Struct({ newest: u32, oldest: u32, forgotten: u32 }),
};
const NOTHING = { newest: 0, oldest: 0, forgotten: 0 };

/** Records that go in one block at most: more than come, and no burst when the time of evidence is made shorter. */
const MAX_FORGOTTEN_PER_BLOCK = 4;

/** Who was what in `before` and is something else in `after`. */
function differences(before: ValidatorSet, after: ValidatorSet): FormerMember[] {
  const [old, now] = [before, after].map((set) => new Map(set.map((member) => [member.account, member])));
  return [...new Set([...before, ...after].map(({ account }) => account))]
    .sort()
    .filter((account) => {
      const [a, b] = [old.get(account), now.get(account)];
      return a?.sessionKey !== b?.sessionKey || a?.power !== b?.power;
    })
    .map((account) => {
      const member = old.get(account);
      return { account, before: member && { sessionKey: member.sessionKey, power: member.power } };
    });
}

/**
 * Call in each block, at its end. `decided`: the set that decided it, `next`: the one that decides the next. Evidence about
 * a height counts for `keptBlocks` blocks.
 */
export function rememberValidators(
  draft: Draft,
  height: number,
  { decided, next }: { readonly decided: ValidatorSet; readonly next: ValidatorSet },
  keptBlocks: number,
): void {
  const known = draft.get(PAST_SETS) ?? NOTHING;
  let { newest, oldest, forgotten } = known;
  const members = differences(decided, next);
  if (members.length > 0) {
    draft.set(pastSet(height), { older: newest, newer: 0, members });
    const former = draft.get(pastSet(newest));
    if (former !== undefined) draft.set(pastSet(newest), { ...former, newer: height });
    newest = height;
    if (oldest === 0) oldest = height;
  }
  // The next block may hold evidence about heights above its own less `keptBlocks`.
  for (let count = 0; count < MAX_FORGOTTEN_PER_BLOCK && oldest > 0 && oldest <= height + 1 - keptBlocks; count++) {
    const { newer } = need(draft, pastSet(oldest));
    draft.delete(pastSet(oldest));
    forgotten = oldest;
    oldest = newer;
    if (oldest === 0) newest = 0;
    else draft.set(pastSet(oldest), { ...need(draft, pastSet(oldest)), older: 0 });
  }
  if (newest !== known.newest || oldest !== known.oldest) draft.set(PAST_SETS, { newest, oldest, forgotten });
}

/** True when nobody can tell any more who decided a height: no evidence about it counts. */
export function isForgotten(reader: StateReader, height: number): boolean {
  return height <= (reader.get(PAST_SETS) ?? NOTHING).forgotten;
}

/** Forgets all, as a state has to whose heights begin again. */
export function forgetPastValidators(draft: Draft): void {
  for (let at = draft.get(PAST_SETS)?.newest ?? 0; at > 0; ) {
    const { older } = need(draft, pastSet(at));
    draft.delete(pastSet(at));
    at = older;
  }
  draft.delete(PAST_SETS);
}

/**
 * Who decided a finalized height, from the state after a later block or that very one; undefined when it is forgotten.
 * `current`: who decides the height after the state. Takes time in proportion to the changes since.
 */
export function pastValidators(reader: StateReader, height: number, current: ValidatorSet): ValidatorSet | undefined {
  if (height < 1 || height > need(reader, CHAIN).height || isForgotten(reader, height)) return undefined;
  const { newest } = reader.get(PAST_SETS) ?? NOTHING;
  const members = new Map<AccountId, Validator>(current.map((member) => [member.account, member]));
  for (let at = newest; at >= height; ) {
    const { older, members: former } = need(reader, pastSet(at));
    for (const { account, before } of former) {
      if (before === undefined) members.delete(account);
      else members.set(account, { account, ...before });
    }
    at = older;
  }
  return [...members.values()].sort((a, b) => (a.account < b.account ? -1 : 1));
}
