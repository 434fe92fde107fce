/**
 * `npm run bench -- NAME [--json] [WORDS...] [-- WORDS...]`: runs bench/NAME.ts and prints its figures. What follows NAME,
 * but for --json, are the benchmark's own settings.
 *
 * With --json the last line of standard output is `{bench, machine, figures, notes}`. Progress goes to standard error.
 * Exit code 0 if it ran, 1 if it failed, 2 for a usage error. No timing is ever a failure.
 */

import { globSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { Benchmark, BenchmarkResult } from './benchmark.ts';
import { describeMachine, type Machine } from './machine.ts';

/** Files of this folder that are the tool and no benchmarks. */
const TOOL_FILES: ReadonlySet<string> = new Set(['bench', 'benchmark', 'machine', 'measure', 'random']);

const here = dirname(fileURLToPath(import.meta.url));

/** Names of the benchmarks in a folder. */
function listBenchmarks(folder: string): string[] {
  return globSync('*.ts', { cwd: folder })
    .map((path) => basename(path, '.ts'))
    .filter((name) => !TOOL_FILES.has(name))
    .sort();
}

/** A file of the folder does not export what a benchmark must. */
class NotABenchmarkError extends Error {
  static readonly code = 'ERR_NOT_A_BENCHMARK';
  readonly code = NotABenchmarkError.code;
  override readonly name = 'NotABenchmarkError';
}

async function load(folder: string, name: string): Promise<Benchmark> {
  const exported = (await import(pathToFileURL(resolve(folder, `${name}.ts`)).href)) as Partial<Benchmark>;
  const { run, describe, takesFlags = false } = exported;
  if (typeof run !== 'function' || typeof describe !== 'string') {
    throw new NotABenchmarkError(`bench/${name}.ts must export run() and describe (bench/benchmark.ts)`);
  }
  return { run, describe, takesFlags };
}

function renderFigure(value: unknown): string {
  if (value === null || value === undefined) return 'not measured';
  if (typeof value !== 'number') return JSON.stringify(value);
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toPrecision(4);
}

function renderTable(name: string, machine: Machine, { figures, notes = [] }: BenchmarkResult): string {
  const rows = Object.entries(figures).map(([key, value]) => [key, renderFigure(value)] as const);
  const width = Math.max(0, ...rows.map(([key]) => key.length));
  return [
    `${name} on ${machine.cpu}, ${machine.cores} cores, ${machine.memory_gib} GiB, ${machine.system}, Node ${machine.node}`,
    ...rows.map(([key, value]) => `  ${key.padEnd(width)}  ${value}`),
    ...notes.map((note) => `  note: ${note}`),
  ].join('\n');
}

async function listing(folder: string): Promise<string> {
  const names = listBenchmarks(folder);
  if (names.length === 0) return 'there are no benchmarks yet';
  const lines = await Promise.all(
    names.map(async (name) => `  ${name.padEnd(12)} ${(await load(folder, name)).describe}`),
  );
  return `there are:\n${lines.join('\n')}`;
}

async function main(): Promise<number> {
  const options = { json: { type: 'boolean' }, folder: { type: 'string' } } as const;
  // NAME is the first word that is no option of this command; a benchmark's settings need not be known here.
  const { tokens } = parseArgs({ options, allowPositionals: true, strict: false, tokens: true });
  const at = tokens.find(({ kind }) => kind === 'positional')?.index ?? Number.POSITIVE_INFINITY;
  const words = process.argv.slice(2);
  const end = words.indexOf('--', at + 1);
  const between = words.slice(at + 1, end === -1 ? undefined : end);
  const loose = between.filter((word) => word !== '--json');
  const args = [...loose, ...(end === -1 ? [] : words.slice(end + 1))];
  const own = [...words.slice(0, at + 1), ...between.filter((word) => word === '--json')];
  const { values, positionals } = parseArgs({ args: own, options, allowPositionals: true });
  const [name] = positionals;
  const folder = resolve(values.folder ?? here);
  if (name === undefined || !listBenchmarks(folder).includes(name)) {
    const problem = name === undefined ? 'usage: npm run bench -- NAME [--json]' : `no benchmark "${name}"`;
    console.error(`${problem}; ${await listing(folder)}`);
    return 2;
  }
  const interrupt = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort());
  const benchmark = await load(folder, name);
  const flag = loose.find((word) => word.startsWith('-'));
  if (flag !== undefined && benchmark.takesFlags !== true) {
    console.error(`${name} has no option ${flag}\nusage: npm run bench -- NAME [--json] [WORDS...]`);
    return 2;
  }
  console.error(`${name}: ${benchmark.describe}`);
  const result = await benchmark.run({
    signal: interrupt.signal,
    progress: (message) => console.error(`  ${message}`),
    args,
  });
  if (typeof result?.figures !== 'object')
    throw new NotABenchmarkError(`run() of bench/${name}.ts returned no figures`);
  const machine = describeMachine();
  console.log(
    values.json === true
      ? JSON.stringify({ bench: name, machine, figures: result.figures, notes: result.notes ?? [] })
      : renderTable(name, machine, result),
  );
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  // What was aborted has a number for its code.
  const usage = String((error as NodeJS.ErrnoException).code).startsWith('ERR_PARSE_ARGS');
  console.error(usage ? `${(error as Error).message}\nusage: npm run bench -- NAME [--json]` : error);
  process.exitCode = usage ? 2 : 1;
}
