/** Figures of one run, of the rounds that are measured, in block time: what strangers cost those who are honest. */
import type { AccountId } from '../../../node/chain/account.ts';
import { type Parameters, seatLimit } from '../../../node/chain/parameters.ts';
import type { ChainReading } from './chain-reading.ts';

const UNITS_PER_ALICE = 1e12;

/** Who is who, and which rounds are measured. */
export interface FigureQuery {
  readonly parameters: Parameters;
  readonly trainingShards: number;
  /** The three honest miners, the miner that joins later, and validators; everybody else is the flood. */
  readonly miners: readonly AccountId[];
  readonly newcomer: AccountId | undefined;
  readonly validators: readonly AccountId[];
  /** First round that is measured, and how many are wanted. */
  readonly firstRound: number;
  readonly rounds: number;
}

/** How a miner fared that joined when the others were at work. Rounds count from its registration, the next is 1. */
export interface NewcomerFigures {
  readonly registeredInRound: number;
  /** Accounts in line before it. */
  readonly ahead: number;
  /** Round in which it has a seat at the latest, as docs/protocol.md says: `ceil((ahead + 1) / ceil(k / 2))`. */
  readonly seatBound: number;
  /** Rounds until it had a seat, and until it had accepted work; null when it had none before the run ended. */
  readonly seatedAfter: number | null;
  readonly acceptedAfter: number | null;
  /** Openings of which the run knows after its registration. */
  readonly openingsSeen: number;
  readonly earned: number;
}

/** Amounts are ALICE, times seconds of block time. */
export interface RunFigures {
  /** Rounds that were measured: fewer than wanted when time ran out. */
  readonly rounds: number;
  /** How long each took. */
  readonly roundSeconds: readonly number[];
  /** Rounds a minute: of all; without the slowest; by the median. */
  readonly roundsPerMinute: number;
  readonly roundsPerMinuteWithoutSlowest: number;
  readonly roundsPerMinuteByMedian: number;
  /** Training phases that opened again because nobody committed. */
  readonly reopenings: number;
  /** Rounds whose weights were updated. */
  readonly updated: number;
  /** Rounds that the epochs cover which began and were paid within the measured rounds. */
  readonly paidRounds: number;
  /** Pay of the honest miners, newcomer included, by round and by minute; null where no epoch was paid. */
  readonly payPerRound: number | null;
  readonly payPerMinute: number | null;
  /** Their part of all that miners were paid; and that of each of the three. */
  readonly honestShare: number | null;
  readonly minerShares: readonly number[];
  /** Part of the rounds in which each of the three had accepted work. */
  readonly minerAccepted: readonly number[];
  readonly newcomer: NewcomerFigures | null;
  readonly blocks: number;
  readonly minutes: number;
  readonly blockBytes: number;
  readonly largestBlock: number;
  readonly blockBytesPerMinute: number;
  readonly stateBytesPerRound: number;
  readonly stateBytesPerMinute: number;
  /** Least number of training shards that no seat was given. */
  readonly leastUnassigned: number;
  /** What of the flood is in blocks, by call; its seats in each opening, its commits and reveals that were accepted. */
  readonly floodCalls: Readonly<Record<string, number>>;
  readonly floodSeats: readonly number[];
  readonly floodAccepted: number;
  readonly floodBlockBytes: number;
}

/** Seats that newcomers have at most where `proven` accounts have accepted work. */
export function newcomerSeats({ rounds }: Parameters, trainingShards: number, proven: number): number {
  const limit = seatLimit(rounds, trainingShards);
  const share = Math.floor((proven * rounds.newcomerSeatsPpm) / 1_000_000);
  return Math.min(Math.floor(limit / 2), Math.max(rounds.newcomerSeats, share));
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = 0, high = low] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}

function newcomerFigures(reading: ChainReading, query: FigureQuery): NewcomerFigures | null {
  const { newcomer, parameters, trainingShards, miners } = query;
  const registration = newcomer === undefined ? undefined : reading.registered.get(newcomer);
  if (newcomer === undefined || registration === undefined) return null;
  const later = reading.rounds.flatMap(({ openings, submissions }) =>
    openings
      .filter(({ opening }) => opening > registration.opening)
      .map((opening) => ({
        after: opening.opening - registration.opening,
        seated: opening.seats.includes(newcomer),
        accepted: submissions.some(({ account, accepted }) => account === newcomer && accepted),
      })),
  );
  const paid = reading.epochs.flatMap(({ rewards }) => rewards).filter(({ account }) => account === newcomer);
  const half = Math.ceil(newcomerSeats(parameters, trainingShards, miners.length) / 2);
  return {
    registeredInRound: registration.round,
    ahead: registration.ahead,
    seatBound: Math.ceil((registration.ahead + 1) / half),
    seatedAfter: later.find(({ seated }) => seated)?.after ?? null,
    acceptedAfter: later.find(({ seated, accepted }) => seated && accepted)?.after ?? null,
    openingsSeen: later.length,
    earned: sum(paid.map(({ amount }) => Number(amount))) / UNITS_PER_ALICE,
  };
}

/** Figures of the measured rounds; undefined when not one of them ended. */
export function figuresOf(reading: ChainReading, query: FigureQuery): RunFigures | undefined {
  const { miners, newcomer, validators, firstRound } = query;
  const known = reading.rounds.filter(({ round }) => round >= firstRound).slice(0, query.rounds + 1);
  const next = known.at(-1);
  const first = known[0];
  const measured = known.slice(0, -1);
  if (first === undefined || next === undefined || measured.length === 0) return undefined;
  const honest = new Set<AccountId>([...miners, ...validators, ...(newcomer === undefined ? [] : [newcomer])]);
  const roundSeconds = measured.map(
    ({ openedTimeMs }, index) => ((known[index + 1]?.openedTimeMs ?? 0) - openedTimeMs) / 1000,
  );
  const seconds = sum(roundSeconds);
  const minutes = seconds / 60;
  const kept = roundSeconds.length < 2 ? seconds : seconds - Math.max(...roundSeconds);
  const blocks = reading.blocks.filter(({ height }) => height > first.openedHeight && height <= next.openedHeight);
  const bytes = sum(blocks.map((block) => block.bytes));
  // What an epoch pays is for its rounds: those that lie within the measured ones as a whole.
  const epochs = reading.epochs.filter((epoch) => epoch.firstRound >= first.round && epoch.lastRound < next.round);
  const paid = epochs.flatMap(({ rewards }) => rewards.filter(({ role }) => role === 'miner'));
  const paidTo = (who: (account: AccountId) => boolean) =>
    sum(paid.filter(({ account }) => who(account)).map(({ amount }) => Number(amount))) / UNITS_PER_ALICE;
  const [all, toHonest] = [paidTo(() => true), paidTo((account) => honest.has(account))];
  const paidRounds = sum(epochs.map((epoch) => epoch.lastRound - epoch.firstRound + 1));
  const paidMinutes = sum(epochs.map(({ startTimeMs, endTimeMs }) => Number(endTimeMs - startTimeMs))) / 60_000;
  const openings = measured.flatMap((round) => round.openings);
  const floodCalls: Record<string, number> = {};
  let floodBlockBytes = 0;
  for (const { transactions } of blocks) {
    for (const { signer, call, bytes: length } of transactions) {
      if (honest.has(signer)) continue;
      floodCalls[call] = (floodCalls[call] ?? 0) + 1;
      floodBlockBytes += length;
    }
  }
  const accepted = measured.map(
    ({ submissions }) => new Set(submissions.filter((one) => one.accepted).map(({ account }) => account)),
  );
  const stateGrowth = next.stateBytes - first.stateBytes;
  return {
    rounds: measured.length,
    roundSeconds,
    roundsPerMinute: measured.length / minutes,
    roundsPerMinuteWithoutSlowest: (60 * Math.max(1, measured.length - 1)) / kept,
    roundsPerMinuteByMedian: 60 / median(roundSeconds),
    reopenings: openings.length - measured.length,
    updated: measured.filter(({ aggregation }) => aggregation === 'updated').length,
    paidRounds,
    payPerRound: paidRounds === 0 ? null : toHonest / paidRounds,
    payPerMinute: paidRounds === 0 ? null : toHonest / paidMinutes,
    honestShare: all === 0 ? null : toHonest / all,
    minerShares: all === 0 ? [] : miners.map((miner) => paidTo((account) => account === miner) / all),
    minerAccepted: miners.map((miner) => accepted.filter((round) => round.has(miner)).length / measured.length),
    newcomer: newcomerFigures(reading, query),
    blocks: blocks.length,
    minutes,
    blockBytes: bytes / Math.max(1, blocks.length),
    largestBlock: Math.max(0, ...blocks.map((block) => block.bytes)),
    blockBytesPerMinute: bytes / minutes,
    stateBytesPerRound: stateGrowth / measured.length,
    stateBytesPerMinute: stateGrowth / minutes,
    leastUnassigned: Math.min(...openings.map(({ unassigned }) => unassigned)),
    floodCalls,
    floodSeats: openings.map(({ seats }) => seats.filter((account) => !honest.has(account)).length),
    floodAccepted: sum(accepted.map((round) => [...round].filter((account) => !honest.has(account)).length)),
    floodBlockBytes,
  };
}
