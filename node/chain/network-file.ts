/** Reading a network file from disk. Apart from genesis.ts, which the pure cores compute with. */

import { readFile } from 'node:fs/promises';
import { checkNetworkFile, InvalidGenesisError, type NetworkFile } from './genesis.ts';

/** Reads and checks a network file. Throws {@link InvalidGenesisError}. */
export async function readNetworkFile(path: string): Promise<NetworkFile> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new InvalidGenesisError(`cannot read the network file ${path}: ${(cause as Error).message}`, { cause });
  }
  return checkNetworkFile(value);
}
