/**
 * The project's test runner: `npm test [-- [--verbose] [--list] WORDS...]`.
 *
 * Runs every test/**\/*.test.ts whose path contains one of WORDS (all of them without WORDS; a WORD that names an
 * existing file stands for that file) in a process of its own, {@link concurrency} at a time, files marked `// alone`
 * one by one at the end. What counts as passing is in verdict.ts, what a file may ask for in directives.ts. The last
 * line is `N passed, N failed` or `N passed, N failed, N skipped`; exit code 0 if nothing failed, 1 otherwise, 2 for a
 * usage error.
 */

import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Directives, readDirectives } from './directives.ts';
import { type Execution, execute } from './execute.ts';
import { judge, type Verdict } from './verdict.ts';

/** As many as the smallest machine that this project plans for has cores. */
const concurrency = 2;

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

interface PlannedFile {
  path: string;
  directives: Directives;
}

/** Absolute paths of the files to run, in order. */
function select(words: readonly string[]): string[] {
  const named = words.filter((word) => existsSync(word) && statSync(word).isFile()).map((word) => resolve(word));
  const substrings = words.filter((word) => !(existsSync(word) && statSync(word).isFile()));
  const found = globSync('test/**/*.test.ts', { cwd: root }).filter(
    (path) => words.length === 0 || substrings.some((word) => path.includes(word)),
  );
  return [...new Set([...named, ...found.sort().map((path) => resolve(root, path))])];
}

const indent = (text: string): string => text.replace(/^(?=.)/gm, '    ');

function printFile(path: string, execution: Execution, verdict: Verdict, verbose: boolean): void {
  const { passed, failed, skipped, failedTests, skippedTests, problems } = verdict;
  const counts = [`${passed} passed`];
  if (failed > 0) counts.push(`${failed} failed`);
  if (skipped > 0) counts.push(`${skipped} skipped`);
  const mark = failed === 0 ? 'ok  ' : 'FAIL';
  const lines = [`${mark} ${relative(root, path)}  ${counts.join(', ')}  ${execution.seconds.toFixed(1)} s`];
  for (const name of skippedTests) lines.push(`     skipped: ${name}`);
  if (failed > 0 || verbose) lines.push(indent(execution.output.trimEnd()));
  for (const name of failedTests) lines.push(`     failed: ${name}`);
  for (const problem of problems) lines.push(indent(problem).replace(/^ {4}/, '     problem: '));
  process.stdout.write(`${lines.filter((line) => line !== '').join('\n')}\n`);
}

/** Runs the planned files, `workers` at a time, in order. */
async function runAll(
  files: readonly PlannedFile[],
  workers: number,
  runOne: (file: PlannedFile) => Promise<void>,
): Promise<void> {
  const queue = [...files];
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) await runOne(file);
  };
  await Promise.all(Array.from({ length: workers }, worker));
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { verbose: { type: 'boolean', short: 'v' }, list: { type: 'boolean' } },
    allowPositionals: true,
  });
  const paths = select(positionals);
  if (values.list === true) {
    for (const path of paths) console.log(relative(root, path));
    return paths.length > 0 ? 0 : 1;
  }
  const total = { passed: 0, failed: 0, skipped: 0 };
  const failures: string[] = [];
  const interrupt = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => interrupt.abort(name));

  const planned: PlannedFile[] = [];
  for (const path of paths) {
    try {
      planned.push({ path, directives: readDirectives(readFileSync(path, 'utf8')) });
    } catch (error) {
      total.failed += 1;
      failures.push(relative(root, path));
      console.log(`FAIL ${relative(root, path)}\n     problem: ${(error as Error).message}`);
    }
  }
  // What may take longest goes first, so that the end does not wait for one long file alone.
  planned.sort((a, b) => b.directives.fileLimitMs - a.directives.fileLimitMs);

  const runOne = async ({ path, directives }: PlannedFile): Promise<void> => {
    if (interrupt.signal.aborted) return;
    const execution = await execute(path, directives, { signal: interrupt.signal });
    if (interrupt.signal.aborted) return;
    const verdict = judge(execution.observation);
    total.passed += verdict.passed;
    total.failed += verdict.failed;
    total.skipped += verdict.skipped;
    if (verdict.failed > 0) failures.push(relative(root, path));
    printFile(path, execution, verdict, values.verbose === true);
  };
  await runAll(
    planned.filter(({ directives }) => !directives.alone),
    concurrency,
    runOne,
  );
  await runAll(
    planned.filter(({ directives }) => directives.alone),
    1,
    runOne,
  );

  if (interrupt.signal.aborted) {
    console.log(`\ninterrupted by ${interrupt.signal.reason}`);
    total.failed += 1;
  }
  if (paths.length === 0) {
    console.log(`no test file matches: ${positionals.join(' ') || 'test/**/*.test.ts'}`);
    total.failed += 1;
  }
  if (failures.length > 0) console.log(`\nfailed files:\n${failures.map((path) => `  ${path}`).join('\n')}`);
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
  console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`);
  return total.failed > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') !== true) throw error;
  console.error((error as Error).message);
  console.error('usage: npm test -- [--verbose] [--list] [PART OF A PATH...]');
  process.exitCode = 2;
}
