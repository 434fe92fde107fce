/**
 * `npm run check [-- --root DIR] [-- --step types|format|rules|notices]`: everything that can be said about the code
 * without running it. Exit code 0 if nothing is wrong, 1 otherwise, 2 for a usage error.
 *
 * - types: `tsc --noEmit` with the strictness of tsconfig.json
 * - format: `biome check` (format and lint)
 * - rules: import order, purity of the cores, names, lock file (tools/check/)
 * - notices: THIRD_PARTY_NOTICES.md belongs to the lock file (tools/notices.ts)
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { checkRules } from './check/rules.ts';
import { renderViolation } from './check/violation.ts';
import { checkNotices } from './notices.ts';

interface StepResult {
  passed: boolean;
  output: string;
}

type Step = (root: string) => Promise<StepResult>;

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/** Runs a package's own JavaScript entry with this Node, in `cwd`. */
async function runTool(cwd: string, entry: string, args: readonly string[]): Promise<StepResult> {
  const child = spawn(process.execPath, [join(repository, 'node_modules', entry), ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [code] = await once(child, 'close');
  return { passed: code === 0, output: Buffer.concat(chunks).toString('utf8').trim() };
}

const colors = process.stdout.isTTY ? 'force' : 'off';

const steps: Readonly<Record<string, Step>> = {
  types: (root) => runTool(root, 'typescript/bin/tsc', ['--project', root, '--pretty', String(colors === 'force')]),
  format: (root) => runTool(root, '@biomejs/biome/bin/biome', ['check', `--colors=${colors}`, root]),
  rules: async (root) => {
    const { violations, files } = checkRules(root);
    const summary = `${files} files, ${violations.length} violations`;
    return { passed: violations.length === 0, output: [...violations.map(renderViolation), summary].join('\n') };
  },
  notices: async (root) => {
    const problem = checkNotices(root);
    return { passed: problem === undefined, output: problem ?? '' };
  },
};

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { root: { type: 'string' }, step: { type: 'string', multiple: true } } });
  const root = resolve(values.root ?? repository);
  const names = values.step ?? Object.keys(steps);
  const unknown = names.find((name) => !Object.hasOwn(steps, name));
  if (unknown !== undefined) {
    console.error(`no step "${unknown}"; there are: ${Object.keys(steps).join(', ')}`);
    return 2;
  }
  const results = await Promise.all(
    names.map(async (name) => {
      const start = performance.now();
      const result = await (steps[name] as Step)(root);
      return { name, ...result, seconds: (performance.now() - start) / 1000 };
    }),
  );
  for (const { name, passed, output, seconds } of results) {
    console.log(`${passed ? 'ok  ' : 'FAIL'} ${name}  ${seconds.toFixed(1)} s`);
    if (!passed) console.log(output.replace(/^(?=.)/gm, '     '));
  }
  return results.every(({ passed }) => passed) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') !== true) throw error;
  console.error(`${(error as Error).message}\nusage: npm run check -- [--root DIR] [--step NAME]`);
  process.exitCode = 2;
}
