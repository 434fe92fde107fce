/** Turns what a person asked for into a device that works here. */
import {
  DEVICES,
  type Device,
  type DeviceChoice,
  DeviceUnavailableError,
  type Precision,
  type PrecisionChoice,
  systemsOf,
  thisSystem,
} from './device.ts';
import { type DeviceProbe, type ProbeOptions, probeDevice } from './probe.ts';

/** What was asked for. */
export interface DeviceRequest {
  readonly device: DeviceChoice;
  readonly precision: PrecisionChoice;
  /** Threads of the CPU, against which a GPU has to be faster under `auto`. */
  readonly threads: number;
}

/** What is used. */
export interface ChosenDevice {
  readonly device: Device;
  readonly precision: Precision;
  /** One line for the log: what is used, which devices are not, and why. */
  readonly message: string;
}

type Probe = (device: Device, options: ProbeOptions) => Promise<DeviceProbe>;

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
      throw new DeviceUnavailableError('the CPU computes in fp32: use --precision auto or fp32, or another --device');
    return { device, precision: 'fp32', message: 'computing on cpu in fp32' };
  }
  const result = await probe(device, options);
  if (!result.works)
    throw new DeviceUnavailableError(
      `device ${device} does not work here: ${withRemedy(result.reason, result.remedy)}; or use --device auto`,
    );
  if (precision === 'fp16' && result.halfGflops === null)
    throw new DeviceUnavailableError(`device ${device} does not compute in fp16 here: use --precision auto or fp32`);
  const chosen = precision === 'auto' ? automaticPrecision(result) : precision;
  return { device, precision: chosen, message: `computing on ${device} in ${chosen}` };
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
    cpu ??= await probe('cpu', options);
    if (cpu.works && result.gflops <= cpu.gflops) {
      refused.push(
        `${device}: works, but slower than the CPU (${figure(result.gflops)} against ${figure(cpu.gflops)} GFLOP/s)`,
      );
      continue;
    }
    const precision = request.precision === 'auto' ? automaticPrecision(result) : request.precision;
    return { device, precision, message: message(device, precision, refused) };
  }
  if (request.precision === 'fp16')
    throw new DeviceUnavailableError(
      `no device here computes in fp16${refused.length === 0 ? '' : ` (${refused.join('; ')})`}: use --precision auto or fp32`,
    );
  return { device: 'cpu', precision: 'fp32', message: message('cpu', 'fp32', refused) };
}

const figure = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0));

function message(device: Device, precision: Precision, refused: readonly string[]): string {
  return `computing on ${device} in ${precision}${refused.length === 0 ? '' : ` (not on ${refused.join('; not on ')})`}`;
}

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
