/**
 * Module staking, the records: what an account has at stake, and what it may do with it.
 *
 * There is no delegation: every account stakes for itself, so there is no commission either.
 */
import { bool, type CodecType, Option, Struct, u32, u64, u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec, hashCodec } from '../chain/codec.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { SessionKey } from '../chain/validator-set.ts';
import { AccountIndex } from './account-index.ts';
import { type Draft, listCodec, type StateReader, type StateRecord } from './draft.ts';

const unbondingCodec = Struct({
  amount: u128,
  /** Block that took it from the stake. */
  sinceHeight: u32,
  /** Free in blocks of at least this height and this time. */
  freeHeight: u32,
  freeTimeMs: u64,
});
/** Stake on its way out; evidence still reaches it. */
export type Unbonding = Readonly<CodecType<typeof unbondingCodec>>;

const stakeCodec = Struct({
  /** Units at stake. */
  bonded: u128,
  /** In the order in which it was unbonded. */
  unbonding: listCodec<Unbonding>(unbondingCodec),
  /** Key that votes for the account. */
  sessionKey: Option(hashCodec),
  /** Voting power from genesis, before it fades. */
  genesisWeight: u64,
  /** Block time from which on `unjail` works; undefined when not in jail. */
  jailedUntilMs: Option(u64),
  /** Equivocated: out for ever. */
  tombstoned: bool,
  /** Scored rounds in a row in which it revealed no scores as a validator. */
  absentRounds: u32,
});

/** See the file comment. */
export type StakeRecord = Readonly<CodecType<typeof stakeCodec>>;

/** Keys of stake records start with this. */
export const STAKE_PREFIX = 'stake/';

/** Where an account's stake is. */
export function stakeRecord(account: AccountId): StateRecord<StakeRecord> {
  return { key: `${STAKE_PREFIX}${account}`, codec: stakeCodec };
}

const NO_STAKE: StakeRecord = {
  bonded: 0n,
  unbonding: [],
  sessionKey: undefined,
  genesisWeight: 0n,
  jailedUntilMs: undefined,
  tombstoned: false,
  absentRounds: 0,
};

/** Accounts that have a stake record. */
const STAKERS = new AccountIndex('stakers/');

/** Stake of an account; one never heard of has none. */
export function readStake(reader: StateReader, account: AccountId): StakeRecord {
  return reader.get(stakeRecord(account)) ?? NO_STAKE;
}

/** Every account that has something at stake or on its way out, a genesis weight, or was thrown out; ascending. */
export function stakers(reader: StateReader): AccountId[] {
  return STAKERS.all(reader);
}

/**
 * Writes a stake. One with nothing in it is forgotten, key and jail time included; a tombstone and a genesis weight are
 * kept.
 */
export function setStake(draft: Draft, account: AccountId, stake: StakeRecord): void {
  const isEmpty = stake.bonded === 0n && stake.unbonding.length === 0;
  if (isEmpty && stake.genesisWeight === 0n && !stake.tombstoned) {
    draft.delete(stakeRecord(account));
    STAKERS.remove(draft, account);
  } else {
    if (draft.get(stakeRecord(account)) === undefined) STAKERS.add(draft, account);
    draft.set(stakeRecord(account), stake);
  }
}

/** Units of a stake, bonded and unbonding. */
export function stakedUnits(stake: StakeRecord): bigint {
  return stake.unbonding.reduce((sum, { amount }) => sum + amount, stake.bonded);
}

/** What is left of a genesis weight so long after genesis: a straight line to zero, rounded up. */
export function fadedWeight(weight: bigint, elapsedMs: bigint, fadeMs: number): bigint {
  const fade = BigInt(fadeMs);
  if (elapsedMs <= 0n) return weight;
  return elapsedMs >= fade ? 0n : (weight * (fade - elapsedMs) + fade - 1n) / fade;
}

/** Voting power of a stake; 0 when it may not vote. The part of the bond is rounded down. */
export function votingPower(stake: StakeRecord, elapsedMs: bigint, parameters: Parameters): bigint {
  const { unitsPerPower, minimumBond, genesisWeightFadeMs } = parameters.staking;
  if (stake.tombstoned || stake.jailedUntilMs !== undefined || stake.sessionKey === undefined) return 0n;
  const weight = fadedWeight(stake.genesisWeight, elapsedMs, genesisWeightFadeMs);
  if (weight === 0n && stake.bonded < BigInt(minimumBond)) return 0n;
  return weight + stake.bonded / BigInt(unitsPerPower);
}

/** Whom a session key belongs to. Kept for ever: a key serves one account, and no second one after it. */
export function sessionOwner(sessionKey: SessionKey): StateRecord<AccountId> {
  return { key: `session/${sessionKey}`, codec: accountCodec };
}
