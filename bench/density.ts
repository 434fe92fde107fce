/**
 * `npm run bench -- density`: what a submission's density, precision and frequency cost in learning (DESIGN 3.5).
 *
 * A study at toy scale with the kernels of the network: simulated workers share one engine and take turns. Finished runs
 * lie in a results file and are not repeated. docs/density.md says what came out.
 */
import { writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parsePreset } from '../kernels/model/preset.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { catalogue, curveNames } from './density/catalogue.ts';
import { studyFigures } from './density/figures.ts';
import { carryOut, type Extent, planRuns } from './density/plan.ts';
import { collectResults, renderPlots, renderTables } from './density/report.ts';
import { readResults } from './density/results.ts';
import { readStudyText } from './density/text.ts';
import type { StudySettings } from './density/train.ts';

/** One line for the list of benchmarks. */
export const describe = 'learning against bytes sent, at toy scale; its options: npm run bench -- density -- --help';

/** 0.85 M parameters, 0.98 M tokens: the sizes of the study in ANCHORS 3b, as near as whole tiles allow. */
export const settings: StudySettings = {
  preset: parsePreset({
    name: 'density',
    layers: 4,
    hidden: 128,
    queryHeads: 4,
    keyValueHeads: 2,
    ffn: 384,
    vocabulary: 256,
    context: 64,
    ropeTheta: 10_000,
    normEpsilon: 1e-5,
    tied: false,
  }),
  sequencesPerStep: 8,
  tokens: 983_040,
  heldOutSequences: { last: 1536, onTheWay: 256 },
  evaluations: 8,
};

const HELP = `npm run bench -- density [--json] -- [OPTIONS]
  --corpus FILE    text to learn, as bytes (default: the WordNet corpus that is installed)
  --runs EXTENT    which runs are done if they are missing: none, key (default), all; one takes about a minute
  --only WORDS     only runs whose "question: name", as --list prints it, contains this; may be repeated
  --limit N        do at most N runs now; call again to go on
  --results FILE   where finished runs are kept (default: docs/density-results.jsonl); tables and plots go beside it
  --list           say which runs there are and which are done, and do nothing
  --help           this text
Results, tables and plots of every corpus in the results file are shown; figures are those of the chosen corpus.`;

/** Thrown for options that make no sense. */
class DensityOptionsError extends Error {
  // parseArgs's own family of codes: the command reports it as a usage error.
  static readonly code = 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE';
  readonly code = DensityOptionsError.code;
  override readonly name = 'DensityOptionsError';
}

function parseOptions(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      corpus: { type: 'string' },
      runs: { type: 'string', default: 'key' },
      only: { type: 'string', multiple: true },
      limit: { type: 'string' },
      results: { type: 'string' },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const extents: readonly Extent[] = ['none', 'key', 'all'];
  const extent = extents.find((known) => known === values.runs);
  if (extent === undefined) throw new DensityOptionsError(`--runs is none, key or all, not "${values.runs}"`);
  const limit = values.limit === undefined ? Number.POSITIVE_INFINITY : Number(values.limit);
  if (!(limit >= 0)) throw new DensityOptionsError(`--limit is a number of runs, not "${values.limit}"`);
  const results = values.results ?? fileURLToPath(new URL('../docs/density-results.jsonl', import.meta.url));
  return { ...values, extent, limit, results: resolve(results) };
}

/** Does what is missing, then prints the tables and draws the plots. Ctrl-C keeps what is finished. */
export async function run({ signal, progress, args }: BenchmarkOptions): Promise<BenchmarkResult> {
  const options = parseOptions(args);
  if (options.help) {
    console.log(HELP);
    return { figures: {} };
  }
  const text = await readStudyText(options.corpus, signal).catch((cause: NodeJS.ErrnoException) => {
    if (options.corpus === undefined || cause.syscall === undefined) throw cause;
    throw new DensityOptionsError(`--corpus ${options.corpus} cannot be read: ${cause.code}`, { cause });
  });
  const earlier = await readResults(options.results);
  const done = new Set(earlier.map(({ key }) => key));
  const selection = { extent: options.extent, ...(options.only !== undefined && { only: options.only }) };
  const planned = planRuns(catalogue, text, settings, selection);
  if (options.list) {
    for (const { entry, seed, key } of planned)
      console.log(`${done.has(key) ? 'done   ' : 'missing'}  ${entry.question}: ${entry.name}, seed ${seed}`);
    return { figures: { runs: planned.length, done: planned.filter(({ key }) => done.has(key)).length } };
  }
  const missing = planned.filter(({ key }) => !done.has(key));
  const now = missing.slice(0, options.limit);
  const added = await carryOut(now, { text, settings, resultsPath: options.results, progress, signal });
  const corpora = collectResults(catalogue, settings, [...earlier, ...added]);
  const folder = dirname(options.results);
  const tables = corpora.map(renderTables).join('\n');
  console.log(tables);
  if (corpora.length > 0) await writeFile(join(folder, 'density-tables.md'), `# Density study: tables\n\n${tables}`);
  for (const corpus of corpora)
    for (const [name, svg] of Object.entries(renderPlots(corpus, curveNames))) await writeFile(join(folder, name), svg);
  const left = missing.length - added.length;
  const { figures, notes } = studyFigures(corpora, text.name, settings);
  return {
    figures,
    notes: [
      `one toy model (${settings.preset.layers} layers of ${settings.preset.hidden}), ${settings.tokens} tokens: not more`,
      ...notes,
      ...(left > 0 ? [`${left} of ${planned.length} runs of this extent are missing`] : []),
    ],
  };
}
