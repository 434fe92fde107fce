/**
 * Parameters that genesis fixes and governance may later change. Everything that is a policy rather than a law of the
 * protocol is here, with its unit in its name.
 */
import * as v from 'valibot';

const positiveInteger = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(Number.MAX_SAFE_INTEGER));
const integer = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
const partsPerMillion = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1_000_000));

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
    /** A submission scoring below this share of the round's median positive score is rejected (ANCHORS 3b: a quarter). */
    acceptanceFloorPpm: partsPerMillion,
    /** Most submissions taken in one round; further commits are refused. */
    maxSubmissions: positiveInteger,
    /** A miner that did not commit for this many rounds is no longer waited for. */
    idleRounds: positiveInteger,
    /** Weights are published as a checkpoint every so many rounds. */
    checkpointEveryRounds: positiveInteger,
    /** Shards of the training pool given to each miner in a round. */
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
    /** Most transactions of one account in one block while fees are zero. */
    transactionsPerAccountPerBlock: positiveInteger,
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
