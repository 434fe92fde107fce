/** Finds out whether a device works, in a process of its own: a driver that crashes takes nobody with it. */
import { type ChildProcess, fork } from 'node:child_process';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Device } from './device.ts';
import { explainFailure, type Trouble, troubleBeforehand } from './explain.ts';
import type { DeviceMeasurement } from './measure.ts';
import type { ProbeAnswer } from './probe-child.ts';

/** Outcome for one device. */
export type DeviceProbe =
  | ({ readonly device: Device; readonly works: true } & DeviceMeasurement)
  | ({ readonly device: Device; readonly works: false } & Trouble);

/** How a probe is made. */
export interface ProbeOptions {
  /** Threads of a CPU product. */
  readonly threads: number;
  /** Also measures training; takes seconds. Default: no. */
  readonly training?: boolean;
  /** For tests: what runs in the process instead. */
  readonly program?: URL;
  readonly signal?: AbortSignal;
}

const PROBE_CHILD = new URL('./probe-child.ts', import.meta.url);

/** A GPU's first product compiles shaders: a second or two, on a busy machine several times that. */
const PRODUCT_LIMIT_MS = 30_000;
/** Training compiles dozens. */
const TRAINING_LIMIT_MS = 120_000;

/** Native code's last words that are kept, in characters. */
const KEPT_OUTPUT = 8192;

/** Collects the end of what streams say. */
function lastWords(streams: readonly (Readable | null)[]): () => string {
  let kept = '';
  for (const stream of streams)
    stream?.setEncoding('utf8').on('data', (text: string) => {
      kept = (kept + text).slice(-KEPT_OUTPUT);
    });
  return () => kept;
}

/** Its answer, or how it ended without one. */
async function answerOf(child: ChildProcess, limitMs: number, signal: AbortSignal | undefined): Promise<ProbeAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<ProbeAnswer>();
  const timer = setTimeout(() => resolve({ failure: `no answer within ${limitMs / 1000} s` }), limitMs);
  const onAbort = () => reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  child.once('message', (answer) => resolve(answer as ProbeAnswer));
  child.once('error', (error) => resolve({ failure: error.message }));
  // 'close' comes after the last of its output.
  child.once('close', (code, killer) =>
    resolve({ failure: killer === null ? `its driver ended the process (${code})` : `its driver crashed (${killer})` }),
  );
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** Tries one device. Throws the signal's reason only: everything else is an outcome. */
export async function probeDevice(device: Device, options: ProbeOptions): Promise<DeviceProbe> {
  const { threads, training = false, program = PROBE_CHILD, signal } = options;
  signal?.throwIfAborted();
  const ruledOut = troubleBeforehand(device);
  if (ruledOut !== undefined) return { device, works: false, ...ruledOut };
  const child = fork(fileURLToPath(program), {
    execArgv: [],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...process.env, ORT_DISABLE_TELEMETRY: '1' },
  });
  try {
    const output = lastWords([child.stdout, child.stderr]);
    // A child that is gone already shows in its end.
    child.send({ device, threads, training }, () => {});
    const answer = await answerOf(child, training ? TRAINING_LIMIT_MS : PRODUCT_LIMIT_MS, signal);
    if ('measured' in answer) return { device, works: true, ...answer.measured };
    return { device, works: false, ...explainFailure(device, answer.failure, output()) };
  } finally {
    child.kill('SIGKILL');
  }
}
