/**
 * The two durable states of training, each in a tensor file: the weights that everyone shares, and a miner's own error
 * feedback.
 */
import { chunkCount, ModelTree, weightChunk } from '../aggregate/model-root.ts';
import { TensorFileContentError, TensorFileSizeError } from './errors.ts';
import { readTensorFile, writeTensorFile } from './tensor-file.ts';

/** Weights after a round. */
export interface WeightsState {
  readonly round: number;
  /** 64 lower-case hex characters. */
  readonly modelRoot: string;
  /** All parameters in canonical order. */
  readonly weights: Float32Array;
}

/** A miner's error feedback after a round. */
export interface ErrorFeedbackState {
  readonly round: number;
  /** All elements, laid out as the weights. */
  readonly errorFeedback: Float32Array;
}

/** Which model a state must belong to. */
export interface ModelIdentity {
  /** 64 lower-case hex characters. */
  readonly presetHash: string;
  /** Number of parameters. */
  readonly elements: number;
}

/**
 * Writes weights atomically and durably to the file `path`. `modelRoot` is taken at its word (whoever applies an update
 * has just computed it); a wrong one makes the file unreadable.
 */
export async function writeWeights(
  path: string,
  state: WeightsState & { readonly presetHash: string },
  options: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { round, presetHash, modelRoot: root, weights: numbers } = state;
  await writeTensorFile(path, { kind: 'weights', round, presetHash, root, numbers }, options);
}

/**
 * Reads weights and verifies every byte of them. The chunk tree comes along, for incremental roots and proofs.
 * Throws a TensorFileError (truncated, damaged, other preset), ENOENT where there is no file.
 */
export async function readWeights(
  path: string,
  model: ModelIdentity,
  options: { readonly signal?: AbortSignal } = {},
): Promise<WeightsState & { readonly tree: ModelTree }> {
  const { header, numbers, tree } = await readTensorFile(path, { kind: 'weights', ...model }, options);
  return { round: header.round, modelRoot: header.root, weights: numbers, tree };
}

/** Writes error feedback atomically and durably to the file `path`. */
export async function writeErrorFeedback(
  path: string,
  state: ErrorFeedbackState & { readonly presetHash: string },
  options: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { round, presetHash, errorFeedback: numbers } = state;
  await writeTensorFile(path, { kind: 'error-feedback', round, presetHash, numbers }, options);
}

/** Reads error feedback and verifies every byte of it. Throws as {@link readWeights}. */
export async function readErrorFeedback(
  path: string,
  model: ModelIdentity,
  options: { readonly signal?: AbortSignal } = {},
): Promise<ErrorFeedbackState> {
  const { header, numbers } = await readTensorFile(path, { kind: 'error-feedback', ...model }, options);
  return { round: header.round, errorFeedback: numbers };
}

/** The weights as the chunks (1 MiB, the last one shorter) that the model root covers: views, not copies. */
export function weightChunks(weights: Float32Array): Uint8Array[] {
  return Array.from({ length: chunkCount(weights.length) }, (_, chunk) => weightChunk(weights, chunk));
}

/** All weights as one run of bytes, little-endian: the content of the blob that a joiner downloads. A view, not a copy. */
export function weightBytes(weights: Float32Array): Uint8Array {
  weightChunk(weights, 0);
  return new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength);
}

/**
 * Weights from downloaded bytes, in order (whole or in pieces of any size), verified against the model root.
 * Throws TensorFileSizeError, TensorFileContentError.
 */
export function weightsFromBytes(
  pieces: Iterable<Uint8Array>,
  expected: { readonly elements: number; readonly modelRoot: string },
): { readonly weights: Float32Array; readonly tree: ModelTree } {
  const weights = new Float32Array(expected.elements);
  const bytes = weightBytes(weights);
  let at = 0;
  for (const piece of pieces) {
    if (piece.length > bytes.length - at)
      throw new TensorFileSizeError(`more than the ${bytes.length} bytes of the model`);
    bytes.set(piece, at);
    at += piece.length;
  }
  if (at !== bytes.length) throw new TensorFileSizeError(`${at} of the ${bytes.length} bytes of the model`);
  const tree = ModelTree.ofWeights(weights);
  if (tree.root !== expected.modelRoot) throw new TensorFileContentError(`weights have the root ${tree.root}`);
  return { weights, tree };
}
