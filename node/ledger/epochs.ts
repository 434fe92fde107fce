/**
 * Module epochs: settles credit and mints.
 *
 * An epoch ends with the first round that closes at least `epochMs` after the previous end while some submission
 * accepted since then has credit. It mints the schedule's target at that time minus all that was minted before
 * (`issuance.ts`; burning makes no room to mint again), splits that by the parameters' shares for miners, validators and infrastructure, and the first two
 * shares in proportion to credit. Every split is by largest remainder, ties to the earlier role or the lower account:
 * the parts add up to what was minted, to the unit.
 *
 * Credit: of a miner, the scores of its accepted submissions in nano-nats; of a validator, its power for each round in
 * which it revealed scores in time. Both are linear, so splitting one identity into several gains nothing.
 */
import { type CodecType, enhanceCodec, Struct, u8, u32, u64, u128, Vector } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { amount } from '../chain/amount.ts';
import { accountCodec } from '../chain/codec.ts';
import type { Parameters } from '../chain/parameters.ts';
import { recordIssuance, SUPPLY } from './accounts.ts';
import type { Draft, StateReader, StateRecord } from './draft.ts';
import { need } from './draft.ts';
import type { LedgerEvent } from './events.ts';
import { mintedUnits } from './holdings.ts';
import { splitProportionally, targetIssuance } from './issuance.ts';
import { CHAIN } from './parameters.ts';
import { creditReward } from './vesting.ts';

/** Epochs whose rewards stay in the state. */
export const EPOCH_HISTORY = 64;

/** Who is paid: infrastructure goes to its pot. */
export const REWARDED_ROLES = ['miner', 'validator'] as const;
export type RewardedRole = (typeof REWARDED_ROLES)[number];

const roleCodec = enhanceCodec(
  u8,
  (role: RewardedRole) => REWARDED_ROLES.indexOf(role),
  (index) => REWARDED_ROLES[index],
);

const creditsCodec = Vector(Struct({ account: accountCodec, credit: u128 }));

const epochCodec = Struct({
  /** Number of the running epoch; the first is 1. */
  epoch: u32,
  /** Block time at which it began: genesis, or the end of the one before. */
  startTimeMs: u64,
  /** First round whose close counts in it. */
  firstRound: u32,
  /** Credits so far, ascending by account. */
  miners: creditsCodec,
  validators: creditsCodec,
});
/** The running epoch. */
export type EpochRecord = Readonly<CodecType<typeof epochCodec>>;
export const EPOCH: StateRecord<EpochRecord> = { key: 'epoch', codec: epochCodec };

const settledEpochCodec = Struct({
  epoch: u32,
  startTimeMs: u64,
  endTimeMs: u64,
  /** Block that settled it. */
  height: u32,
  firstRound: u32,
  lastRound: u32,
  /** Units minted; `infrastructure` of them went to the pot, the rewards are the rest. */
  minted: u128,
  infrastructure: u128,
  minerCredit: u128,
  validatorCredit: u128,
  /** Miners ascending, then validators ascending. `credit` is the account's part of the role's total credit. */
  rewards: Vector(Struct({ account: accountCodec, role: roleCodec, credit: u128, amount: u128 })),
});
/** What an epoch paid, to whom, and for what. */
export type SettledEpoch = Readonly<CodecType<typeof settledEpochCodec>>;
export type Reward = Readonly<SettledEpoch['rewards'][number]>;

/** Where a settled epoch is, while the history keeps it. */
export function settledEpoch(epoch: number): StateRecord<SettledEpoch> {
  return { key: `epoch/${epoch}`, codec: settledEpochCodec };
}

/** Credit of one account. */
export interface Credit {
  readonly account: AccountId;
  readonly credit: bigint;
}

/** Sums two lists of credits, each ascending by account. */
function addCredits(before: readonly Credit[], added: readonly Credit[]): Credit[] {
  const sums = new Map(before.map(({ account, credit }) => [account, credit]));
  for (const { account, credit } of added) sums.set(account, (sums.get(account) ?? 0n) + credit);
  return [...sums].map(([account, credit]) => ({ account, credit })).sort((a, b) => (a.account < b.account ? -1 : 1));
}

/** Adds a settled round's credit to the running epoch. */
export function addRoundCredit(draft: Draft, miners: readonly Credit[], validators: readonly Credit[]): void {
  const epoch = need(draft, EPOCH);
  draft.set(EPOCH, {
    ...epoch,
    miners: addCredits(epoch.miners, miners),
    validators: addCredits(epoch.validators, validators),
  });
}

/** Latest settled epoch, if any. */
export function lastSettledEpoch(reader: StateReader): SettledEpoch | undefined {
  return reader.get(settledEpoch(need(reader, EPOCH).epoch - 1));
}

/** Settles the running epoch if it is over. Called when a round closes. */
export function settleEpochIfDue(
  draft: Draft,
  at: { readonly height: number; readonly timeMs: bigint; readonly round: number },
  parameters: Parameters,
): LedgerEvent[] {
  const epoch = need(draft, EPOCH);
  const total = (credits: readonly Credit[]) => credits.reduce((sum, { credit }) => sum + credit, 0n);
  const minerCredit = total(epoch.miners);
  const validatorCredit = total(epoch.validators);
  if (at.timeMs - epoch.startTimeMs < BigInt(parameters.economics.epochMs)) return [];
  if (minerCredit === 0n || validatorCredit === 0n) return [];

  const elapsedMs = at.timeMs - need(draft, CHAIN).genesisTimeMs;
  const minted = targetIssuance(elapsedMs) - mintedUnits(need(draft, SUPPLY));
  const { minerSharePpm, validatorSharePpm, infrastructureSharePpm } = parameters.economics;
  const shares = [minerSharePpm, validatorSharePpm, infrastructureSharePpm].map(BigInt);
  const [forMiners, forValidators, forInfrastructure] = splitProportionally(minted, shares);
  const pay = (role: RewardedRole, whole: bigint, credits: readonly Credit[]): Reward[] => {
    const parts = splitProportionally(
      whole,
      credits.map((item) => item.credit),
    );
    return credits.map(({ account, credit }, index) => ({ account, role, credit, amount: parts[index] }));
  };
  const rewards = [...pay('miner', forMiners, epoch.miners), ...pay('validator', forValidators, epoch.validators)];
  const events: LedgerEvent[] = [];
  const { vestingMs } = parameters.economics;
  for (const { account, role, amount: units } of rewards) {
    if (units === 0n) continue;
    events.push(...creditReward(draft, account, units, { timeMs: at.timeMs, vestingMs }));
    events.push({ type: 'rewarded', account, role, amount: amount(units), epoch: epoch.epoch });
  }
  recordIssuance(draft, amount(minted), amount(forInfrastructure));

  draft.set(settledEpoch(epoch.epoch), {
    epoch: epoch.epoch,
    startTimeMs: epoch.startTimeMs,
    endTimeMs: at.timeMs,
    height: at.height,
    firstRound: epoch.firstRound,
    lastRound: at.round,
    minted,
    infrastructure: forInfrastructure,
    minerCredit,
    validatorCredit,
    rewards,
  });
  const forgotten = epoch.epoch - EPOCH_HISTORY;
  if (forgotten >= 1) draft.delete(settledEpoch(forgotten));
  draft.set(EPOCH, {
    epoch: epoch.epoch + 1,
    startTimeMs: at.timeMs,
    firstRound: at.round + 1,
    miners: [],
    validators: [],
  });
  return [...events, { type: 'epochSettled', epoch: epoch.epoch, minted: amount(minted) }];
}
