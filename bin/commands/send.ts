/** `alice send`: pays ALICE to an account. */
import type { Command } from 'commander';
import { accountFromAddress } from '../../node/chain/account.ts';
import { formatAmount, parseAmount } from '../../node/chain/amount.ts';
import { addSigningOptions, type SigningFlags, sendAndReport } from '../node-options.ts';

export function addSendCommand(program: Command): void {
  addSigningOptions(
    program
      .command('send')
      .description('pay ALICE to an account, through a running node, and wait until a block holds it')
      .argument('<address>', 'who gets it; Alice addresses start with "a"')
      .argument('<amount>', 'ALICE, up to 12 decimals, such as 12.5'),
  )
    .addHelpText(
      'after',
      '\nThe keys sign here and never leave this machine. Exit code 1 when the ledger refuses the payment.',
    )
    .action(async (address: string, text: string, flags: SigningFlags) => {
      const amount = parseAmount(text);
      const call = { tag: 'transfer' as const, value: { to: accountFromAddress(address), amount } };
      await sendAndReport(call, flags, `sent ${formatAmount(amount, 12)} ALICE to ${address}`);
    });
}
