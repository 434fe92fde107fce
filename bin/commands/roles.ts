/** `alice bootstrap`, `alice validator`, `alice miner`: one node in one role. */
import { arch, availableParallelism, platform } from 'node:os';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { BootstrapRole } from '../../bootstrap/role.ts';
import { reportToParent, stopSignal } from '../../node/api/parent-link.ts';
import type { Role } from '../../node/api/status.ts';
import { formatAmount } from '../../node/chain/amount.ts';
import { readNetworkFile } from '../../node/chain/network-file.ts';
import type { Config } from '../../node/config/settings.ts';
import { parseTrustedPoint, trustingPeriod } from '../../node/consensus/light-client/trust.ts';
import { DataFolder } from '../../node/data-folder.ts';
import { loadOrCreateIdentity } from '../../node/identity/identity.ts';
import { createLogger } from '../../node/log/logger.ts';
import type { AliceNode, NodeOptions } from '../../node/node.ts';
import { MinerRole } from '../../roles/miner/role.ts';
import { ValidatorRole } from '../../roles/validator/role.ts';
import { blobCapacityBytes } from '../blob-capacity.ts';
import { stopsWithin } from '../bounded-stop.ts';
import { addConfigFlags, type ConfigFlags, configFromFlags } from '../config-flags.ts';
import { keepNetworkFile } from '../network-option.ts';
import { givenPassword } from '../node-options.ts';

interface RoleOptions extends ConfigFlags {
  network: string;
  name?: string;
  corpus?: string;
}

/** What every role is: started once, stopped once. */
interface RunnableRole {
  readonly node: AliceNode | undefined;
  /** Resolves when a part that it cannot do without has failed for good. */
  readonly failed?: Promise<Error> | undefined;
  /** Ends early, with the signal's reason, when it is to stop meanwhile. */
  start(options: { readonly signal: AbortSignal }): Promise<void>;
  stop(): Promise<void>;
}

/** A node that is not done with stopping after this time is ended as it is: what it acknowledged is on disk. */
const STOP_LIMIT_MS = 30_000;

const DESCRIPTIONS: Readonly<Record<Role, string>> = {
  bootstrap: 'run a bootstrap node: the first address that newcomers are given',
  validator: 'run a validator: vote on blocks and score submissions',
  miner: 'run a miner: train the model and earn ALICE',
};

const HELP: Readonly<Record<Role, string>> = {
  bootstrap: '\nWith --corpus it also serves the shards of the network until others have them.',
  validator:
    '\nIt votes while the account in <dir>/keys is a validator: named by the network file, or by its stake ("alice stake").\nUntil then it follows the chain. Never run two nodes with the same keys: votes that contradict each other cost the stake.\n\n--memory 2GiB bounds the memory for the model: where the weights do not fit, they are streamed from disk, a layer at a time,\nwith the same scores. "alice model memory" tells what each model takes.',
  miner:
    '\nKeys are made in <dir>/keys on the first start; the account there is what earns.\n\n--memory 2GiB bounds the memory for the model: where the weights do not fit, they are streamed from disk, a layer at a time,\nwith the same submissions. "alice model memory" tells what each model takes.',
};

function makeRole(
  role: Role,
  options: NodeOptions,
  more: {
    engine: Config['engine'];
    corpus: string | undefined;
    device: string;
    registration: Config['miner']['registration'];
  },
): RunnableRole {
  switch (role) {
    case 'bootstrap':
      return new BootstrapRole({ ...options, corpusFolder: more.corpus });
    case 'validator':
      return new ValidatorRole({
        ...options,
        engine: more.engine,
        equivocate: process.env.ALICE_TEST_ADVERSARY === 'equivocate',
      });
    case 'miner':
      return new MinerRole({
        ...options,
        engine: more.engine,
        device: more.device,
        registration: more.registration,
        adversary: process.env.ALICE_TEST_ADVERSARY === 'noise' ? 'noise' : 'none',
      });
  }
}

async function runRole(role: Role, flags: RoleOptions): Promise<void> {
  const stopping = stopSignal();
  let failure: Error | undefined;
  let ended = true;
  const { config } = configFromFlags(flags);
  const networkFile = await readNetworkFile(resolve(flags.network));
  const { unbondingMs } = networkFile.genesis.parameters.staking;
  const asked = config.chain.trust === '' ? 0 : config.chain.trustDays;
  const trustingPeriodMs = trustingPeriod(asked === 0 ? undefined : asked, unbondingMs);
  const dir = resolve(config.dir);
  const folder = await DataFolder.open(dir);
  const log = createLogger(config.log, { file: folder.join('alice.log'), fields: { role } });
  try {
    const password = await givenPassword(undefined);
    const identity = await loadOrCreateIdentity(folder.join('keys'), password === undefined ? {} : { password });
    const name = flags.name || config.miner.name || basename(dir);
    const device = `${platform()}-${arch()}, ${availableParallelism()} cores`.slice(0, 64);
    const running = makeRole(
      role,
      {
        role,
        name,
        networkFile,
        folder,
        identity,
        listen: config.network.listen,
        announce: config.network.announce,
        maxPeers: config.network.maxPeers,
        api: config.api,
        chain: {
          retention: {
            stateWindowBlocks: config.chain.keepStates,
            blockWindowBlocks: config.chain.keepBlocks === 0 ? undefined : config.chain.keepBlocks,
          },
          trust: config.chain.trust === '' ? undefined : parseTrustedPoint(config.chain.trust),
          trustingPeriodMs,
        },
        blobCapacityBytes: blobCapacityBytes(config.blobs.capacity, networkFile.genesis),
        log,
      },
      {
        engine: config.engine,
        corpus: flags.corpus === undefined ? undefined : resolve(flags.corpus),
        device,
        registration: config.miner.registration,
      },
    );
    try {
      const { node } = await startedUnlessStopped(running, stopping);
      if (node === undefined) return;
      await keepNetworkFile(dir, networkFile);
      const endReports = reportToParent(() => node.status());
      const stopped = new Promise<undefined>((done) => {
        if (stopping.aborted) done(undefined);
        stopping.addEventListener('abort', () => done(undefined), { once: true });
      });
      failure = await Promise.race([stopped, ...(running.failed === undefined ? [] : [running.failed])]);
      endReports();
      if (failure !== undefined) log.error({ error: failure.message }, 'the model is gone: start this node again');
      log.info({ balance: formatAmount(BigInt(node.status().account.balance)) }, 'stopping');
    } finally {
      ended = await stopsWithin(() => running.stop(), STOP_LIMIT_MS);
      if (!ended)
        log.error({}, `not everything stopped within ${STOP_LIMIT_MS / 1000} s: ending as it is, nothing is lost`);
    }
  } finally {
    log.close();
    await folder.release();
  }
  // What is left is not ours to wait for (a pool of connections, say). Whoever supervises this process may start it again.
  process.exit(failure === undefined && ended ? 0 : 2);
}

/** The role, started; without a node where it was to stop before that. Throws what its start throws. */
async function startedUnlessStopped(role: RunnableRole, signal: AbortSignal): Promise<{ node: AliceNode | undefined }> {
  try {
    await role.start({ signal });
    return { node: role.node };
  } catch (error) {
    if (signal.aborted) return { node: undefined };
    throw error;
  }
}

export function addRoleCommands(program: Command): void {
  for (const role of ['bootstrap', 'validator', 'miner'] as const) {
    const command = program
      .command(role)
      .description(DESCRIPTIONS[role])
      .requiredOption('--network <file>', 'network file: the genesis and the addresses of bootstrap nodes')
      .option('--name <name>', 'name in status pages and logs (default: that of the data folder)');
    if (role === 'bootstrap') command.option('--corpus <folder>', 'shards to serve, as "alice up" builds them');
    addConfigFlags(command)
      .addHelpText('after', HELP[role])
      .action((options: RoleOptions) => runRole(role, options));
  }
}
