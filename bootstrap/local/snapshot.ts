/**
 * One picture of a local network, put together from the latest status of each member.
 */
import type { NodeStatus, RoundStatus } from '../../node/api/status.ts';
import type { Supervisor } from './supervisor.ts';

/** How one miner is doing. */
export interface MinerRow {
  readonly name: string;
  readonly state: string;
  readonly address: string;
  readonly lastScore: number | null;
  readonly accepted: number;
  readonly rejected: number;
  /** Earned so far, in units. */
  readonly balance: bigint;
  readonly activity: string;
  readonly tokensPerSecond: number | null;
  readonly trainingLoss: number | null;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly residentBytes: number;
}

/** How one validator is doing. */
export interface ValidatorRow {
  readonly name: string;
  readonly state: string;
  readonly address: string;
  readonly height: number;
  readonly stateRoot: string;
  readonly weightsRound: number | null;
  readonly weightsRoot: string | null;
  readonly balance: bigint;
  readonly activity: string;
  readonly peers: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly residentBytes: number;
}

export interface Snapshot {
  readonly network: string;
  readonly height: number;
  readonly round: number;
  readonly phase: string;
  readonly epochs: number;
  readonly totalIssuance: bigint;
  /** Settled rounds that are still known, oldest first. */
  readonly rounds: readonly RoundStatus[];
  readonly miners: readonly MinerRow[];
  readonly validators: readonly ValidatorRow[];
  /** Bytes that all members sent since they started. */
  readonly bytesSent: number;
}

/** Rounds remembered, hours of a local network; the oldest are forgotten first. */
const MAX_ROUNDS = 4096;

/** Remembers what single status reports forget: rounds that left the window, counts per miner. */
export class NetworkHistory {
  readonly #rounds = new Map<number, RoundStatus>();

  /** Settled rounds seen so far, in ascending order. */
  rounds(): RoundStatus[] {
    return [...this.#rounds.values()].sort((a, b) => a.round - b.round);
  }

  /** Takes in the present status of all members and returns the whole picture. */
  observe(supervisor: Supervisor): Snapshot {
    const members = supervisor.members();
    const statuses = members.flatMap(({ status }) => (status === undefined ? [] : [status]));
    for (const status of statuses) {
      for (const round of status.training.rounds) this.#rounds.set(round.round, round);
    }
    for (const round of this.#rounds.keys()) {
      if (this.#rounds.size <= MAX_ROUNDS) break;
      this.#rounds.delete(round);
    }
    const rounds = this.rounds();
    const ahead = statuses.reduce<NodeStatus | undefined>(
      (best, status) => (best === undefined || status.chain.height > best.chain.height ? status : best),
      undefined,
    );
    return {
      network: ahead?.network ?? '',
      height: ahead?.chain.height ?? 0,
      round: ahead?.training.round ?? 0,
      phase: ahead?.training.phase ?? 'starting',
      epochs: ahead?.chain.epochs ?? 0,
      totalIssuance: BigInt(ahead?.chain.totalIssuance ?? 0),
      rounds,
      bytesSent: statuses.reduce((sum, status) => sum + status.bytesSent, 0),
      miners: members.flatMap(({ member, state, status }): MinerRow[] => {
        if (member.role !== 'miner') return [];
        const own = rounds.flatMap((round) => round.submissions.filter(({ address }) => address === status?.address));
        return [
          {
            name: member.name,
            state,
            address: status?.address ?? '',
            lastScore: own.at(-1)?.score ?? null,
            accepted: own.filter(({ accepted }) => accepted).length,
            rejected: own.filter(({ accepted }) => !accepted).length,
            balance: BigInt(status?.account.balance ?? 0),
            activity: state === 'running' ? (status?.work.activity ?? '') : state,
            tokensPerSecond: status?.work.tokensPerSecond ?? null,
            trainingLoss: status?.work.trainingLoss ?? null,
            bytesSent: status?.bytesSent ?? 0,
            bytesReceived: status?.bytesReceived ?? 0,
            residentBytes: status?.residentBytes ?? 0,
          },
        ];
      }),
      validators: members.flatMap(({ member, state, status }): ValidatorRow[] => {
        if (member.role !== 'validator') return [];
        return [
          {
            name: member.name,
            state,
            address: status?.address ?? '',
            height: status?.chain.height ?? 0,
            stateRoot: status?.chain.stateRoot ?? '',
            weightsRound: status?.training.weightsRound ?? null,
            weightsRoot: status?.training.weightsRoot ?? null,
            balance: BigInt(status?.account.balance ?? 0),
            activity: state === 'running' ? (status?.work.activity ?? '') : state,
            peers: status?.peers ?? 0,
            bytesSent: status?.bytesSent ?? 0,
            bytesReceived: status?.bytesReceived ?? 0,
            residentBytes: status?.residentBytes ?? 0,
          },
        ];
      }),
    };
  }
}
