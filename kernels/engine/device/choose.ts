/** Turns what a person asked for into a device that works here. */
import {
  DEVICES,
  type Device,
  type DeviceChoice,
  DeviceUnavailableError,
  type Precision,
  systemsOf,
  thisSystem,
} from './device.ts';
import { type DeviceProbe, type ProbeOptions, probeDevice } from './probe.ts';

/** What was asked for. */
export interface DeviceRequest {
  readonly device: DeviceChoice;
  readonly precision: 'auto' | Precision;
  /** Threads of the CPU, against which a GPU has to be faster under `auto`. */
  readonly threads: number;
  /** What the native backend would train in on the CPU; undefined where onnxruntime would compute there. */
  readonly nativePrecision?: 'fp32' | 'bf16';
}

/** What is used. */
export interface ChosenDevice {
  readonly device: Device;
  readonly precision: Precision;
  /** The devices that `auto` tried before this one, each with why it is not used. */
  readonly refused: readonly string[];
}

/** How a device is tried. */
export type Probe = (device: Device, options: ProbeOptions) => Promise<DeviceProbe>;

const withRemedy = (reason: string, remedy: string): string => (remedy === '' ? reason : `${reason}; ${remedy}`);

/** A named device. Throws {@link DeviceUnavailableError}. */
async function named(
  device: Device,
  request: DeviceRequest,
  options: ProbeOptions,
  probe: Probe,
): Promise<ChosenDevice> {
  const { precision } = request;
  if (device === 'cpu') {
    // What fp16 costs there: every product is fp32 with conversions around it.
    if (precision === 'fp16')
      throw new DeviceUnavailableError(
        'the CPU computes in fp32 and bf16, not in fp16: use --precision auto, or another --device',
      );
    return { device, precision: 'fp32', refused: [] };
  }
  const result = await probe(device, options);
  if (!result.works)
    throw new DeviceUnavailableError(
      `device ${device} does not work here: ${withRemedy(result.reason, result.remedy)}; or use --device auto`,
    );
  if (precision === 'fp16' && result.halfGflops === null)
    throw new DeviceUnavailableError(`device ${device} does not compute in fp16 here: use --precision auto or fp32`);
  const chosen = precision === 'auto' ? automaticPrecision(result) : precision;
  return { device, precision: chosen, refused: [] };
}

/** fp16 where it is right and not slower. */
function automaticPrecision({ gflops, halfGflops }: { gflops: number; halfGflops: number | null }): Precision {
  return halfGflops !== null && halfGflops >= gflops ? 'fp16' : 'fp32';
}

/** The first device that works and beats the CPU. */
async function automatic(request: DeviceRequest, options: ProbeOptions, probe: Probe): Promise<ChosenDevice> {
  const refused: string[] = [];
  let cpu: DeviceProbe | undefined;
  for (const device of DEVICES) {
    if (device === 'cpu') break;
    if (!systemsOf(device).includes(thisSystem)) continue;
    const result = await probe(device, options);
    if (!result.works) {
      refused.push(`${device}: ${result.reason}`);
      continue;
    }
    if (request.precision === 'fp16' && result.halfGflops === null) {
      refused.push(`${device}: no fp16`);
      continue;
    }
    // A driver may be software (SwiftShader, lavapipe), which works and is many times slower than the CPU's own path.
    cpu ??= await probe('cpu', { ...options, training: request.nativePrecision !== undefined });
    const cpuGflops = gflopsToBeat(cpu, request.nativePrecision);
    if (result.gflops <= cpuGflops) {
      refused.push(
        `${device}: works, but slower than the CPU (${figure(result.gflops)} against ${figure(cpuGflops)} GFLOP/s)`,
      );
      continue;
    }
    const precision = request.precision === 'auto' ? automaticPrecision(result) : request.precision;
    return { device, precision, refused };
  }
  if (request.precision === 'fp16')
    throw new DeviceUnavailableError(
      `no device here computes in fp16${refused.length === 0 ? '' : ` (${refused.join('; ')})`}: use --precision auto or fp32`,
    );
  return { device: 'cpu', precision: 'fp32', refused };
}

/** Speed of the CPU's products; by the native backend, as much more as that trains faster. */
function gflopsToBeat(cpu: DeviceProbe, nativePrecision: 'fp32' | 'bf16' | undefined): number {
  if (!cpu.works) return 0;
  const { gflops, trainingTokensPerSecond, native } = cpu;
  const nativeTokensPerSecond = (nativePrecision && native?.[nativePrecision]) ?? undefined;
  if (nativeTokensPerSecond === undefined || trainingTokensPerSecond === null) return gflops;
  return (gflops * nativeTokensPerSecond) / trainingTokensPerSecond;
}

const figure = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0));

/**
 * Chooses a device. Under `auto`, the first of {@link DEVICES} that gives the right product, faster than the CPU does; a
 * device asked for by name has to work. Throws {@link DeviceUnavailableError}, or the signal's reason.
 *
 * @param probe - for tests: how a device is tried
 */
export async function chooseDevice(
  request: DeviceRequest,
  { signal }: { readonly signal?: AbortSignal } = {},
  probe: Probe = probeDevice,
): Promise<ChosenDevice> {
  const options = { threads: request.threads, ...(signal && { signal }) };
  return request.device === 'auto'
    ? await automatic(request, options, probe)
    : await named(request.device, request, options, probe);
}
