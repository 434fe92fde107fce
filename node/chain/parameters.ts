/**
 * Parameters that genesis fixes and governance may later change. Everything that is a policy rather than a law of the
 * protocol is here, with its unit in its name.
 */
import * as v from 'valibot';
import { MAX_SCORES } from './transaction.ts';

const positiveInteger = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(Number.MAX_SAFE_INTEGER));
const integer = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
const partsPerMillion = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1_000_000));

/** Longest time that a parameter may set: keeps sums of times far from where numbers lose their exactness. */
const TEN_YEARS_MS = 315_360_000_000;

/** Schema of the parameters; also what a genesis file is checked against. */
export const parametersSchema = v.strictObject({
  consensus: v.strictObject({
    /** Tendermint timeouts: base for round 0 and what each further round adds (DESIGN 5). */
    proposeTimeoutMs: positiveInteger,
    proposeTimeoutDeltaMs: integer,
    prevoteTimeoutMs: positiveInteger,
    prevoteTimeoutDeltaMs: integer,
    precommitTimeoutMs: positiveInteger,
    precommitTimeoutDeltaMs: integer,
    /** Pause after a block before the next is proposed when transactions wait: lets them gather. */
    blockIntervalMs: positiveInteger,
    /** Longest time without a block when nothing waits. */
    emptyBlockIntervalMs: positiveInteger,
    /** A block's time may be at most this far ahead of a voter's clock. */
    clockDriftMs: positiveInteger,
    maxTransactionsPerBlock: positiveInteger,
  }),
  rounds: v.strictObject({
    /** Deadlines of the phases of a training round, in block time, from the start of the phase. */
    trainDeadlineMs: positiveInteger,
    revealDeadlineMs: positiveInteger,
    scoreDeadlineMs: positiveInteger,
    scoreRevealDeadlineMs: positiveInteger,
    /** After this, validators that did not agree on new weights leave the round with the old ones. */
    aggregateDeadlineMs: positiveInteger,
    /** What seats without accepted work in recent rounds have for training, and for revealing, in any case. */
    trainMinimumMs: integer,
    revealMinimumMs: integer,
    /** A submission scoring below this share of the round's median positive score is rejected (ANCHORS 3b: a quarter). */
    acceptanceFloorPpm: partsPerMillion,
    /** Most seats, and so submissions, of a round; at most as many as a score sheet holds verdicts. */
    maxSeats: v.pipe(
      positiveInteger,
      v.minValue(2),
      v.maxValue(MAX_SCORES, `a score sheet holds at most ${MAX_SCORES} verdicts`),
    ),
    /** Seats for newcomers: this many, or this share of the accounts with accepted work, whichever is more. */
    newcomerSeats: positiveInteger,
    newcomerSeatsPpm: partsPerMillion,
    /** Seats together are assigned at most this share of the training shards; scoring draws from the others. */
    assignedShardsPpm: v.pipe(partsPerMillion, v.minValue(1)),
    /** An account whose last so many seats brought no accepted work is a newcomer again. */
    idleRounds: v.pipe(positiveInteger, v.maxValue(255)),
    /** A newcomer whose last so many seats brought no accepted work has to register again. */
    newcomerTries: v.pipe(positiveInteger, v.maxValue(16)),
    /**
     * Openings that a seat which came to nothing costs, doubled with each further one in a row: of a newcomer any such
     * seat, of an account with accepted work one in which it did not commit or did not reveal.
     */
    noShowRounds: v.pipe(positiveInteger, v.maxValue(1_000_000)),
    /** Weights are published as a checkpoint every so many rounds. */
    checkpointEveryRounds: positiveInteger,
    /** Shards of the training pool given to each seat in a round. */
    shardsPerMiner: positiveInteger,
    /** Sequences that each validator draws to score a round, half of them from the reserved shards. */
    scoringSequences: positiveInteger,
  }),
  economics: v.strictObject({
    /** An epoch settles at the first round that closes after this time and has something to reward. */
    epochMs: positiveInteger,
    /** Shares of what an epoch mints; they add up to one million. */
    minerSharePpm: partsPerMillion,
    validatorSharePpm: partsPerMillion,
    infrastructureSharePpm: partsPerMillion,
    /** Most transactions of one account in one block: what bounds the calls that cost nothing. */
    transactionsPerAccountPerBlock: positiveInteger,
    /** A transfer neither leaves nor makes a balance below this, except zero. In units. */
    existentialDeposit: integer,
    /** Fee of a paying call: this, and so much for each byte of the transaction. In units. */
    baseFee: integer,
    feePerByte: integer,
    /** Share of every fee that is burned; the rest goes to the infrastructure pot. */
    feeBurnPpm: partsPerMillion,
    /** Rewards unlock over this time, in equal steps; 0 pays at once. */
    vestingMs: v.pipe(integer, v.maxValue(TEN_YEARS_MS)),
  }),
  staking: v.strictObject({
    /** Size of the validator set: those with most power. */
    maxValidators: v.pipe(positiveInteger, v.maxValue(256)),
    /** Growing stakes and fading genesis weight act on the validator set every so many blocks; losses act at once. */
    validatorSetIntervalBlocks: v.pipe(positiveInteger, v.maxValue(1_000_000)),
    /** Genesis weight falls linearly to zero over this time since genesis. */
    genesisWeightFadeMs: positiveInteger,
    /** Units of bonded stake that make one unit of voting power. */
    unitsPerPower: v.pipe(positiveInteger, v.minValue(1000)),
    /** Least stake of a validator. In units. */
    minimumBond: positiveInteger,
    /**
     * Unbonded stake is free once both are over: the time, on which light clients rely, and the blocks, within which
     * evidence counts.
     */
    unbondingMs: v.pipe(positiveInteger, v.maxValue(TEN_YEARS_MS)),
    unbondingBlocks: v.pipe(positiveInteger, v.maxValue(100_000_000)),
    /** Equivocations at heights at most this far apart count as one offence of all who did it. */
    offenceWindowBlocks: v.pipe(integer, v.maxValue(100_000_000)),
    /** Share of slashed stake that is burned; the rest goes to the infrastructure pot. */
    slashBurnPpm: partsPerMillion,
    /** A validator that reveals no scores in this many scored rounds in a row is jailed; 0: never. */
    absentRoundsToJail: integer,
    /** Time before a jailed validator may come back. */
    jailMs: v.pipe(positiveInteger, v.maxValue(TEN_YEARS_MS)),
  }),
  /** What a registration costs and how long it lasts (`ledger/registration-price.ts`, `registration-expiry.ts`). */
  registration: v.strictObject({
    /** Hashes (2 ms of a core each) that a registration takes while it is quiet; 0: registrations are free. */
    baseWork: v.pipe(integer, v.maxValue(1_000_000)),
    /** Units that a registration may hold instead of work while it is quiet; 0: no bonds. */
    bond: integer,
    /** Registrations an hour that leave the price where it is. */
    perHour: v.pipe(positiveInteger, v.maxValue(1_000_000)),
    /** So many registrations in a burst double the price. */
    doubling: v.pipe(positiveInteger, v.maxValue(1_000_000)),
    /** Most registrations of a block. */
    maxPerBlock: v.pipe(positiveInteger, v.maxValue(1000)),
    /** Work is for a challenge at most twice as old as this. */
    challengeMs: v.pipe(positiveInteger, v.maxValue(TEN_YEARS_MS)),
    /** A registration without newly accepted work in this time is forgotten. */
    expiryMs: v.pipe(positiveInteger, v.maxValue(TEN_YEARS_MS)),
  }),
  /** Training recipe; read by kernels and roles, opaque to the ledger except for being the same for all. */
  training: v.strictObject({
    batchSequences: positiveInteger,
    /** Bounds on inner steps in a round; the device's measured speed decides in between (DESIGN 6.2). */
    minInnerSteps: positiveInteger,
    maxInnerSteps: positiveInteger,
    /** Time that a miner aims to spend on inner steps in a round. */
    trainTargetMs: positiveInteger,
    innerLearningRate: v.pipe(v.number(), v.gtValue(0)),
    /** Inner learning rate rises linearly over this many rounds. */
    warmupRounds: integer,
    weightDecay: v.pipe(v.number(), v.minValue(0)),
    outerStep: v.pipe(v.number(), v.gtValue(0)),
    /** Share of the outer step at which submissions are tried when scored (DESIGN 6.5: about a fifth). */
    scoringStepShare: v.pipe(v.number(), v.gtValue(0), v.maxValue(1)),
    errorFeedbackDecay: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
    /** Elements kept of each chunk of 4096. */
    topK: positiveInteger,
    /** Bits of a kept value: 2, 8 or 32. */
    valueBits: v.picklist([2, 8, 32]),
  }),
});

/** Network parameters, as genesis holds them. */
export type Parameters = v.InferOutput<typeof parametersSchema>;

/** Thrown when parameters are out of their bounds or contradict each other. */
export class InvalidParametersError extends Error {
  static readonly code = 'ERR_INVALID_PARAMETERS';
  readonly code = InvalidParametersError.code;
  override readonly name = 'InvalidParametersError';
}

/** Checks types, bounds, and what has to fit together. Throws {@link InvalidParametersError} naming what is wrong. */
export function checkParameters(value: unknown): Parameters {
  const result = v.safeParse(parametersSchema, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw new InvalidParametersError(`${v.getDotPath(issue) ?? 'parameters'}: ${issue.message}`);
  }
  const { minerSharePpm, validatorSharePpm, infrastructureSharePpm } = result.output.economics;
  if (minerSharePpm + validatorSharePpm + infrastructureSharePpm !== 1_000_000) {
    throw new InvalidParametersError('the reward shares do not add up to 1,000,000 ppm');
  }
  const { trainMinimumMs, trainDeadlineMs, revealMinimumMs, revealDeadlineMs } = result.output.rounds;
  if (trainMinimumMs > trainDeadlineMs || revealMinimumMs > revealDeadlineMs) {
    throw new InvalidParametersError('the minimum time of a phase is longer than its deadline');
  }
  return result.output;
}

/**
 * Seats that a corpus has room for: `maxSeats`, or as many as are assigned `assignedShardsPpm` of the training shards
 * together. Two at least, one for an account with accepted work and one for a newcomer, whatever the corpus; genesis
 * refuses one in which those two would have to share shards.
 */
export function seatLimit(
  { maxSeats, assignedShardsPpm, shardsPerMiner }: Parameters['rounds'],
  trainingShards: number,
): number {
  const room = Math.floor((trainingShards * assignedShardsPpm) / (1_000_000 * shardsPerMiner));
  return Math.max(2, Math.min(maxSeats, room));
}
