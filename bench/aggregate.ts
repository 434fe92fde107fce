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
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { compare, ratioOf } from './measure.ts';
import { memcpySpeed, speedOf, syntheticGradient } from './submissions/synthetic.ts';

/** One line for the list of benchmarks. */
export const describe = 'speed of aggregation, application and model root against memcpy';

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
  const aggregated = aggregate(weightedMean(), layout, submissions);
  const rule = (tried: AggregationRule) =>
    speedOf(weights.byteLength * SUBMISSIONS, () => aggregate(tried, layout, submissions));
  progress('speeds');
  const speeds = await compare(
    {
      memcpy: memcpySpeed(weights),
      weighted_mean: rule(weightedMean()),
      centered_clipping: rule(centeredClipping()),
      coordinate_median: rule(coordinateMedian()),
      apply_and_undo: speedOf(weights.byteLength, () =>
        undoChange(weights, applyUpdate(weights, layout, aggregated, 1)),
      ),
      model_root: speedOf(weights.byteLength, () => modelRoot(weights)),
    },
    { signal },
  );
  const named = Object.entries(speeds.summaries).map(([name, { median }]) => [`${name}_mb_per_s`, median]);
  const touched = aggregated.tensors.reduce((sum, { indices }) => sum + indices.length, 0);
  return {
    figures: {
      mb_per_s: speeds.summaries.weighted_mean?.median ?? null,
      memcpy_share: ratioOf(speeds, 'weighted_mean', 'memcpy').median,
      ...Object.fromEntries(named),
      touched_share: touched / weights.length,
    },
    notes: [`MB/s of the rules: dense fp32 bytes of all ${SUBMISSIONS} submissions`, 'random matrices, not gradients'],
  };
}
