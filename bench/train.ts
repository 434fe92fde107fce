/**
 * Training speed beside PyTorch on the same machine: whole steps (forward, backward, clipping, AdamW) and gradients alone,
 * with activations kept and recomputed, taking turns in one run.
 *
 *     npm run bench -- train [--preset alice-50m --batch 4 --context 256 --threads 2 --turns 5]
 *         [--only native_bf16,pytorch_fp32,pytorch_bf16]   nothing else; whole and blocks are onnxruntime's
 *         [--profile]                                      only where our time goes: by operator, natively by phase
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Engine } from '../kernels/engine/engine.ts';
import { createEngine, InvalidEngineOptionsError } from '../kernels/engine/onnx-engine.ts';
import { Session } from '../kernels/engine/session.ts';
import { Graph } from '../kernels/graph/graph.ts';
import { gemm } from '../kernels/graph/ops/matrix.ts';
import { initialWeights } from '../kernels/model/initialize.ts';
import { type Preset, presetByName } from '../kernels/model/preset.ts';
import { type NativeProfile, usableInstructionSets } from '../kernels/native/library.ts';
import { createNativeEngine, type NativeEngine } from '../kernels/native/native-engine.ts';
import { AdamW, type WeightUpdate } from '../kernels/train/adamw.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { compare, ratioOf, secondsOf, summarize } from './measure.ts';
import { findPyTorch, PyTorchEngine, type PyTorchStep } from './pytorch/engine.ts';
import { phaseFigures, phaseFlops, phaseLines } from './speed/phases.ts';

/** One line for the list of benchmarks. */
export const describe = 'tokens per second of training, beside PyTorch fp32 and bf16';

/** Words after the name may be flags. */
export const takesFlags = true;

/** Any rate: what a step costs does not depend on it. */
const LEARNING_RATE = 1e-3;

interface Shape {
  readonly preset: Preset;
  readonly batch: number;
  readonly context: number;
  readonly threads: number;
}

/** What is measured of a shape, and how often. */
interface Extent {
  readonly turns: number;
  readonly profile: boolean;
  /** Whether an engine is measured, by its name. */
  readonly wants: (name: string) => boolean;
}

/** Reads the words after `train`. Throws what `parseArgs` and `presetByName` throw. */
function parseWords(args: readonly string[]): { readonly shape: Shape; readonly extent: Extent } {
  const { values } = parseArgs({
    args: [...args],
    options: {
      preset: { type: 'string', default: 'alice-50m' },
      batch: { type: 'string', default: '4' },
      context: { type: 'string', default: '256' },
      threads: { type: 'string', default: String(availableParallelism()) },
      turns: { type: 'string', default: '5' },
      only: { type: 'string' },
      profile: { type: 'boolean', default: false },
    },
  });
  const only = values.only?.split(',');
  return {
    shape: {
      preset: presetByName(values.preset),
      batch: Number(values.batch),
      context: Number(values.context),
      threads: Number(values.threads),
    },
    extent: {
      turns: Number(values.turns),
      profile: values.profile,
      wants: (name) => only === undefined || only.includes(name),
    },
  };
}

/** The same tokens for both sides; which ones they are changes nothing but the cost of the embedding's cache misses. */
function someTokens({ preset, batch, context }: Shape): Int32Array {
  return Int32Array.from({ length: batch * (context + 1) }, (_, i) => (i * 7919) % preset.vocabulary);
}

/** GFLOP/s of onnxruntime on a packed 1024^3 product: the peak that shares are of. */
async function productPeak(threads: number): Promise<{ readonly run: () => Promise<number>; close(): Promise<void> }> {
  const size = 1024;
  const graph = new Graph();
  const a = graph.input('a', { dtype: 'float32', shape: [size, size] });
  const b = graph.input('b', { dtype: 'float32', shape: [size, size] });
  graph.output('c', gemm(a, b));
  const session = await Session.create('product', graph, { threads });
  const matrix = () => new Float32Array(size * size).fill(1e-3);
  const feeds = { a: session.bind('a', matrix()), b: session.bind('b', matrix()) };
  const fetches = { c: session.bind('c', matrix()) };
  const repeats = 20;
  const run = async () => {
    const seconds = await secondsOf(async () => {
      for (let i = 0; i < repeats; i++) await session.run(feeds, fetches);
    });
    return (repeats * 2 * size ** 3) / seconds / 1e9;
  };
  return { run, close: () => session.close() };
}

/** Ways of running our native engine (kernels/native/), by the names of their figures. */
const NATIVE_FORMS = {
  native_bf16: { precision: 'bf16', memory: 'whole' },
  native_bf16_blocks: { precision: 'bf16', memory: 'blocks' },
  native_fp32: { precision: 'fp32', memory: 'whole' },
} as const;

/** Our native engines that this machine can run; none where they are not built. */
function nativeEngines(shape: Shape, { wants }: Extent, notes: string[]): Record<string, NativeEngine> {
  const usable = usableInstructionSets();
  if (usable.length === 0) notes.push('the native engine is not built (npm run build:native): it was not measured');
  const engines: Record<string, NativeEngine> = {};
  for (const [name, form] of Object.entries(usable.length === 0 ? {} : NATIVE_FORMS).filter(([name]) => wants(name)))
    try {
      engines[name] = createNativeEngine({ ...shape, ...form });
    } catch (error) {
      if (!(error instanceof InvalidEngineOptionsError)) throw error;
      notes.push(`${name}: ${error.message}`);
    }
  const [first] = Object.values(engines);
  if (first !== undefined) notes.push(`native: ${first.instructionSet}, AdamW included`);
  return engines;
}

/** An engine of ours with an optimizer, as functions that return tokens per second. */
function ours(shape: Shape, engine: Engine, update?: WeightUpdate) {
  engine.loadWeights(initialWeights(shape.preset, new Uint8Array(32)));
  const optimizer = new AdamW(engine.layout, update);
  const tokens = someTokens(shape);
  const speed = (seconds: number) => (shape.batch * shape.context) / seconds;
  return {
    gradient: async () => speed(await secondsOf(() => engine.lossAndGradient(tokens))),
    step: async () =>
      speed(
        await secondsOf(async () => {
          const { gradient, gradientNorm } = await engine.lossAndGradient(tokens);
          optimizer.step(engine.weights, gradient, gradientNorm, LEARNING_RATE);
        }),
      ),
    close: () => engine.close(),
  };
}

/** The forms of PyTorch that are measured, by name. */
const PYTORCH_FORMS = {
  fp32: { precision: 'fp32', checkpoint: false },
  fp32_checkpointed: { precision: 'fp32', checkpoint: true },
  bf16: { precision: 'bf16', checkpoint: false },
} as const satisfies Record<string, Pick<PyTorchStep, 'precision' | 'checkpoint'>>;

/** Measures. */
export async function run({ args, signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const { shape, extent } = parseWords(args);
  if (extent.profile) return await profileForms(shape, extent, progress);
  const { turns, wants } = extent;
  const notes = [
    `${shape.preset.name}, ${shape.batch} x ${shape.context} tokens, ${shape.threads} threads; a step is forward, backward, clipping and AdamW`,
    'tokens_per_s, pytorch_fp32_* and peak_share are onnxruntime in float32; *_bf16_ratio is of fastest_of_all',
    "peak_share: the products a gradient needs, without recomputation, over the engine's own speed on 1024^3; native_phases has it by phase",
  ];
  const variants: Record<string, () => Promise<number>> = {};
  const closing: (() => unknown)[] = [];
  try {
    if (wants('whole') || wants('blocks')) {
      const peak = await productPeak(shape.threads);
      closing.push(peak.close);
      variants.peak_gflops = peak.run;
    }
    const names: string[] = [];
    const add = (name: string, engine: ReturnType<typeof ours>) => {
      names.push(name);
      closing.push(engine.close);
      variants[`${name}_step`] = engine.step;
      variants[`${name}_gradient`] = engine.gradient;
    };
    for (const memory of (['whole', 'blocks'] as const).filter(wants))
      add(memory, ours(shape, createEngine({ ...shape, memory })));
    const natives = nativeEngines(shape, extent, notes);
    const profiles: Record<string, NativeProfile[]> = {};
    for (const [name, engine] of Object.entries(natives)) {
      add(name, ours(shape, engine, engine.updateWeights));
      const taken: NativeProfile[] = [];
      profiles[name] = taken;
      const step = variants[`${name}_step`];
      variants[`${name}_step`] = async () => {
        engine.profile();
        const speed = (await step?.()) ?? Number.NaN;
        taken.push(engine.profile());
        return speed;
      };
      variants[`${name}_peak_gflops`] = async () => engine.productPeak();
    }
    const python = findPyTorch();
    if (python === undefined) {
      notes.push('PyTorch was not found (Debian: apt-get install python3-torch): its ratios are null');
    } else {
      const pytorch = await PyTorchEngine.start(python, shape);
      closing.push(() => pytorch.close());
      notes.push(`PyTorch ${pytorch.version}, AdamW foreach; bf16 is autocast with float32 weights`);
      const tokens = someTokens(shape);
      for (const [name, form] of Object.entries(PYTORCH_FORMS)) {
        if (!wants(`pytorch_${name}`)) continue;
        const speed = async (learningRate?: number) => {
          const options = { tokens, ...form, ...(learningRate === undefined ? {} : { learningRate }) };
          return (shape.batch * shape.context) / (await pytorch.step(options)).seconds;
        };
        variants[`pytorch_${name}_step`] = () => speed(LEARNING_RATE);
        variants[`pytorch_${name}_gradient`] = () => speed();
      }
    }
    progress(`${Object.keys(variants).length} variants, ${turns} turns`);
    const comparison = await compare(variants, { turns, signal });
    const { summaries } = comparison;
    const ratio = (a: string, b: string) =>
      summaries[a] === undefined || summaries[b] === undefined ? null : ratioOf(comparison, a, b).median;
    const fastest = (summaries.whole_step?.median ?? 0) >= (summaries.blocks_step?.median ?? 0) ? 'whole' : 'blocks';
    const stepOf = (name: string) => summaries[`${name}_step`]?.median ?? 0;
    const fastestOfAll = names.reduce((best, name) => (stepOf(name) > stepOf(best) ? name : best));
    const flops = phaseFlops(shape);
    const allFlops = Object.values(flops).reduce((sum, work) => sum + work, 0);
    const share = (name: string, peak: string) => {
      const [gradient, gflops] = [summaries[`${name}_gradient`], summaries[peak]];
      if (gradient === undefined || gflops === undefined) return null;
      return ((gradient.median / (shape.batch * shape.context)) * allFlops) / 1e9 / gflops.median;
    };
    // The first of each is a warm-up.
    const phases = Object.entries(profiles).map(([name, taken]) => {
      const peak = summaries[`${name}_peak_gflops`]?.median ?? Number.NaN;
      return [name, phaseFigures(taken.slice(1), flops, peak)] as const;
    });
    for (const [name, figures] of phases) notes.push(...phaseLines(name, figures));
    return {
      figures: {
        tokens_per_s: summaries[`${fastest}_step`]?.median ?? null,
        pytorch_fp32_ratio: ratio(`${fastest}_step`, 'pytorch_fp32_step'),
        pytorch_fp32_checkpointed_ratio: ratio('blocks_step', 'pytorch_fp32_checkpointed_step'),
        pytorch_bf16_ratio: ratio(`${fastestOfAll}_step`, 'pytorch_bf16_step'),
        fastest_of_all: fastestOfAll,
        fastest_of_all_tokens_per_s: stepOf(fastestOfAll),
        fastest_of_all_pytorch_fp32_ratio: ratio(`${fastestOfAll}_step`, 'pytorch_fp32_step'),
        fastest_of_all_pytorch_fp32_gradient_ratio: ratio(`${fastestOfAll}_gradient`, 'pytorch_fp32_gradient'),
        peak_share: share(fastest, 'peak_gflops'),
        native_peak_shares: Object.fromEntries(
          Object.keys(natives).map((name) => [name, share(name, `${name}_peak_gflops`)]),
        ),
        native_phases: Object.fromEntries(phases),
        gradient_pytorch_fp32_ratio: ratio(`${fastest}_gradient`, 'pytorch_fp32_gradient'),
        gradient_pytorch_fp32_checkpointed_ratio: ratio('blocks_gradient', 'pytorch_fp32_checkpointed_gradient'),
        gradient_pytorch_bf16_ratio: ratio(`${fastestOfAll}_gradient`, 'pytorch_bf16_gradient'),
        fastest,
        medians: Object.fromEntries(Object.entries(summaries).map(([name, { median }]) => [name, median])),
        spreads: Object.fromEntries(Object.entries(summaries).map(([name, { spread }]) => [name, spread])),
      },
      notes,
    };
  } finally {
    for (const close of closing) await close();
  }
}

interface ProfileEvent {
  readonly cat: string;
  readonly dur: number;
  readonly args?: { readonly op_name?: string };
}

/** Where the time of a gradient goes: by operator, from onnxruntime's own profile, and natively by phase. */
async function profileForms(
  shape: Shape,
  extent: Extent,
  progress: (message: string) => void,
): Promise<BenchmarkResult> {
  const figures: Record<string, object> = {};
  const notes = ["onnxruntime: share of the time by operator; native: a step's phases, peak_share beside 1024^3"];
  for (const memory of (['whole', 'blocks'] as const).filter(extent.wants)) {
    progress(`profiling ${memory}`);
    const folder = await mkdtemp(join(tmpdir(), 'alice-profile-'));
    try {
      const engine = createEngine({ ...shape, memory, profilePrefix: join(folder, 'ort') });
      engine.loadWeights(initialWeights(shape.preset, new Uint8Array(32)));
      for (let i = 0; i < 4; i++) await engine.lossAndGradient(someTokens(shape));
      await engine.close();
      figures[memory] = await opShares(folder);
    } finally {
      await rm(folder, { recursive: true });
    }
  }
  for (const [name, engine] of Object.entries(nativeEngines(shape, extent, notes))) {
    progress(`profiling ${name}`);
    const { step, close } = ours(shape, engine, engine.updateWeights);
    try {
      await step();
      engine.profile();
      const profiles: NativeProfile[] = [];
      const peaks: number[] = [];
      for (let i = 0; i < extent.turns; i++) {
        await step();
        profiles.push(engine.profile());
        peaks.push(engine.productPeak());
      }
      figures[name] = phaseFigures(profiles, phaseFlops(shape), summarize(peaks).median);
    } finally {
      await close();
    }
  }
  return { figures, notes };
}

async function opShares(folder: string): Promise<Record<string, number>> {
  const microseconds = new Map<string, number>();
  for (const file of await readdir(folder)) {
    const events = JSON.parse(await readFile(join(folder, file), 'utf8')) as ProfileEvent[];
    for (const { cat, dur, args } of events) {
      if (cat !== 'Node' || args?.op_name === undefined) continue;
      microseconds.set(args.op_name, (microseconds.get(args.op_name) ?? 0) + dur);
    }
  }
  const total = [...microseconds.values()].reduce((sum, value) => sum + value, 0);
  const sorted = [...microseconds].sort(([, a], [, b]) => b - a);
  return Object.fromEntries(sorted.map(([name, value]) => [name, Math.round((1000 * value) / total) / 1000]));
}
