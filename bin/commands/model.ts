/** `alice model`: what a model is, and files of models. One file per subcommand in model/. */
import type { Command } from 'commander';
import { addModelExportCommand } from './model/export.ts';
import { addModelImportCommand } from './model/import.ts';
import { addModelInspectCommand } from './model/inspect.ts';
import { addMemoryCommand } from './model/memory.ts';
import { addPresetsCommand } from './model/presets.ts';
import { addModelVerifyCommand } from './model/verify.ts';

export function addModelCommand(program: Command): void {
  const model = program.command('model').description('model shapes and files');
  addPresetsCommand(model);
  addMemoryCommand(model);
  addModelExportCommand(model);
  addModelImportCommand(model);
  addModelInspectCommand(model);
  addModelVerifyCommand(model);
}
