/** `alice model export`: weights as a folder that other programs read. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { huggingFaceTokenizer } from '../../../corpus/tokenizer/hugging-face.ts';
import { FULL_VOCABULARY, MIN_VOCABULARY } from '../../../corpus/tokenizer/tokenizer.ts';
import { DEFAULT_SHARD_BYTES, exportModel } from '../../../kernels/checkpoint/model-export.ts';
import { wholeNumber } from '../../arguments.ts';
import { UsageError } from '../../report-failure.ts';
import { interruptSignal, print, progressLines } from './progress.ts';
import { addPresetFlags, findWeights, type PresetFlags, requirePreset } from './weights-source.ts';

interface ExportFlags extends PresetFlags {
  readonly shardMb: number;
  readonly json?: boolean;
}

export function addModelExportCommand(model: Command): void {
  const command = model
    .command('export')
    .description('write weights as a Hugging Face folder: safetensors, config.json (LlamaForCausalLM), tokenizer')
    .argument('<weights>', 'data folder of a node, or a tensor file such as its weights.bin')
    .argument('<folder>', 'folder to make');
  addPresetFlags(command)
    .option(
      '--shard-mb <n>',
      'most megabytes of weights in one file',
      wholeNumber(1, 1_000_000),
      DEFAULT_SHARD_BYTES / 1e6,
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
The node may go on running: the weights of its last round are exported whole. The folder opens with
AutoModelForCausalLM.from_pretrained("<folder>"), and "alice model import" restores the same model root from it.

Examples:
  alice model export alice-data/miner-1 alice-hf
  alice model export weights.bin alice-hf --network network.json`,
    )
    .action(async (weights: string, folder: string, flags: ExportFlags) => {
      const source = await findWeights(resolve(weights));
      if (source.kind !== 'tensor-file') throw new UsageError(`${source.path} is in the format of an export already`);
      const preset = await requirePreset(source, flags);
      const hasTokenizer = preset.vocabulary >= MIN_VOCABULARY && preset.vocabulary <= FULL_VOCABULARY;
      if (!hasTokenizer) {
        process.stderr.write(`alice: there is no tokenizer of ${preset.vocabulary} tokens: the folder gets none\n`);
      }
      const exported = await exportModel(
        {
          source: source.path,
          preset,
          folder: resolve(folder),
          files: hasTokenizer ? huggingFaceTokenizer(preset.vocabulary, preset.context) : {},
          shardBytes: flags.shardMb * 1e6,
        },
        { signal: interruptSignal(), onProgress: progressLines('exporting') },
      );
      const { round, modelRoot, parameters, files } = exported;
      const fields = { preset: preset.name, round, model_root: modelRoot, parameters, folder: resolve(folder), files };
      print(fields, flags.json ?? false);
    });
}
