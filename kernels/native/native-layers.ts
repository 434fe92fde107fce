/** A native engine's model as a variant pass wants it: layer by layer. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { findSlot, tensorView } from '../engine/model-runner.ts';
import type { RowLosses } from '../engine/row-losses.ts';
import type { TokenPass } from '../engine/token-passes.ts';
import { blockSlots, headSlots, type LayeredModel, type TensorMemory } from '../engine/variant-pass.ts';
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { NativeHandle, NativeLibrary } from './library.ts';

type Floats = Float32Array<ArrayBuffer>;

/** {@link LayeredModel} over an engine's weights. The event loop runs before each part. */
export class NativeLayers implements LayeredModel {
  readonly preset: Preset;
  readonly layout: readonly TensorSlot[];
  readonly #weights: Floats;
  readonly #library: NativeLibrary;
  readonly #handle: NativeHandle;
  /** Of the current layer, one tensor after the other. */
  #blockWeights: Floats = new Float32Array(0);

  constructor(
    { preset, layout, weights }: { preset: Preset; layout: readonly TensorSlot[]; weights: Floats },
    library: NativeLibrary,
    handle: NativeHandle,
  ) {
    this.preset = preset;
    this.layout = layout;
    this.#weights = weights;
    this.#library = library;
    this.#handle = handle;
  }

  async embed({ inputs }: TokenPass, x: Floats): Promise<void> {
    await nextTurn();
    const { hidden } = this.preset;
    const table = tensorView(this.#weights, findSlot(this.layout, 'embedding'));
    for (const [row, token] of inputs.entries())
      x.set(table.subarray(token * hidden, (token + 1) * hidden), row * hidden);
  }

  async withBlock(layer: number, body: (tensors: readonly TensorMemory[]) => Promise<void>): Promise<void> {
    const slots = blockSlots(this.layout, layer);
    const [first, last] = [slots[0], slots.at(-1)];
    if (first === undefined || last === undefined) throw new RangeError(`no layer ${layer}`);
    this.#blockWeights = this.#weights.subarray(first.offset, last.offset + last.length);
    await body(slots.map((slot) => this.#memory(slot)));
  }

  async block(_tensors: readonly TensorMemory[], x: Floats, y: Floats): Promise<void> {
    await nextTurn();
    // The tensors are parts of this memory, changed in place.
    this.#library.block(this.#handle, this.#blockWeights, x, y);
  }

  async withHead(body: (norm: TensorMemory, head: TensorMemory) => Promise<void>): Promise<void> {
    const { norm, head } = headSlots(this.preset, this.layout);
    await body(this.#memory(norm), this.#memory(head));
  }

  async head(norm: TensorMemory, head: TensorMemory, x: Floats, pass: TokenPass, losses: RowLosses): Promise<void> {
    await nextTurn();
    const targets = Int32Array.from(pass.targets, Number);
    this.#library.headLosses(this.#handle, norm.values, head.values, x, targets, losses.values);
  }

  #memory(slot: TensorSlot): TensorMemory {
    return { slot, values: tensorView(this.#weights, slot) };
  }
}
