/** Names of the devices that graphs run on, and where each can exist. */
import type { InferenceSession } from 'onnxruntime-common';

/** A device. Each is one execution provider of onnxruntime. */
export type Device = 'cpu' | 'cuda' | 'webgpu' | 'directml' | 'coreml';

/** All devices, in the order in which `auto` tries them: makers' own interfaces first, the CPU last. */
export const DEVICES: readonly Device[] = ['cuda', 'directml', 'coreml', 'webgpu', 'cpu'];

/** What a person may ask for. */
export type DeviceChoice = 'auto' | Device;

/** All that a person may ask for. */
export const DEVICE_CHOICES: readonly DeviceChoice[] = ['auto', 'cpu', 'cuda', 'webgpu', 'directml', 'coreml'];

/** What onnxruntime computes matrix products of training in. Scoring is always `fp32`. */
export type Precision = 'fp32' | 'fp16';

/** Thrown for a device, precision or backend that nobody knows. */
export class UnknownDeviceError extends Error {
  static readonly code = 'ERR_UNKNOWN_DEVICE';
  readonly code = UnknownDeviceError.code;
  override readonly name = 'UnknownDeviceError';
}

/** Thrown when a device, or a precision on it, was asked for by name and does not work; the message says what to do. */
export class DeviceUnavailableError extends Error {
  static readonly code = 'ERR_DEVICE_UNAVAILABLE';
  readonly code = DeviceUnavailableError.code;
  override readonly name = 'DeviceUnavailableError';
}

/** Reads a device's name. Throws {@link UnknownDeviceError}. */
export function parseDeviceChoice(text: string): DeviceChoice {
  const found = DEVICE_CHOICES.find((choice) => choice === text);
  if (found === undefined)
    throw new UnknownDeviceError(`unknown device ${JSON.stringify(text)}; known: ${DEVICE_CHOICES.join(', ')}`);
  return found;
}

/** Systems for which onnxruntime-node 1.30 has a device's provider (its README; macOS with Intel is not shipped). */
const SYSTEMS: Readonly<Record<Device, readonly string[]>> = {
  cpu: ['linux-x64', 'linux-arm64', 'win32-x64', 'win32-arm64', 'darwin-arm64'],
  cuda: ['linux-x64'],
  webgpu: ['linux-x64', 'win32-x64', 'win32-arm64', 'darwin-arm64'],
  directml: ['win32-x64', 'win32-arm64'],
  coreml: ['darwin-arm64'],
};

/** Systems for which a device's provider exists, such as `linux-x64`. */
export function systemsOf(device: Device): readonly string[] {
  return SYSTEMS[device];
}

/** This machine's, in the same form. */
export const thisSystem = `${process.platform}-${process.arch}`;

/**
 * The execution providers of a session on a device. What a provider cannot run falls to the CPU provider, which
 * onnxruntime adds by itself.
 */
export function executionProviders(device: Device): readonly InferenceSession.ExecutionProviderConfig[] {
  switch (device) {
    case 'directml':
      return ['dml'];
    case 'coreml':
      // An ML program (0x010) knows more kinds of nodes; CPU and GPU only (0x020), as the neural engine rounds to fp16.
      return [{ name: 'coreml', coreMlFlags: 0x010 | 0x020 }];
    default:
      return [device];
  }
}
