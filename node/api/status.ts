/**
 * What a running node tells about itself: over HTTP at `/status`, and to the process that started it.
 * Amounts are decimal strings of units, so that JSON keeps them exact.
 */

/** Roles a process can have. */
export const ROLES = ['bootstrap', 'validator', 'miner'] as const;
export type Role = (typeof ROLES)[number];

/** One submission of a settled round, as the ledger recorded it. */
export interface SubmissionStatus {
  readonly address: string;
  /** Median score in nats of held-out loss; null when too few validators could score it. */
  readonly score: number | null;
  readonly accepted: boolean;
  /** Why it was rejected, in words; empty when accepted. */
  readonly reason: string;
  readonly sizeBytes: number;
}

/** One settled round. */
export interface RoundStatus {
  readonly round: number;
  /** Held-out loss in nats before the round's update; null when nobody measured it. */
  readonly heldOutLoss: number | null;
  readonly submissions: readonly SubmissionStatus[];
  /** What became of the weights: see `Aggregation` in `node/ledger/round-records.ts`. */
  readonly aggregation: 'open' | 'updated' | 'nothingAccepted' | 'failed';
}

/** What an account earned in the last epoch that paid it, and for what. */
export interface RewardStatus {
  readonly epoch: number;
  readonly units: string;
  readonly reason: string;
}

/** What the node is busy with, in the role's own words. */
export interface WorkStatus {
  readonly activity: string;
  /** Training or evaluation speed of the last finished piece of work. */
  readonly tokensPerSecond: number | null;
  /** Training loss in nats of the last inner step. */
  readonly trainingLoss: number | null;
}

export interface NodeStatus {
  readonly role: Role;
  readonly name: string;
  readonly version: string;
  readonly pid: number;
  readonly network: string;
  readonly address: string;
  readonly peerId: string;
  readonly multiaddrs: readonly string[];
  readonly peers: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly residentBytes: number;
  readonly chain: {
    readonly height: number;
    readonly timeMs: number;
    readonly stateRoot: string;
    readonly modelRoot: string;
    readonly waitingTransactions: number;
    readonly totalIssuance: string;
    readonly epochs: number;
    /** Block time of the last epoch's end, in ms since the Unix epoch; genesis time before the first. */
    readonly lastEpochTimeMs: number;
    readonly genesisTimeMs: number;
  };
  readonly training: {
    /** Round that is open now; `round - 1` rounds have been settled. */
    readonly round: number;
    readonly phase: string;
    /** Seats of the open round, those among them whose accounts have accepted work, and accounts in line for one. */
    readonly seats: number;
    readonly provenSeats: number;
    readonly waitingForSeats: number;
    /** Round whose weights this node holds, and their root; null while it has none. */
    readonly weightsRound: number | null;
    readonly weightsRoot: string | null;
    /** The last settled rounds, oldest first, at most 64. */
    readonly rounds: readonly RoundStatus[];
  };
  readonly account: {
    readonly balance: string;
    readonly lastReward: RewardStatus | null;
  };
  readonly work: WorkStatus;
}
