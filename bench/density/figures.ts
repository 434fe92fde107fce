/** The few numbers that a study comes to. */
import { parameterCount } from '../../kernels/model/layout.ts';
import type { LocalSteps, Method } from './method.ts';
import { type CorpusResults, type EntryResult, pairedDifference, referenceOf } from './report.ts';
import type { StudySettings } from './train.ts';

/** True for methods all of whose submissions are about 200 times smaller than float32: k = 64 of 4096, 2-bit values. */
export function isTwoHundredfold(method: Method): method is LocalSteps {
  return (
    method.kind === 'local-steps' &&
    method.chunking === 'tiles' &&
    method.parts === 'interleaved' &&
    method.halfDropped === 'no' &&
    method.phases.every(({ topK, valueBits }) => topK === 64 && valueBits === 2)
  );
}

/** The lowest mean loss among the results with the most seeds: a single lucky run does not win. */
export function bestOf(results: readonly EntryResult[]): EntryResult | undefined {
  const seeds = Math.max(0, ...results.map(({ losses }) => losses.size));
  if (seeds === 0) return undefined;
  return results.filter(({ losses }) => losses.size === seeds).sort((a, b) => a.loss - b.loss)[0];
}

/** The same rounds with half of the workers, and so half of the tokens: what dropping half of the submissions leaves. */
export function controlOf({ results }: CorpusResults, dropped: LocalSteps): EntryResult | undefined {
  const { workers, tokenShare } = dropped;
  const wanted = JSON.stringify({ ...dropped, workers: workers / 2, tokenShare: tokenShare / 2, halfDropped: 'no' });
  return results.find(({ entry }) => JSON.stringify(entry.method) === wanted);
}

/** Cost in nats of dropping half of the submissions, beside that of the missing tokens; by how authors take it. */
function droppedCosts(corpus: CorpusResults): Record<string, number | null> {
  const costs: Record<string, number | null> = { lost: null, returned: null };
  for (const result of corpus.results) {
    const { method } = result.entry;
    if (method.kind !== 'local-steps' || method.halfDropped === 'no') continue;
    const control = controlOf(corpus, method);
    if (control !== undefined) costs[method.halfDropped] = pairedDifference(result, control) ?? null;
  }
  return costs;
}

function nameOf({ entry }: EntryResult): string {
  return `${entry.question}: ${entry.name}`;
}

/** Figures of one corpus; null where a run is missing, with the reason in the notes. */
export function studyFigures(
  corpora: readonly CorpusResults[],
  corpusName: string,
  settings: StudySettings,
): { figures: Record<string, unknown>; notes: string[] } {
  const corpus = corpora.find((candidate) => candidate.corpus === corpusName) ?? { corpus: corpusName, results: [] };
  const best = bestOf(
    corpus.results.filter(
      ({ entry: { method } }) => isTwoHundredfold(method) && method.workers === 4 && method.tokenShare === 1,
    ),
  );
  const reference = best && referenceOf(corpus, best.entry.method);
  const bestAny = bestOf(
    corpus.results.filter(
      ({ entry: { method } }) =>
        method.kind === 'local-steps' && method.workers === 4 && method.phases.every(({ topK }) => topK !== null),
    ),
  );
  const denseBytes = 4 * parameterCount(settings.preset);
  const dropped = droppedCosts(corpus);
  const missing = reference === undefined || best === undefined;
  return {
    figures: {
      corpus: corpusName,
      gap_nats_200x: missing ? null : (pairedDifference(best, reference) ?? null),
      best_200x: best === undefined ? null : nameOf(best),
      best_200x_loss: best?.loss ?? null,
      adamw_loss: reference?.loss ?? null,
      submission_ratio: best === undefined ? null : (denseBytes * best.rounds) / best.bytesPerWorker,
      traffic_ratio: missing ? null : reference.bytesPerWorker / best.bytesPerWorker,
      best_sparse: bestAny === undefined ? null : nameOf(bestAny),
      best_sparse_loss: bestAny?.loss ?? null,
      dropped_half_cost_nats: dropped.lost,
      dropped_half_returned_cost_nats: dropped.returned,
      seeds: best?.losses.size ?? 0,
    },
    notes: missing
      ? [`${corpusName}: AdamW or the 200x setting has not been run: use --runs key or all`]
      : ['gaps are means over the seeds that both have'],
  };
}
