/** `alice doctor`: what this machine has, what works, and what is missing. */
import { existsSync } from 'node:fs';
import { access, constants, mkdtemp, rmdir, stat, statfs } from 'node:fs/promises';
import { arch, availableParallelism, cpus, platform, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { BackendUnavailableError } from '../../kernels/engine/backend.ts';
import { type ChosenEngine, chooseEngine } from '../../kernels/engine/choose-engine.ts';
import { DEVICES, type Device, DeviceUnavailableError } from '../../kernels/engine/device/device.ts';
import { type DeviceProbe, probeDevice } from '../../kernels/engine/device/probe.ts';
import { type NativeSupport, nativeSupport } from '../../kernels/native/support.ts';
import { type ConfigFlags, configFromFlags } from '../config-flags.ts';
import { CheckFailedError } from '../report-failure.ts';

/** One line of the report. */
interface Finding {
  readonly name: string;
  /** Whether what is needed holds; undefined for what is good to know and not needed. */
  readonly ok?: boolean;
  readonly text: string;
  /** What to do. */
  readonly remedy?: string;
}

/** Blocks, blobs and weights of a small model fit. */
const NEEDED_DISK_BYTES = 2 ** 30;
/** A miner of `alice-nano` at its peak. */
const NEEDED_MEMORY_BYTES = 2 ** 29;
/** What the network stack needs: see the launcher. */
const NEEDED_NODE_MAJOR = 24;

const gib = (bytes: number): number => Math.round((bytes / 2 ** 30) * 10) / 10;

/** Products per second to three figures at most. */
const figure = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0));

/** The folder, or the nearest one above it that exists: where the first file would be made. */
function existing(dir: string): string {
  let at = dir;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  return at;
}

async function checkFolder(dir: string): Promise<Finding & { readonly freeBytes: number | null }> {
  const at = existing(dir);
  const name = 'data';
  const remedy = 'choose another folder with --dir, or change its permissions';
  try {
    if (!(await stat(at)).isDirectory()) return { name, ok: false, text: `${at} is a file`, remedy, freeBytes: null };
    await access(at, constants.W_OK);
    // Permissions do not tell all (a read-only mount, a quota): make something and take it away.
    await rmdir(await mkdtemp(join(at, '.alice-doctor-')));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    return { name, ok: false, text: `cannot write to ${at} (${code})`, remedy, freeBytes: null };
  }
  const { bavail, bsize } = await statfs(at);
  const freeBytes = bavail * bsize;
  const text = `${dir}${at === dir ? '' : ' (not made yet)'}: writable, ${gib(freeBytes)} GiB free`;
  if (freeBytes >= NEEDED_DISK_BYTES) return { name, ok: true, text, freeBytes };
  return { name, ok: false, text, remedy: `free ${gib(NEEDED_DISK_BYTES)} GiB, or choose another --dir`, freeBytes };
}

function describeDevice(probe: DeviceProbe): Finding {
  const { device } = probe;
  const needed = device === 'cpu' ? { ok: probe.works } : {};
  if (!probe.works) return { name: device, ...needed, text: `not used: ${probe.reason}`, remedy: probe.remedy };
  const { gflops, halfGflops, trainingTokensPerSecond } = probe;
  const half = halfGflops === null ? '' : `, ${figure(halfGflops)} in fp16`;
  const training =
    trainingTokensPerSecond === null ? '' : `; trains alice-nano at ${figure(trainingTokensPerSecond)} tokens/s`;
  return { name: device, ...needed, text: `works: ${figure(gflops)} GFLOP/s${half}${training}` };
}

/** The native backend beside onnxruntime on the CPU. */
function describeNative(support: NativeSupport, cpu: DeviceProbe | undefined): Finding {
  if (!support.usable) return { name: 'native', text: `not used: ${support.reason}` };
  const sets = `works: ${support.instructionSet} (of ${support.instructionSets.join(', ')})`;
  const measured = cpu?.works === true ? cpu.native : null;
  if (measured === null) return { name: 'native', text: sets };
  const half = measured.bf16 === null ? '' : `, ${figure(measured.bf16)} in bf16`;
  return { name: 'native', text: `${sets}; trains alice-nano at ${figure(measured.fp32)} tokens/s in fp32${half}` };
}

function nativeRecord(support: NativeSupport, cpu: DeviceProbe | undefined): object {
  if (!support.usable) return { works: false, reason: support.reason };
  const measured = cpu?.works === true ? cpu.native : null;
  return {
    works: true,
    instruction_set: support.instructionSet,
    instruction_sets: support.instructionSets,
    training_tokens_per_s: measured?.fp32 ?? null,
    training_tokens_per_s_bf16: measured?.bf16 ?? null,
  };
}

/** Where the text of a line begins, and where it ends. */
const INDENT = 13;
const LINE_WIDTH = 110;

/** Words on as many lines as they need. */
function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && INDENT + last.length + 1 + word.length <= LINE_WIDTH)
      lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  return lines;
}

function render({ name, ok, text, remedy = '' }: Finding): string {
  const mark = ok === undefined ? '  ' : ok ? 'ok' : '!!';
  const lines = [...wrapped(text), ...(remedy === '' ? [] : wrapped(remedy))];
  return `${mark} ${name.padEnd(INDENT - 4)} ${lines.join(`\n${' '.repeat(INDENT)}`)}`;
}

function deviceRecord(probe: DeviceProbe): object {
  if (!probe.works) return { device: probe.device, works: false, reason: probe.reason, remedy: probe.remedy };
  return {
    device: probe.device,
    works: true,
    gflops: probe.gflops,
    gflops_fp16: probe.halfGflops,
    training_tokens_per_s: probe.trainingTokensPerSecond,
  };
}

type DoctorFlags = Pick<ConfigFlags, 'dir' | 'config' | 'device' | 'backend' | 'precision' | 'threads'> & {
  json?: boolean;
};

async function examine(flags: DoctorFlags): Promise<void> {
  const { config } = configFromFlags(flags);
  const threads = config.engine.threads || availableParallelism();
  const memory = { total: totalmem(), available: process.availableMemory() };
  const folder = await checkFolder(resolve(config.dir));
  const findings: Finding[] = [];
  const report = (finding: Finding) => {
    findings.push(finding);
    if (!flags.json) process.stdout.write(`${render(finding)}\n`);
  };
  const nodeWorks = Number(process.versions.node.split('.')[0]) >= NEEDED_NODE_MAJOR;
  report({
    name: 'node',
    ok: nodeWorks,
    text: process.version,
    ...(nodeWorks ? {} : { remedy: `install Node ${NEEDED_NODE_MAJOR} or newer` }),
  });
  report({
    name: 'machine',
    text: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${availableParallelism()} cores, ${platform()}-${arch()}`,
  });
  const enough = memory.available >= NEEDED_MEMORY_BYTES;
  report({
    name: 'memory',
    ok: enough,
    text: `${gib(memory.total)} GiB, ${gib(memory.available)} available`,
    ...(enough ? {} : { remedy: `${gib(NEEDED_MEMORY_BYTES)} GiB are needed: end other programs` }),
  });
  report(folder);
  const native = nativeSupport();
  const probes = new Map<Device, DeviceProbe>();
  // The CPU first: it is what everybody has.
  for (const device of DEVICES.toReversed()) {
    const probe = await probeDevice(device, { threads, training: true });
    probes.set(device, probe);
    report(describeDevice(probe));
    if (device === 'cpu') report(describeNative(native, probe));
  }
  const known = async (device: Device): Promise<DeviceProbe> => probes.get(device) as DeviceProbe;
  let chosen: ChosenEngine | undefined;
  try {
    chosen = await chooseEngine({ ...config.engine, threads }, {}, { probe: known, native: () => native });
    report({ name: 'uses', ok: true, text: chosen.message });
  } catch (error) {
    if (!(error instanceof DeviceUnavailableError || error instanceof BackendUnavailableError)) throw error;
    report({ name: 'uses', ok: false, text: error.message });
  }
  const wrong = findings.filter(({ ok }) => ok === false).map(({ name }) => name);
  if (flags.json) {
    const summary = {
      ok: wrong.length === 0,
      wrong,
      node: process.version,
      system: `${platform()}-${arch()}`,
      cpu: cpus()[0]?.model.trim() ?? null,
      cores: availableParallelism(),
      memory_bytes: memory.total,
      memory_available_bytes: memory.available,
      dir: resolve(config.dir),
      dir_writable: folder.freeBytes !== null,
      disk_free_bytes: folder.freeBytes,
      devices: [...probes.values()].map(deviceRecord),
      native: nativeRecord(native, probes.get('cpu')),
      backend: chosen?.backend ?? null,
      device: chosen?.device ?? null,
      precision: chosen?.precision ?? null,
    };
    process.stdout.write(`${JSON.stringify(summary)}\n`);
  }
  if (wrong.length > 0) throw new CheckFailedError(`something that is needed does not hold: ${wrong.join(', ')}`);
}

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check this machine: memory, disk, and a measured figure for each device')
    .option('--dir <folder>', 'data folder to check (default: alice-data)')
    .option('--config <file>', 'configuration file (default: alice.json in the data folder, if there is one)')
    .option('--device <device>', 'auto, cpu, cuda, webgpu, directml or coreml: it has to work')
    .option('--backend <backend>', 'auto, native or onnx: it has to work')
    .option('--precision <precision>', 'of training: auto, fp32, bf16 or fp16')
    .option('--threads <n>', 'threads for the CPU; 0 takes all cores')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
GFLOP/s: products of 512 x 512 matrices by onnxruntime, with the copies to and from the device; tokens/s: gradients of
2 x 128 tokens, by onnxruntime in fp32 and by the native backend (docs/native.md). Each device is tried in a process of its
own, so that a driver that crashes does no harm. Exit code 1 when something that is needed (marked !!) does not hold.`,
    )
    .action((flags: DoctorFlags) => examine(flags));
}
