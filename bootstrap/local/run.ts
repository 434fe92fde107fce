/**
 * `alice up`: prepares a local network, runs it for a number of rounds or until Ctrl-C, and sums up.
 */
import { join } from 'node:path';
import type { BackendChoice, PrecisionChoice } from '../../kernels/engine/backend.ts';
import { chooseEngine } from '../../kernels/engine/choose-engine.ts';
import type { DeviceChoice } from '../../kernels/engine/device/device.ts';
import { askNode, findEndpoints, NodeUnreachableError } from '../../node/api/client.ts';
import type { AccountStatus } from '../../node/api/server.ts';
import type { NodeStatus } from '../../node/api/status.ts';
import { formatAmount } from '../../node/chain/amount.ts';
import { type LocalNetwork, prepareLocalNetwork, writeNetworkFile } from './prepare.ts';
import { NetworkHistory, type Snapshot } from './snapshot.ts';
import { type RunSummary, summarize } from './summary.ts';
import { type MemberFailedError, Supervisor } from './supervisor.ts';
import { LineView, TerminalView, type View } from './view.ts';

export interface LocalRunOptions {
  /** Absolute path of the data folder. */
  readonly dir: string;
  /** Rounds to settle in this run; 0 for no end. */
  readonly rounds: number;
  /** What a network is made with. Undefined: as the folder says, or else the default. */
  readonly corpus: readonly string[] | undefined;
  readonly model: string | undefined;
  readonly validators: number | undefined;
  readonly seed: number | undefined;
  /** Seconds that a miner trains in a round. */
  readonly trainSeconds: number | undefined;
  readonly miners: number;
  /** Where the members compute, and how they train. */
  readonly device: DeviceChoice;
  readonly backend: BackendChoice;
  readonly precision: PrecisionChoice;
  readonly fresh: boolean;
  readonly assumeYes: boolean;
  /** Keep standard output free for the JSON object. */
  readonly json: boolean;
}

/** How long the validators may take to arrive at one height at the end of a run. */
const SETTLE_TIMEOUT_MS = 15_000;

/** True when every validator reports the same height and roots, and holds the weights of that root. */
function agree(statuses: readonly NodeStatus[]): boolean {
  const first = statuses[0];
  return (
    first !== undefined &&
    statuses.every(
      ({ chain, training }) =>
        chain.height === first.chain.height &&
        chain.stateRoot === first.chain.stateRoot &&
        training.weightsRoot === chain.modelRoot,
    )
  );
}

/** Starts all members: the bootstrap node first, because the others are told its address, then everyone at once. */
async function startMembers(network: LocalNetwork, supervisor: Supervisor, signal: AbortSignal): Promise<void> {
  const bootstrap = await supervisor.start(network.bootstrap, { signal });
  await writeNetworkFile(network, bootstrap.multiaddrs);
  await Promise.all([...network.validators, ...network.miners].map((member) => supervisor.start(member, { signal })));
}

/**
 * Runs a local network. Resolves with the summary, or null when it was stopped before the network was complete.
 * Throws what preparation throws (usage and environment errors) and MemberFailedError when a member cannot run.
 */
export async function runLocalNetwork(options: LocalRunOptions): Promise<RunSummary | null> {
  const startedMs = performance.now();
  const live = process.stdout.isTTY === true && !options.json;
  const say = (line: string) => (live || !options.json ? process.stdout : process.stderr).write(`${line}\n`);
  const stopping = new AbortController();
  const interrupt = () => {
    // A second Ctrl-C ends at once; the children notice that their parent is gone and end too.
    if (stopping.signal.aborted) {
      view?.close();
      process.exit(130);
    }
    stopping.abort();
  };
  let view: View | undefined;
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  const supervisor = new Supervisor();
  try {
    // Once for all members. Each has one thread, which is what a GPU has to beat.
    const chosen = await chooseEngine({ ...options, threads: 1 }, { signal: stopping.signal });
    say(chosen.message);
    const precision = chosen.device === 'cpu' ? options.precision : chosen.precision;
    const network = await prepareLocalNetwork(
      { ...options, device: chosen.device, precision },
      { say, signal: stopping.signal },
    );
    say(
      `starting ${1 + network.validators.length + network.miners.length} processes: 1 bootstrap, ${network.validators.length} validators, ${network.miners.length} miners`,
    );
    view = live ? new TerminalView(process.stdout) : new LineView(say);
    const shown = view;
    supervisor.on('notice', (line) => shown.notice(line));
    const history = new NetworkHistory();
    const failed = new Promise<never>((_, reject) => {
      supervisor.once('failed', (error: MemberFailedError) => reject(error));
    });
    // Nobody may be waiting when a member fails; whoever waits later still sees the rejection.
    failed.catch(() => {});
    const refresh = setInterval(() => shown.update(history.observe(supervisor)), 500);
    const aborted = new Promise<void>((resolve) => {
      if (stopping.signal.aborted) resolve();
      stopping.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    try {
      await Promise.race([startMembers(network, supervisor, stopping.signal), failed]);
      const validators = () =>
        network.validators.flatMap(({ name }) => {
          const status = supervisor.status(name);
          return status === undefined ? [] : [status];
        });
      const openRound = () => Math.max(0, ...validators().map(({ training }) => training.round));
      const firstRound = openRound();
      if (options.rounds > 0) shown.aimFor(firstRound + options.rounds - 1);
      const firstRoundMs = performance.now() - startedMs;
      shown.notice(
        `round ${firstRound} is open ${(firstRoundMs / 1000).toFixed(1)} s after the start; network file ${join(options.dir, 'network.json')}`,
      );
      const reached = new Promise<void>((resolve) => {
        if (options.rounds === 0) return;
        supervisor.on('change', () => {
          if (openRound() >= firstRound + options.rounds) resolve();
        });
      });
      await Promise.race([reached, failed, aborted]);
      // Miners first: without new work the validators come to rest at one height.
      await supervisor.stop(network.miners.map(({ name }) => name));
      await untilAgreement(supervisor, validators);
      // Taken together: blocks go on while balances are asked for.
      const atEnd = validators();
      const snapshot = await withBalances(history.observe(supervisor), network);
      shown.update(snapshot);
      const summary = summarize({
        snapshot,
        firstRound,
        lastRound: options.rounds === 0 ? null : firstRound + options.rounds - 1,
        validators: atEnd,
        bootstrap: supervisor.status(network.bootstrap.name),
        elapsedMs: performance.now() - startedMs,
        firstRoundMs,
      });
      await supervisor.stop();
      shown.close();
      if (!options.json) for (const line of describeSummary(summary, options.dir)) say(line);
      return summary;
    } catch (error) {
      if (stopping.signal.aborted) return null;
      throw error;
    } finally {
      clearInterval(refresh);
    }
  } catch (error) {
    if (stopping.signal.aborted) return null;
    throw error;
  } finally {
    await supervisor.stop();
    view?.close();
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

/**
 * The picture with what the ledger says each miner has now: the miners have ended, and told what they knew before. The
 * first validator that answers is asked; where none does, the picture stays as it is.
 */
async function withBalances(snapshot: Snapshot, network: LocalNetwork): Promise<Snapshot> {
  for (const validator of network.validators) {
    try {
      const [endpoint] = await findEndpoints(validator.dir);
      const miners = await Promise.all(
        snapshot.miners.map(async (miner) => {
          if (miner.address === '') return miner;
          const { balance } = await askNode<AccountStatus>(endpoint, `/accounts/${miner.address}`);
          return { ...miner, balance: BigInt(balance) };
        }),
      );
      return { ...snapshot, miners };
    } catch (error) {
      if (!(error instanceof NodeUnreachableError)) throw error;
    }
  }
  return snapshot;
}

/** Waits until all validators are at one height with one set of roots, or the time for it is over. */
function untilAgreement(supervisor: Supervisor, validators: () => readonly NodeStatus[]): Promise<void> {
  return new Promise((resolve) => {
    const check = () => {
      if (agree(validators())) finish();
    };
    const finish = () => {
      clearTimeout(timer);
      supervisor.off('change', check);
      resolve();
    };
    const timer = setTimeout(finish, SETTLE_TIMEOUT_MS);
    supervisor.on('change', check);
    check();
  });
}

function describeSummary(summary: RunSummary, dir: string): string[] {
  const earned = summary.miners.map(
    ({ name, earned: units, accepted, rejected }) =>
      `  ${name}: ${formatAmount(BigInt(units))} ALICE, ${accepted} accepted, ${rejected} rejected`,
  );
  return [
    '',
    `${summary.rounds} ${summary.rounds === 1 ? 'round' : 'rounds'} in ${summary.seconds} s, held-out loss ${summary.loss_first?.toFixed(3) ?? '-'} -> ${summary.loss_last?.toFixed(3) ?? '-'} nats`,
    `height ${summary.height}, ${summary.epochs} epochs, minted ${formatAmount(BigInt(summary.minted))} ALICE (schedule: ${formatAmount(BigInt(summary.issuance_expected))})`,
    ...earned,
    `state root ${summary.state_root.slice(0, 16)}, model root ${summary.model_root.slice(0, 16)}: ${summary.roots_agree ? 'all validators agree' : 'the validators DISAGREE'}`,
    `go on: alice up --dir ${dir}`,
  ];
}
