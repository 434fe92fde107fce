/**
 * Peak memory of a complete gradient with weights streamed from disk: `npm run bench -- memory [--preset NAME]...
 * [--tokens N] [--threads N] [--dir DIR] [--no-prefetch]`. Each preset's random weights are written to a store under DIR
 * (24.7 GB for alice-7b; default: the system's folder for temporary files), a fresh process computes one gradient over one
 * sequence and reports its own peak, and the store is deleted.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, statfs } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { createInitialStore } from '../kernels/checkpoint/initial-store.ts';
import { parameterCount } from '../kernels/model/layout.ts';
import { type Preset, presetByName, presets } from '../kernels/model/preset.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { secondsOf } from './measure.ts';
import type { GradientReport, GradientTask } from './memory/streamed-gradient.ts';

/** One line for the list of benchmarks. */
export const describe = 'peak memory of a whole gradient, weights streamed from disk';

/** See the head of this file. */
export const takesFlags = true;

const GIB = 2 ** 30;
const CHILD = fileURLToPath(new URL('memory/streamed-gradient.ts', import.meta.url));

/** Thrown where the disk is too small for a preset's store. */
class DiskSpaceError extends Error {
  static readonly code = 'ERR_BENCH_DISK_SPACE';
  readonly code = DiskSpaceError.code;
  override readonly name = 'DiskSpaceError';
}

interface Row {
  readonly preset: string;
  readonly parameters: number;
  readonly tokens: number;
  readonly peak_rss_gib: number;
  readonly seconds: number;
  readonly open_seconds: number;
  readonly write_seconds: number;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** Measures; the figures are those of the largest preset, the rest is in `by_preset`. */
export async function run({ signal, progress, args }: BenchmarkOptions): Promise<BenchmarkResult> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      preset: { type: 'string', multiple: true },
      tokens: { type: 'string', default: '256' },
      threads: { type: 'string', default: String(availableParallelism()) },
      dir: { type: 'string', default: tmpdir() },
      'no-prefetch': { type: 'boolean', default: false },
    },
  });
  const chosen = (values.preset ?? Object.keys(presets)).map(presetByName);
  const rows: Row[] = [];
  for (const preset of chosen.toSorted((a, b) => parameterCount(a) - parameterCount(b))) {
    const context = Math.min(Number(values.tokens), preset.context);
    const options = { context, threads: Number(values.threads), prefetch: !values['no-prefetch'] };
    rows.push(await measure(preset, values.dir, options, { signal, progress }));
  }
  const headline = rows.at(-1);
  return {
    figures: {
      preset: headline?.preset ?? null,
      peak_rss_gib: headline?.peak_rss_gib ?? null,
      seconds: headline?.seconds ?? null,
      by_preset: rows,
    },
    notes: [
      'peak_rss_gib is VmHWM of a fresh process (runtime, kernels and buffers); the page cache is not in it, as no file is mapped',
      'seconds is one gradient over one sequence; open_seconds verifies the whole store beforehand, write_seconds made it',
    ],
  };
}

async function measure(
  preset: Preset,
  dir: string,
  options: Pick<GradientTask, 'context' | 'threads' | 'prefetch'>,
  { signal, progress }: Pick<BenchmarkOptions, 'signal' | 'progress'>,
): Promise<Row> {
  const bytes = parameterCount(preset) * 4;
  await mkdir(dir, { recursive: true });
  const { bavail, bsize } = await statfs(dir);
  if (bavail * bsize < bytes * 1.02)
    throw new DiskSpaceError(`${preset.name} needs ${(bytes / GIB).toFixed(1)} GiB in ${dir}; give another with --dir`);
  const folder = await mkdtemp(join(dir, 'alice-bench-memory-'));
  try {
    const store = join(folder, 'weights');
    progress(`${preset.name}: writing ${(bytes / GIB).toFixed(2)} GiB of weights`);
    const writeSeconds = await secondsOf(async () => {
      const written = await createInitialStore(store, preset, new Uint8Array(32).fill(7), { signal });
      await written.close();
    });
    progress(`${preset.name}: gradient over ${options.context} tokens`);
    const task: GradientTask = { preset: preset.name, store, ...options };
    const { stdout } = await promisify(execFile)(process.execPath, [CHILD, JSON.stringify(task)], { signal });
    const report = JSON.parse(stdout) as GradientReport;
    if (report.elements !== parameterCount(preset))
      throw new RangeError(`the gradient has ${report.elements} elements, the model ${parameterCount(preset)}`);
    progress(`${preset.name}: ${(report.peakBytes / GIB).toFixed(2)} GiB, ${report.seconds.toFixed(1)} s`);
    return {
      preset: preset.name,
      parameters: report.elements,
      tokens: options.context,
      peak_rss_gib: round(report.peakBytes / GIB, 3),
      seconds: round(report.seconds, 2),
      open_seconds: round(report.openSeconds, 2),
      write_seconds: round(writeSeconds, 2),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
