/**
 * Weights as others send and fetch them: the bytes of a checkpoint blob on their way into a tensor file, and those of a
 * tensor file on their way out. A piece is in memory at a time, whatever the size of the model.
 */
import { MODEL_CHUNK_BYTES } from '../aggregate/model-root.ts';
import { ChunkDigests } from './chunk-digests.ts';
import { TensorFileContentError, TensorFileSizeError } from './errors.ts';
import { allFinite } from './float-formats.ts';
import {
  checkExpectation,
  openTensorFile,
  readAll,
  TENSOR_FILE_HEADER_BYTES,
  type TensorFileExpectation,
} from './tensor-file.ts';
import { TensorFileWriter } from './tensor-file-writer.ts';

/** Which weights are expected. */
export interface ExpectedWeights {
  readonly presetHash: string;
  /** Number of parameters. */
  readonly elements: number;
  /** Training round after which they are the weights. */
  readonly round: number;
  /** 64 lower-case hex characters. */
  readonly modelRoot: string;
}

/**
 * Writes weights that come as little-endian float32 bytes, in order and in pieces of whole numbers, to a tensor file at
 * `path`: durably, and only once all of them came and have the expected root. Until then, and when it fails or the machine
 * stops, the file at `path` is what it was.
 *
 * Throws TensorFileSizeError (too few bytes, too many), TensorFileContentError (another root, NaN, infinity), what the source
 * throws, errors of the file system, the signal's reason.
 */
export async function receiveWeights(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  expected: ExpectedWeights,
  options: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const { presetHash, elements, round, modelRoot } = expected;
  const writer = await TensorFileWriter.create(path);
  try {
    let bytes = 0;
    for await (const piece of pieces) {
      options.signal?.throwIfAborted();
      bytes += piece.length;
      if (bytes > 4 * elements) throw new TensorFileSizeError(`more than the ${4 * elements} bytes of the model`);
      if (piece.length % 4 !== 0) throw new TensorFileSizeError(`a piece of ${piece.length} bytes cuts a number`);
      if (!allFinite(piece)) throw new TensorFileContentError('the weights hold NaN or infinity');
      await writer.append(piece);
    }
    if (bytes !== 4 * elements) throw new TensorFileSizeError(`${bytes} of the ${4 * elements} bytes of the model`);
    const root = writer.root();
    if (root !== modelRoot)
      throw new TensorFileContentError(`the weights have the root ${root}, expected ${modelRoot}`);
    await writer.finish({ kind: 'weights', round, presetHash, root });
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/**
 * The numbers of a tensor file as pieces of 1 MiB, the last one shorter: the chunks that its root covers. They are those
 * of the file that is at `path` when the first is asked for, also when another takes its place meanwhile. A piece is new
 * memory. After the last one, throws TensorFileContentError when they do not have the root in the header; before, what
 * `checkExpectation` throws, TensorFileSizeError, errors of the file system.
 */
export async function* tensorFilePieces(
  path: string,
  expected: TensorFileExpectation & { readonly root: string },
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { file, header } = await openTensorFile(path);
  try {
    checkExpectation(path, header, expected);
    const digests = new ChunkDigests();
    const total = 4 * header.elements;
    for (let at = 0; at < total; at += MODEL_CHUNK_BYTES) {
      const piece = new Uint8Array(Math.min(MODEL_CHUNK_BYTES, total - at));
      if (!(await readAll(file, piece, TENSOR_FILE_HEADER_BYTES + at)))
        throw new TensorFileSizeError(`${path} became shorter while it was read`);
      digests.update(piece);
      yield piece;
    }
    const root = digests.root();
    if (root !== expected.root)
      throw new TensorFileContentError(`the numbers in ${path} have the root ${root}, expected ${expected.root}`);
  } finally {
    await file.close();
  }
}
