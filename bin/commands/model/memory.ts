/** `alice model memory`: what a peer needs to train or score a model, in each way of running it. */
import { availableParallelism } from 'node:os';
import { type Command, Option } from 'commander';
import { estimateMemory } from '../../../kernels/engine/memory-plan.ts';
import { activationBytes, WHOLE_ACTIVATION_BYTES } from '../../../kernels/engine/onnx-engine.ts';
import { weightsBytes } from '../../../kernels/model/memory.ts';
import { type Preset, presets } from '../../../kernels/model/preset.ts';
import { readPresetFile } from '../../../kernels/model/preset-file.ts';
import { nativeActivationBytes } from '../../../kernels/native/native-memory.ts';
import { nativeSupport } from '../../../kernels/native/support.ts';
import {
  leastNativeSessionBytes,
  nativeScratchBytes,
  planNativeSession,
} from '../../../kernels/session/native-budget.ts';
import { sessionBytes } from '../../../kernels/session/streamed-budget.ts';
import { STREAMING_FILES } from '../../../kernels/session/streamed-session.ts';
import { wholeNumber } from '../../arguments.ts';
import { bytesInWords, textTable } from './table.ts';

/** Ways of computing that estimates are made for. */
const BACKENDS = ['onnx-fp32', 'native-fp32', 'native-bf16'] as const;

type Computing = (typeof BACKENDS)[number];

interface MemoryFlags {
  readonly batch: number;
  readonly backend?: Computing;
  readonly json?: boolean;
}

/** Bytes by way of running a model; null where it is not run that way. */
function needs(preset: Preset, batch: number, backend: Computing) {
  return backend === 'onnx-fp32'
    ? onnxNeeds(preset, batch)
    : nativeNeeds(preset, batch, backend === 'native-bf16' ? 'bf16' : 'fp32');
}

function nativeNeeds(preset: Preset, batchSequences: number, precision: 'fp32' | 'bf16') {
  const { context } = preset;
  const shape = { preset, batch: batchSequences, context, backend: 'native' as const };
  const keepsActivations = nativeActivationBytes(preset, batchSequences, context) <= WHOLE_ACTIVATION_BYTES;
  // Those that are sent of a chunk, which count little: as networks have them at most.
  const recipe = { batchSequences, topK: 64 };
  const session = { preset, recipe, precision, threads: availableParallelism() };
  return {
    preset: preset.name,
    weights_bytes: weightsBytes(preset),
    whole_bytes: keepsActivations ? Math.ceil(estimateMemory(shape, 'whole')) : null,
    blocks_bytes: Math.ceil(estimateMemory(shape, 'blocks')),
    streamed_bytes: Math.ceil(planNativeSession(session).bytes),
    streamed_no_prefetch_bytes: leastNativeSessionBytes(session),
    streaming_disk_bytes: STREAMING_FILES * weightsBytes(preset) + nativeScratchBytes(session),
  };
}

function onnxNeeds(preset: Preset, batch: number) {
  const keepsActivations = activationBytes(preset, batch, preset.context) <= WHOLE_ACTIVATION_BYTES;
  return {
    preset: preset.name,
    weights_bytes: weightsBytes(preset),
    whole_bytes: keepsActivations ? Math.ceil(sessionBytes(preset, batch, 'whole')) : null,
    blocks_bytes: Math.ceil(sessionBytes(preset, batch, 'blocks')),
    streamed_bytes: Math.ceil(sessionBytes(preset, batch, 'streamed')),
    streamed_no_prefetch_bytes: Math.ceil(sessionBytes(preset, batch, 'streamed-no-prefetch')),
    streaming_disk_bytes: STREAMING_FILES * weightsBytes(preset),
  };
}

/** Of this machine's CPU. */
function ownBackend(): Computing {
  const support = nativeSupport();
  if (!support.usable) return 'onnx-fp32';
  return support.bf16 ? 'native-bf16' : 'native-fp32';
}

export function addMemoryCommand(model: Command): void {
  model
    .command('memory')
    .description('how much memory training and scoring take, for each model shape and way of running it')
    .argument('[file]', 'a preset in a JSON file')
    .option('--batch <n>', 'sequences of a batch, as the network has it', wholeNumber(1, 1024), 8)
    .addOption(
      new Option('--backend <how>', "what computes (default: what is best of this machine's CPU)").choices(BACKENDS),
    )
    .option('--json', 'print one JSON array')
    .addHelpText(
      'after',
      `
Estimates for the model's own work on the CPU, by the native backend where it is built; what the node takes (blocks, peers, downloads: 100 to 250 MiB) and
the submissions of a round come on top. For miners and validators alike:
  all          weights and activations in memory: fastest
  recomputed   weights in memory, activations recomputed block by block
  streamed     a layer at a time, from disk, the next one read ahead
  smallest     the same without reading ahead, and natively one sequence at a time; between the two are steps
"alice miner" and "alice validator" take the fastest that fits into --memory. Streaming takes "disk" beside weights.bin.`,
    )
    .action(async (file: string | undefined, { batch, backend = ownBackend(), json }: MemoryFlags) => {
      const shown = file === undefined ? Object.values<Preset>(presets) : [await readPresetFile(file)];
      const rows = shown.map((preset) => needs(preset, batch, backend));
      if (json) process.stdout.write(`${JSON.stringify(rows)}\n`);
      else {
        const size = (bytes: number | null) => (bytes === null ? '-' : bytesInWords(bytes));
        const heading = ['preset', 'weights', 'all', 'recomputed', 'streamed', 'smallest', 'disk'];
        const cells = rows.map(({ preset, ...bytes }) => [preset, ...Object.values(bytes).map(size)]);
        process.stdout.write(`${textTable([heading, ...cells])}\n`);
      }
    });
}
