/**
 * `npm run fuzz -- NAME --inputs N --seed S [--json]`: feeds a decoder N mutated and random inputs and counts crashes,
 * hangs, and inputs that allocate more than their cap. Exit code 0 when there are none, 1 when there are, 2 on wrong usage.
 *
 * Inputs that fail are saved and replayed with `npm run fuzz -- NAME --replay FILE`.
 */
import { globSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { InputSource } from './inputs.ts';
import { type Failure, supervise } from './supervise.ts';
import type { FuzzTarget } from './target.ts';

/** Failures that are saved: the rest is most likely more of the same. */
const MAX_SAVED = 20;

const USAGE = `usage: npm run fuzz -- NAME [--inputs N] [--seed S] [--first I] [--threads T] [--hang-ms MS] [--save DIR] [--json]
       npm run fuzz -- NAME --replay FILE`;

/** Thrown for a flag that makes no sense. */
class UsageError extends Error {
  static readonly code = 'ERR_USAGE';
  readonly code = UsageError.code;
  override readonly name = 'UsageError';
}

function count(text: string | undefined, fallback: number, name: string, low = 1): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < low || value > 2 ** 31 - 2) {
    throw new UsageError(`--${name} takes a whole number of at least ${low}, not "${text}"`);
  }
  return value;
}

async function listing(folder: string): Promise<string> {
  const lines = globSync('*.ts', { cwd: folder })
    .sort()
    .map(async (file) => {
      const { describe } = (await import(pathToFileURL(join(folder, file)).href)) as FuzzTarget;
      return `  ${basename(file, '.ts').padEnd(14)} ${describe}`;
    });
  return `targets:\n${(await Promise.all(lines)).join('\n')}`;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      inputs: { type: 'string' },
      seed: { type: 'string' },
      first: { type: 'string' },
      threads: { type: 'string' },
      'hang-ms': { type: 'string' },
      save: { type: 'string' },
      replay: { type: 'string' },
      folder: { type: 'string' },
      json: { type: 'boolean' },
    },
    allowPositionals: true,
  });
  const folder = resolve(values.folder ?? fileURLToPath(new URL('./targets', import.meta.url)));
  const [name] = positionals;
  const targetFile = join(folder, `${name}.ts`);
  if (name === undefined || !globSync('*.ts', { cwd: folder }).includes(`${name}.ts`)) {
    const problem = name === undefined ? USAGE : `no target "${name}"`;
    throw new UsageError(`${problem}\n${await listing(folder)}`);
  }
  const target = (await import(pathToFileURL(targetFile).href)) as FuzzTarget;
  if (values.replay !== undefined) {
    // Undisturbed, so that a crash shows with its stack.
    console.log(target.run(new Uint8Array(await readFile(values.replay))));
    return 0;
  }
  const inputs = count(values.inputs, 100_000, 'inputs');
  const seed = count(values.seed, 1, 'seed', 0);
  const first = count(values.first, 0, 'first', 0);
  const threads = count(values.threads, availableParallelism(), 'threads');
  // Long, so that a machine that is busy with other things does not look like a hang.
  const hangMs = count(values['hang-ms'], 20_000, 'hang-ms');
  const save = resolve(values.save ?? '.alice/fuzz');
  const interrupt = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort());

  console.error(`${name}: ${target.describe}; ${inputs} inputs of seed ${seed}`);
  const source = new InputSource(target, seed);
  const failures: Failure[] = [];
  const saving: Promise<void>[] = [];
  const outcomes: Record<string, number> = {};
  let [done, shown] = [0, 0];
  const saveInput = async (failure: Failure) => {
    await mkdir(save, { recursive: true });
    const file = join(save, `${name}-${seed}-${failure.index}-${failure.kind}.bin`);
    await writeFile(file, source.input(failure.index));
    console.error(
      `${failure.kind}: input ${failure.index}: ${failure.message}\n  npm run fuzz -- ${name} --replay ${file}`,
    );
  };
  const startedMs = performance.now();
  await supervise({
    targetFile,
    seed,
    first,
    inputs,
    threads,
    hangMs,
    signal: interrupt.signal,
    onFailure: (failure) => {
      failures.push(failure);
      if (failures.length <= MAX_SAVED) saving.push(saveInput(failure));
    },
    onOutcomes: (more) => {
      for (const [outcome, number] of Object.entries(more)) {
        outcomes[outcome] = (outcomes[outcome] ?? 0) + number;
        done += number;
      }
      if (done - shown < 1_000_000) return;
      shown = done;
      console.error(`${done} of ${inputs}`);
    },
  });
  await Promise.all(saving);
  const seconds = (performance.now() - startedMs) / 1000;
  const number = (kind: Failure['kind']) => failures.filter((failure) => failure.kind === kind).length;
  const summary = {
    target: name,
    seed,
    inputs,
    crashes: number('crash'),
    hangs: number('hang'),
    over_cap: number('over-cap'),
    outcomes: Object.fromEntries(Object.entries(outcomes).sort(([a], [b]) => (a < b ? -1 : 1))),
    inputs_per_s: Math.round(inputs / seconds),
  };
  console.log(values.json === true ? JSON.stringify(summary) : summary);
  return failures.length > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  const { code = '' } = error as NodeJS.ErrnoException;
  const usage = code === UsageError.code || code.startsWith('ERR_PARSE_ARGS');
  console.error(usage ? (error as Error).message : error);
  process.exitCode = usage || code === 'ENOENT' ? 2 : 1;
}
