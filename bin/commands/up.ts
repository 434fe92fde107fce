/** `alice up`: a whole network on this machine. */
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { runLocalNetwork } from '../../bootstrap/local/run.ts';
import { parseBackendChoice, parsePrecisionChoice } from '../../kernels/engine/backend.ts';
import { parseDeviceChoice } from '../../kernels/engine/device/device.ts';
import { collect, wholeNumber } from '../arguments.ts';
import { CheckFailedError } from '../report-failure.ts';

interface UpOptions {
  rounds: number;
  corpus?: string[];
  model?: string;
  preset?: string;
  validators?: number;
  miners: number;
  device: string;
  backend: string;
  precision: string;
  dir: string;
  seed?: number;
  trainSeconds?: number;
  fresh?: boolean;
  yes?: boolean;
  json?: boolean;
}

export function addUpCommand(program: Command): void {
  program
    .command('up')
    .description('start a whole network on this machine: bootstrap node, validators and miners as separate processes')
    .option('--rounds <n>', 'end after this many training rounds; 0 runs until Ctrl-C', wholeNumber(0, 1_000_000), 20)
    .option(
      '--corpus <path...>',
      'text to train on: files, folders or globs of .txt, .md, .jsonl, .jsonl.zst (default: the sentences of WordNet)',
      collect,
    )
    .option('--model <preset>', 'model shape: a name of "alice model presets", or a JSON file (default: alice-nano)')
    .addOption(new Option('--preset <preset>', 'another word for --model').hideHelp().conflicts('model'))
    .option('--validators <n>', 'number of validators (default: 4)', wholeNumber(1, 64))
    .option('--miners <n>', 'number of miners; more can join by hand', wholeNumber(0, 64), 3)
    .option('--device <device>', 'auto, cpu, cuda, webgpu, directml or coreml; see "alice doctor"', 'auto')
    .option('--backend <backend>', 'auto, native (C++ on the CPU) or onnx (onnxruntime)', 'auto')
    .option('--precision <precision>', 'of training: auto, fp32, bf16 (native backend) or fp16 (GPUs)', 'auto')
    .option('--dir <folder>', 'where keys, shards, blocks and weights live', 'alice-data')
    .option(
      '--seed <n>',
      'seed of the initial weights and of the order of the corpus (default: 1)',
      wholeNumber(0, 2 ** 32 - 1),
    )
    .option('--train-seconds <s>', 'how long a miner trains in a round (default: 5)', wholeNumber(1, 3600))
    .option('--fresh', 'delete what is in --dir and start anew (asks first on a terminal)')
    .option('--yes', 'with --fresh: do not ask')
    .option('--json', 'print one JSON object at the end; progress goes to standard error')
    .addHelpText(
      'after',
      `
Run again with the same --dir to go on from the last block and the last weights; model, corpus, validators and seed
are then those it was made with.
Add a miner to the running network:  alice miner --network <dir>/network.json --dir <new folder>
Logs of each process: <dir>/<name>/output.log`,
    )
    .action(async (options: UpOptions) => {
      const summary = await runLocalNetwork({
        dir: resolve(options.dir),
        rounds: options.rounds,
        corpus: options.corpus,
        model: options.model ?? options.preset,
        validators: options.validators,
        miners: options.miners,
        device: parseDeviceChoice(options.device),
        backend: parseBackendChoice(options.backend),
        precision: parsePrecisionChoice(options.precision),
        seed: options.seed,
        trainSeconds: options.trainSeconds,
        fresh: options.fresh ?? false,
        assumeYes: options.yes ?? false,
        json: options.json ?? false,
      });
      if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
      if (summary !== null && !summary.roots_agree) {
        throw new CheckFailedError(
          `the validators do not agree on the roots; see ${join(options.dir, '*', 'output.log')}`,
        );
      }
    });
}
