/** `alice model import`: weights of other programs as a tensor file. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { importModel } from '../../../kernels/checkpoint/model-import.ts';
import { UsageError } from '../../report-failure.ts';
import { interruptSignal, print, progressLines } from './progress.ts';
import { addPresetFlags, findWeights, type PresetFlags, presetOfFlags, targetFile } from './weights-source.ts';

interface ImportFlags extends PresetFlags {
  readonly force?: boolean;
  readonly json?: boolean;
}

export function addModelImportCommand(model: Command): void {
  const command = model
    .command('import')
    .description('read a Hugging Face folder (LlamaForCausalLM) or a .safetensors file into a tensor file')
    .argument('<folder>', 'folder with config.json and model.safetensors (or its shards), or one .safetensors file')
    .argument('<target>', 'tensor file to write, or the data folder of a node that is not running');
  addPresetFlags(command)
    .option('--force', 'replace a file that exists')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
F32, F16 and BF16 weights are read, tensor by tensor. A node that finds weights whose root is not that of its network
throws them away and fetches a checkpoint: import is for looking, measuring, and starting networks of your own.

Examples:
  alice model import alice-hf restored.bin
  alice model import model.safetensors restored.bin --preset alice-nano`,
    )
    .action(async (folder: string, target: string, flags: ImportFlags) => {
      const source = await findWeights(resolve(folder));
      if (source.kind !== 'foreign') throw new UsageError(`${source.path} is a tensor file already`);
      const file = await targetFile(resolve(target), flags.force ?? false);
      const imported = await importModel(
        { source: source.path, target: file, preset: await presetOfFlags(flags) },
        { signal: interruptSignal(), onProgress: progressLines('importing') },
      );
      const { preset, round, modelRoot, parameters, dtypes } = imported;
      const fields = { preset: preset.name, round, model_root: modelRoot, parameters, dtypes, file };
      print(fields, flags.json ?? false);
    });
}
