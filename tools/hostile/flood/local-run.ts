/**
 * One run of a local network of real processes for the flood: 4 validators, 3 honest miners, and one more that joins once
 * the others are at work; with or without the flood. What it comes to is read from the chain afterwards.
 */
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type LocalNetwork, prepareLocalNetwork, writeNetworkFile } from '../../../bootstrap/local/prepare.ts';
import { Supervisor } from '../../../bootstrap/local/supervisor.ts';
import type { NodeStatus } from '../../../node/api/status.ts';
import { type AccountId, accountFromAddress } from '../../../node/chain/account.ts';
import type { Genesis } from '../../../node/chain/genesis.ts';
import { Member } from '../arena/arena.ts';
import { readChain } from './chain-reading.ts';
import { figuresOf, type RunFigures } from './figures.ts';
import type { FloodOffers, FloodReport, FloodSetup } from './flood-process.ts';

export interface LocalRunSetup {
  readonly seed: number;
  /** Rounds that are measured. */
  readonly rounds: number;
  /** Longest time of the run, once the network is at work. */
  readonly limitMs: number;
  readonly flooded: boolean;
  /** Registrations have the price of local networks; else they are free, as if all work had been done beforehand. */
  readonly priced: boolean;
  /** Ends the run early; what it has is read all the same. */
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** What a run came to. */
export interface LocalRun {
  readonly genesis: Genesis | null;
  /** Null when not one measured round ended. */
  readonly figures: RunFigures | null;
  readonly flood: FloodReport | null;
  /** Processes of the product that crashed and were started again. */
  readonly restarts: number;
  /** Why it ended before its time. */
  readonly failure: string | null;
}

const VALIDATORS = 4;
const HONEST_MINERS = 3;
const TRAIN_SECONDS = 2;
export const KEYS_PER_MINUTE = 200;

/** Rounds before anything is measured: everybody has accepted work by then, and the first rounds of a network are slow. */
const WARM_UP_ROUNDS = 3;
/** Time for these, where eight processes start on a machine that is busy. */
const WARM_UP_MS = 240_000;
/** Seconds for which the attacker works for registrations where they have a price, while the network warms up. */
const WORK_SECONDS = 30;
/** How often the run looks at the network. */
const LOOK_MS = 200;

function withoutPrice(genesis: Genesis): Genesis {
  const { parameters } = genesis;
  return { ...genesis, parameters: { ...parameters, registration: { ...parameters.registration, baseWork: 0 } } };
}

/** What has happened so far, for whoever reads the chain when the run has ended, in whatever way. */
interface Progress {
  network: LocalNetwork | undefined;
  firstRound: number | undefined;
  newcomer: AccountId | undefined;
  miners: readonly AccountId[];
  flood: Member<FloodOffers> | undefined;
  report: FloodReport | undefined;
}

/** See the head of this file. Never throws: a run that fails tells why, and what it has. */
export async function runLocal(setup: LocalRunSetup): Promise<LocalRun> {
  const { say } = setup;
  const dir = await mkdtemp(join(tmpdir(), 'alice-flood-'));
  // Whoever is impatient leaves no folder behind either; the members end by themselves.
  const clear = () => rmSync(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  process.once('exit', clear);
  // Members run the product's own command line, whatever program this is.
  const entry = process.argv[1];
  process.argv[1] = fileURLToPath(new URL('../../../bin/alice.ts', import.meta.url));
  const supervisor = new Supervisor();
  supervisor.on('notice', (line) => say(`  ${line}`));
  supervisor.on('failed', ({ message }) => say(`  ${message}`));
  const progress: Progress = {
    network: undefined,
    firstRound: undefined,
    newcomer: undefined,
    miners: [],
    flood: undefined,
    report: undefined,
  };
  let failure: string | null = null;
  try {
    try {
      await perform(setup, dir, supervisor, progress);
    } catch (error) {
      failure = setup.signal.aborted ? 'interrupted' : (error as Error).message;
      say(`  the run ends early: ${failure}`);
    }
    progress.report ??= await reportOf(progress.flood);
    await progress.flood?.end();
    await supervisor.stop();
    const restarts = supervisor.members().reduce((total, { restarts: own }) => total + own, 0);
    const figures = failure === 'interrupted' ? null : read(progress, setup, say);
    const flood = progress.report ?? null;
    return { genesis: progress.network?.genesis ?? null, figures, flood, restarts, failure };
  } finally {
    await progress.flood?.end();
    await supervisor.stop();
    if (entry !== undefined) process.argv[1] = entry;
    await rm(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    process.off('exit', clear);
  }
}

/** What the attacker says of itself; it may be gone, or too busy to say anything. */
async function reportOf(flood: Member<FloodOffers> | undefined): Promise<FloodReport | undefined> {
  if (flood?.alive !== true) return undefined;
  const answer = flood.line.ask('report', null).catch(() => undefined);
  return Promise.race([answer, delay(10_000, undefined, { ref: false })]);
}

/** Takes a network through the run. Throws when it cannot go on. */
async function perform(setup: LocalRunSetup, dir: string, supervisor: Supervisor, progress: Progress): Promise<void> {
  const { seed, rounds, flooded, priced, signal, say } = setup;
  const prepared = await prepareLocalNetwork(
    {
      dir,
      rounds: 0,
      corpus: undefined,
      model: undefined,
      validators: VALIDATORS,
      seed,
      trainSeconds: TRAIN_SECONDS,
      miners: HONEST_MINERS + 1,
      device: 'cpu',
      backend: 'auto',
      precision: 'fp32',
      fresh: true,
      assumeYes: true,
      json: true,
    },
    { say: () => {}, signal },
  );
  const network = priced ? prepared : { ...prepared, genesis: withoutPrice(prepared.genesis) };
  progress.network = network;
  await writeNetworkFile(network, []);
  const bootstrap = await supervisor.start(network.bootstrap, { signal });
  await writeNetworkFile(network, bootstrap.multiaddrs);
  const honest = network.miners.slice(0, HONEST_MINERS);
  const newcomer = network.miners[HONEST_MINERS];
  if (newcomer === undefined) throw new Error('no newcomer');
  await Promise.all([...network.validators, ...honest].map((member) => supervisor.start(member, { signal })));
  const address = (name: string) => supervisor.status(name)?.address ?? '';
  progress.miners = honest.map(({ name }) => accountFromAddress(address(name)));
  say('  the network runs');

  const statuses = () => network.validators.flatMap(({ name }) => supervisor.status(name) ?? []);
  const best = (): NodeStatus | undefined => statuses().sort((a, b) => b.chain.height - a.chain.height)[0];
  const openRound = () => best()?.training.round ?? 0;
  const startedMs = performance.now();
  let told = 0;
  /** Waits until `condition`, telling of each round; false when the time was over before. */
  const until = async (condition: () => boolean, limitMs: number): Promise<boolean> => {
    const fromMs = performance.now();
    for (;;) {
      signal.throwIfAborted();
      const status = best();
      if (status !== undefined && status.training.round > told) {
        const { round, seats, provenSeats, waitingForSeats } = status.training;
        told = round;
        const second = Math.round((performance.now() - startedMs) / 1000);
        const line = `${seats} seats, ${provenSeats} of them proven, ${waitingForSeats} in line`;
        say(`  ${second} s: round ${round} opens at height ${status.chain.height}, ${line}`);
      }
      if (condition()) return true;
      if (performance.now() - fromMs > limitMs) return false;
      await delay(LOOK_MS);
    }
  };

  if (flooded) {
    const floodSetup: FloodSetup = {
      dir: join(dir, 'flood'),
      networkFile: join(dir, 'network.json'),
      seed,
      keysPerMinute: KEYS_PER_MINUTE,
      keys: Math.ceil((KEYS_PER_MINUTE * setup.limitMs) / 60_000),
      targets: statuses().flatMap(({ multiaddrs }) => multiaddrs.slice(0, 1)),
    };
    progress.flood = await Member.start<FloodOffers>(
      'flood',
      '../flood/flood-process.ts',
      floodSetup,
      join(dir, 'flood'),
    );
    say('  the attacker has its keys, and follows the chain');
  }
  const working = priced ? progress.flood?.line.ask('work', { seconds: WORK_SECONDS }) : undefined;
  // Looked at below; it may fail while something else is waited for.
  working?.catch(() => {});
  const from = openRound();
  if (!(await until(() => openRound() >= from + WARM_UP_ROUNDS, WARM_UP_MS)))
    throw new Error(`${WARM_UP_ROUNDS} rounds took more than ${WARM_UP_MS / 1000} s before anything was measured`);
  await working;

  const beganMs = performance.now();
  const left = () => setup.limitMs - (performance.now() - beganMs);
  if (progress.flood !== undefined) {
    await progress.flood.line.ask('begin', null);
    say('  the flood has begun');
  }
  const first = openRound() + 1;
  progress.firstRound = first;
  await until(() => openRound() >= first, left());
  if (left() <= 0) throw new Error(`not one round in ${setup.limitMs / 1000} s`);
  say(`  the newcomer joins in round ${openRound()}`);
  const joined = await supervisor.start(newcomer, { signal });
  progress.newcomer = accountFromAddress(joined.address);
  const inTime = await until(() => openRound() >= first + rounds, left());
  if (!inTime) throw new Error(`${Math.max(0, openRound() - first)} of ${rounds} rounds in ${setup.limitMs / 1000} s`);
  const earned = () =>
    best()?.training.rounds.some(({ submissions }) =>
      submissions.some((one) => one.address === joined.address && one.accepted),
    ) === true;
  if (!earned()) {
    say('  all rounds are over; the newcomer has no accepted work yet, and gets what time is left');
    // What is missing then is among the figures.
    await until(earned, left());
  }
  progress.report = await reportOf(progress.flood);
}

/** Figures from the chain of a validator that has all measured rounds, or else most of them. */
function read(progress: Progress, setup: LocalRunSetup, say: (line: string) => void): RunFigures | null {
  const { network, firstRound, miners, newcomer } = progress;
  if (network === undefined || firstRound === undefined) return null;
  const { genesis, validators } = network;
  const problems: string[] = [];
  let best: RunFigures | undefined;
  for (const { dir } of validators) {
    try {
      const reading = readChain(genesis, join(dir, 'chain.sqlite'));
      const figures = figuresOf(reading, {
        parameters: genesis.parameters,
        trainingShards: genesis.corpus.trainingShards,
        miners,
        newcomer,
        validators: genesis.validators.map(({ address }) => accountFromAddress(address)),
        firstRound,
        rounds: setup.rounds,
      });
      if (figures === undefined) problems.push('no measured round ended');
      else if (best === undefined || figures.rounds > best.rounds) best = figures;
      if (best?.rounds === setup.rounds) return best;
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  if (problems.length > 0)
    say(`  ${best === undefined ? 'no figures' : 'some chains are of no use'}: ${problems.join('; ')}`);
  return best ?? null;
}
