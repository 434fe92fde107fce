/** `alice model presets`: the shapes a model can have. */
import type { Command } from 'commander';
import { parameterCount } from '../../../kernels/model/layout.ts';
import { blockBytes, residentTrainingBytes, weightsBytes } from '../../../kernels/model/memory.ts';
import { type Preset, presetRecord, presets } from '../../../kernels/model/preset.ts';
import { readPresetFile } from '../../../kernels/model/preset-file.ts';
import { presetHash } from '../../../kernels/model/preset-hash.ts';
import { bytesInWords, textTable } from './table.ts';

function parameters(count: number): string {
  return count >= 1e9 ? `${(count / 1e9).toFixed(2)} B` : `${(count / 1e6).toFixed(1)} M`;
}

const COLUMNS: readonly (readonly [heading: string, cell: (preset: Preset) => string | number])[] = [
  ['preset', (preset) => preset.name],
  ['parameters', (preset) => parameters(parameterCount(preset))],
  ['layers', (preset) => preset.layers],
  ['hidden', (preset) => preset.hidden],
  ['heads', (preset) => `${preset.queryHeads}/${preset.keyValueHeads}`],
  ['ffn', (preset) => preset.ffn],
  ['vocabulary', (preset) => preset.vocabulary],
  ['context', (preset) => preset.context],
  ['tied', (preset) => (preset.tied ? 'yes' : 'no')],
  ['weights', (preset) => bytesInWords(weightsBytes(preset))],
  ['one layer', (preset) => bytesInWords(blockBytes(preset))],
  ['training', (preset) => bytesInWords(residentTrainingBytes(preset))],
];

function table(shown: readonly Preset[]): string {
  return textTable([
    COLUMNS.map(([heading]) => heading),
    ...shown.map((preset) => COLUMNS.map(([, cell]) => String(cell(preset)))),
  ]);
}

function record(preset: Preset): object {
  return {
    ...presetRecord(preset),
    parameters: parameterCount(preset),
    weights_bytes: weightsBytes(preset),
    layer_bytes: blockBytes(preset),
    training_bytes: residentTrainingBytes(preset),
    hash: presetHash(preset),
  };
}

export function addPresetsCommand(model: Command): void {
  model
    .command('presets')
    .description('list the model shapes that there are, or check one of your own')
    .argument('[file]', 'a preset in a JSON file')
    .option('--json', 'print one JSON array')
    .addHelpText(
      'after',
      `
heads: query/key-value heads. Memory in float32: all weights, the weights of one layer, and all that training keeps of
the model's size when nothing is streamed from disk (weights, gradient, optimizer, error feedback, the round's start and
result; activations come on top).

A preset of your own is a JSON object with the fields that --json shows, up to "tied":
  alice model presets mine.json        checks it
  alice up --model ./mine.json         starts a network that trains it`,
    )
    .action(async (file: string | undefined, options: { json?: boolean }) => {
      const shown = file === undefined ? Object.values<Preset>(presets) : [await readPresetFile(file)];
      process.stdout.write(`${options.json ? JSON.stringify(shown.map(record)) : table(shown)}\n`);
    });
}
