/**
 * Checkpoints: weights as a blob, on their way between the blob store and the file of weights. Nothing of the size of the
 * model is in memory, so that a peer whose weights do not fit can join and publish as well.
 */
import { dirname } from 'node:path';
import { TensorFileError } from '../../kernels/checkpoint/errors.ts';
import { readTensorFileHeader } from '../../kernels/checkpoint/tensor-file.ts';
import { receiveWeights, tensorFilePieces } from '../../kernels/checkpoint/weights-transfer.ts';
import { requireDiskSpace } from '../../kernels/session/disk-space.ts';
import type { BlobExchange } from '../../node/blobs/exchange.ts';
import type { Checkpoint } from '../../node/ledger/round-records.ts';
import type { Logger } from '../../node/log/logger.ts';
import { DivergedError } from './errors.ts';

/** Longest time without a new chunk, after which the ledger is looked at again: there may be a newer checkpoint. */
const STALL_MS = 60_000;

/** The file of a node's weights. */
export interface WeightsFile {
  readonly path: string;
  readonly presetHash: string;
  /** Number of parameters. */
  readonly elements: number;
}

/** Thrown when no chunk of a checkpoint came for a minute. What came stays on disk. */
export class CheckpointStalledError extends Error {
  static readonly code = 'ERR_CHECKPOINT_STALLED';
  readonly code = CheckpointStalledError.code;
  override readonly name = 'CheckpointStalledError';
}

/**
 * Replaces the file of weights by a checkpoint: downloaded chunk by chunk into the blob store, each checked, then copied
 * chunk by chunk, checked as a whole against the recorded root, and renamed. A crash at any point leaves the old weights or
 * the new ones, and chunks that need not be downloaded again.
 *
 * Throws {@link CheckpointStalledError}, {@link DivergedError} where the blob is not the weights that the ledger recorded,
 * DiskSpaceError, what the exchange throws.
 */
export async function downloadCheckpoint(
  weights: WeightsFile,
  { cid, round, modelRoot }: Checkpoint,
  { blobs, log }: { readonly blobs: BlobExchange; readonly log: Logger },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const { path, presetHash, elements } = weights;
  const maxBytes = 4 * elements;
  // An earlier download has its room already.
  const files = blobs.store.manifest(cid) === undefined ? 2 : 1;
  await requireDiskSpace(dirname(path), files * maxBytes, `joining by a checkpoint (${files} x its size)`);
  log.info({ round, cid }, 'downloading the weights');
  const stalled = new AbortController();
  const timer = setTimeout(
    () => stalled.abort(new CheckpointStalledError(`nobody sent more of the checkpoint ${cid} for ${STALL_MS} ms`)),
    STALL_MS,
  );
  let tenths = 0;
  try {
    await blobs.download(cid, {
      maxBytes,
      signal: AbortSignal.any([signal, stalled.signal]),
      onProgress: ({ chunks, totalChunks, providers }) => {
        timer.refresh();
        const reached = Math.floor((10 * chunks) / Math.max(1, totalChunks));
        if (reached <= tenths || reached === 10) return;
        tenths = reached;
        log.info({ round, chunks, totalChunks, providers }, `downloaded ${10 * tenths} % of the weights`);
      },
    });
  } catch (error) {
    if (stalled.signal.aborted && !signal.aborted) throw stalled.signal.reason;
    throw error;
  } finally {
    clearTimeout(timer);
  }
  try {
    const chunks = blobs.chunks(cid, { maxBytes, signal });
    await receiveWeights(path, chunks, { presetHash, elements, round, modelRoot }, { signal });
  } catch (error) {
    if (!(error instanceof TensorFileError)) throw error;
    throw new DivergedError(`the checkpoint of round ${round} is not what the ledger recorded: ${error.message}`);
  }
  log.info({ round, modelRoot }, 'took the weights of a checkpoint');
}

/** True when the file holds the weights of that root, by its header. */
export async function holdsWeights({ path, presetHash }: WeightsFile, root: string): Promise<boolean> {
  try {
    const header = await readTensorFileHeader(path);
    return header.kind === 'weights' && header.presetHash === presetHash && header.root === root;
  } catch (error) {
    if (error instanceof TensorFileError || (error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** The content of the blob that a joiner downloads, from the file of weights. Throws as `tensorFilePieces`. */
export function checkpointPieces({ path, presetHash, elements }: WeightsFile, root: string): AsyncIterable<Uint8Array> {
  return tensorFilePieces(path, { kind: 'weights', presetHash, elements, root });
}
