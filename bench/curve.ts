/**
 * Learning in bf16, in fp32 and in PyTorch: the same weights at the start, the same batches in the same order, the same
 * optimizer and schedule; held-out loss along the way. Differences are rounding, which training amplifies. The seed
 * decides initial weights and batches: the spread between seeds says how much counts.
 *
 *     npm run bench -- curve [--corpus FILE --preset alice-tiny --steps 200 --seeds 3 --batch 4 --context 256]
 *         [--learners onnx_fp32,native_fp32,native_bf16,pytorch_fp32,pytorch_bf16]
 *         [--results FILE]   finished courses are read from there and added to it
 *         [--table FILE.md --plot FILE.svg]
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { presetByName } from '../kernels/model/preset.ts';
import { usableInstructionSets } from '../kernels/native/library.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { learn, seededWeights } from './learning/course.ts';
import { createLearner, isLearnerName, type LearnerName } from './learning/learner.ts';
import { appendResult, type CourseResult, isOf, readResults } from './learning/results.ts';
import { renderCurves, renderTables, summarizeLearners, summarizePairs } from './learning/statistics.ts';
import { readLearningText } from './learning/text.ts';

/** One line for the list of benchmarks. */
export const describe = 'held-out loss while training: bf16, fp32 and PyTorch from the same weights and batches';

/** Words after the name may be flags. */
export const takesFlags = true;

/** Points of a curve, besides the one before the first step. */
const EVALUATIONS = 10;

/** Thrown for options that make no sense. */
class CurveOptionsError extends Error {
  // parseArgs's own family of codes: the command reports it as a usage error.
  static readonly code = 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE';
  readonly code = CurveOptionsError.code;
  override readonly name = 'CurveOptionsError';
}

function learnersOf(words: string | undefined): LearnerName[] {
  if (words === undefined)
    return usableInstructionSets().length > 0 ? ['onnx_fp32', 'native_fp32', 'native_bf16'] : ['onnx_fp32'];
  return words.split(',').map((word) => {
    if (!isLearnerName(word)) throw new CurveOptionsError(`--learners: there is no "${word}"`);
    return word;
  });
}

/** Trains what is missing, one course after the other, and compares. */
export async function run({ args, signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      corpus: { type: 'string', multiple: true, default: [] },
      preset: { type: 'string', default: 'alice-tiny' },
      steps: { type: 'string', default: '200' },
      seeds: { type: 'string', default: '3' },
      batch: { type: 'string', default: '4' },
      context: { type: 'string', default: '256' },
      threads: { type: 'string', default: String(availableParallelism()) },
      learners: { type: 'string' },
      results: { type: 'string' },
      table: { type: 'string' },
      plot: { type: 'string' },
    },
  });
  const preset = presetByName(values.preset);
  const learners = learnersOf(values.learners);
  const shape = {
    preset,
    batch: Number(values.batch),
    context: Number(values.context),
    threads: Number(values.threads),
  };
  const steps = Number(values.steps);
  const text = await readLearningText(values.corpus, { ...preset, context: shape.context }, signal);
  const { batch, context } = shape;
  const settings = { preset: preset.name, digest: text.digest, steps, batch, context };
  const known = values.results === undefined ? [] : await readResults(values.results);
  const results: CourseResult[] = [];
  const folder = await mkdtemp(join(tmpdir(), 'alice-curve-'));
  try {
    for (let seed = 1; seed <= Number(values.seeds); seed++)
      for (const name of learners) {
        const done = known.find((result) => isOf(result, settings) && result.learner === name && result.seed === seed);
        if (done !== undefined) {
          results.push(done);
          continue;
        }
        progress(`seed ${seed}: ${name}`);
        const learner = await createLearner(name, shape, seededWeights(preset, seed), folder);
        try {
          const curve = await learn({ ...settings, text, evaluations: EVALUATIONS }, learner, seed, signal);
          const result = { ...settings, learner: name, seed, curve };
          results.push(result);
          if (values.results !== undefined) await appendResult(values.results, result);
        } finally {
          await learner.close();
        }
      }
  } finally {
    await rm(folder, { recursive: true });
  }
  const title = `${preset.name}, ${steps} steps of ${batch} x ${context} tokens`;
  if (values.table !== undefined) await writeFile(values.table, renderTables(results));
  if (values.plot !== undefined) await writeFile(values.plot, renderCurves(results, title));
  return {
    figures: { ...summarizeLearners(results), ...summarizePairs(results) },
    notes: [
      `${title}; ${text.length} tokens of text, last tenth held out`,
      'a seed decides initial weights and batches; differences are on the same seeds, final loss less final loss',
    ],
  };
}
