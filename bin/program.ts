/**
 * The command line of Alice, put together from one file per command.
 */
import { Command } from 'commander';
import { version } from '../node/api/version.ts';
import { addBalanceCommand } from './commands/balance.ts';
import { addChainCommands } from './commands/chain.ts';
import { addConfigCommand } from './commands/config.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addKeyCommand } from './commands/key.ts';
import { addModelCommand } from './commands/model.ts';
import { addRoleCommands } from './commands/roles.ts';
import { addSendCommand } from './commands/send.ts';
import { addStakeCommand } from './commands/stake.ts';
import { addStateCommand } from './commands/state.ts';
import { addStatusCommand } from './commands/status.ts';
import { addUpCommand } from './commands/up.ts';
import { addVerifyCommand } from './commands/verify.ts';

/** The whole command line, ready to parse. Usage errors are thrown as CommanderError after their message is printed. */
export function createProgram(): Command {
  const program = new Command('alice')
    .description('Train one open language model together, peer to peer, and earn ALICE for it.')
    .version(version, '-V, --version')
    .exitOverride()
    .showHelpAfterError('(add --help for the options)')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'alice: ')) });
  addUpCommand(program);
  addRoleCommands(program);
  addStatusCommand(program);
  addBalanceCommand(program);
  addVerifyCommand(program);
  addSendCommand(program);
  addStakeCommand(program);
  addChainCommands(program);
  addModelCommand(program);
  addDoctorCommand(program);
  addStateCommand(program);
  addKeyCommand(program);
  addConfigCommand(program);
  program.addHelpText(
    'after',
    `
Examples:
  alice up                                   a whole network on this machine, training on the default corpus
  alice up --corpus books/ --rounds 50       the same on your own text, for 50 rounds
  alice miner --network net.json --dir me    join a running network and earn
  alice status --dir alice-data              what the nodes of that folder are doing
  alice send a2x... 12.5 --keys me/keys      pay somebody

Exit codes: 0 it ran, 1 what it checks does not hold, 2 a usage or environment error.`,
  );
  return program;
}
