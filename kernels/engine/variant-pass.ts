/**
 * The losses of a model and of sparse variations of it in one pass over the layers: each layer's weights are at hand
 * once, and all variants go through it before the next. What a variant has not changed so far, it shares with the model
 * as it is. Results are those of evaluating each variant by itself, to the bit.
 */
import { blockTensorNames, parameterCount, type TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { VariantLosses, VariantLossesOptions } from './engine.ts';
import { headSlot } from './model-runner.ts';
import { RowLosses } from './row-losses.ts';
import {
  applyDelta,
  checkDelta,
  type DeltaByTensor,
  deltaBetween,
  type SparseDelta,
  splitDelta,
  type TensorDelta,
} from './sparse-delta.ts';
import { countSequences, type TokenPass, tokenPasses } from './token-passes.ts';

type Floats = Float32Array<ArrayBuffer>;

/** A tensor in memory, or a run of its elements. It may be changed as long as it is put back. */
export interface TensorMemory {
  readonly slot: TensorSlot;
  /** First element, counted from the tensor's. Default 0. */
  readonly start?: number;
  readonly values: Floats;
}

/** A model that can be gone through layer by layer, wherever its weights are. Activations are `[rows, hidden]`. */
export interface LayeredModel {
  readonly preset: Preset;
  readonly layout: readonly TensorSlot[];
  /** Fills `x` with the embeddings of the rows of a pass. */
  embed(pass: TokenPass, x: Floats): Promise<void>;
  /** Makes a layer's tensors available, in the order of `blockTensorNames`, until `body` ends. Layers come in order. */
  withBlock(layer: number, body: (tensors: readonly TensorMemory[]) => Promise<void>): Promise<void>;
  /** Runs a block with what the tensors hold now. */
  block(tensors: readonly TensorMemory[], x: Floats, y: Floats): Promise<void>;
  /**
   * Makes final norm and head (the embedding, where they are tied) available until `body` ends; after all layers. A head
   * may come in runs of rows, in order: `body` is then called for each.
   */
  withHead(body: (norm: TensorMemory, head: TensorMemory) => Promise<void>): Promise<void>;
  /** Takes a run of the head into the cross-entropy of each row, which is known after the last one. */
  head(norm: TensorMemory, head: TensorMemory, x: Floats, pass: TokenPass, losses: RowLosses): Promise<void>;
}

/** Default bound of activations: 21 variants of 24 sequences of 1024 tokens of `alice-50m` at once. */
export const MAX_VARIANT_BYTES = 2 ** 30;

const NO_LOSSES: Floats = new Float32Array(0);

/** A pass of sequences under one variant. */
interface Cell {
  readonly pass: TokenPass;
  /** Undefined for the model as it is. */
  readonly variant: number | undefined;
  /** Undefined while it is equal to that of `twin`. */
  x: Floats | undefined;
  /** The cell of the same pass without changes. */
  readonly twin: Cell | undefined;
  /** Undefined while they are those of `twin`, or the head has not come. */
  losses: RowLosses | undefined;
}

/** Activations that are used again, one size. */
export class ActivationPool {
  readonly #free: Floats[] = [];
  readonly #length: number;

  constructor(length: number) {
    this.#length = length;
  }

  take(): Floats {
    return this.#free.pop() ?? new Float32Array(this.#length);
  }

  give(activation: Floats): void {
    this.#free.push(activation);
  }
}

/**
 * Cross-entropy of each row of each pass, for the model as it is and for each variant: `[1 + variants][passes]` arrays, in
 * nats. They may hold NaN. Weights are as before when it ends, however it does. Throws what the model throws.
 */
export async function variantPass(
  model: LayeredModel,
  passes: readonly TokenPass[],
  variants: readonly DeltaByTensor[],
  options: VariantLossesOptions = {},
): Promise<Floats[][]> {
  const { signal, onPart, maxBytes = MAX_VARIANT_BYTES } = options;
  const { hidden, layers } = model.preset;
  const rows = passes[0]?.inputs.length ?? 0;
  // One more is written while another is read.
  const atOnce = Math.max(1, Math.floor(maxBytes / (4 * rows * hidden)) - 1);
  const cells: [pass: TokenPass, variant: number | undefined][] = passes.flatMap((pass) =>
    [undefined, ...variants.keys()].map((variant): [TokenPass, number | undefined] => [pass, variant]),
  );
  const parts = Math.ceil(cells.length / atOnce) * (layers + 1);
  const pool = new ActivationPool(rows * hidden);
  const results: Floats[][] = Array.from({ length: 1 + variants.length }, () => []);
  let done = 0;
  for (let first = 0; first < cells.length; first += atOnce) {
    const sweep = new Sweep(model, variants, pool, signal);
    await sweep.fill(cells.slice(first, first + atOnce));
    for (let layer = 0; layer < layers; layer++) {
      await sweep.block(layer);
      onPart?.(++done, parts);
    }
    await sweep.head();
    onPart?.(++done, parts);
    for (const { variant, losses, twin } of sweep.cells)
      results[variant === undefined ? 0 : variant + 1]?.push(losses?.values ?? twin?.losses?.values ?? NO_LOSSES);
  }
  return results;
}

/** Cells that go through the layers together. */
class Sweep {
  readonly cells: Cell[] = [];
  readonly #model: LayeredModel;
  readonly #variants: readonly DeltaByTensor[];
  readonly #pool: ActivationPool;
  readonly #signal: AbortSignal | undefined;

  constructor(
    model: LayeredModel,
    variants: readonly DeltaByTensor[],
    pool: ActivationPool,
    signal: AbortSignal | undefined,
  ) {
    this.#model = model;
    this.#variants = variants;
    this.#pool = pool;
    this.#signal = signal;
  }

  /** Adds cells with their embeddings, variant by variant: what a variant changes in the table is asked for once. */
  async fill(cells: readonly (readonly [pass: TokenPass, variant: number | undefined])[]): Promise<void> {
    // The model as it is comes first: the others share its embeddings.
    for (const variant of [undefined, ...this.#variants.keys()]) {
      const passes = cells.filter((cell) => cell[1] === variant).map(([pass]) => pass);
      const changes =
        variant === undefined || passes.length === 0 ? undefined : this.#variants[variant]?.get('embedding');
      for (const pass of passes) await this.#add(pass, variant, changes);
    }
  }

  async #add(pass: TokenPass, variant: number | undefined, changes: TensorDelta | undefined): Promise<void> {
    this.#signal?.throwIfAborted();
    const twin = this.cells.find((cell) => cell.pass === pass && cell.variant === undefined);
    const changed = changes === undefined ? [] : this.#changesInUse(pass, changes.indices);
    let x: Floats | undefined;
    if (twin === undefined || changed.length > 0) {
      x = this.#pool.take();
      if (twin?.x === undefined) await this.#model.embed(pass, x);
      else x.set(twin.x);
      for (const [at, change] of changed) x[at] = (x[at] as number) + (changes?.deltas[change] as number);
    }
    this.cells.push({ pass, variant, x, twin, losses: undefined });
  }

  /** Runs a block for all cells. */
  async block(layer: number): Promise<void> {
    await this.#model.withBlock(layer, (tensors) =>
      this.#byVariant(tensors, async (cell, changed) => {
        const x = cell.x ?? cell.twin?.x;
        if (x === undefined || (cell.x === undefined && !changed)) return;
        const y = this.#pool.take();
        await this.#model.block(tensors, x, y);
        if (cell.x !== undefined) this.#pool.give(cell.x);
        cell.x = y;
      }),
    );
  }

  /** Finds the losses of all cells and gives their activations back. */
  async head(): Promise<void> {
    await this.#model.withHead((norm, head) =>
      this.#byVariant([norm, head], async (cell, changed) => {
        const x = cell.x ?? cell.twin?.x;
        if (x === undefined || (cell.x === undefined && cell.losses === undefined && !changed)) return;
        // Where a later run is the first to be changed, those before it are as for the model as it is.
        const shared = cell.x === undefined ? cell.twin?.losses?.copy() : undefined;
        cell.losses ??= shared ?? new RowLosses(new Float32Array(cell.pass.targets.length));
        await this.#model.head(norm, head, x, cell.pass, cell.losses);
      }),
    );
    for (const { x } of this.cells) if (x !== undefined) this.#pool.give(x);
  }

  /**
   * Visits the cells of one variant after the other with its changes made to the tensors; the model as it is comes last,
   * because until then its activations are still what unchanged variants read.
   */
  async #byVariant(
    tensors: readonly TensorMemory[],
    visit: (cell: Cell, changed: boolean) => Promise<void>,
  ): Promise<void> {
    for (const variant of [...this.#variants.keys(), undefined]) {
      const cells = this.cells.filter((cell) => cell.variant === variant);
      if (cells.length === 0) continue;
      const undo: (() => void)[] = [];
      try {
        for (const { slot, start = 0, values } of tensors) {
          const delta = variant === undefined ? undefined : this.#variants[variant]?.get(slot.name);
          if (delta === undefined) continue;
          const first = slot.offset - delta.origin + start;
          const part = deltaBetween(delta, first, first + values.length);
          if (part.indices.length > 0) undo.push(applyDelta(values, part, first));
        }
        for (const cell of cells) {
          this.#signal?.throwIfAborted();
          await visit(cell, undo.length > 0);
        }
      } finally {
        for (const restore of undo) restore();
      }
    }
  }

  /** Elements of a pass's embeddings that changes of the table reach, with the number of the change, in its order. */
  #changesInUse({ inputs }: TokenPass, indices: Uint32Array): [at: number, change: number][] {
    const { hidden, vocabulary } = this.#model.preset;
    // A vector of flags first: a table has millions of changes, of which few are of tokens in use.
    const used = new Uint8Array(vocabulary);
    const rowsOf = new Map<number, number[]>();
    for (const [row, token] of inputs.entries()) {
      const rows = rowsOf.get(token);
      if (rows === undefined) rowsOf.set(token, [row]);
      else rows.push(row);
      used[token] = 1;
    }
    const reached: [number, number][] = [];
    for (let change = 0; change < indices.length; change++) {
      // The embedding is the first tensor: its offset is 0.
      const index = indices[change] as number;
      const token = Math.floor(index / hidden);
      if (used[token] === 0) continue;
      for (const row of rowsOf.get(token) ?? []) reached.push([row * hidden + index - token * hidden, change]);
    }
    return reached;
  }
}

/** How token sequences are laid out in passes. */
interface TokenShape {
  /** Sequences of a pass. */
  readonly batch: number;
  readonly context: number;
}

/**
 * `Engine.variantLosses` over a model's layers. The losses of the model as it is may be NaN here; the caller has the weights
 * that are to blame. Throws InvalidTokensError, InvalidDeltaError, and what the model throws.
 */
export async function variantLosses(
  model: LayeredModel,
  shape: TokenShape,
  tokens: Int32Array,
  variants: readonly SparseDelta[],
  options: VariantLossesOptions = {},
): Promise<VariantLosses> {
  countSequences(model.preset, shape.context, tokens);
  for (const delta of variants) checkDelta(delta, parameterCount(model.preset));
  const changes = variants.map((delta) => splitDelta(delta, model.layout));
  return await tensorVariantLosses(model, shape, tokens, changes, options);
}

/** {@link variantLosses} for changes by tensor, which were checked. Throws InvalidTokensError, and what model and changes throw. */
export async function tensorVariantLosses(
  model: LayeredModel,
  { batch, context }: TokenShape,
  tokens: Int32Array,
  changes: readonly DeltaByTensor[],
  options: VariantLossesOptions = {},
): Promise<VariantLosses> {
  countSequences(model.preset, context, tokens);
  const passes = tokenPasses(tokens, batch, context);
  const rowLosses = await variantPass(model, passes, changes, options);
  const [base = new Float64Array(0), ...others] = rowLosses.map((losses) => sequenceMeans(losses, passes, context));
  return { base, variants: others.map((means) => (means.every(Number.isFinite) ? means : undefined)) };
}

/** Mean loss of each real sequence, from the losses of the rows of each pass. Adds up as `Engine.losses` does. */
export function sequenceMeans(
  losses: readonly Floats[],
  passes: readonly TokenPass[],
  context: number,
): Float64Array<ArrayBuffer> {
  const means = passes.flatMap(({ sequences }, pass) =>
    Array.from({ length: sequences }, (_, sequence) => {
      let sum = 0;
      for (let position = 0; position < context; position++)
        sum += losses[pass]?.[sequence * context + position] as number;
      return sum / context;
    }),
  );
  return Float64Array.from(means);
}

/** The tensors of a layer, in the order of `blockTensorNames`. */
export function blockSlots(layout: readonly TensorSlot[], layer: number): TensorSlot[] {
  const names = new Set(blockTensorNames.map((name) => `layers.${layer}.${name}`));
  return layout.filter(({ name }) => names.has(name));
}

/** Final norm and head, as {@link LayeredModel.withHead} has them. */
export function headSlots(preset: Preset, layout: readonly TensorSlot[]): { norm: TensorSlot; head: TensorSlot } {
  const norm = layout.find(({ name }) => name === 'norm');
  if (norm === undefined) throw new RangeError('no tensor named norm');
  return { norm, head: headSlot(preset, layout) };
}
