/**
 * Module staking, loss: takes stake away and keeps a history of it.
 *
 * What is taken comes from the bond first, then from what is unbonding and was at stake when it happened, latest first.
 * `slashBurnPpm` of it, rounded down, is burned; the rest goes to the infrastructure pot.
 */
import { type CodecType, Struct, u32, u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { amount } from '../chain/amount.ts';
import type { Parameters } from '../chain/parameters.ts';
import { burnShare } from './accounts.ts';
import { type Draft, listCodec, type StateReader, type StateRecord } from './draft.ts';
import type { LedgerEvent } from './events.ts';
import { readStake, type StakeRecord, setStake, type Unbonding } from './stakes.ts';

/** Losses of an account that the state remembers. */
export const SLASH_HISTORY = 16;

const slashCodec = Struct({
  /** Block that took it. */
  height: u32,
  /** Height at which the account did what it lost it for. */
  offenceHeight: u32,
  amount: u128,
});
/** One loss of stake. */
export type Slash = Readonly<CodecType<typeof slashCodec>>;

const historyCodec = listCodec<Slash>(slashCodec);

/** The last losses of an account, oldest first. */
export function slashHistory(account: AccountId): StateRecord<readonly Slash[]> {
  return { key: `slashes/${account}`, codec: historyCodec };
}

/** True for unbonding stake that counted in the validator set of a height: sets are decided two blocks ahead. */
function wasAtStake(entry: Unbonding, offenceHeight: number): boolean {
  return offenceHeight <= entry.sinceHeight + 1;
}

/** Units of an account that answer for what it did at a height. */
export function unitsAtStake(stake: StakeRecord, offenceHeight: number): bigint {
  return stake.unbonding.reduce(
    (sum, entry) => (wasAtStake(entry, offenceHeight) ? sum + entry.amount : sum),
    stake.bonded,
  );
}

/** Losses of an account that the state remembers, oldest first. */
export function slashesOf(reader: StateReader, account: AccountId): readonly Slash[] {
  return reader.get(slashHistory(account)) ?? [];
}

/** Takes up to `units` of an account's stake for what it did at `offenceHeight`. Returns what was there to take. */
export function slash(
  draft: Draft,
  account: AccountId,
  units: bigint,
  at: { readonly height: number; readonly offenceHeight: number },
  parameters: Parameters,
): { readonly taken: bigint; readonly events: LedgerEvent[] } {
  const stake = readStake(draft, account);
  let left = units;
  const take = (from: bigint): bigint => {
    const part = from < left ? from : left;
    left -= part;
    return from - part;
  };
  const bonded = take(stake.bonded);
  const unbonding = [...stake.unbonding]
    .reverse()
    .map((entry) => (wasAtStake(entry, at.offenceHeight) ? { ...entry, amount: take(entry.amount) } : entry))
    .filter((entry) => entry.amount > 0n)
    .reverse();
  const taken = units - left;
  if (taken === 0n) return { taken, events: [] };
  setStake(draft, account, { ...stake, bonded, unbonding });
  const burned = burnShare(draft, taken, parameters.staking.slashBurnPpm);
  const entry: Slash = { height: at.height, offenceHeight: at.offenceHeight, amount: taken };
  draft.set(slashHistory(account), [...slashesOf(draft, account), entry].slice(-SLASH_HISTORY));
  const event = { type: 'slashed', account, amount: amount(taken), burned, offenceHeight: at.offenceHeight } as const;
  return { taken, events: [event] };
}
