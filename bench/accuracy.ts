/**
 * How exact gradients are: relative error of each tensor against PyTorch in float64, at initial weights, at the same
 * doubled, and at trained ones.
 *
 *     npm run bench -- accuracy [--preset alice-tiny --batch 4 --context 256 --steps 300 --seed 1 --corpus FILE --table FILE]
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Engine } from '../kernels/engine/engine.ts';
import { createEngine } from '../kernels/engine/onnx-engine.ts';
import { tensorLayout } from '../kernels/model/layout.ts';
import { presetByName } from '../kernels/model/preset.ts';
import { createNativeEngine } from '../kernels/native/native-engine.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { learn, seededWeights } from './learning/course.ts';
import { type TensorError, tensorErrors, worstOf } from './learning/gradient-error.ts';
import { type LearnerShape, learnerOf } from './learning/learner.ts';
import { batchOf, type LearningText, readLearningText } from './learning/text.ts';
import { findPyTorch, PyTorchEngine, PyTorchError } from './pytorch/engine.ts';
import { randomSource } from './random.ts';

/** One line for the list of benchmarks. */
export const describe = "relative error of each tensor's gradient against PyTorch in float64";

/** Words after the name may be flags. */
export const takesFlags = true;

/** Weights that gradients are compared at. */
const STATES = ['initial', 'doubled', 'trained'] as const;

/** Gradients that are compared, by name, at given weights. */
type Source = (weights: Float32Array, tokens: Int32Array) => Promise<Float32Array>;

function engineSource(make: () => Engine): Source {
  return async (weights, tokens) => {
    const engine = make();
    engine.loadWeights(weights);
    const { gradient } = await engine.lossAndGradient(tokens);
    await engine.close();
    return gradient;
  };
}

function pytorchSource(
  python: string,
  shape: LearnerShape,
  folder: string,
  form: { readonly precision: 'fp32' | 'bf16'; readonly dtype: 'float32' | 'float64' },
): Source {
  return async (weights, tokens) => {
    const [weightsPath, path] = [join(folder, 'weights.f32'), join(folder, 'gradient.f32')];
    await writeFile(weightsPath, weights);
    const pytorch = await PyTorchEngine.start(python, { ...shape, weightsPath, dtype: form.dtype });
    try {
      await pytorch.gradient(tokens, form.precision, path);
    } finally {
      pytorch.close();
    }
    const { buffer, byteOffset, length } = await readFile(path);
    return new Float32Array(buffer.slice(byteOffset, byteOffset + length));
  };
}

/** The seed's weights after as many steps of our fastest engine. */
async function trainedWeights(
  shape: LearnerShape,
  text: LearningText,
  { steps, seed }: { readonly steps: number; readonly seed: number },
  signal: AbortSignal,
): Promise<Float32Array> {
  const engine = createNativeEngine({ ...shape, precision: 'bf16' });
  const learner = learnerOf(engine, seededWeights(shape.preset, seed), engine.updateWeights);
  await learn({ ...shape, text, steps, evaluations: 0 }, learner, seed, signal);
  const weights = engine.weights.slice();
  await engine.close();
  return weights;
}

/** Measures. Throws {@link PyTorchError} where PyTorch is missing, and what the native engine throws where it is. */
export async function run({ args, signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      corpus: { type: 'string', multiple: true, default: [] },
      preset: { type: 'string', default: 'alice-tiny' },
      batch: { type: 'string', default: '4' },
      context: { type: 'string', default: '256' },
      steps: { type: 'string', default: '300' },
      seed: { type: 'string', default: '1' },
      threads: { type: 'string', default: String(availableParallelism()) },
      table: { type: 'string' },
    },
  });
  const preset = presetByName(values.preset);
  const shape = {
    preset,
    batch: Number(values.batch),
    context: Number(values.context),
    threads: Number(values.threads),
  };
  const [steps, seed] = [Number(values.steps), Number(values.seed)];
  const python = findPyTorch();
  if (python === undefined) throw new PyTorchError('PyTorch was not found (Debian: apt-get install python3-torch)');
  const text = await readLearningText(values.corpus, { ...preset, context: shape.context }, signal);
  // Not of the order that training takes.
  const tokens = batchOf(text, shape, randomSource(seed + 1_000_000));
  const layout = tensorLayout(preset);
  const folder = await mkdtemp(join(tmpdir(), 'alice-accuracy-'));
  const errors: Record<string, Record<string, readonly TensorError[]>> = {};
  try {
    const reference = pytorchSource(python, shape, folder, { precision: 'fp32', dtype: 'float64' });
    const sources: Record<string, Source> = {
      onnx_fp32: engineSource(() => createEngine(shape)),
      native_fp32: engineSource(() => createNativeEngine({ ...shape, precision: 'fp32' })),
      native_bf16: engineSource(() => createNativeEngine({ ...shape, precision: 'bf16' })),
      pytorch_bf16: pytorchSource(python, shape, folder, { precision: 'bf16', dtype: 'float32' }),
    };
    for (const state of STATES) {
      progress(`${state} weights`);
      const initial = seededWeights(preset, seed);
      const weights =
        state === 'trained'
          ? await trainedWeights(shape, text, { steps, seed }, signal)
          : state === 'doubled'
            ? initial.map((weight) => 2 * weight)
            : initial;
      const expected = await reference(weights, tokens);
      errors[state] = {};
      for (const [name, source] of Object.entries(sources)) {
        signal.throwIfAborted();
        errors[state][name] = tensorErrors(layout, await source(weights, tokens), expected);
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  if (values.table !== undefined) await writeFile(values.table, renderTable(errors));
  const worst = Object.fromEntries(
    Object.entries(errors).map(([state, byName]) => [
      state,
      Object.fromEntries(Object.entries(byName).map(([name, all]) => [name, worstOf(all)])),
    ]),
  );
  return {
    figures: worst,
    notes: [
      `${preset.name}, ${shape.batch} x ${shape.context} tokens, seed ${seed}; trained: ${steps} steps in bf16`,
      'the tensor with the largest error, its error, and its share of the norm of the whole gradient',
    ],
  };
}

/** A row for each tensor, a column for each engine and state. */
function renderTable(errors: Readonly<Record<string, Readonly<Record<string, readonly TensorError[]>>>>): string {
  const columns = Object.entries(errors).flatMap(([state, byName]) =>
    Object.entries(byName).map(([name, all]) => ({ title: `${name}, ${state}`, all })),
  );
  const rows = (columns[0]?.all ?? []).map(({ name }, i) => [
    name,
    ...columns.map(({ all }) => (all[i]?.error ?? Number.NaN).toExponential(1)),
  ]);
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  const titles = ['tensor', ...columns.map(({ title }) => title)];
  return [line(titles), line(titles.map(() => '---')), ...rows.map(line)].join('');
}
