/**
 * The flood beside an undisturbed run of the same network in the same session: what it costs those who are honest.
 */
import { KEYS_PER_MINUTE, type LocalRunFigures, runLocal } from './local-run.ts';

/** Rounds by block time, and pay by round, as shares of those of the undisturbed run. */
const MIN_ROUND_RATE = 0.8;
const MIN_PAY_SHARE = 0.9;
/**
 * Bounds that go with it: rounds until a newcomer has accepted work, bytes of an average block, and bytes by which the
 * state grows in a round.
 */
const MAX_NEWCOMER_ROUNDS = 12;
const MAX_BLOCK_BYTES = 8 * 1024;
const MAX_STATE_BYTES_PER_ROUND = 64 * 1024;

/** Longest time of each of the two runs after its start. */
const LIMIT_MS = 200_000;

/** Figures of the flood. Names are part of the tool's output. */
export interface FloodResult {
  readonly name: 'flood';
  readonly held: boolean;
  readonly lag_p99_ms: null;
  readonly rss_growth_mib: null;
  readonly round_rate: number;
  readonly pay_share: number;
  readonly newcomer_rounds: number | null;
  readonly block_bytes: number;
  /** By round. */
  readonly state_bytes: number;
  readonly keys_per_minute: number;
  readonly broken: readonly string[];
  readonly undisturbed: LocalRunFigures;
  readonly flooded: LocalRunFigures;
  readonly notes: readonly string[];
}

/** Runs both. */
export async function runFlood(options: {
  readonly seed: number;
  readonly rounds: number;
  readonly say: (line: string) => void;
}): Promise<FloodResult> {
  const { seed, rounds, say } = options;
  say('flood: the undisturbed run');
  const undisturbed = await runLocal({ seed, rounds, limitMs: LIMIT_MS, flooded: false, say });
  say(`  ${JSON.stringify(undisturbed)}`);
  say('flood: the flooded run');
  const flooded = await runLocal({ seed, rounds, limitMs: LIMIT_MS, flooded: true, say });
  say(`  ${JSON.stringify(flooded)}`);
  const roundRate = flooded.roundsPerMinute / undisturbed.roundsPerMinute;
  const payShare = flooded.payPerRound / undisturbed.payPerRound;
  const claims: readonly (readonly [string, boolean, string])[] = [
    [`rounds at ${100 * MIN_ROUND_RATE} %`, roundRate >= MIN_ROUND_RATE, `${(100 * roundRate).toFixed(0)} %`],
    [`pay at ${100 * MIN_PAY_SHARE} %`, payShare >= MIN_PAY_SHARE, `${(100 * payShare).toFixed(0)} %`],
    [
      `the newcomer has accepted work within ${MAX_NEWCOMER_ROUNDS} rounds`,
      flooded.newcomerRounds !== null && flooded.newcomerRounds <= MAX_NEWCOMER_ROUNDS,
      flooded.newcomerRounds === null ? `not within ${flooded.rounds}` : `after ${flooded.newcomerRounds}`,
    ],
    [
      `blocks under ${MAX_BLOCK_BYTES} bytes on average`,
      flooded.blockBytes < MAX_BLOCK_BYTES,
      `${flooded.blockBytes.toFixed(0)} bytes`,
    ],
    [
      `the state grows by less than ${MAX_STATE_BYTES_PER_ROUND} bytes a round`,
      flooded.stateBytesPerRound < MAX_STATE_BYTES_PER_ROUND,
      `${flooded.stateBytesPerRound.toFixed(0)} bytes`,
    ],
  ];
  const broken = claims.filter(([, holds]) => !holds).map(([what, , found]) => `${what}: ${found}`);
  for (const line of broken) say(`    ${line}`);
  return {
    name: 'flood',
    held: broken.length === 0,
    lag_p99_ms: null,
    rss_growth_mib: null,
    round_rate: Math.round(1000 * roundRate) / 1000,
    pay_share: Math.round(1000 * payShare) / 1000,
    newcomer_rounds: flooded.newcomerRounds,
    block_bytes: Math.round(flooded.blockBytes),
    state_bytes: Math.round(flooded.stateBytesPerRound),
    keys_per_minute: KEYS_PER_MINUTE,
    broken,
    undisturbed,
    flooded,
    notes: [
      'lag and memory are measured by the other attacks; here every process has a share of two cores',
      'registrations are free in this network: the work is taken as done beforehand',
    ],
  };
}
