/**
 * Learning beside PyTorch: the same weights, the same batches in the same order, the same optimizer and schedule; held-out
 * loss along the way. Differences are rounding, which training amplifies: the spread between seeds says how much counts.
 *
 *     npm run bench -- curve [--corpus FILE --preset alice-tiny --steps 200 --seeds 2 --batch 4 --ours]
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readDocuments } from '../corpus/read/documents.ts';
import { findSources } from '../corpus/read/sources.ts';
import { readWordnet, wordnetSources } from '../corpus/read/wordnet.ts';
import { createTokenizer } from '../corpus/tokenizer/tokenizer.ts';
import { createEngine } from '../kernels/engine/onnx-engine.ts';
import { initialWeights } from '../kernels/model/initialize.ts';
import { type Preset, presetByName } from '../kernels/model/preset.ts';
import { AdamW } from '../kernels/train/adamw.ts';
import { warmupCosineRate } from '../kernels/train/learning-rate.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { summarize } from './measure.ts';
import { findPyTorch, PyTorchEngine } from './pytorch/engine.ts';
import { randomSource } from './random.ts';

/** One line for the list of benchmarks. */
export const describe = 'held-out loss while training, beside PyTorch from the same weights and batches';

/** Words after the name may be flags. */
export const takesFlags = true;

/** Learning rate at its top, the share of steps that lead up to it, and what is left of it at the end. */
const PEAK_RATE = 1e-3;
const WARM_UP_SHARE = 0.1;
const FINAL_SHARE = 0.1;
/** Points of a curve. */
const EVALUATIONS = 10;
/** Sequences that a held-out loss is the mean of. */
const HELD_OUT_SEQUENCES = 32;
/** Tokens that are read at most: more than the largest run here trains on. */
const MAX_TOKENS = 1 << 22;
/** Wished length of documents cut from running text, in UTF-16 units. */
const DOCUMENT_LENGTH = 16_384;

interface Study {
  readonly preset: Preset;
  readonly steps: number;
  readonly batch: number;
  readonly training: Int32Array;
  readonly heldOut: Int32Array;
}

/** Tokens of the given files, or of the default corpus. */
async function readTokens(paths: readonly string[], vocabulary: number, signal: AbortSignal): Promise<Int32Array> {
  const tokenizer = createTokenizer(vocabulary);
  const tokens: number[] = [];
  const files = paths.length === 0 ? await wordnetSources() : await findSources(paths);
  for (const file of files) {
    const documents =
      paths.length === 0
        ? readWordnet(file, { signal })
        : readDocuments(file, { documentLength: DOCUMENT_LENGTH, signal });
    for await (const document of documents) {
      for (const token of tokenizer.encode(document)) tokens.push(token);
      tokens.push(tokenizer.endOfText);
      if (tokens.length > MAX_TOKENS) return Int32Array.from(tokens);
    }
  }
  return Int32Array.from(tokens);
}

/** Batches by seed: sequences from anywhere in the training part. */
function batchOf({ preset, batch, training }: Study, random: () => number): Int32Array {
  const length = preset.context + 1;
  const tokens = new Int32Array(batch * length);
  for (let sequence = 0; sequence < batch; sequence++) {
    const start = Math.floor(random() * (training.length - length));
    tokens.set(training.subarray(start, start + length), sequence * length);
  }
  return tokens;
}

function mean(values: Iterable<number>): number {
  const all = [...values];
  return all.reduce((sum, value) => sum + value, 0) / all.length;
}

/** What both sides can do. */
interface Side {
  step(tokens: Int32Array, rate: number): Promise<void>;
  heldOutLoss(): Promise<number>;
}

async function curve(study: Study, side: Side, seed: number, signal: AbortSignal): Promise<number[]> {
  const random = randomSource(seed);
  const schedule = {
    peak: PEAK_RATE,
    warmupSteps: Math.max(1, Math.round(study.steps * WARM_UP_SHARE)),
    totalSteps: study.steps,
    floor: PEAK_RATE * FINAL_SHARE,
  };
  const losses = [await side.heldOutLoss()];
  for (let step = 0; step < study.steps; step++) {
    signal.throwIfAborted();
    await side.step(batchOf(study, random), warmupCosineRate(schedule, step));
    if ((step + 1) % Math.ceil(study.steps / EVALUATIONS) === 0 || step + 1 === study.steps)
      losses.push(await side.heldOutLoss());
  }
  return losses;
}

/** Measures. */
export async function run({ args, signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      corpus: { type: 'string', multiple: true, default: [] },
      preset: { type: 'string', default: 'alice-tiny' },
      steps: { type: 'string', default: '200' },
      seeds: { type: 'string', default: '2' },
      batch: { type: 'string', default: '4' },
      ours: { type: 'boolean', default: false },
    },
  });
  const preset = presetByName(values.preset);
  const threads = availableParallelism();
  const tokens = await readTokens(values.corpus, preset.vocabulary, signal);
  // The last tenth is held out.
  const cut = Math.floor(tokens.length * 0.9);
  const window = preset.context + 1;
  const heldOutStarts = Array.from({ length: HELD_OUT_SEQUENCES }, (_, i) =>
    Math.floor(cut + (i * (tokens.length - cut - window)) / HELD_OUT_SEQUENCES),
  );
  const study: Study = {
    preset,
    steps: Number(values.steps),
    batch: Number(values.batch),
    training: tokens.subarray(0, cut),
    heldOut: Int32Array.from(heldOutStarts.flatMap((start) => [...tokens.subarray(start, start + window)])),
  };
  const shape = { preset, threads, batch: study.batch, context: preset.context };
  const python = values.ours ? undefined : findPyTorch();
  const folder = await mkdtemp(join(tmpdir(), 'alice-curve-'));
  const curves: Record<string, number[]> = {};
  try {
    for (let seed = 1; seed <= Number(values.seeds); seed++) {
      const weights = initialWeights(preset, new Uint8Array(32).fill(seed));
      progress(`seed ${seed}: ours`);
      const engine = createEngine(shape);
      engine.loadWeights(weights);
      const optimizer = new AdamW(engine.layout);
      const ours: Side = {
        async step(batch, rate) {
          const { gradient, gradientNorm } = await engine.lossAndGradient(batch, { signal });
          optimizer.step(engine.weights, gradient, gradientNorm, rate);
        },
        heldOutLoss: async () => mean(await engine.losses(study.heldOut, { signal })),
      };
      curves[`ours_${seed}`] = await curve(study, ours, seed, signal);
      await engine.close();
      if (python === undefined) continue;
      progress(`seed ${seed}: PyTorch`);
      const weightsPath = join(folder, 'weights.f32');
      await writeFile(weightsPath, weights);
      const pytorch = await PyTorchEngine.start(python, { ...shape, weightsPath });
      const theirs: Side = {
        async step(batch, rate) {
          await pytorch.step({ tokens: batch, precision: 'fp32', checkpoint: false, learningRate: rate });
        },
        heldOutLoss: async () => mean(await pytorch.losses(study.heldOut)),
      };
      curves[`pytorch_${seed}`] = await curve(study, theirs, seed, signal);
      pytorch.close();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  return { figures: { ...figuresOf(curves), curves }, notes: [`${tokens.length} tokens of text, last tenth held out`] };
}

/** Largest difference along the way, difference at the end, and what the seeds differ by at the end. */
function figuresOf(curves: Readonly<Record<string, readonly number[]>>): Record<string, number | null> {
  const ends = (side: string) =>
    Object.entries(curves).flatMap(([name, losses]) => (name.startsWith(side) ? [losses.at(-1) ?? Number.NaN] : []));
  const differences = Object.entries(curves).flatMap(([name, losses]) => {
    const other = curves[name.replace('ours', 'pytorch')];
    return name.startsWith('ours') && other !== undefined ? [losses.map((loss, i) => loss - (other[i] ?? 0))] : [];
  });
  const spread = (values: readonly number[]) =>
    values.length === 0 ? null : Math.max(...values) - Math.min(...values);
  return {
    final_loss: summarize(ends('ours')).median,
    pytorch_final_loss: differences.length === 0 ? null : summarize(ends('pytorch')).median,
    largest_difference:
      differences.length === 0 ? null : Math.max(...differences.flat().map((difference) => Math.abs(difference))),
    largest_final_difference:
      differences.length === 0 ? null : Math.max(...differences.map((row) => Math.abs(row.at(-1) ?? Number.NaN))),
    seed_spread: spread(ends('ours')),
    pytorch_seed_spread: spread(ends('pytorch')),
  };
}
