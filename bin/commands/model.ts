/** `alice model`: what a model is, and files of models. One file per subcommand in model/. */
import type { Command } from 'commander';
import { addPresetsCommand } from './model/presets.ts';

export function addModelCommand(program: Command): void {
  const model = program.command('model').description('model shapes and files');
  addPresetsCommand(model);
}
