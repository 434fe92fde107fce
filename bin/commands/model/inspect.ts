/** `alice model inspect`: what weights say of themselves. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { ModelFolder } from '../../../kernels/checkpoint/model-folder.ts';
import { parameterCount, tensorLayout } from '../../../kernels/model/layout.ts';
import type { Preset } from '../../../kernels/model/preset.ts';
import { presetHash } from '../../../kernels/model/preset-hash.ts';
import { print } from './progress.ts';
import { addPresetFlags, findWeights, type PresetFlags, presetOfFlags, presetOfTensorFile } from './weights-source.ts';

function shapeOf(preset: Preset | undefined): Record<string, unknown> {
  if (preset === undefined) return { preset: null };
  const { name, layers, hidden, queryHeads, keyValueHeads, ffn, vocabulary, context, tied } = preset;
  return {
    preset: name,
    tensors: tensorLayout(preset).length,
    layers,
    hidden,
    query_heads: queryHeads,
    key_value_heads: keyValueHeads,
    ffn,
    vocabulary,
    context,
    tied,
  };
}

export function addModelInspectCommand(model: Command): void {
  const command = model
    .command('inspect')
    .description('show what weights say of themselves: shape, round, root; reads headers only')
    .argument('<weights>', 'data folder of a node, tensor file, Hugging Face folder, or .safetensors file');
  addPresetFlags(command)
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nThe root is what the file claims; "alice model verify" computes it.')
    .action(async (weights: string, flags: PresetFlags & { readonly json?: boolean }) => {
      const source = await findWeights(resolve(weights));
      if (source.kind === 'tensor-file') {
        const { header, path } = source;
        const { kind, round, elements, root } = header;
        const shape = shapeOf(await presetOfTensorFile(source, flags));
        const own = { path, format: 'tensor file', kind, round, model_root: root, parameters: elements };
        print({ ...own, preset_hash: header.presetHash, ...shape }, flags.json ?? false);
        return;
      }
      const folder = await ModelFolder.open(source.path, { preset: await presetOfFlags(flags) });
      try {
        const { preset, origin, dtypes, files } = folder;
        const own = {
          path: source.path,
          format: 'safetensors',
          files,
          dtypes,
          round: origin.round ?? null,
          model_root: origin.modelRoot ?? null,
          parameters: parameterCount(preset),
          preset_hash: presetHash(preset),
        };
        print({ ...own, ...shapeOf(preset) }, flags.json ?? false);
      } finally {
        await folder.close();
      }
    });
}
