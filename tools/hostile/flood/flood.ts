/**
 * The flood beside an undisturbed run of the same network in the same session: what it costs those who are honest.
 *
 * What is held, and why so:
 *
 * - *Rate of rounds*, by block time, without the slowest round of each run: one stumble of a busy machine is not the flood,
 *   and an attack that stalls every few rounds shows all the same. Of all rounds and by the median stand beside it.
 * - *Pay by minute of block time*, of all honest miners, the newcomer included. Issuance is by time, so pay by round grows
 *   where rounds become slower, and would call that a gain; it stands beside it. And the rounds in which the three had
 *   accepted work: what a miner loses that gets no seat.
 * - *The newcomer*: a seat within the bound of docs/protocol.md for who was in line before it, accepted work soon after.
 * - *Blocks and state*: no more than the undisturbed run's and what the protocol lets the registrations and seats of the
 *   flood add; see {@link allowances}.
 */

import { newcomerSeats, type RunFigures } from './figures.ts';
import type { FloodReport } from './flood-process.ts';
import { KEYS_PER_MINUTE, type LocalRun, runLocal } from './local-run.ts';

/** Rounds by block time, and pay by block time, as shares of those of the undisturbed run. */
const MIN_ROUND_RATE = 0.8;
const MIN_PAY_SHARE = 0.9;

/** Openings beyond the bound for a seat within which a newcomer has accepted work. */
const SPARE_OPENINGS = 2;

/** Largest encodings (`node/chain/transaction.ts`): 108 bytes of envelope and signature, and the call's arguments. */
const REGISTRATION_BYTES = 108 + 114;
const COMMIT_BYTES = 108 + 37;
const REVEAL_BYTES = 108 + 301;
/** What a revealed submission adds to a validator's score sheet. */
const VERDICT_BYTES = 42;
/** What a registration keeps in the state (docs/protocol.md, *Registration*). */
const REGISTERED_BYTES = 440;
/** What a submission adds to the result of its round, at most: accounts, texts of a content id and a peer id, verdict. */
const RESULT_BYTES = 320;

/** Figures of the flood. Names are part of the tool's output. */
export interface FloodResult {
  readonly name: 'flood';
  readonly held: boolean;
  readonly lag_p99_ms: null;
  readonly rss_growth_mib: null;
  /** Shares of the undisturbed run; held are the rate without the slowest round, and pay by minute. */
  readonly round_rate: number | null;
  readonly round_rate_all: number | null;
  readonly round_rate_median: number | null;
  readonly pay_share: number | null;
  readonly pay_share_by_round: number | null;
  /** Part of what miners are paid that honest ones get. */
  readonly honest_share: number | null;
  readonly accepted_share: number | null;
  /** Openings from its registration until the newcomer had accepted work, and within how many it is to have. */
  readonly newcomer_rounds: number | null;
  readonly newcomer_bound: number | null;
  /** Bytes of an average block, of the flood's transactions by minute, and the bounds of both. */
  readonly block_bytes: number | null;
  readonly block_bytes_bound: number | null;
  readonly flood_bytes_per_minute: number | null;
  readonly flood_bytes_per_minute_bound: number | null;
  readonly state_bytes_per_minute: number | null;
  readonly state_bytes_per_minute_bound: number | null;
  readonly keys_per_minute: number;
  readonly priced: boolean;
  readonly broken: readonly string[];
  readonly claims: readonly string[];
  readonly undisturbed: Omit<LocalRun, 'genesis'> | null;
  readonly flooded: Omit<LocalRun, 'genesis'> | null;
  readonly notes: readonly string[];
}

/** Thrown when somebody ended it from the keyboard. */
export class InterruptedError extends Error {
  static readonly code = 'ERR_INTERRUPTED';
  readonly code = InterruptedError.code;
  override readonly name = 'InterruptedError';
}

/** What the protocol lets the flood add, for the registrations and openings that there were. Bytes of all measured rounds. */
function allowances(
  genesis: NonNullable<LocalRun['genesis']>,
  undisturbed: RunFigures,
  flooded: RunFigures,
): { readonly floodBytes: number; readonly blockBytes: number; readonly stateBytes: number } {
  const { parameters, corpus } = genesis;
  // The three honest miners are proven; and the newcomer, once it is one.
  const seats = newcomerSeats(parameters, corpus.trainingShards, 4) * flooded.floodSeats.length;
  const registrations = flooded.floodCalls.registerMiner ?? 0;
  const floodBytes = registrations * REGISTRATION_BYTES + seats * (COMMIT_BYTES + REVEAL_BYTES);
  const sheets = genesis.validators.length * seats * VERDICT_BYTES;
  const growth = Math.max(
    0,
    undisturbed.stateBytesPerRound * flooded.rounds,
    undisturbed.stateBytesPerMinute * flooded.minutes,
  );
  return {
    floodBytes,
    // Duties are by round; where a flood makes more blocks, the same duties are in more of them.
    blockBytes: undisturbed.blockBytes * flooded.blocks + floodBytes + sheets,
    stateBytes: growth + registrations * REGISTERED_BYTES + seats * RESULT_BYTES,
  };
}

type Claim = readonly [what: string, holds: boolean, found: string];

const percent = (share: number | null) => (share === null ? 'unknown' : `${(100 * share).toFixed(0)} %`);
const round3 = (value: number) => Math.round(1000 * value) / 1000;
const ratio = (part: number | null, whole: number | null) =>
  part === null || whole === null || whole === 0 ? null : round3(part / whole);

/** True when each of `kinds` was sent, and some of it taken, or refused, as it should be. */
function floodClaims(report: FloodReport | null, flooded: RunFigures, priced: boolean): Claim[] {
  if (report === null) return [['the attacker tells what it did', false, 'it did not']];
  const { sent, answers, due } = report;
  const registered = flooded.floodCalls.registerMiner ?? 0;
  const took = Math.max(0, ...flooded.floodSeats);
  const freeTaken = answers['free call']?.taken ?? 0;
  const unseatedTaken = answers['commit without a seat']?.taken ?? 0;
  const never: Claim[] = [
    ['no free call of an unknown account is taken', freeTaken === 0, `${freeTaken} of ${sent['free call'] ?? 0} taken`],
    ['the flood has no accepted work', flooded.floodAccepted === 0, `${flooded.floodAccepted}`],
    [
      'there are always shards that no seat was given',
      flooded.leastUnassigned > 0,
      `${flooded.leastUnassigned} at least`,
    ],
  ];
  // Someone who never had a seat may get one between what the attacker saw and what its node says.
  if (unseatedTaken > 0)
    never.push([
      'commits without a seat are taken only of who just got one',
      unseatedTaken <= flooded.floodSeats.length * 4,
      `${unseatedTaken} taken`,
    ]);
  if (priced) {
    const voidTaken = answers['register with void work']?.taken ?? 0;
    return [...never, ['work for another challenge registers nobody', voidTaken === 0, `${voidTaken} taken`]];
  }
  return [
    ...never,
    [
      'the flood is one: keys registered',
      registered >= Math.min(20, due / 4),
      `${registered} in blocks, ${due} were due`,
    ],
    ['the flood is one: it had seats', took > 0, `${took} in a round`],
  ];
}

function claimsOf(run: { undisturbed: RunFigures; flooded: LocalRun; priced: boolean }): {
  readonly claims: readonly Claim[];
  readonly figures: Partial<FloodResult>;
} {
  const { undisturbed, priced } = run;
  const { figures: flooded, genesis, flood } = run.flooded;
  if (flooded === null || genesis === null)
    return { claims: [['the flooded run has measured rounds', false, 'not one ended']], figures: {} };
  const roundRate = ratio(flooded.roundsPerMinuteWithoutSlowest, undisturbed.roundsPerMinuteWithoutSlowest);
  const payShare = ratio(flooded.payPerMinute, undisturbed.payPerMinute);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const acceptedShare = ratio(mean(flooded.minerAccepted), mean(undisturbed.minerAccepted));
  const allowed = allowances(genesis, undisturbed, flooded);
  const blockBound = allowed.blockBytes / Math.max(1, flooded.blocks);
  const floodPerMinute = flooded.floodBlockBytes / flooded.minutes;
  const floodBound = allowed.floodBytes / flooded.minutes;
  const stateBound = allowed.stateBytes / flooded.minutes;
  const { newcomer } = flooded;
  const newcomerBound = newcomer === null ? null : newcomer.seatBound + SPARE_OPENINGS;
  const after = newcomer?.acceptedAfter ?? null;
  const seen =
    newcomer === null ? 'it did not register' : `not within ${newcomer.openingsSeen} openings that the run saw`;
  const bytes = (value: number) => `${value.toFixed(0)} bytes`;
  const claims: Claim[] = [
    [`rounds at ${percent(MIN_ROUND_RATE)} at least`, (roundRate ?? 0) >= MIN_ROUND_RATE, percent(roundRate)],
    [`pay by block time at ${percent(MIN_PAY_SHARE)} at least`, (payShare ?? 0) >= MIN_PAY_SHARE, percent(payShare)],
    [
      `the three have accepted work in ${percent(MIN_PAY_SHARE)} at least as many rounds`,
      (acceptedShare ?? 0) >= MIN_PAY_SHARE,
      percent(acceptedShare),
    ],
    [
      `the newcomer has accepted work within ${newcomerBound ?? '?'} openings after its registration, behind ${newcomer?.ahead ?? '?'} in line`,
      newcomerBound !== null && after !== null && after <= newcomerBound,
      after === null ? seen : `after ${after}`,
    ],
    [`blocks of ${bytes(blockBound)} on average at most`, flooded.blockBytes <= blockBound, bytes(flooded.blockBytes)],
    [
      `the flood puts ${bytes(floodBound)} a minute at most into blocks`,
      floodPerMinute <= floodBound,
      bytes(floodPerMinute),
    ],
    [
      `the state grows by ${bytes(stateBound)} a minute at most`,
      flooded.stateBytesPerMinute <= stateBound,
      bytes(flooded.stateBytesPerMinute),
    ],
    ...floodClaims(flood, flooded, priced),
  ];
  return {
    claims,
    figures: {
      round_rate: roundRate,
      round_rate_all: ratio(flooded.roundsPerMinute, undisturbed.roundsPerMinute),
      round_rate_median: ratio(flooded.roundsPerMinuteByMedian, undisturbed.roundsPerMinuteByMedian),
      pay_share: payShare,
      pay_share_by_round: ratio(flooded.payPerRound, undisturbed.payPerRound),
      honest_share: flooded.honestShare === null ? null : round3(flooded.honestShare),
      accepted_share: acceptedShare,
      newcomer_rounds: after,
      newcomer_bound: newcomerBound,
      block_bytes: Math.round(flooded.blockBytes),
      block_bytes_bound: Math.round(blockBound),
      flood_bytes_per_minute: Math.round(floodPerMinute),
      flood_bytes_per_minute_bound: Math.round(floodBound),
      state_bytes_per_minute: Math.round(flooded.stateBytesPerMinute),
      state_bytes_per_minute_bound: Math.round(stateBound),
    },
  };
}

function withoutGenesis(run: LocalRun | null): Omit<LocalRun, 'genesis'> | null {
  if (run === null) return null;
  const { genesis: _, ...rest } = run;
  return rest;
}

/** Says what a run came to. */
function tell(run: LocalRun, say: (line: string) => void): void {
  const { figures, flood, restarts, failure } = run;
  if (figures === null) {
    say(`  no measured round ended (${failure ?? 'no reason known'})`);
    return;
  }
  const shown = figures.roundSeconds.map((seconds) => seconds.toFixed(1)).join(' ');
  say(`  ${figures.rounds} rounds of ${shown} s; ${figures.updated} updated the weights; ${restarts} restarts`);
  say(
    `  ${figures.blocks} blocks of ${figures.blockBytes.toFixed(0)} bytes; newcomer ${JSON.stringify(figures.newcomer)}`,
  );
  if (flood === null) return;
  say(`  flood in blocks: ${JSON.stringify(figures.floodCalls)}; its seats: ${figures.floodSeats.join(' ')}`);
  say(`  flood sent: ${JSON.stringify(flood.sent)}; what a node says to it: ${JSON.stringify(flood.answers)}`);
}

/** Runs both. Throws {@link InterruptedError} at SIGINT and SIGTERM, once all processes are gone; at a second one, at once. */
export async function runFlood(options: {
  readonly seed: number;
  readonly rounds: number;
  /** Longest time of each run once its network is at work. */
  readonly minutes: number;
  readonly priced: boolean;
  readonly say: (line: string) => void;
}): Promise<FloodResult> {
  const { seed, rounds, minutes, priced, say } = options;
  const controller = new AbortController();
  const interrupt = () => {
    // Members end with this process, whatever way it ends.
    if (controller.signal.aborted) process.exit(130);
    say('flood: ending all processes');
    controller.abort(new InterruptedError('interrupted'));
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  const run = async (flooded: boolean) => {
    say(`flood: the ${flooded ? 'flooded' : 'undisturbed'} run`);
    const { signal } = controller;
    const result = await runLocal({ seed, rounds, limitMs: minutes * 60_000, flooded, priced, signal, say });
    if (signal.aborted) throw signal.reason;
    tell(result, say);
    return result;
  };
  try {
    const undisturbed = await run(false);
    const flooded = await run(true);
    const ended = [undisturbed, flooded].flatMap(({ failure }, index): Claim[] =>
      failure === null ? [] : [[`the ${index === 0 ? 'undisturbed' : 'flooded'} run came to its end`, false, failure]],
    );
    const { claims, figures } =
      undisturbed.figures === null
        ? { claims: [['the undisturbed run has measured rounds', false, 'not one ended'] as const], figures: {} }
        : claimsOf({ undisturbed: undisturbed.figures, flooded, priced });
    const all = [...ended, ...claims];
    const line = ([what, , found]: Claim) => `${what}: ${found}`;
    for (const claim of all) say(`  ${claim[1] ? 'holds' : 'DOES NOT HOLD'}: ${line(claim)}`);
    const broken = all.filter(([, holds]) => !holds);
    return {
      name: 'flood',
      held: broken.length === 0,
      lag_p99_ms: null,
      rss_growth_mib: null,
      ...UNKNOWN,
      ...figures,
      keys_per_minute: KEYS_PER_MINUTE,
      priced,
      broken: broken.map(line),
      claims: all.map(line),
      undisturbed: withoutGenesis(undisturbed),
      flooded: withoutGenesis(flooded),
      notes: [
        'lag and memory are measured by the other attacks; here every process, the attacker among them, shares this machine',
        'pay is held by block time, of all honest miners: issuance is by time, so pay by round rewards slow rounds',
        priced
          ? 'registrations have the price of local networks; the attacker worked half a minute for them beforehand'
          : 'registrations are free in this network: the work is taken as done beforehand, which the protocol does not allow',
      ],
    };
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

/** Figures that are not known. */
const UNKNOWN = {
  round_rate: null,
  round_rate_all: null,
  round_rate_median: null,
  pay_share: null,
  pay_share_by_round: null,
  honest_share: null,
  accepted_share: null,
  newcomer_rounds: null,
  newcomer_bound: null,
  block_bytes: null,
  block_bytes_bound: null,
  flood_bytes_per_minute: null,
  flood_bytes_per_minute_bound: null,
  state_bytes_per_minute: null,
  state_bytes_per_minute_bound: null,
} as const;
