/** `alice balance`: what an account has. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { askAny, findEndpoints } from '../../node/api/client.ts';
import type { AccountStatus } from '../../node/api/server.ts';
import { accountFromAddress } from '../../node/chain/account.ts';
import { formatAmount } from '../../node/chain/amount.ts';

export function addBalanceCommand(program: Command): void {
  program
    .command('balance')
    .description('show the balance of an account, asking a running node')
    .argument('<address>', 'SS58 address; Alice addresses start with "a"')
    .option('--dir <folder>', 'data folder of the node to ask, or of a local network', 'alice-data')
    .option('--json', 'print one JSON object')
    .action(async (address: string, options: { dir: string; json?: boolean }) => {
      accountFromAddress(address);
      const endpoints = await findEndpoints(resolve(options.dir));
      const account = await askAny<AccountStatus>(endpoints, `/accounts/${address}`);
      process.stdout.write(
        options.json
          ? `${JSON.stringify({ address: account.address, units: account.balance, nonce: account.nonce })}\n`
          : `${formatAmount(BigInt(account.balance), 12)} ALICE\n${
              account.registrationBond === '0'
                ? ''
                : `${formatAmount(BigInt(account.registrationBond), 12)} ALICE held as registration bond\n`
            }`,
      );
    });
}
