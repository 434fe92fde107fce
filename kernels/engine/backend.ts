/** What computes losses and gradients: names of the backends, and where each can compute. */
import { type Precision, UnknownDeviceError } from './device/device.ts';

/** `onnx`: onnxruntime, on any device. `native`: the C++ library (docs/native.md), on the CPU. */
export type Backend = 'onnx' | 'native';

/** What a person may ask for. */
export type BackendChoice = 'auto' | Backend;

/** All that a person may ask for. */
export const BACKEND_CHOICES: readonly BackendChoice[] = ['auto', 'onnx', 'native'];

/** What matrix products of training are computed in: bf16 by the native backend, fp16 by GPUs. Scoring is always fp32. */
export type TrainingPrecision = Precision | 'bf16';

/** `auto` takes fp16 where a GPU computes it, bf16 where the native backend does, and fp32 elsewhere. */
export type PrecisionChoice = 'auto' | TrainingPrecision;

/** All that a person may ask for. */
export const PRECISION_CHOICES: readonly PrecisionChoice[] = ['auto', 'fp32', 'fp16', 'bf16'];

/** Thrown when a backend, or a precision of one, was asked for by name and cannot be had; the message says what to do. */
export class BackendUnavailableError extends Error {
  static readonly code = 'ERR_BACKEND_UNAVAILABLE';
  readonly code = BackendUnavailableError.code;
  override readonly name = 'BackendUnavailableError';
}

function parse<T extends string>(what: string, choices: readonly T[], text: string): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined)
    throw new UnknownDeviceError(`unknown ${what} ${JSON.stringify(text)}; known: ${choices.join(', ')}`);
  return found;
}

/** Reads a backend's name. Throws {@link UnknownDeviceError}. */
export function parseBackendChoice(text: string): BackendChoice {
  return parse('backend', BACKEND_CHOICES, text);
}

/** Reads a precision. Throws {@link UnknownDeviceError}. */
export function parsePrecisionChoice(text: string): PrecisionChoice {
  return parse('precision', PRECISION_CHOICES, text);
}
