/**
 * The summary of a run of a local network: what other scripts read with `--json` (DESIGN 9).
 */

import type { NodeStatus } from '../../node/api/status.ts';
import { SUPPLY_CAP, UNITS_PER_ALICE } from '../../node/chain/amount.ts';
import type { Snapshot } from './snapshot.ts';

const FIRST_ANNUAL_BUDGET = 5_250_000n * UNITS_PER_ALICE;
const MS_PER_YEAR = 31_536_000_000n;

/**
 * Issuance that the schedule foresees after `elapsedMs`, computed here independently of the ledger:
 * `annual_budget * elapsed / 31,536,000`, halved every two years (MISSION, Token), in units, rounded down.
 */
export function expectedIssuance(elapsedMs: bigint): bigint {
  let left = elapsedMs;
  let budget = FIRST_ANNUAL_BUDGET;
  let weighted = 0n;
  while (left > 0n && budget > 0n) {
    const period = left < 2n * MS_PER_YEAR ? left : 2n * MS_PER_YEAR;
    weighted += budget * period;
    left -= period;
    budget /= 2n;
  }
  const units = weighted / MS_PER_YEAR;
  return units < SUPPLY_CAP ? units : SUPPLY_CAP;
}

/** Roots of one node at the end of a run. */
export interface EndState {
  readonly name: string;
  readonly status: NodeStatus;
}

/** The object that `alice up --json` prints; names are part of its contract. */
export interface RunSummary {
  /** Rounds settled in this run. */
  readonly rounds: number;
  /** Held-out loss in nats before the first and before the last settled round of this run. */
  readonly loss_first: number | null;
  readonly loss_last: number | null;
  readonly height: number;
  readonly epochs: number;
  /** ALICE minted since genesis and what the schedule foresees at the last epoch's end, in units of 10^-12. */
  readonly minted: string;
  readonly issuance_expected: string;
  readonly miners: readonly {
    name: string;
    address: string;
    accepted: number;
    rejected: number;
    last_score: number | null;
    earned: string;
    tokens_per_s: number | null;
    bytes_sent: number;
    bytes_received: number;
    rss_bytes: number;
  }[];
  readonly validators: readonly {
    name: string;
    address: string;
    height: number;
    state_root: string;
    model_root: string | null;
    earned: string;
    bytes_sent: number;
    bytes_received: number;
    rss_bytes: number;
  }[];
  readonly state_root: string;
  readonly model_root: string;
  /** True when all validators ended at one height with one state root and one model root. */
  readonly roots_agree: boolean;
  /** Bytes sent by all members in this run, and per settled round. */
  readonly bytes: number;
  readonly bytes_per_round: number | null;
  readonly seconds: number;
  /** Seconds from the start of the command until the first round of this run was open for training. */
  readonly seconds_to_first_round: number | null;
  readonly bootstrap_rss_bytes: number | null;
}

/** Puts the summary together from the last picture and the validators' end states. */
export function summarize(input: {
  readonly snapshot: Snapshot;
  readonly firstRound: number;
  /** Last round that belongs to the run, or null when it had no set end. */
  readonly lastRound: number | null;
  readonly validators: readonly NodeStatus[];
  readonly bootstrap: NodeStatus | undefined;
  readonly elapsedMs: number;
  readonly firstRoundMs: number | null;
}): RunSummary {
  const { snapshot, validators, firstRound } = input;
  const settled = snapshot.rounds.filter(
    ({ round }) => round >= firstRound && (input.lastRound === null || round <= input.lastRound),
  );
  const losses = settled.flatMap(({ heldOutLoss }) => (heldOutLoss === null ? [] : [heldOutLoss]));
  const reference = validators[0];
  const rootsAgree =
    reference !== undefined &&
    validators.length === snapshot.validators.length &&
    validators.every(
      ({ chain, training }) =>
        chain.height === reference.chain.height &&
        chain.stateRoot === reference.chain.stateRoot &&
        chain.modelRoot === reference.chain.modelRoot &&
        training.weightsRoot === chain.modelRoot,
    );
  const chain = reference?.chain;
  return {
    rounds: settled.length,
    loss_first: losses.at(0) ?? null,
    loss_last: losses.at(-1) ?? null,
    height: chain?.height ?? 0,
    epochs: chain?.epochs ?? 0,
    minted: chain?.totalIssuance ?? '0',
    issuance_expected:
      chain === undefined
        ? '0'
        : expectedIssuance(BigInt(chain.lastEpochTimeMs) - BigInt(chain.genesisTimeMs)).toString(),
    miners: snapshot.miners.map((miner) => ({
      name: miner.name,
      address: miner.address,
      accepted: miner.accepted,
      rejected: miner.rejected,
      last_score: miner.lastScore,
      earned: miner.balance.toString(),
      tokens_per_s: miner.tokensPerSecond,
      bytes_sent: miner.bytesSent,
      bytes_received: miner.bytesReceived,
      rss_bytes: miner.residentBytes,
    })),
    validators: snapshot.validators.map((validator) => ({
      name: validator.name,
      address: validator.address,
      height: validator.height,
      state_root: validator.stateRoot,
      model_root: validator.weightsRoot,
      earned: validator.balance.toString(),
      bytes_sent: validator.bytesSent,
      bytes_received: validator.bytesReceived,
      rss_bytes: validator.residentBytes,
    })),
    state_root: chain?.stateRoot ?? '',
    model_root: chain?.modelRoot ?? '',
    roots_agree: rootsAgree,
    bytes: snapshot.bytesSent,
    bytes_per_round: settled.length === 0 ? null : Math.round(snapshot.bytesSent / settled.length),
    seconds: Math.round(input.elapsedMs / 100) / 10,
    seconds_to_first_round: input.firstRoundMs === null ? null : Math.round(input.firstRoundMs / 100) / 10,
    bootstrap_rss_bytes: input.bootstrap?.residentBytes ?? null,
  };
}
