/**
 * Speed of aggregation, application and the model root. Input: 16 submissions of k = 64 of every 4096 elements, over one
 * matrix of 8 M parameters. A rule's speed counts the dense fp32 bytes of *all* submissions, as a dense implementation would
 * have to read them.
 */
import { applyUpdate, undoChange } from '../kernels/aggregate/apply.ts';
import { centeredClipping } from '../kernels/aggregate/centered-clipping.ts';
import { coordinateMedian } from '../kernels/aggregate/coordinate-rules.ts';
import { modelRoot } from '../kernels/aggregate/model-root.ts';
import { type AggregationRule, aggregate } from '../kernels/aggregate/rule.ts';
import { weightedMean } from '../kernels/aggregate/weighted-mean.ts';
import { decodeUpdate } from '../kernels/gradient/agf1.ts';
import { compressUpdate } from '../kernels/gradient/compress.ts';
import { hotLoops } from '../kernels/wasm/hot-loops.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { compare, ratioOf } from './measure.ts';
import { NO_NUMPY, NumPy } from './submissions/numpy.ts';
import { memcpySpeed, speedOf, syntheticGradient } from './submissions/synthetic.ts';

/** One line for the list of benchmarks. */
export const describe = 'speed of aggregation, application and model root, against memcpy and NumPy';

const SUBMISSIONS = 16;

/** Measures; speeds in MB/s on one core. */
export async function run({ signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const [rows, columns] = [2048, 4096];
  const layout = [{ name: 'matrix', shape: [rows, columns], offset: 0, length: rows * columns }];
  const options = { topK: 64, valueBits: 2, decay: 0.95 } as const;
  const weights = syntheticGradient(rows, columns, 99);
  progress(`${SUBMISSIONS} submissions`);
  const submissions = Array.from({ length: SUBMISSIONS }, (_, i) => {
    const delta = syntheticGradient(rows, columns, i + 1);
    const author = i.toString(16).padStart(64, '0');
    const header = { round: 1, author, modelRoot: '0'.repeat(64), presetHash: '0'.repeat(64) };
    const bytes = compressUpdate({ layout, delta, errorFeedback: new Float32Array(delta.length), options, header });
    const limits = { maxBytes: bytes.length, maxEntries: delta.length };
    return { account: author, weight: BigInt(1000 + i), update: decodeUpdate(bytes, { layout, limits }) };
  });
  const allBytes = weights.byteLength * SUBMISSIONS;
  const aggregated = aggregate(weightedMean(), layout, submissions);
  const rule = (tried: AggregationRule) => speedOf(allBytes, () => aggregate(tried, layout, submissions));
  const numpy = await NumPy.start(weights, rows, columns, options.topK);
  progress('speeds');
  const speeds = await compare(
    {
      ...(numpy === undefined
        ? {}
        : {
            numpy_aggregate: numpy.speed('aggregate', allBytes),
            numpy_apply: numpy.speed('apply', weights.byteLength),
          }),
      memcpy: memcpySpeed(weights),
      weighted_mean: rule(weightedMean()),
      weighted_mean_wasm: rule(weightedMean({ loops: hotLoops })),
      centered_clipping: rule(centeredClipping()),
      coordinate_median: rule(coordinateMedian()),
      apply_and_undo: speedOf(weights.byteLength, () =>
        undoChange(weights, applyUpdate(weights, layout, aggregated, 1)),
      ),
      model_root: speedOf(weights.byteLength, () => modelRoot(weights)),
    },
    { signal },
  );
  await numpy?.close();
  const named = Object.entries(speeds.summaries).map(([name, { median }]) => [`${name}_mb_per_s`, median]);
  const touched = aggregated.tensors.reduce((sum, { indices }) => sum + indices.length, 0);
  return {
    figures: {
      mb_per_s: speeds.summaries.weighted_mean?.median ?? null,
      memcpy_share: ratioOf(speeds, 'weighted_mean', 'memcpy').median,
      numpy_ratio: numpy === undefined ? null : ratioOf(speeds, 'weighted_mean', 'numpy_aggregate').median,
      apply_memcpy_share: ratioOf(speeds, 'apply_and_undo', 'memcpy').median,
      apply_numpy_ratio: numpy === undefined ? null : ratioOf(speeds, 'apply_and_undo', 'numpy_apply').median,
      ...Object.fromEntries(named),
      touched_share: touched / weights.length,
    },
    notes: [
      `MB/s of the rules: dense fp32 bytes of all ${SUBMISSIONS} submissions`,
      'random matrices, not gradients',
      numpy === undefined ? NO_NUMPY : `NumPy ${numpy.version}, one thread`,
    ],
  };
}
