/** What trains a model whose weights lie on disk, whatever computes it. */
import type { TensorPart, TensorStore } from '../checkpoint/tensor-store.ts';
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { EngineCallOptions } from './engine.ts';

/**
 * Takes a part of the gradient: head, final norm, blocks from last to first (tensors of a block in canonical order), then
 * the embedding. Parts of a tensor come in order; every element comes once. `gradient` is valid until the sink is done; the
 * engine waits for it. What it throws ends the call.
 */
export type GradientSink = (part: TensorPart, gradient: Float32Array<ArrayBuffer>) => void | Promise<void>;

/** A model whose weights lie in a store. One call at a time, as for `Engine`; errors are the same. */
export interface StreamedModel {
  readonly preset: Preset;
  /** Tokens predicted per sequence. */
  readonly context: number;
  /** Canonical tensor order: `tensorLayout(preset)`. */
  readonly layout: readonly TensorSlot[];
  /** The weights, read at every call. Its owner may change it between calls. */
  readonly store: TensorStore;
  /** Of the last call. */
  readonly reading: StreamedReading;
  /** Mean loss of each sequence, nats. Throws as `Engine.losses`, and what the store throws. */
  losses(tokens: Int32Array, options?: EngineCallOptions): Promise<Float64Array<ArrayBuffer>>;
  /**
   * Mean loss over all sequences; its gradient goes to `sink`. Returns the gradient's Euclidean norm with the loss.
   * Throws as `Engine.lossAndGradient`, and what store and sink throw. The sink gets nothing when the loss is not finite;
   * it has got parts when a gradient is not, or the call fails later.
   */
  gradient(
    tokens: Int32Array,
    sink: GradientSink,
    options?: EngineCallOptions,
  ): Promise<{ readonly loss: number; readonly gradientNorm: number }>;
  /** Frees device, memory and scratch files, not the store. */
  close(): Promise<void>;
}

/** How a call fared with its files. */
export interface StreamedReading {
  /** Time in which nothing was computed, as weights were still being read. */
  readonly waitedMs: number;
  /** Read of weights, and of copies of them. */
  readonly bytesRead: number;
  /** Written to copies of weights. */
  readonly bytesWritten: number;
}

/** A loss is NaN or infinite; which tensor is to blame is not known yet. */
export class LossNotFinite extends Error {
  override readonly name = 'LossNotFinite';
}
