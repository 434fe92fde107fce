/**
 * Child process of `bench memory`: one streamed gradient over a store that exists, and its own peak resident set. In a
 * process of its own, because a peak is over a process's whole life.
 *
 * Argument: {@link GradientTask} as JSON. Standard output: {@link GradientReport} as JSON.
 */
import { readFileSync } from 'node:fs';
import { TensorStore } from '../../kernels/checkpoint/tensor-store.ts';
import { StreamedEngine } from '../../kernels/engine/streamed-engine.ts';
import { tensorLayout } from '../../kernels/model/layout.ts';
import { presetByName } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';

/** What the child is asked for. */
export interface GradientTask {
  readonly preset: string;
  readonly store: string;
  /** Length of the one sequence. */
  readonly context: number;
  readonly threads: number;
  readonly prefetch: boolean;
}

/** What it reports. */
export interface GradientReport {
  readonly loss: number;
  readonly gradientNorm: number;
  /** Elements that the sink got. */
  readonly elements: number;
  /** Of the gradient: from reading the first weight to handing on the last part. */
  readonly seconds: number;
  /** Of verifying the whole store beforehand. */
  readonly openSeconds: number;
  readonly peakBytes: number;
}

/**
 * Most bytes that this process ever had in memory. Files that are read, not mapped, lie in the page cache, which belongs
 * to the kernel and is not in the figure.
 */
function peakResidentBytes(): number {
  // maxRSS would do, were it not that Linux passes the parent's on to a child.
  if (process.platform !== 'linux') return process.resourceUsage().maxRSS * 1024;
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return Number(kib) * 1024;
}

async function gradient(task: GradientTask): Promise<GradientReport> {
  const preset = presetByName(task.preset);
  const layout = tensorLayout(preset);
  const began = performance.now();
  const store = await TensorStore.open(task.store, { kind: 'weights', presetHash: presetHash(preset), layout });
  const opened = performance.now();
  const { context, threads, prefetch } = task;
  const engine = new StreamedEngine(store, { preset, threads, batch: 1, context, prefetch });
  // Spread over the vocabulary, so that as many rows of the embedding are read as there are tokens.
  const tokens = Int32Array.from({ length: context + 1 }, (_, i) => (i * 7919) % preset.vocabulary);
  let elements = 0;
  const { loss, gradientNorm } = await engine.gradient(tokens, (part) => {
    elements += part.length;
  });
  const seconds = (performance.now() - opened) / 1000;
  await engine.close();
  await store.close();
  const openSeconds = (opened - began) / 1000;
  return { loss, gradientNorm, elements, seconds, openSeconds, peakBytes: peakResidentBytes() };
}

const task = process.argv[2];
if (task === undefined) throw new TypeError('usage: streamed-gradient.ts TASK_AS_JSON');
process.stdout.write(JSON.stringify(await gradient(JSON.parse(task) as GradientTask)));
