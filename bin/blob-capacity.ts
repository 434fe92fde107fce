/** How much disk a node gives to blobs. */
import { formatSize, parseSize } from '../kernels/engine/memory-plan.ts';
import { weightsBytes } from '../kernels/model/memory.ts';
import { parsePreset } from '../kernels/model/preset.ts';
import type { Genesis } from '../node/chain/genesis.ts';
import { UsageError } from './report-failure.ts';

/** For shards and submissions. */
const SMALL_BLOBS_BYTES = 8 * 1024 ** 3;

/** Checkpoints that may be there at once: the one that others still fetch, and the one that replaces it. */
const CHECKPOINTS = 2;

/**
 * Bytes for `blobs.capacity` in a network. Throws {@link UsageError} for less than a checkpoint, InvalidPresetError,
 * InvalidSizeError.
 */
export function blobCapacityBytes(setting: string, genesis: Genesis): number {
  const checkpoint = weightsBytes(parsePreset(genesis.preset));
  if (setting === 'auto') return SMALL_BLOBS_BYTES + CHECKPOINTS * checkpoint;
  const bytes = parseSize(setting);
  if (bytes < checkpoint)
    throw new UsageError(
      `blobs.capacity ${setting}: a checkpoint of this network's model takes ${formatSize(checkpoint)} alone`,
    );
  return bytes;
}
