/**
 * Peak memory and time of complete gradients with weights streamed from disk: `npm run bench -- memory [--preset NAME]...
 * [--backend onnx|native-fp32|native-bf16]... [--tokens N] [--sequences N] [--calls N] [--threads N] [--dir DIR] [--store FILE]
 * [--spill] [--no-prefetch]`. Each preset's random weights are written to a store under DIR (24.7 GB for alice-7b, and half of that
 * again for native-bf16; default: the system's folder for temporary files). For each backend (default: onnxruntime, and the
 * native one in bf16 where it is built) a fresh process computes gradients over one sequence and reports its own peak.
 * With --store, weights that a store holds already are used, and stay.
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
import { loadNativeLibrary, usableInstructionSets } from '../kernels/native/library.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { secondsOf } from './measure.ts';
import { BACKENDS, type GradientReport, type GradientTask, type MemoryBackend } from './memory/gradient-task.ts';

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

/** Thrown for a backend that there is none of. */
class UnknownBackendError extends Error {
  static readonly code = 'ERR_BENCH_BACKEND';
  readonly code = UnknownBackendError.code;
  override readonly name = 'UnknownBackendError';
}

interface Row {
  readonly preset: string;
  readonly backend: MemoryBackend;
  readonly parameters: number;
  readonly tokens: number;
  readonly peak_rss_gib: number;
  readonly first_gradient_s: number;
  readonly gradient_s: number;
  readonly wait_share: number;
  readonly read_gb: number;
  readonly disk_gb: number;
  readonly copy_gb: number;
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
      backend: { type: 'string', multiple: true },
      tokens: { type: 'string', default: '256' },
      sequences: { type: 'string', default: '1' },
      calls: { type: 'string', default: '2' },
      threads: { type: 'string', default: String(availableParallelism()) },
      dir: { type: 'string', default: tmpdir() },
      store: { type: 'string' },
      spill: { type: 'boolean', default: false },
      'no-prefetch': { type: 'boolean', default: false },
    },
  });
  const chosen = (values.preset ?? Object.keys(presets)).map(presetByName);
  const backends = values.backend?.map(backendNamed) ?? defaultBackends();
  const rows: Row[] = [];
  for (const preset of chosen.toSorted((a, b) => parameterCount(a) - parameterCount(b))) {
    const context = Math.min(Number(values.tokens), preset.context);
    const options = {
      ...{ context, sequences: Number(values.sequences), calls: Number(values.calls), threads: Number(values.threads) },
      ...{ prefetch: !values['no-prefetch'], spill: values.spill },
    };
    const place = { dir: values.dir, store: values.store };
    rows.push(...(await measure(preset, place, backends, options, { signal, progress })));
  }
  const [headline, baseline] = [rows.at(-1), rows.at(-backends.length)];
  return {
    figures: {
      preset: headline?.preset ?? null,
      backend: headline?.backend ?? null,
      peak_rss_gib: headline?.peak_rss_gib ?? null,
      first_gradient_s: headline?.first_gradient_s ?? null,
      gradient_s: headline?.gradient_s ?? null,
      // The name that other scripts know the last gradient by.
      seconds: headline?.gradient_s ?? null,
      first_times_faster: timesFaster(baseline, headline, 'first_gradient_s'),
      times_faster: timesFaster(baseline, headline, 'gradient_s'),
      by_preset: rows,
    },
    notes: [
      'peak_rss_gib is VmHWM of a fresh process (runtime, kernels and buffers); the page cache is not in it, as no file is mapped',
      'first_gradient_s is the first gradient over new weights, in which native-bf16 writes its copy of rounded weights (copy_gb): in training each one is, as every step changes all weights; gradient_s (and seconds) is the last of the gradients over the same weights',
      'read_gb are weights read in the last one, disk_gb what came from the disk for it and not from the page cache; wait_share the share of its time in which nothing was computed as weights were still being read',
      'open_seconds verifies the whole store beforehand, write_seconds made it; times_faster and first_times_faster compare the first backend and the last',
    ],
  };
}

function timesFaster(
  baseline: Row | undefined,
  row: Row | undefined,
  figure: 'first_gradient_s' | 'gradient_s',
): number | null {
  if (row === undefined || baseline === undefined || row === baseline) return null;
  return round(baseline[figure] / row[figure], 2);
}

function backendNamed(name: string): MemoryBackend {
  const backend = BACKENDS.find((candidate) => candidate === name);
  if (backend === undefined) throw new UnknownBackendError(`--backend is one of ${BACKENDS.join(', ')}, not "${name}"`);
  return backend;
}

function defaultBackends(): MemoryBackend[] {
  const native = usableInstructionSets().length > 0;
  return ['onnx', ...(native ? [loadNativeLibrary().bf16 ? ('native-bf16' as const) : ('native-fp32' as const)] : [])];
}

async function measure(
  preset: Preset,
  place: { readonly dir: string; readonly store: string | undefined },
  backends: readonly MemoryBackend[],
  options: Pick<GradientTask, 'context' | 'sequences' | 'calls' | 'threads' | 'prefetch' | 'spill'>,
  { signal, progress }: Pick<BenchmarkOptions, 'signal' | 'progress'>,
): Promise<Row[]> {
  const bytes = parameterCount(preset) * 4;
  const { dir } = place;
  const files = (backends.includes('native-bf16') ? 0.5 : 0) + (place.store === undefined ? 1 : 0);
  await mkdir(dir, { recursive: true });
  const { bavail, bsize } = await statfs(dir);
  if (bavail * bsize < bytes * files * 1.02)
    throw new DiskSpaceError(
      `${preset.name} needs ${((bytes * files) / GIB).toFixed(1)} GiB in ${dir}; give another with --dir`,
    );
  const folder = await mkdtemp(join(dir, 'alice-bench-memory-'));
  try {
    const store = place.store ?? join(folder, 'weights');
    let writeSeconds = 0;
    if (place.store === undefined) {
      progress(`${preset.name}: writing ${(bytes / GIB).toFixed(2)} GiB of weights`);
      writeSeconds = await secondsOf(async () => {
        const written = await createInitialStore(store, preset, new Uint8Array(32).fill(7), { signal });
        await written.close();
      });
    }
    const rows: Row[] = [];
    for (const backend of backends) {
      const tokens = options.sequences * options.context;
      progress(`${preset.name}, ${backend}: gradient over ${tokens} tokens`);
      // onnxruntime has no copy to be made first; natively, spilling is there, and there alone.
      const calls = backend === 'onnx' ? 1 : options.calls;
      const task: GradientTask = { preset: preset.name, store, backend, scratchFolder: folder, ...options, calls };
      const { stdout } = await promisify(execFile)(process.execPath, [CHILD, JSON.stringify(task)], { signal });
      const report = JSON.parse(stdout) as GradientReport;
      rows.push({
        preset: preset.name,
        backend,
        tokens,
        ...rowOf(preset, report),
        write_seconds: round(writeSeconds, 2),
      });
      const { peak_rss_gib, first_gradient_s, gradient_s } = rows.at(-1) as Row;
      const taken = `${first_gradient_s.toFixed(1)} s at first, then ${gradient_s.toFixed(1)} s`;
      progress(
        `${preset.name}, ${backend}: ${peak_rss_gib.toFixed(2)} GiB, ${calls > 1 ? taken : `${gradient_s.toFixed(1)} s`}`,
      );
    }
    return rows;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function rowOf(
  preset: Preset,
  { calls, openSeconds, peakBytes }: GradientReport,
): Omit<Row, 'preset' | 'backend' | 'tokens' | 'write_seconds'> {
  const [first, last] = [calls[0], calls.at(-1)];
  if (first === undefined || last === undefined) throw new RangeError('no gradient was computed');
  if (last.elements !== parameterCount(preset))
    throw new RangeError(`the gradient has ${last.elements} elements, the model ${parameterCount(preset)}`);
  return {
    parameters: last.elements,
    peak_rss_gib: round(peakBytes / GIB, 3),
    first_gradient_s: round(first.seconds, 2),
    gradient_s: round(last.seconds, 2),
    wait_share: round(last.waitSeconds / last.seconds, 4),
    read_gb: round(last.bytesRead / 1e9, 2),
    disk_gb: round(last.diskBytes / 1e9, 2),
    copy_gb: round(first.bytesWritten / 1e9, 2),
    open_seconds: round(openSeconds, 2),
  };
}
