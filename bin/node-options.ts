/** Options of commands that talk to a running node, and of those that sign for an account. */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { CallRejectedError, findEndpoints } from '../node/api/client.ts';
import { type RemoteReceipt, type SigningSummary, sendThroughNode } from '../node/api/remote-sender.ts';
import { ledgerJson } from '../node/blockchain/ledger-json.ts';
import { type NetworkFile, networkId } from '../node/chain/genesis.ts';
import type { Call } from '../node/chain/transaction.ts';
import { type Identity, loadIdentity } from '../node/identity/identity.ts';
import { CALL_ERRORS, type CallErrorCode } from '../node/ledger/errors.ts';
import { addNetworkOption, describeNetwork, networkOf } from './network-option.ts';
import { CheckFailedError, UsageError } from './report-failure.ts';

/** Values of {@link addNodeOptions}. */
export interface NodeFlags {
  dir: string;
  api?: string;
  json?: boolean;
}

/** Values of {@link addSigningOptions}. */
export interface SigningFlags extends NodeFlags {
  network?: string;
  keys?: string;
  passwordFile?: string;
  lifetime: string;
}

/** Adds `--dir`, `--api`, `--json`. */
export function addNodeOptions(command: Command): Command {
  return command
    .option('--dir <folder>', 'data folder of the node to ask, or of a local network', 'alice-data')
    .option('--api <url>', 'address of a node to ask instead, such as http://127.0.0.1:4100')
    .option('--json', 'print one JSON object');
}

/** Adds `--keys`, `--network` and what goes with them, on top of {@link addNodeOptions}. */
export function addSigningOptions(command: Command): Command {
  return addNetworkOption(addNodeOptions(command))
    .option('--keys <folder>', 'folder of the keys that sign (default: "keys" in --dir)')
    .option('--password-file <file>', 'password of an imported keystore (or ALICE_PASSWORD in the environment)')
    .option('--lifetime <blocks>', 'blocks in which the transaction has to be included', '100');
}

/** The node that flags name. Throws `NodeUnreachableError` and `UsageError`. */
export async function nodeOf({ dir, api }: NodeFlags): Promise<{ readonly api: string }> {
  if (api !== undefined) {
    if (!/^https?:\/\//.test(api))
      throw new UsageError(`--api ${api}: expected an address such as http://127.0.0.1:4100`);
    return { api: api.replace(/\/+$/, '') };
  }
  const [first] = await findEndpoints(resolve(dir));
  if (first === undefined) throw new UsageError(`no node in ${dir}`);
  return first;
}

/** The password that a file or the environment gives; undefined where neither does. */
export async function givenPassword(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return process.env.ALICE_PASSWORD;
  return (await readFile(resolve(file), 'utf8')).replace(/\r?\n$/, '');
}

/** The keys that sign. Throws what `loadIdentity` throws. */
export async function signingIdentity(flags: SigningFlags): Promise<Identity> {
  const folder = resolve(flags.keys ?? join(flags.dir, 'keys'));
  const password = await givenPassword(flags.passwordFile);
  return await loadIdentity(folder, password === undefined ? {} : { password });
}

/**
 * Signs a call, sends it, waits for the block, and prints what became of it. Throws {@link CheckFailedError} (exit code 1)
 * when the ledger refused it.
 */
export async function sendAndReport(call: Call, flags: SigningFlags, done: string): Promise<void> {
  const lifetimeBlocks = Number(flags.lifetime);
  if (!Number.isInteger(lifetimeBlocks) || lifetimeBlocks < 1 || lifetimeBlocks > 65_536)
    throw new UsageError(`--lifetime ${flags.lifetime}: expected a number of blocks from 1 to 65536`);
  const networkFile = await networkOf(flags);
  const [endpoint, identity] = [await nodeOf(flags), await signingIdentity(flags)];
  const stopped = new AbortController();
  const onInterrupt = () => stopped.abort(new UsageError('interrupted: the transaction may still be included'));
  process.once('SIGINT', onInterrupt);
  let receipt: RemoteReceipt;
  try {
    receipt = await sendThroughNode(
      { endpoint, signer: identity.signer, call, lifetimeBlocks, networkId: networkId(networkFile.genesis) },
      {
        signal: stopped.signal,
        onSigning: (summary) =>
          process.stderr.write(`${signingLines(identity.address, networkFile, summary).join('\n')}\n`),
        onSubmitted: (id) => process.stderr.write(`sent ${id}, waiting for its block\n`),
      },
    );
  } catch (error) {
    if (error instanceof CallRejectedError && error.code in CALL_ERRORS)
      throw new CheckFailedError(`the ledger would refuse it: ${inWords(error.code)}`, { cause: error });
    throw error;
  } finally {
    process.off('SIGINT', onInterrupt);
  }
  if (flags.json) process.stdout.write(`${JSON.stringify(receipt)}\n`);
  if (receipt.error !== null)
    throw new CheckFailedError(`the ledger refused it in block ${receipt.height}: ${inWords(receipt.error)}`);
  if (!flags.json) process.stdout.write(`${done}, in block ${receipt.height} (transaction ${receipt.id})\n`);
}

/** What is signed, for people: everything that the signature covers. */
function signingLines(
  address: string,
  networkFile: NetworkFile,
  { call, nonce, validUntil }: SigningSummary,
): string[] {
  return [
    `signing ${call.tag} ${JSON.stringify(ledgerJson(call.value ?? {}))}`,
    `  account ${address}, nonce ${nonce}, up to block ${validUntil}`,
    `  network ${describeNetwork(networkFile)}`,
  ];
}

/** Why the ledger refuses a call, for people; the bare code when the node is newer than this program. */
export function inWords(code: string): string {
  return Object.hasOwn(CALL_ERRORS, code) ? `${CALL_ERRORS[code as CallErrorCode]} (${code})` : code;
}
