/** Tables and plots of the study from its results. */
import type { Entry } from './catalogue.ts';
import type { Method } from './method.ts';
import { type RunRecord, runKey } from './results.ts';
import { type Plot, renderPlot, type Series } from './svg.ts';
import type { CurvePoint, StudySettings } from './train.ts';

/** All finished seeds of one entry on one corpus. */
export interface EntryResult {
  readonly entry: Entry;
  /** Held-out loss by seed; seeds that diverged are not in it. */
  readonly losses: ReadonlyMap<number, number>;
  /** Seeds that diverged. */
  readonly diverged: number;
  /** Mean over seeds; of the least and the greatest loss. NaN where every seed diverged. */
  readonly loss: number;
  readonly low: number;
  readonly high: number;
  readonly bytesPerWorker: number;
  readonly rounds: number;
  /** Curve of the first seed. */
  readonly curve: readonly CurvePoint[];
}

/** The study's results on one corpus. */
export interface CorpusResults {
  readonly corpus: string;
  /** Entries that have results, in the order of the catalogue. */
  readonly results: readonly EntryResult[];
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function entryResult(entry: Entry, records: readonly RunRecord[]): EntryResult | undefined {
  const finished = records.flatMap(({ seed, outcome }) => (outcome === null ? [] : [{ seed, outcome }]));
  if (records.length === 0) return undefined;
  const values = finished.map(({ outcome }) => outcome.loss);
  return {
    entry,
    losses: new Map(finished.map(({ seed, outcome }) => [seed, outcome.loss])),
    diverged: records.length - finished.length,
    loss: mean(values),
    low: Math.min(...values),
    high: Math.max(...values),
    bytesPerWorker: mean(finished.map(({ outcome }) => outcome.bytesPerWorker)),
    rounds: finished[0]?.outcome.rounds ?? 0,
    curve: finished[0]?.outcome.curve ?? [],
  };
}

/** Sorts finished runs by corpus and entry; runs that no entry stands for are left out. */
export function collectResults(
  catalogue: readonly Entry[],
  settings: StudySettings,
  records: readonly RunRecord[],
): CorpusResults[] {
  const byKey = new Map(records.map((record) => [record.key, record]));
  const corpora = new Map(records.map(({ digest, corpus }) => [digest, corpus]));
  return [...corpora].map(([digest, corpus]) => ({
    corpus,
    results: catalogue.flatMap((entry) => {
      const seeds = Array.from({ length: Math.max(entry.seeds, entry.keySeeds) }, (_, i) => i + 1);
      const own = seeds.flatMap((seed) => byKey.get(runKey({ digest }, settings, entry.method, seed)) ?? []);
      return entryResult(entry, own) ?? [];
    }),
  }));
}

/** Mean difference of loss over the seeds that both have; undefined where they have none in common. */
export function pairedDifference(ours: EntryResult, reference: EntryResult): number | undefined {
  const differences = [...ours.losses].flatMap(([seed, loss]) => {
    const other = reference.losses.get(seed);
    return other === undefined ? [] : [loss - other];
  });
  return differences.length === 0 ? undefined : mean(differences);
}

/** AdamW data parallel on as many workers, the same tokens and the same parts: what an entry is compared with. */
export function referenceOf({ results }: CorpusResults, method: Method): EntryResult | undefined {
  return results.find(
    ({ entry }) =>
      entry.method.kind === 'data-parallel' &&
      entry.name.startsWith('adamw') &&
      !entry.name.includes('lr') &&
      entry.method.workers === method.workers &&
      entry.method.tokenShare === method.tokenShare,
  );
}

const nats = (value: number): string => value.toFixed(3);

function signed(value: number | undefined): string {
  return value === undefined || Number.isNaN(value) ? '' : `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;
}

/** Bytes as people read them. */
function megabytes(bytes: number): string {
  const value = bytes / 1e6;
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function tableRow(corpus: CorpusResults, result: EntryResult): string {
  const { entry, losses, loss, low, high, bytesPerWorker, rounds, diverged } = result;
  const reference = referenceOf(corpus, entry.method);
  const seeds = losses.size;
  const shown =
    seeds === 0
      ? `diverged (${diverged})`
      : `${nats(loss)}${seeds > 1 ? ` (${nats(low)}–${nats(high)})` : ''}${diverged > 0 ? `, ${diverged} diverged` : ''}`;
  const gap = reference === undefined || reference === result ? '' : signed(pairedDifference(result, reference));
  const ratio = reference === undefined ? '' : `${(reference.bytesPerWorker / bytesPerWorker).toFixed(0)}x`;
  return `| ${entry.name} | ${shown} | ${seeds} | ${gap} | ${rounds} | ${megabytes(bytesPerWorker)} | ${ratio} |`;
}

/** Tables of all questions, as Markdown, for one corpus. */
export function renderTables(corpus: CorpusResults): string {
  const questions = [...new Set(corpus.results.map(({ entry }) => entry.question))];
  const tables = questions.map((question) =>
    [
      `### ${question}`,
      '',
      '| run | held-out loss, nats (range) | seeds | gap to AdamW | exchanges | MB sent per worker | less than AdamW |',
      '|---|---|---|---|---|---|---|',
      ...corpus.results.filter(({ entry }) => entry.question === question).map((result) => tableRow(corpus, result)),
      '',
    ].join('\n'),
  );
  return [`## ${corpus.corpus}`, '', ...tables].join('\n');
}

/** Runs this far above the best, in nats, would only flatten the plot; the tables have them. */
const PLOTTED_NATS = 0.5;

/** Submissions of one kind differ by some bytes: costs within this factor are the same. */
const EQUAL_COST = 1.1;

/** Results that nothing as cheap beats. */
function frontierOf(results: readonly EntryResult[]): ReadonlySet<EntryResult> {
  const beats = (other: EntryResult, result: EntryResult) =>
    other.loss < result.loss && other.bytesPerWorker <= result.bytesPerWorker * EQUAL_COST;
  return new Set(results.filter((result) => !results.some((other) => beats(other, result))));
}

/** Final loss of every run on four workers against what it cost. */
function bytesPlot({ corpus, results }: CorpusResults): Plot {
  const comparable = results.filter(
    ({ entry: { method }, losses }) =>
      losses.size > 0 &&
      method.tokenShare === 1 &&
      method.workers === 4 &&
      !(method.kind === 'local-steps' && method.halfDropped !== 'no'),
  );
  const limit = Math.min(...comparable.map(({ loss }) => loss)) + PLOTTED_NATS;
  // The same method may stand under several questions: drawn under the first.
  const methods = comparable.map(({ entry }) => JSON.stringify(entry.method));
  const shown = comparable.filter(({ loss }, i) => loss <= limit && methods.indexOf(methods[i]) === i);
  const frontier = frontierOf(shown);
  const questions = [...new Set(shown.map(({ entry }) => entry.question))];
  const series: Series[] = questions.map((question) => ({
    name: question.replace(/[:(,].*/, '').trim(),
    line: false,
    points: shown
      .filter(({ entry }) => entry.question === question)
      .map((result) => ({
        x: result.bytesPerWorker / 1e6,
        y: result.loss,
        ...(result.losses.size > 1 && { low: result.low, high: result.high }),
        ...(frontier.has(result) && { label: result.entry.name }),
      })),
  }));
  return {
    title: `Held-out loss after the same tokens, against bytes sent (${corpus}; worse than ${nats(limit)}: left out)`,
    x: { label: 'MB sent per worker, in all', logarithmic: true },
    y: { label: 'held-out loss, nats per byte' },
    series,
  };
}

/** Loss on the way, by a measure of what was spent. */
function curvesPlot(
  { corpus, results }: CorpusResults,
  names: readonly string[],
  x: { label: string; logarithmic: boolean; of: (point: CurvePoint) => number },
): Plot {
  return {
    title: `Held-out loss on the way (${corpus})`,
    x: { label: x.label, logarithmic: x.logarithmic },
    y: { label: 'held-out loss, nats per byte' },
    series: names.flatMap((name) => {
      const found = results.find(({ entry, curve }) => entry.name === name && curve.length > 0);
      if (found === undefined) return [];
      return [{ name, line: true, points: found.curve.map((point) => ({ x: x.of(point), y: point.loss })) }];
    }),
  };
}

/** SVG files by name, for one corpus. `curves` names the entries whose way is drawn. */
export function renderPlots(corpus: CorpusResults, curves: readonly string[]): Record<string, string> {
  const plots: Record<string, Plot> = {
    bytes: bytesPlot(corpus),
    'curves-tokens': curvesPlot(corpus, curves, {
      label: 'tokens of all workers, millions',
      logarithmic: false,
      of: ({ tokens }) => tokens / 1e6,
    }),
    'curves-bytes': curvesPlot(corpus, curves, {
      label: 'MB sent per worker so far',
      logarithmic: true,
      of: ({ bytesPerWorker }) => bytesPerWorker / 1e6,
    }),
  };
  return Object.fromEntries(
    Object.entries(plots)
      .filter(([, plot]) => plot.series.some(({ points }) => points.length > 0))
      .map(([name, plot]) => [`density-${corpus.corpus.replace(/[^a-z0-9]+/gi, '-')}-${name}.svg`, renderPlot(plot)]),
  );
}
