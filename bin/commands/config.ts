/** `alice config show`: every setting, its value, and where it comes from. */
import type { Command } from 'commander';
import { describeConfig, renderConfig } from '../../node/config/render.ts';
import { addConfigFlags, type ConfigFlags, configFromFlags } from '../config-flags.ts';

export function addConfigCommand(program: Command): void {
  const config = program.command('config').description('show the configuration');
  addConfigFlags(
    config
      .command('show')
      .description('print every setting with its value and where it comes from')
      .option('--json', 'print one JSON object'),
  )
    .addHelpText(
      'after',
      '\nOrder, the later wins: defaults, the configuration file, ALICE_* environment variables, flags.',
    )
    .action((options: ConfigFlags & { json?: boolean }) => {
      const loaded = configFromFlags(options);
      process.stdout.write(options.json ? `${JSON.stringify(describeConfig(loaded))}\n` : renderConfig(loaded));
    });
}
