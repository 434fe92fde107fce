/**
 * Which network a command means: always a network file of one's own, never what a node says. Whoever signs for a network
 * that a node names signs for any.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { genesisHash, type NetworkFile, networkName } from '../node/chain/genesis.ts';
import { readNetworkFile } from '../node/chain/network-file.ts';
import { writeDurably } from '../node/durable-file.ts';
import { UsageError } from './report-failure.ts';

/** Name of the network file in a data folder. */
const NETWORK_FILE = 'network.json';

/** Values of {@link addNetworkOption}. */
export interface NetworkFlags {
  dir: string;
  network?: string;
}

/** Adds `--network`. */
export function addNetworkOption(command: Command): Command {
  return command.option('--network <file>', `network file (default: "${NETWORK_FILE}" in --dir)`);
}

/** The network of a command. Throws {@link UsageError} when there is no file, and what `readNetworkFile` throws. */
export async function networkOf({ dir, network }: NetworkFlags): Promise<NetworkFile> {
  const path = resolve(network ?? join(dir, NETWORK_FILE));
  if (network === undefined && !existsSync(path))
    throw new UsageError(`which network? there is no ${path}: name the network file with --network`);
  return await readNetworkFile(path);
}

/** A network for people: its name and the name that its genesis hash gives it. */
export function describeNetwork({ genesis }: NetworkFile): string {
  return `${genesis.name} (${networkName(genesis)}, genesis ${genesisHash(genesis).slice(0, 16)})`;
}

/** Keeps the network file that a node runs with in its data folder, where the commands of its operator find it. */
export async function keepNetworkFile(dir: string, file: NetworkFile): Promise<void> {
  await writeDurably(join(dir, NETWORK_FILE), `${JSON.stringify(file, null, 1)}\n`);
}
