/**
 * The state of the ledger after a block: immutable, with typed readers for everything that the rest of the node shows
 * or needs. The records behind them are defined in their modules.
 */
import { type AccountId, accountFromAddress } from '../chain/account.ts';
import { type Amount, amount } from '../chain/amount.ts';
import { genesisBeacon } from '../chain/beacon.ts';
import { type Genesis, genesisHash, networkId } from '../chain/genesis.ts';
import { type Hash, parseHash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { ValidatorSet } from '../chain/validator-set.ts';
import { type AccountRecord, readAccount, SUPPLY, type Supply } from './accounts.ts';
import { allowance } from './allowances.ts';
import { Draft, need, readRecord, type StateReader, type StateRecord } from './draft.ts';
import { unassignedShards } from './draw.ts';
import { EPOCH, type EpochRecord, type Reward, type SettledEpoch, settledEpoch } from './epochs.ts';
import { holderRecord, mintedUnits, unitsIn } from './holdings.ts';
import { targetIssuance } from './issuance.ts';
import { CHAIN, type ChainRecord, GENESIS_PARAMETERS, PARAMETERS } from './parameters.ts';
import { pastValidators } from './past-validators.ts';
import { prove, type StateProof } from './proof.ts';
import { registrationBondOf, registrationBondPrice } from './registration-bond.ts';
import { firstRegistration, REGISTRATION, type RegistrationRecord, registrationPrice } from './registration-price.ts';
import { type MinerRecord, minerRecord } from './registry.ts';
import { openFirstRound } from './round-clock.ts';
import {
  ATTESTATIONS,
  type Attestation,
  CHECKPOINT,
  type Checkpoint,
  KEPT_RESULTS,
  ROUND,
  type RoundRecord,
  type RoundResult,
  roundResult,
  type ScoreSheet,
  SUBMISSIONS,
  type SubmissionRecord,
  scoreSheet,
} from './round-records.ts';
import { isCheckpointDue } from './rounds.ts';
import { SEATS, type SeatRecord } from './seats.ts';
import { type Slash, slashesOf } from './slashing.ts';
import { readStake, type StakeRecord, sessionOwner, setStake, stakedUnits, stakers } from './stakes.ts';
import { aheadInLine, NEWCOMERS, PROVEN, type Standing, standingRecord } from './standing.ts';
import { StateTree } from './tree.ts';
import { VALIDATORS } from './validators.ts';
import { vestingOf } from './vesting.ts';

/** The open round with everything that belongs to it. */
export interface RoundView extends RoundRecord {
  /** Who may submit, ascending by account and slot. */
  readonly seats: readonly SeatRecord[];
  /** Committed submissions, ascending by account and slot. */
  readonly submissions: readonly SubmissionRecord[];
  readonly attestations: readonly Attestation[];
  /** Block time at which the present phase may close without those who are missing. */
  readonly deadlineMs: bigint;
  /** True when attestations of this round have to name a checkpoint. */
  readonly checkpointDue: boolean;
}

/** A reward and the epoch that paid it. */
export interface AccountReward extends Reward {
  readonly epoch: number;
  readonly endTimeMs: bigint;
  readonly firstRound: number;
  readonly lastRound: number;
  /** Credit of all accounts in that role. */
  readonly totalCredit: bigint;
}

/** Where an account's units are. */
export interface Holdings {
  /** What it can spend, rewards included that have unlocked and move to the balance with its next transaction. */
  readonly balance: Amount;
  /** Rewards that unlock later. */
  readonly locked: Amount;
  readonly bonded: Amount;
  readonly unbonding: Amount;
  /** Held for its registration as a miner; comes back when that ends. */
  readonly registrationBond: Amount;
}

/** An immutable state. */
export class LedgerState implements StateReader {
  readonly tree: StateTree;

  constructor(tree: StateTree) {
    this.tree = tree;
  }

  /** The state before the first block. */
  static genesis(genesis: Genesis): LedgerState {
    const draft = new Draft(new LedgerState(StateTree.empty));
    const hash = genesisHash(genesis);
    const timeMs = BigInt(genesis.timeMs);
    const modelRoot = parseHash(genesis.modelRoot);
    const validators: ValidatorSet = genesis.validators
      .map(({ address, sessionKey, weight }) => ({
        account: accountFromAddress(address),
        sessionKey: parseHash(sessionKey),
        power: BigInt(weight),
      }))
      .sort((a, b) => (a.account < b.account ? -1 : 1));
    draft.set(CHAIN, {
      genesisHash: hash,
      networkId: networkId(genesis),
      genesisTimeMs: timeMs,
      trainingShards: genesis.corpus.trainingShards,
      heldOutShards: genesis.corpus.heldOutShards,
      shardTokens: genesis.corpus.shardTokens,
      height: 0,
      timeMs,
    });
    draft.set(PARAMETERS, genesis.parameters);
    draft.set(GENESIS_PARAMETERS, genesis.parameters);
    draft.set(VALIDATORS, { next: validators, afterNext: validators });
    for (const { account, sessionKey, power } of validators) {
      setStake(draft, account, { ...readStake(draft, account), sessionKey, genesisWeight: power });
      draft.set(sessionOwner(sessionKey), account);
    }
    draft.set(SUPPLY, { totalIssuance: 0n, burned: 0n, infrastructurePot: 0n });
    draft.set(EPOCH, { epoch: 1, startTimeMs: timeMs, firstRound: 1, miners: [], validators: [] });
    draft.set(REGISTRATION, firstRegistration(genesisBeacon(hash), timeMs));
    draft.set(CHECKPOINT, { round: 0, modelRoot, cid: '' });
    openFirstRound(draft, { height: 0, timeMs, beacon: genesisBeacon(hash) }, genesis.parameters, modelRoot);
    return new LedgerState(StateTree.empty.with(draft.changes()));
  }

  /** The state that those entries make up, as the store keeps them. Check its root before trusting it. */
  static fromEntries(entries: Iterable<readonly [string, Uint8Array]>): LedgerState {
    return new LedgerState(StateTree.empty.with(entries));
  }

  get<T>(record: StateRecord<T>): T | undefined {
    return readRecord(this.tree, record);
  }

  /** Root that the header of the block carries. */
  get root(): Hash {
    return this.tree.root;
  }

  get chain(): ChainRecord {
    return need(this, CHAIN);
  }

  get height(): number {
    return this.chain.height;
  }

  get timeMs(): bigint {
    return this.chain.timeMs;
  }

  get parameters(): Parameters {
    return need(this, PARAMETERS);
  }

  /** Those who decide the block after this state. */
  get nextValidators(): ValidatorSet {
    return need(this, VALIDATORS).next;
  }

  /** Those who decide the block after that. */
  get afterNextValidators(): ValidatorSet {
    return need(this, VALIDATORS).afterNext;
  }

  /** Who decides a height, up to the one after the next; undefined where this state does not tell any more. */
  validatorsAt(height: number): ValidatorSet | undefined {
    if (height === this.height + 2) return this.afterNextValidators;
    if (height === this.height + 1) return this.nextValidators;
    return pastValidators(this, height, this.nextValidators);
  }

  get supply(): Supply {
    return need(this, SUPPLY);
  }

  /** Units that the schedule has issued by the end of the last settled epoch: equals {@link minted}. */
  get scheduledIssuance(): Amount {
    return targetIssuance(this.epoch.startTimeMs - this.chain.genesisTimeMs);
  }

  account(account: AccountId): AccountRecord {
    return readAccount(this, account);
  }

  /** What registrations are worked for, and how many there were lately. */
  get registration(): RegistrationRecord {
    return need(this, REGISTRATION);
  }

  /** Units that a registration would hold instead of work as of the last block; 0 where no bond is taken. */
  get registrationBondPrice(): Amount {
    return registrationBondPrice(this, this.timeMs, this.parameters);
  }

  /** Hashes that a registration costs as of the last block; 0 where it is free. */
  get registrationPrice(): bigint {
    return registrationPrice(this.registration, this.timeMs, this.parameters.registration);
  }

  miner(account: AccountId): MinerRecord | undefined {
    return this.get(minerRecord(account));
  }

  /** What claim to a seat an account has; undefined when it is not registered. */
  standing(account: AccountId): Standing | undefined {
    return this.get(standingRecord(account));
  }

  /** Accounts that are in line for a seat. */
  get waitingForSeats(): number {
    return PROVEN.bounds(this).length + NEWCOMERS.bounds(this).length;
  }

  /** Most accounts that are seated before this one; undefined when it is not in line. */
  aheadInLine(account: AccountId): number | undefined {
    return aheadInLine(this, account);
  }

  /** Root of the current weights. */
  get modelRoot(): Hash {
    return need(this, ROUND).modelRoot;
  }

  get round(): RoundView {
    const round = need(this, ROUND);
    const { rounds } = this.parameters;
    const limits = {
      train: rounds.trainDeadlineMs,
      reveal: rounds.revealDeadlineMs,
      score: rounds.scoreDeadlineMs,
      scoreReveal: rounds.scoreRevealDeadlineMs,
      aggregate: rounds.aggregateDeadlineMs,
    };
    return {
      ...round,
      seats: this.get(SEATS) ?? [],
      submissions: this.get(SUBMISSIONS) ?? [],
      attestations: this.get(ATTESTATIONS) ?? [],
      deadlineMs: round.phaseTimeMs + BigInt(limits[round.phase]),
      checkpointDue: isCheckpointDue(this, round.round, this.parameters),
    };
  }

  /** Training shards, ascending, that the open round gave to no seat. */
  get unassignedShards(): number[] {
    const { beacon } = need(this, ROUND);
    const { trainingShards } = this.chain;
    return unassignedShards(beacon, this.get(SEATS) ?? [], trainingShards, this.parameters.rounds.shardsPerMiner);
  }

  /** What a validator committed and revealed in the open round. */
  scoreSheet(validator: AccountId): ScoreSheet | undefined {
    return this.get(scoreSheet(validator));
  }

  /** Result of a round, from the settling of its scores until it is forgotten. */
  roundResult(round: number): RoundResult | undefined {
    return this.get(roundResult(round));
  }

  /** Latest published checkpoint; round 0 stands for the genesis weights. */
  get checkpoint(): Checkpoint {
    return need(this, CHECKPOINT);
  }

  /**
   * Results, ascending, of the rounds that changed the weights, as far back as they are kept: those after the checkpoint
   * are all there. The last one may be of the open round, whose weights validators have not agreed on yet.
   */
  get weightUpdates(): RoundResult[] {
    const { round, phase } = need(this, ROUND);
    const numbers = [...(this.get(KEPT_RESULTS) ?? []), ...(phase === 'aggregate' ? [round] : [])];
    const results = numbers.map((number) => need(this, roundResult(number)));
    return results.filter(({ aggregation }) => aggregation === 'updated' || aggregation === 'open');
  }

  /** The running epoch. */
  get epoch(): EpochRecord {
    return need(this, EPOCH);
  }

  /** A settled epoch, while the history keeps it. */
  settledEpoch(epoch: number): SettledEpoch | undefined {
    return this.get(settledEpoch(epoch));
  }

  /** The latest reward of an account that the history still has, and what it was for. */
  lastReward(account: AccountId): AccountReward | undefined {
    for (let number = this.epoch.epoch - 1; number >= 1; number--) {
      const epoch = this.settledEpoch(number);
      if (epoch === undefined) return undefined;
      const reward = epoch.rewards.find((candidate) => candidate.account === account);
      if (reward === undefined) continue;
      const totalCredit = reward.role === 'miner' ? epoch.minerCredit : epoch.validatorCredit;
      const { endTimeMs, firstRound, lastRound } = epoch;
      return { ...reward, epoch: number, endTimeMs, firstRound, lastRound, totalCredit };
    }
    return undefined;
  }

  /** Units ever minted; what was burned since is counted. */
  get minted(): Amount {
    return mintedUnits(this.supply);
  }

  /** What an account has at stake or unbonding, its session key, and whether it is jailed or out. */
  stake(account: AccountId): StakeRecord {
    return readStake(this, account);
  }

  /** Losses of stake that the state remembers, oldest first. */
  slashes(account: AccountId): readonly Slash[] {
    return slashesOf(this, account);
  }

  /** Accounts that have something at stake or unbonding, a genesis weight, or were thrown out; ascending. */
  get stakers(): AccountId[] {
    return stakers(this);
  }

  /** Units that `owner` allows `spender` to move. */
  allowance(owner: AccountId, spender: AccountId): Amount {
    return allowance(this, owner, spender);
  }

  /** Where an account's units are, as of the time of the last block. */
  holdings(account: AccountId): Holdings {
    const { locked, unlocked } = vestingOf(this, account, this.timeMs);
    const stake = this.stake(account);
    return {
      balance: amount(this.account(account).balance + unlocked),
      locked,
      bonded: amount(stake.bonded),
      unbonding: amount(stakedUnits(stake) - stake.bonded),
      registrationBond: registrationBondOf(this, account),
    };
  }

  /** Sum of everything that anybody has, by reading the whole state: for checks, not for every block. */
  get totalHoldings(): Amount {
    let sum = this.supply.infrastructurePot;
    for (const [key] of this.tree.entries()) {
      const record = holderRecord(key);
      if (record !== undefined) sum += unitsIn(key, this.get(record));
    }
    return amount(sum);
  }

  /** Proof of what this state holds, or does not hold, under a record's key. */
  prove(record: { readonly key: string }): StateProof {
    return prove(this.tree, record.key);
  }
}
