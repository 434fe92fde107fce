/** What the curves of several learners and seeds come to: is a difference larger than what seeds differ by? */
import { type Plot, renderPlot } from '../density/svg.ts';
import type { LearnerName } from './learner.ts';
import type { CourseResult } from './results.ts';

/** Final losses of one learner. */
export interface LearnerSummary {
  /** Held-out loss at the end, nats, by seed. */
  readonly final: Readonly<Record<number, number>>;
  readonly mean: number;
  /** Standard deviation between seeds (n - 1); null for one seed. */
  readonly deviation: number | null;
  /** Largest less smallest. */
  readonly range: number;
}

/** One learner's final losses less another's. */
export interface PairSummary {
  /** By seed: the same weights at the start, the same batches. */
  readonly differences: Readonly<Record<number, number>>;
  readonly mean: number;
  /** The largest of all points of all curves, by its absolute value. */
  readonly largest_along_the_way: number;
  /** Whether the mean is at most the deviation between seeds of the learner that is subtracted; null for one seed. */
  readonly within_deviation: boolean | null;
  /** Whether every seed's difference is at most the range between seeds of the learner that is subtracted. */
  readonly each_within_range: boolean;
}

/** Learners that are compared, ours first; the one after is the reference. */
const PAIRS: readonly (readonly [LearnerName, LearnerName])[] = [
  ['native_bf16', 'native_fp32'],
  ['native_bf16', 'onnx_fp32'],
  ['native_fp32', 'onnx_fp32'],
  ['onnx_fp32', 'pytorch_fp32'],
  ['native_fp32', 'pytorch_fp32'],
  ['native_bf16', 'pytorch_fp32'],
  ['native_bf16', 'pytorch_bf16'],
];

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function finalLoss({ curve }: CourseResult): number {
  return curve.at(-1)?.loss ?? Number.NaN;
}

/** Summary of each learner that has results. */
export function summarizeLearners(results: readonly CourseResult[]): Partial<Record<LearnerName, LearnerSummary>> {
  const summaries: Partial<Record<LearnerName, LearnerSummary>> = {};
  for (const learner of new Set(results.map((result) => result.learner))) {
    const own = results.filter((result) => result.learner === learner);
    const losses = own.map(finalLoss);
    const middle = mean(losses);
    const squares = losses.reduce((sum, loss) => sum + (loss - middle) ** 2, 0);
    summaries[learner] = {
      final: Object.fromEntries(own.map((result) => [result.seed, finalLoss(result)])),
      mean: middle,
      deviation: losses.length < 2 ? null : Math.sqrt(squares / (losses.length - 1)),
      range: Math.max(...losses) - Math.min(...losses),
    };
  }
  return summaries;
}

/** Summaries of those pairs that have seeds in common, as `native_bf16-native_fp32`. */
export function summarizePairs(results: readonly CourseResult[]): Record<string, PairSummary> {
  const learners = summarizeLearners(results);
  const pairs: Record<string, PairSummary> = {};
  for (const [ours, reference] of PAIRS) {
    const rows = results.flatMap((result) => {
      if (result.learner !== ours) return [];
      const other = results.find(({ learner, seed }) => learner === reference && seed === result.seed);
      return other === undefined ? [] : [{ result, other }];
    });
    const base = learners[reference];
    if (rows.length === 0 || base === undefined) continue;
    const differences = rows.map(({ result, other }) => finalLoss(result) - finalLoss(other));
    const along = rows.flatMap(({ result, other }) =>
      result.curve.map(({ loss }, i) => loss - (other.curve[i]?.loss ?? Number.NaN)),
    );
    pairs[`${ours}-${reference}`] = {
      differences: Object.fromEntries(rows.map(({ result }, i) => [result.seed, differences[i] ?? Number.NaN])),
      mean: mean(differences),
      largest_along_the_way: along.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0),
      within_deviation: base.deviation === null ? null : Math.abs(mean(differences)) <= base.deviation,
      each_within_range: differences.every((difference) => Math.abs(difference) <= base.range),
    };
  }
  return pairs;
}

const nats = (value: number): string => value.toFixed(4);

/** Final losses and their differences as Markdown tables. */
export function renderTables(results: readonly CourseResult[]): string {
  const seeds = [...new Set(results.map(({ seed }) => seed))].sort((a, b) => a - b);
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const bySeed = (values: Readonly<Record<number, number>>) =>
    seeds.map((seed) => (values[seed] === undefined ? '' : nats(values[seed])));
  const heads = seeds.map((seed) => `seed ${seed}`);
  return [
    line(['final held-out loss, nats', ...heads, 'mean', 'deviation between seeds', 'range']),
    line(['---', ...heads.map(() => '---'), '---', '---', '---']),
    ...Object.entries(summarizeLearners(results)).map(([name, { final, mean, deviation, range }]) =>
      line([name, ...bySeed(final), nats(mean), deviation === null ? '' : nats(deviation), nats(range)]),
    ),
    '',
    line(['difference, nats', ...heads, 'mean', 'largest on the way', 'mean within the deviation']),
    line(['---', ...heads.map(() => '---'), '---', '---', '---']),
    ...Object.entries(summarizePairs(results)).map(([name, pair]) =>
      line([
        name.replace('-', ' − '),
        ...bySeed(pair.differences),
        nats(pair.mean),
        nats(pair.largest_along_the_way),
        pair.within_deviation === null ? '' : pair.within_deviation ? 'yes' : 'no',
      ]),
    ),
    '',
  ].join('\n');
}

/** Curves of all learners: means over the seeds, with least and greatest. Needs one result. */
export function renderCurves(results: readonly CourseResult[], title: string): string {
  const learners = [...new Set(results.map(({ learner }) => learner))];
  const plot: Plot = {
    title,
    x: { label: 'steps' },
    y: { label: 'held-out loss, nats per token' },
    series: learners.map((name) => {
      const own = results.filter(({ learner }) => learner === name);
      const points = (own[0]?.curve ?? []).map(({ step }, i) => {
        const losses = own.map(({ curve }) => curve[i]?.loss ?? Number.NaN);
        return { x: step, y: mean(losses), low: Math.min(...losses), high: Math.max(...losses) };
      });
      return { name: `${name}, ${own.length} seeds`, points, line: true };
    }),
  };
  return renderPlot(plot);
}
