/**
 * One run of a local network of real processes for the flood: 4 validators, 3 honest miners, and one more that joins once
 * the others are at work; with or without the flood; with figures in block time.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepareLocalNetwork, writeNetworkFile } from '../../../bootstrap/local/prepare.ts';
import { Supervisor } from '../../../bootstrap/local/supervisor.ts';
import { askNode, findEndpoints } from '../../../node/api/client.ts';
import type { AccountStatus } from '../../../node/api/server.ts';
import type { NodeStatus } from '../../../node/api/status.ts';
import { Blockchain } from '../../../node/blockchain/blockchain.ts';
import { encodeBlock } from '../../../node/chain/block.ts';
import { type Genesis, genesisHash } from '../../../node/chain/genesis.ts';
import { Store } from '../../../node/store/store.ts';
import { Member } from '../arena/arena.ts';
import type { FloodOffers, FloodReport, FloodSetup } from './flood-process.ts';

export interface LocalRunSetup {
  readonly seed: number;
  /** Rounds that are measured. */
  readonly rounds: number;
  /** Longest time of the run, the start not counted. */
  readonly limitMs: number;
  readonly flooded: boolean;
  readonly say: (line: string) => void;
}

/** What a run came to. Rates are by block time. */
export interface LocalRunFigures {
  readonly rounds: number;
  readonly roundsPerMinute: number;
  /** ALICE of the three honest miners together, by round. */
  readonly payPerRound: number;
  /** Rounds from the newcomer's start to its first accepted work; null when that did not come. */
  readonly newcomerRounds: number | null;
  readonly newcomerEarned: number;
  readonly blocks: number;
  /** Bytes of an average block, and by which the state grew in a round. */
  readonly blockBytes: number;
  readonly stateBytesPerRound: number;
  /** Rounds whose weights were updated, of those measured. */
  readonly updated: number;
  readonly flood: FloodReport | null;
}

const HONEST_MINERS = 3;
const TRAIN_SECONDS = 2;
export const KEYS_PER_MINUTE = 200;
const UNITS_PER_ALICE = 1e12;

/**
 * Registrations are free in this network: the attacker has done its work beforehand, whatever it costs. What the price
 * keeps out is another test's business.
 */
function withoutPrice(genesis: Genesis): Genesis {
  const { parameters } = genesis;
  return { ...genesis, parameters: { ...parameters, registration: { ...parameters.registration, baseWork: 0 } } };
}

interface Moment {
  readonly round: number;
  readonly timeMs: number;
  readonly epochTimeMs: number;
  readonly height: number;
  readonly honestUnits: number;
}

/** See the head of this file. */
export async function runLocal(setup: LocalRunSetup): Promise<LocalRunFigures> {
  const { seed, rounds, flooded, say } = setup;
  const dir = await mkdtemp(join(tmpdir(), 'alice-flood-'));
  // Members run the product's own command line, whatever program this is.
  const entry = process.argv[1];
  process.argv[1] = fileURLToPath(new URL('../../../bin/alice.ts', import.meta.url));
  const supervisor = new Supervisor();
  supervisor.on('notice', (line) => say(`  ${line}`));
  let flood: Member<FloodOffers> | undefined;
  try {
    const prepared = await prepareLocalNetwork(
      {
        dir,
        rounds: 0,
        corpus: undefined,
        model: undefined,
        validators: 4,
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
      { say: () => {}, signal: new AbortController().signal },
    );
    const network = { ...prepared, genesis: withoutPrice(prepared.genesis) };
    await writeNetworkFile(network, []);
    const bootstrap = await supervisor.start(network.bootstrap);
    await writeNetworkFile(network, bootstrap.multiaddrs);
    const honest = network.miners.slice(0, HONEST_MINERS);
    const newcomer = network.miners[HONEST_MINERS];
    if (newcomer === undefined) throw new Error('no newcomer');
    await Promise.all([...network.validators, ...honest].map((member) => supervisor.start(member)));
    say('  the network runs');
    const statuses = () => network.validators.flatMap(({ name }) => supervisor.status(name) ?? []);
    const best = (): NodeStatus | undefined => statuses().sort((a, b) => b.chain.height - a.chain.height)[0];
    const openRound = () => best()?.training.round ?? 0;
    const until = async (round: number, limitMs: number) => {
      const fromMs = performance.now();
      while (openRound() < round && performance.now() - fromMs < limitMs) {
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    };
    const moment = async (): Promise<Moment> => {
      const status = best();
      if (status === undefined) throw new Error('no validator answers');
      const [endpoint] = await findEndpoints(network.validators[0]?.dir ?? '');
      if (endpoint === undefined) throw new Error('the first validator does not answer');
      let honestUnits = 0;
      for (const { name } of honest) {
        const address = supervisor.status(name)?.address ?? '';
        const { balance } = await askNode<AccountStatus>(endpoint, `/accounts/${address}`);
        honestUnits += Number(balance);
      }
      const { height, timeMs, lastEpochTimeMs: epochTimeMs } = status.chain;
      return { round: status.training.round, timeMs, epochTimeMs, height, honestUnits };
    };
    // Everybody has accepted work before anything is measured: the first rounds are those of a network that begins.
    await until(openRound() + 3, 180_000);
    if (flooded) {
      const targets = statuses().flatMap(({ multiaddrs }) => multiaddrs.slice(0, 1));
      const floodSetup: FloodSetup = {
        dir: join(dir, 'flood'),
        networkFile: join(dir, 'network.json'),
        seed,
        keysPerMinute: KEYS_PER_MINUTE,
        keys: Math.ceil((KEYS_PER_MINUTE * setup.limitMs) / 60_000),
        targets,
      };
      flood = await Member.start<FloodOffers>('flood', '../flood/flood-process.ts', floodSetup, join(dir, 'flood'));
      await flood.line.ask('begin', null);
      say('  the flood has begun');
    }
    const begin = await moment();
    await until(begin.round + 1, 120_000);
    const joinedAt = openRound();
    await supervisor.start(newcomer);
    let firstEarned: number | null = null;
    supervisor.on('change', () => {
      const address = supervisor.status(newcomer.name)?.address;
      for (const { round, submissions } of best()?.training.rounds ?? []) {
        if (firstEarned === null && submissions.some((other) => other.address === address && other.accepted))
          firstEarned = round;
      }
    });
    say(`  the newcomer joins in round ${joinedAt}`);
    await until(begin.round + rounds, setup.limitMs);
    const end = await moment();
    const report = flood === undefined ? null : await flood.line.ask('report', null);
    const settled = end.round - begin.round;
    const updated = (best()?.training.rounds ?? []).filter(
      ({ round, aggregation }) => round >= begin.round && aggregation === 'updated',
    ).length;
    const newcomerAddress = supervisor.status(newcomer.name)?.address;
    const [endpoint] = await findEndpoints(network.validators[0]?.dir ?? '');
    const earned =
      endpoint === undefined || newcomerAddress === undefined
        ? 0
        : Number((await askNode<AccountStatus>(endpoint, `/accounts/${newcomerAddress}`)).balance);
    await flood?.end();
    await supervisor.stop();
    const sizes = sizesOf(network.genesis, join(network.validators[0]?.dir ?? '', 'chain.sqlite'), begin, end);
    const epochMs = end.epochTimeMs - begin.epochTimeMs;
    const minutes = (end.timeMs - begin.timeMs) / 60_000;
    return {
      rounds: settled,
      roundsPerMinute: settled / minutes,
      // What an epoch pays comes at its end: by the time that epochs paid for, and from there to rounds.
      payPerRound:
        epochMs <= 0 || settled === 0
          ? 0
          : ((end.honestUnits - begin.honestUnits) / UNITS_PER_ALICE / epochMs) * ((minutes * 60_000) / settled),
      newcomerRounds: firstEarned === null ? null : firstEarned - joinedAt,
      newcomerEarned: earned / UNITS_PER_ALICE,
      blocks: end.height - begin.height,
      blockBytes: sizes.blockBytes / Math.max(1, end.height - begin.height),
      stateBytesPerRound: sizes.stateGrowth / Math.max(1, settled),
      updated,
      flood: report,
    };
  } finally {
    await flood?.end();
    await supervisor.stop();
    if (entry !== undefined) process.argv[1] = entry;
    await rm(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

/** Bytes of the blocks of the run, and how much the state grew, read from a validator's store after its end. */
function sizesOf(genesis: Genesis, path: string, begin: Moment, end: Moment) {
  const store = Store.open({ path, genesisHash: genesisHash(genesis) });
  try {
    let blockBytes = 0;
    for (let height = begin.height + 1; height <= end.height; height++) {
      const found = store.block(height);
      if (found !== undefined) blockBytes += encodeBlock(found.block).length;
    }
    const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const chain = new Blockchain({ genesis }, { store, log: quiet });
    const bytesAt = (height: number) => {
      let bytes = 0;
      for (const [key, value] of chain.stateAt(height)?.tree.entries() ?? []) bytes += key.length + value.length;
      return bytes;
    };
    return { blockBytes, stateGrowth: bytesAt(end.height) - bytesAt(begin.height) };
  } finally {
    store.close();
  }
}
