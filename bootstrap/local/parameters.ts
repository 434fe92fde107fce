/**
 * Parameters of a local network: everything happens in seconds, so that a person can watch it.
 */
import type { Parameters } from '../../node/chain/parameters.ts';

/** Seats for which there are to be shards, however small the corpus: a few miners and a few who join. */
const SEATS_WANTED = 10;
/** Share of the training shards that seats are assigned; validators score on the others. */
const ASSIGNED_PPM = 500_000;

/**
 * Parameters for eight processes that share one small machine; miners train `trainSeconds` in a round on a part of
 * `trainingShards` shards.
 */
export function localParameters(trainSeconds: number, trainingShards: number): Parameters {
  const shardsPerMiner = Math.floor((trainingShards * ASSIGNED_PPM) / (1_000_000 * SEATS_WANTED));
  const trainTargetMs = Math.round(trainSeconds * 1000);
  return {
    consensus: {
      // A process that shares a core with training may be late by hundreds of milliseconds.
      proposeTimeoutMs: 1500,
      proposeTimeoutDeltaMs: 500,
      prevoteTimeoutMs: 800,
      prevoteTimeoutDeltaMs: 400,
      precommitTimeoutMs: 800,
      precommitTimeoutDeltaMs: 400,
      blockIntervalMs: 100,
      emptyBlockIntervalMs: 1000,
      clockDriftMs: 5000,
      maxTransactionsPerBlock: 256,
    },
    rounds: {
      // A process that was just started, or shares its core with many, may take several times as long.
      trainDeadlineMs: 5 * trainTargetMs + 20_000,
      revealDeadlineMs: 8000,
      scoreDeadlineMs: 20_000,
      scoreRevealDeadlineMs: 8000,
      // Agreed within seconds where nothing is wrong.
      aggregateDeadlineMs: 30_000,
      // About what the others need as well: strangers that do nothing cost them next to nothing.
      trainMinimumMs: trainTargetMs + 1000,
      revealMinimumMs: 700,
      acceptanceFloorPpm: 250_000,
      maxSeats: 64,
      newcomerSeats: 4,
      newcomerSeatsPpm: 100_000,
      assignedShardsPpm: ASSIGNED_PPM,
      idleRounds: 2,
      newcomerTries: 3,
      noShowRounds: 1,
      checkpointEveryRounds: 5,
      shardsPerMiner: Math.min(8, Math.max(1, shardsPerMiner)),
      scoringSequences: 32,
    },
    economics: {
      epochMs: 20_000,
      minerSharePpm: 800_000,
      validatorSharePpm: 150_000,
      infrastructureSharePpm: 50_000,
      transactionsPerAccountPerBlock: 16,
      existentialDeposit: 1_000_000_000,
      baseFee: 100_000_000,
      feePerByte: 1_000_000,
      feeBurnPpm: 1_000_000,
      // Nobody cheats oneself: what is earned is there at once, so that a person can try what it is good for.
      vestingMs: 0,
    },
    staking: {
      maxValidators: 64,
      validatorSetIntervalBlocks: 5,
      genesisWeightFadeMs: 63_072_000_000,
      // One ALICE is one vote; a founder has a thousand.
      unitsPerPower: 1_000_000_000_000,
      minimumBond: 1_000_000_000_000,
      unbondingMs: 60_000,
      unbondingBlocks: 200,
      offenceWindowBlocks: 100,
      slashBurnPpm: 1_000_000,
      absentRoundsToJail: 20,
      jailMs: 30_000,
    },
    registration: {
      // A quarter of a second of a core, and several times that where four processes share one.
      baseWork: 128,
      // One ALICE.
      bond: 1_000_000_000_000,
      perHour: 3600,
      doubling: 16,
      maxPerBlock: 8,
      challengeMs: 600_000,
      expiryMs: 3 * 86_400_000,
    },
    training: {
      batchSequences: 8,
      minInnerSteps: 4,
      maxInnerSteps: 64,
      trainTargetMs,
      innerLearningRate: 0.003,
      warmupRounds: 2,
      weightDecay: 0.1,
      outerStep: 1.3,
      scoringStepShare: 0.2,
      errorFeedbackDecay: 0.95,
      topK: 128,
      valueBits: 2,
    },
  };
}
