/** `alice key`: accounts. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { createIdentity, exportAccount, loadIdentity } from '../../node/identity/identity.ts';
import { type Keystore, writeKeystore } from '../../node/identity/keystore.ts';
import { givenPassword } from '../node-options.ts';
import { UsageError } from '../report-failure.ts';

function show(dir: string, keys: { address: string; account: string; sessionKey: string }, json: boolean): void {
  process.stdout.write(
    json
      ? `${JSON.stringify({ address: keys.address, public_key: keys.account, session_key: keys.sessionKey, dir })}\n`
      : [
          `address      ${keys.address}`,
          `public key   0x${keys.account}  (sr25519)`,
          `session key  0x${keys.sessionKey}  (ed25519)`,
          `kept in      ${dir}  (readable by you alone; whoever has these files has the ALICE)`,
          '',
        ].join('\n'),
  );
}

export function addKeyCommand(program: Command): void {
  const key = program.command('key').description('make and inspect accounts');
  key
    .command('new')
    .description('make a new account with its session key and peer key')
    .argument('<folder>', 'folder for the keys; a node takes them from "keys" in its --dir')
    .option('--json', 'print one JSON object')
    .action(async (folder: string, options: { json?: boolean }) => {
      const dir = resolve(folder);
      const identity = await createIdentity(dir);
      show(dir, identity.toJSON(), options.json ?? false);
    });
  key
    .command('inspect')
    .description('show the address and the public keys of a folder of keys; never the secrets')
    .argument('<folder>', 'folder of the keys')
    .option('--json', 'print one JSON object')
    .action(async (folder: string, options: { json?: boolean }) => {
      const dir = resolve(folder);
      const identity = await loadIdentity(dir);
      show(dir, identity.toJSON(), options.json ?? false);
    });
  key
    .command('import')
    .description('make a folder of keys with the account of a keystore JSON, from this program or a polkadot wallet')
    .argument('<file>', 'keystore JSON')
    .argument('<folder>', 'folder for the keys')
    .option('--password-file <file>', 'password of the keystore (or ALICE_PASSWORD in the environment)')
    .option('--json', 'print one JSON object')
    .action(async (file: string, folder: string, options: { passwordFile?: string; json?: boolean }) => {
      let keystore: Keystore;
      try {
        keystore = JSON.parse(await readFile(resolve(file), 'utf8')) as Keystore;
      } catch (cause) {
        throw new UsageError(`${file} is no keystore JSON: export the account again`, { cause });
      }
      const password = await givenPassword(options.passwordFile);
      const dir = resolve(folder);
      const identity = await createIdentity(dir, { keystore, ...(password === undefined ? {} : { password }) });
      show(dir, identity.toJSON(), options.json ?? false);
    });
  key
    .command('export')
    .description('write the account of a folder of keys as keystore JSON, which polkadot wallets import')
    .argument('<folder>', 'folder of the keys')
    .argument('<file>', 'file to write; never overwritten')
    .option('--password-file <file>', 'password that encrypts it (or ALICE_PASSWORD in the environment)')
    .option('--no-password', 'write the secret in clear: for networks where nothing is at stake')
    .option('--name <text>', 'name that wallets show')
    .action(
      async (folder: string, file: string, options: { passwordFile?: string; password: boolean; name?: string }) => {
        const password = options.password ? await givenPassword(options.passwordFile) : '';
        if (password === undefined)
          throw new UsageError('name a password with --password-file or ALICE_PASSWORD, or say --no-password');
        const keystore = await exportAccount(resolve(folder), {
          password,
          ...(options.name === undefined ? {} : { name: options.name }),
        });
        await writeKeystore(resolve(file), keystore);
        process.stdout.write(`${keystore.address} written to ${file}\n`);
      },
    );
}
