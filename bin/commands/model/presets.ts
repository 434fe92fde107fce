/** `alice model presets`: the shapes a model can have. */
import type { Command } from 'commander';
import { parameterCount } from '../../../kernels/model/layout.ts';
import { blockBytes, residentTrainingBytes, weightsBytes } from '../../../kernels/model/memory.ts';
import { type Preset, presetRecord, presets } from '../../../kernels/model/preset.ts';
import { readPresetFile } from '../../../kernels/model/preset-file.ts';
import { presetHash } from '../../../kernels/model/preset-hash.ts';

/** Bytes in the largest binary unit that leaves a figure of at least 1. */
function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  const value = count / 1024 ** power;
  return `${value < 10 && power > 0 ? value.toFixed(1) : value.toFixed(0)} ${units[power]}`;
}

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
  ['weights', (preset) => bytes(weightsBytes(preset))],
  ['one layer', (preset) => bytes(blockBytes(preset))],
  ['training', (preset) => bytes(residentTrainingBytes(preset))],
];

/** A table: the first column to the left, figures to the right. */
function table(shown: readonly Preset[]): string {
  const rows = [
    COLUMNS.map(([heading]) => heading),
    ...shown.map((preset) => COLUMNS.map(([, cell]) => String(cell(preset)))),
  ];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    )
    .join('\n');
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
