/** `alice key`: accounts. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { createIdentity, loadIdentity } from '../../node/identity/identity.ts';

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
}
