/**
 * Child process of `bench memory`: one streamed gradient over a store that exists, and its own peak resident set. In a
 * process of its own, because a peak is over a process's whole life.
 *
 * Argument: {@link GradientTask} as JSON. Standard output: {@link GradientReport} as JSON.
 */
import { readFileSync } from 'node:fs';
import { TensorStore } from '../../kernels/checkpoint/tensor-store.ts';
import { StreamedEngine } from '../../kernels/engine/streamed-engine.ts';
import type { StreamedModel } from '../../kernels/engine/streamed-model.ts';
import { tensorLayout } from '../../kernels/model/layout.ts';
import { presetByName } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { NativeStreamedEngine } from '../../kernels/native/native-streamed-engine.ts';
import type { GradientCall, GradientReport, GradientTask } from './gradient-task.ts';

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

/** Bytes that this process had the disk read. */
function diskBytes(): number {
  if (process.platform !== 'linux') return Number.NaN;
  return Number(/^read_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}

function engineFor(store: TensorStore, task: GradientTask): StreamedModel {
  const { backend, context, threads, prefetch, scratchFolder, spill } = task;
  const options = { preset: presetByName(task.preset), threads, batch: 1, context, prefetch };
  if (backend === 'onnx') return new StreamedEngine(store, options);
  const precision = backend === 'native-bf16' ? 'bf16' : 'fp32';
  return new NativeStreamedEngine(store, { ...options, precision, scratchFolder, spill });
}

async function measure(task: GradientTask): Promise<GradientReport> {
  const preset = presetByName(task.preset);
  const layout = tensorLayout(preset);
  const began = performance.now();
  const store = await TensorStore.open(task.store, { kind: 'weights', presetHash: presetHash(preset), layout });
  const openSeconds = (performance.now() - began) / 1000;
  const engine = engineFor(store, task);
  // Spread over the vocabulary, so that as many rows of the embedding are read as there are tokens.
  const length = task.sequences * (task.context + 1);
  const tokens = Int32Array.from({ length }, (_, i) => (i * 7919) % preset.vocabulary);
  const calls: GradientCall[] = [];
  for (let call = 0; call < task.calls; call++) {
    const [start, disk] = [performance.now(), diskBytes()];
    let elements = 0;
    const { loss, gradientNorm } = await engine.gradient(tokens, (part) => {
      elements += part.length;
    });
    const seconds = (performance.now() - start) / 1000;
    const { waitedMs, bytesRead, bytesWritten } = engine.reading;
    const waitSeconds = waitedMs / 1000;
    calls.push({
      ...{ loss, gradientNorm, elements, seconds, waitSeconds, bytesRead, bytesWritten },
      diskBytes: diskBytes() - disk,
    });
  }
  await engine.close();
  await store.close();
  return { calls, openSeconds, peakBytes: peakResidentBytes() };
}

const task = process.argv[2];
if (task === undefined) throw new TypeError('usage: streamed-gradient.ts TASK_AS_JSON');
process.stdout.write(JSON.stringify(await measure(JSON.parse(task) as GradientTask)));
