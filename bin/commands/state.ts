/** `alice state`: the ledger's whole state as a file, and networks that begin with one. */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { Blockchain } from '../../node/blockchain/blockchain.ts';
import { readStateFile, StateFileError, writeStateFile } from '../../node/blockchain/state-file.ts';
import { type Genesis, genesisHash, networkName } from '../../node/chain/genesis.ts';
import { readNetworkFile } from '../../node/chain/network-file.ts';
import { type ValidatorSet, validatorSetHash } from '../../node/chain/validator-set.ts';
import { DataFolder } from '../../node/data-folder.ts';
import { writeDurably } from '../../node/durable-file.ts';
import { signaturesReady } from '../../node/identity/signatures.ts';
import { forkedState } from '../../node/ledger/forked-state.ts';
import { Store } from '../../node/store/store.ts';
import { wholeNumber } from '../arguments.ts';
import { UsageError } from '../report-failure.ts';

interface StateFlags {
  network: string;
  dir: string;
  json?: boolean;
}

interface ExportFlags extends StateFlags {
  at?: number;
  fork?: string;
  forkNetwork?: string;
}

/** Opens the store of a node that does not run. Throws the typed errors of folder and store. */
async function withStore<T>(
  { network, dir }: StateFlags,
  use: (genesis: Genesis, store: Store, bootstrap: readonly string[]) => Promise<T>,
): Promise<T> {
  await signaturesReady();
  const { genesis, bootstrap } = await readNetworkFile(resolve(network));
  const folder = await DataFolder.open(resolve(dir));
  try {
    const store = Store.open({ path: join(folder.path, 'chain.sqlite'), genesisHash: genesisHash(genesis) });
    try {
      return await use(genesis, store, bootstrap);
    } finally {
      store.close();
    }
  } finally {
    await folder.release();
  }
}

function print(flags: StateFlags, value: object, text: string): void {
  process.stdout.write(flags.json ? `${JSON.stringify(value)}\n` : `${text}\n`);
}

async function exportState(file: string, flags: ExportFlags): Promise<void> {
  if ((flags.fork === undefined) !== (flags.forkNetwork === undefined))
    throw new UsageError('--fork NAME and --fork-network FILE belong together');
  await withStore(flags, async (genesis, store) => {
    const chain = new Blockchain({ genesis }, { store });
    const height = flags.at ?? chain.height;
    const state = chain.stateAt(height);
    if (state === undefined)
      throw new UsageError(
        `the state at height ${height} is not kept: heights ${chain.oldestState} to ${chain.height} are`,
      );
    const blockId = chain.blockIdAt(height);
    if (blockId === undefined) throw new UsageError(`block ${height} is not kept`);
    const path = resolve(file);
    const head = await writeStateFile(path, state, { genesisHash: chain.genesisHash, blockId });
    let forked: string | undefined;
    if (flags.fork !== undefined && flags.forkNetwork !== undefined) {
      const fork: Genesis = {
        ...genesis,
        name: flags.fork,
        timeMs: Number(state.timeMs),
        initialState: { root: head.stateRoot, network: chain.genesisHash, height },
      };
      forked = networkName(fork);
      // Nobody is there yet: whoever starts the first bootstrap node adds its address.
      await writeDurably(resolve(flags.forkNetwork), `${JSON.stringify({ genesis: fork, bootstrap: [] }, null, 1)}\n`);
    }
    print(
      flags,
      {
        file: path,
        height,
        block_id: head.blockId,
        state_root: head.stateRoot,
        entries: head.entries,
        fork: forked ?? null,
      },
      [
        `${head.entries} entries after block ${height}, state root ${head.stateRoot}`,
        `written to ${path}`,
        ...(forked === undefined ? [] : [`network ${forked} begins with it: ${flags.forkNetwork}`]),
      ].join('\n'),
    );
  });
}

async function importState(file: string, flags: StateFlags): Promise<void> {
  const { head, entries } = await readStateFile(resolve(file));
  await withStore(flags, async (genesis, store) => {
    if (genesis.initialState === undefined)
      throw new UsageError(`${flags.network} does not begin with a state of another network: nothing is imported`);
    if (store.height > 0 || !store.isEmpty)
      throw new UsageError(`${flags.dir} has a state already: import into an empty folder`);
    if (head.stateRoot !== genesis.initialState.root)
      throw new StateFileError(
        `${file} has root ${head.stateRoot}, the network begins with ${genesis.initialState.root}`,
      );
    const state = forkedState(genesis, entries);
    const sets = new Map<ReturnType<typeof validatorSetHash>, ValidatorSet>([
      [validatorSetHash(state.nextValidators), state.nextValidators],
    ]);
    store.writeGenesis(state.tree.entries(), sets);
    print(
      flags,
      { dir: resolve(flags.dir), entries: entries.length, state_root: state.root, imported_root: head.stateRoot },
      `${entries.length} entries imported; network ${networkName(genesis)} begins with state root ${state.root}`,
    );
  });
}

export function addStateCommand(program: Command): void {
  const state = program.command('state').description("export the ledger's state, and begin a network with one");
  const common = (command: Command) =>
    command
      .requiredOption('--network <file>', 'network file')
      .option('--dir <folder>', 'data folder of a node that is not running', 'alice-data')
      .option('--json', 'print one JSON object');
  common(state.command('export'))
    .description('write the state after a block to a file')
    .argument('<file>', 'file to write: JSON lines')
    .option('--at <height>', 'height, while it is kept (default: the last block)', wholeNumber(0, 2 ** 32 - 1))
    .option('--fork <name>', 'also make a network of this name that begins with the state')
    .option('--fork-network <file>', 'where its network file goes')
    .addHelpText(
      'after',
      `
The root in the file is the one in the header of that block: "alice block" on any node shows it.
For a fork or an upgrade, edit validators and parameters of the new network file before anyone starts with it; then every
founding validator imports the state into an empty folder: alice state import FILE --network NEW.json --dir NEW`,
    )
    .action((file: string, flags: ExportFlags) => exportState(file, flags));
  common(state.command('import'))
    .description('put the state with which a network begins into an empty data folder')
    .argument('<file>', 'file that "alice state export" wrote')
    .action((file: string, flags: StateFlags) => importState(file, flags));
}
