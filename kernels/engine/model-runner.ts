/**
 * A model behind its embedding, at one batch shape: what the two ways of running it (whole, block-wise) have in common.
 */
import type { BatchShape } from '../model/block.ts';
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { SessionOptions } from './session.ts';

/** Memory that a runner reads and writes; the same arrays for its whole life. Rows are `batch * positions`. */
export interface RunnerBuffers {
  /** Parameters in canonical order. */
  readonly weights: Float32Array<ArrayBuffer>;
  /** Embedded tokens, `[rows, hidden]`. Read. */
  readonly embedded: Float32Array<ArrayBuffer>;
  /** Target ids, `[rows]`. Read. */
  readonly targets: BigInt64Array<ArrayBuffer>;
  /** Weight of each row's loss in what is differentiated, `[rows]`. Read. */
  readonly rowWeights: Float32Array<ArrayBuffer>;
  /** Cross-entropy of each row in nats, `[rows]`. Written. */
  readonly losses: Float32Array<ArrayBuffer>;
  /** Gradient with respect to `embedded`. Written by {@link ModelRunner.train}. */
  readonly embeddedGradient: Float32Array<ArrayBuffer>;
}

/** What a runner is made from. */
export interface RunnerInit {
  readonly preset: Preset;
  readonly shape: BatchShape;
  readonly layout: readonly TensorSlot[];
  readonly buffers: RunnerBuffers;
  readonly session: SessionOptions;
  /** Rows that the head takes at a time; divides the rows. */
  readonly headRows: number;
  /** Bytes of the head above which it is gone through in tiles of the vocabulary, where the runner does so. */
  readonly headTileBytes?: number;
}

/** Runs a model on what lies in its buffers. Sessions are compiled on first use. */
export interface ModelRunner {
  /** Fills `losses`. */
  forward(signal?: AbortSignal): Promise<void>;
  /**
   * Fills `losses`, `embeddedGradient`, and in `gradient` every tensor but the embedding; with a tied head, the
   * embedding's slot gets the head's share.
   */
  train(gradient: Float32Array<ArrayBuffer>, signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** The part of a flat vector that a tensor occupies. */
export function tensorView(flat: Float32Array<ArrayBuffer>, slot: TensorSlot): Float32Array<ArrayBuffer> {
  return flat.subarray(slot.offset, slot.offset + slot.length);
}

/** The tensor that serves as output head: the embedding, when they are tied. */
export function headSlot(preset: Preset, layout: readonly TensorSlot[]): TensorSlot {
  return findSlot(layout, preset.tied ? 'embedding' : 'head');
}

/** The tensor of that name. */
export function findSlot(layout: readonly TensorSlot[], name: string): TensorSlot {
  const slot = layout.find((candidate) => candidate.name === name);
  if (slot === undefined) throw new RangeError(`no tensor named ${name}`);
  return slot;
}
