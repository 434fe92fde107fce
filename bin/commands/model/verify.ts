/** `alice model verify`: whether weights are what they claim to be. */
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { rootOfFolder, rootOfTensorFile } from '../../../kernels/checkpoint/model-import.ts';
import { CheckFailedError } from '../../report-failure.ts';
import { interruptSignal, print, progressLines } from './progress.ts';
import { addPresetFlags, findWeights, type PresetFlags, presetOfFlags } from './weights-source.ts';

interface VerifyFlags extends PresetFlags {
  readonly root?: string;
  readonly json?: boolean;
}

function rootArgument(text: string): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new InvalidArgumentError('expected 64 lower-case hex characters.');
  return text;
}

export function addModelVerifyCommand(model: Command): void {
  const command = model
    .command('verify')
    .description('compute the model root of weights and compare it with the one they claim; exit code 1 if it differs')
    .argument('<weights>', 'data folder of a node, tensor file, Hugging Face folder, or .safetensors file');
  addPresetFlags(command)
    .option('--root <hex>', 'root to compare with, for instance that of a block header', rootArgument)
    .option('--json', 'print one JSON object')
    .action(async (weights: string, flags: VerifyFlags) => {
      const source = await findWeights(resolve(weights));
      const transfer = { signal: interruptSignal(), onProgress: progressLines('reading') };
      const { computed, claimed } =
        source.kind === 'tensor-file'
          ? await rootOfTensorFile(source.path, transfer)
          : await rootOfFolder(source.path, { ...transfer, preset: await presetOfFlags(flags) });
      const expected = flags.root ?? claimed;
      const matches = expected === undefined ? null : expected === computed;
      print({ path: source.path, model_root: computed, expected: expected ?? null, matches }, flags.json ?? false);
      if (matches === false) {
        throw new CheckFailedError(
          `${source.path} does not have the root that was expected: damaged, or another model`,
        );
      }
    });
}
