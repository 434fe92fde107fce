/** Turns what a person asked for into the backend, device and precision of a model, as this machine allows. */
import { type NativeSupport, nativeSupport } from '../native/support.ts';
import {
  type Backend,
  type BackendChoice,
  BackendUnavailableError,
  type PrecisionChoice,
  type TrainingPrecision,
} from './backend.ts';
import { chooseDevice, type Probe } from './device/choose.ts';
import type { Device, DeviceChoice } from './device/device.ts';

/** What was asked for. */
export interface EngineRequest {
  readonly backend: BackendChoice;
  readonly device: DeviceChoice;
  /** Of training. */
  readonly precision: PrecisionChoice;
  /** Threads of the CPU. */
  readonly threads: number;
}

/** What is used. */
export interface ChosenEngine {
  readonly backend: Backend;
  readonly device: Device;
  /** Of training. */
  readonly precision: TrainingPrecision;
  /** One line for the log: what is used, and why not what might be expected. */
  readonly message: string;
}

/** Where a choice finds out about this machine; tests have their own. */
export interface EngineSurroundings {
  readonly probe?: Probe;
  readonly native?: () => NativeSupport;
}

/**
 * What `precision: auto` trains in where the native backend has bf16 (a third of the time of fp32). The loss curve must
 * stay within the spread between seeds (`npm run bench -- accuracy`): with 'fp32' here, everybody trains in fp32 again.
 */
const NATIVE_AUTO_PRECISION: 'fp32' | 'bf16' = 'bf16';

/**
 * Instruction sets with which `auto` leaves the work to onnxruntime, whose own kernels are faster: without any of a newer
 * processor, the native backend trains `alice-nano` at a quarter of its speed.
 */
const SLOW_INSTRUCTION_SETS: ReadonlySet<string> = new Set(['portable']);

/**
 * Chooses. `backend: auto` is native where its library is usable and the device is the CPU, else onnxruntime. Throws
 * {@link BackendUnavailableError} and DeviceUnavailableError that say what to do, or the signal's reason.
 */
export async function chooseEngine(
  request: EngineRequest,
  options: { readonly signal?: AbortSignal } = {},
  { probe, native = nativeSupport }: EngineSurroundings = {},
): Promise<ChosenEngine> {
  const { backend, threads } = request;
  const support = native();
  const onlyNative = requireNative(request, support);
  const refusal = backend === 'onnx' || onlyNative ? undefined : refusalOf(support);
  const usesNative = backend !== 'onnx' && refusal === undefined && support.usable;
  const chosen = await chooseDevice(
    {
      device: onlyNative ? 'cpu' : request.device,
      precision: request.precision === 'bf16' ? 'fp32' : request.precision,
      threads,
      ...(usesNative ? { nativePrecision: nativePrecision(request.precision, support.bf16) } : {}),
    },
    options,
    probe,
  );
  const { device, refused } = chosen;
  const describe = (how: string, reasons: readonly string[]) =>
    `computing on ${device} with ${how}${reasons.length === 0 ? '' : ` (not on ${reasons.join('; not on ')})`}`;
  if (device !== 'cpu') {
    const message = describe(`onnxruntime in ${chosen.precision}`, refused);
    return { backend: 'onnx', device, precision: chosen.precision, message };
  }
  const onThreads = `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  if (!usesNative) {
    const reasons = refusal === undefined ? refused : [`the native backend: ${refusal}`, ...refused];
    const message = describe(`onnxruntime in fp32, ${onThreads}`, reasons);
    return { backend: 'onnx', device, precision: 'fp32', message };
  }
  const precision = nativePrecision(request.precision, support.bf16);
  const how = `the native backend (${support.instructionSet}): training in ${precision}, scoring in fp32, ${onThreads}`;
  return { backend: 'native', device, precision, message: describe(how, refused) };
}

/** Whether only the native backend can do what was asked for. Throws {@link BackendUnavailableError} where it cannot. */
function requireNative({ backend, device, precision }: EngineRequest, support: NativeSupport): boolean {
  const asked = backend === 'native' ? '--backend native' : precision === 'bf16' ? '--precision bf16' : undefined;
  if (asked === undefined) return false;
  const fail = (reason: string) => {
    throw new BackendUnavailableError(`${asked} cannot be had here: ${reason}`);
  };
  if (backend === 'onnx') fail('onnxruntime has no bf16; use --backend auto, or --precision auto or fp32');
  if (device !== 'auto' && device !== 'cpu')
    fail(`it computes on the CPU, and --device ${device} was asked for; leave out one of them`);
  if (!support.usable) fail(`${support.reason}; or use --backend auto and --precision auto`);
  else if (precision === 'bf16' && !support.bf16)
    fail(`the processor has no bf16 (its instruction set is ${support.instructionSet}); use --precision auto or fp32`);
  return true;
}

/** Why `auto` does without the native backend; undefined where it takes it. */
function refusalOf(support: NativeSupport): string | undefined {
  if (!support.usable) return support.reason;
  if (SLOW_INSTRUCTION_SETS.has(support.instructionSet))
    return `it has no better instructions here than ${support.instructionSet}, for which onnxruntime is faster`;
  return undefined;
}

/** Precision of training where the native backend computes; fp16 is refused where a device is chosen. */
function nativePrecision(asked: PrecisionChoice, bf16: boolean): 'fp32' | 'bf16' {
  if (asked !== 'auto') return asked === 'bf16' ? 'bf16' : 'fp32';
  return bf16 ? NATIVE_AUTO_PRECISION : 'fp32';
}
