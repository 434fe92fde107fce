/**
 * The losses of a model and of sparse variations of it, each variation computed as its difference from the model: exact
 * terms in fp32, the small difference by matrix products in bf16 (src/variants.h). Deterministic, and to the bit the
 * model's own losses where nothing is changed.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { VariantLosses, VariantLossesOptions } from '../engine/engine.ts';
import { findSlot, headSlot, tensorView } from '../engine/model-runner.ts';
import { ascending, checkDelta, deltaBetween, type SparseDelta } from '../engine/sparse-delta.ts';
import { countSequences, type TokenPass, tokenPasses } from '../engine/token-passes.ts';
import { ActivationPool, blockSlots, MAX_VARIANT_BYTES, sequenceMeans } from '../engine/variant-pass.ts';
import type { TensorSlot } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import type { NativeDifferences, NativeHandle } from './library.ts';

type Floats = Float32Array<ArrayBuffer>;

/** What {@link differenceLosses} evaluates. */
export interface DifferenceModel {
  readonly preset: Preset;
  readonly layout: readonly TensorSlot[];
  /** Parameters in canonical order; read only. */
  readonly weights: Floats;
}

/** A variant of a group's pass. */
interface Cell {
  readonly variant: number;
  readonly delta: SparseDelta;
  /** Its residual stream minus the base's; undefined while that is zero. */
  stream: Floats | undefined;
}

/** A pass of sequences and variants of it that go through the layers together. */
interface Group {
  readonly pass: TokenPass;
  /** The residual stream of the model as it is. */
  x: Floats;
  readonly cells: Cell[];
}

/** The library's functions and an engine of it in fp32. */
interface Native {
  readonly differences: NativeDifferences;
  readonly handle: NativeHandle;
}

/**
 * `Engine.variantLosses` by differences. The losses of the model as it is may be NaN here; the caller has the weights that
 * are to blame. The event loop runs between layers, variants and parts of the head. Throws InvalidTokensError and
 * InvalidDeltaError.
 */
export async function differenceLosses(
  model: DifferenceModel,
  native: Native,
  { batch, context }: { readonly batch: number; readonly context: number },
  tokens: Int32Array,
  variants: readonly SparseDelta[],
  options: VariantLossesOptions = {},
): Promise<VariantLosses> {
  countSequences(model.preset, context, tokens);
  for (const delta of variants) checkDelta(delta, model.weights.length);
  const passes = tokenPasses(tokens, batch, context);
  const rowLosses = await differencePass(model, native, passes, variants, options);
  const [base = new Float64Array(0), ...others] = rowLosses.map((losses) => sequenceMeans(losses, passes, context));
  return { base, variants: others.map((means) => (means.every(Number.isFinite) ? means : undefined)) };
}

/** Cross-entropy of each row of each pass, as `variantPass` (variant-pass.ts) gives it. */
async function differencePass(
  model: DifferenceModel,
  native: Native,
  passes: readonly TokenPass[],
  variants: readonly SparseDelta[],
  options: VariantLossesOptions,
): Promise<Floats[][]> {
  const { signal, onPart, maxBytes = MAX_VARIANT_BYTES } = options;
  const elements = (passes[0]?.inputs.length ?? 0) * model.preset.hidden;
  // One half for streams, one for what the head keeps of each variant: its operand in bf16 and, padded, in float32.
  const streams = maxBytes / 2 / (4 * elements);
  const atHead = Math.max(1, Math.floor(maxBytes / 2 / (7 * elements)));
  const sweeps = planSweeps(passes.length, variants.length, streams);
  const deltas = variants.map(ascending);
  const results = Array.from({ length: 1 + variants.length }, () => new Array<Floats>(passes.length));
  const parts = sweeps.length * (model.preset.layers + 1);
  const pool = new ActivationPool(elements);
  let done = 0;
  try {
    for (const planned of sweeps) {
      const sweep = new Sweep(model, native, pool, signal);
      for (const { pass, cells } of planned)
        await sweep.add(
          passes[pass] as TokenPass,
          cells.map((variant) => ({ variant, delta: deltas[variant] as SparseDelta })),
        );
      for (let layer = 0; layer < model.preset.layers; layer++) {
        await sweep.block(layer);
        onPart?.(++done, parts);
      }
      for (const [i, { pass }] of planned.entries())
        for (const [row, losses] of await sweep.head(i, atHead)) (results[row] as Floats[])[pass] = losses;
      onPart?.(++done, parts);
    }
  } finally {
    native.differences.end(native.handle);
  }
  return results;
}

/** Variants of each pass, cut so that a sweep's streams, one base for each pass among them, stay within a number. */
function planSweeps(passes: number, variants: number, streams: number): { pass: number; cells: number[] }[][] {
  const sweeps: { pass: number; cells: number[] }[][] = [];
  // One more is written while another is read.
  let free = 0;
  for (let pass = 0; pass < passes; pass++) {
    let group: { pass: number; cells: number[] } | undefined;
    for (let variant = 0; group === undefined || variant < variants; variant++) {
      const cost = group === undefined ? 2 : 1;
      if (free < cost) {
        sweeps.push([]);
        free = Math.max(streams - 1, 2);
        group = undefined;
      }
      if (group === undefined) {
        group = { pass, cells: [] };
        sweeps.at(-1)?.push(group);
        free -= 1;
      }
      if (variant < variants) group.cells.push(variant);
      free -= 1;
    }
  }
  return sweeps;
}

/** Groups that go through the layers together. */
class Sweep {
  readonly #groups: Group[] = [];
  readonly #model: DifferenceModel;
  readonly #differences: NativeDifferences;
  readonly #handle: NativeHandle;
  readonly #pool: ActivationPool;
  readonly #signal: AbortSignal | undefined;

  constructor(
    model: DifferenceModel,
    { differences, handle }: Native,
    pool: ActivationPool,
    signal: AbortSignal | undefined,
  ) {
    this.#model = model;
    this.#differences = differences;
    this.#handle = handle;
    this.#pool = pool;
    this.#signal = signal;
  }

  /** Adds a pass with its embeddings. */
  async add(pass: TokenPass, variants: readonly Omit<Cell, 'stream'>[]): Promise<void> {
    await this.#turn();
    const { preset, layout, weights } = this.#model;
    const { hidden } = preset;
    const slot = findSlot(layout, 'embedding');
    const table = tensorView(weights, slot);
    const x = this.#pool.take();
    for (const [row, token] of pass.inputs.entries())
      x.set(table.subarray(token * hidden, (token + 1) * hidden), row * hidden);
    const rowsOf = new Map<number, number[]>();
    for (const [row, token] of pass.inputs.entries()) {
      const rows = rowsOf.get(token);
      if (rows === undefined) rowsOf.set(token, [row]);
      else rows.push(row);
    }
    const cells: Cell[] = [];
    for (const cell of variants) {
      await this.#turn();
      let stream: Floats | undefined;
      // Token by token: a table has millions of changes, of which few are of tokens in use.
      for (const [token, rows] of rowsOf) {
        const first = slot.offset + token * hidden;
        const { indices, deltas } = deltaBetween(cell.delta, first, first + hidden);
        if (indices.length === 0) continue;
        stream ??= this.#pool.take().fill(0);
        for (const row of rows)
          for (let i = 0; i < indices.length; i++) {
            const at = row * hidden + (indices[i] as number) - first;
            stream[at] = (stream[at] as number) + (deltas[i] as number);
          }
      }
      cells.push({ ...cell, stream });
    }
    this.#groups.push({ pass, x, cells });
  }

  /** Runs a block for all groups: the base, then the variants that differ from it. */
  async block(layer: number): Promise<void> {
    const slots = blockSlots(this.#model.layout, layer);
    const [first, last] = [slots[0], slots.at(-1)];
    if (first === undefined || last === undefined) throw new RangeError(`no layer ${layer}`);
    const end = last.offset + last.length;
    const blockWeights = this.#model.weights.subarray(first.offset, end);
    for (const [i, group] of this.#groups.entries()) {
      await this.#turn();
      const y = this.#pool.take();
      this.#differences.base(this.#handle, blockWeights, group.x, y, Number(i === 0));
      this.#pool.give(group.x);
      group.x = y;
      for (const cell of group.cells) {
        const { indices, deltas } = deltaBetween(cell.delta, first.offset, end);
        if (cell.stream === undefined && indices.length === 0) continue;
        await this.#turn();
        cell.stream ??= this.#pool.take().fill(0);
        this.#differences.block(this.#handle, cell.stream, first.offset, indices, deltas);
      }
    }
  }

  /** Losses of a group's base (0) and variants (1 + number), some variants at once. Its streams are given back. */
  async head(number: number, atOnce: number): Promise<[row: number, losses: Floats][]> {
    const { pass, x, cells } = this.#groups[number] as Group;
    const { preset, layout, weights } = this.#model;
    const norm = findSlot(layout, 'norm');
    const head = headSlot(preset, layout);
    const [differences, handle] = [this.#differences, this.#handle];
    const targets = Int32Array.from(pass.targets, Number);
    const changesOf = ({ delta }: Cell, { offset, length }: TensorSlot) => deltaBetween(delta, offset, offset + length);
    const changed = cells.filter(
      (cell) => cell.stream !== undefined || [norm, head].some((slot) => changesOf(cell, slot).indices.length > 0),
    );
    const results: [row: number, losses: Floats][] = [];
    for (let first = 0; first === 0 || first < changed.length; first += atOnce) {
      const chunk = changed.slice(first, first + atOnce);
      await this.#turn();
      differences.head(handle, tensorView(weights, norm), x, targets, chunk.length);
      for (const [i, cell] of chunk.entries()) {
        await this.#turn();
        const { indices, deltas } = changesOf(cell, norm);
        const stream = cell.stream ?? this.#pool.take().fill(0);
        differences.headVariant(handle, 1 + i, stream, norm.offset, indices, deltas);
        this.#pool.give(stream);
      }
      const changes = chunk.map((cell) => changesOf(cell, head));
      const [indices, deltas] = [changes.map((part) => part.indices), changes.map((part) => part.deltas)];
      for (let column = 0; column < preset.vocabulary; ) {
        await this.#turn();
        column = differences.headColumns(handle, tensorView(weights, head), column, head.offset, indices, deltas);
      }
      for (const [i, row] of [0, ...chunk.map(({ variant }) => 1 + variant)].entries()) {
        const losses = new Float32Array(targets.length);
        differences.losses(handle, i, losses);
        if (i > 0 || first === 0) results.push([row, losses]);
      }
    }
    this.#pool.give(x);
    const base = results[0]?.[1] as Floats;
    for (const cell of cells) if (!changed.includes(cell)) results.push([1 + cell.variant, base]);
    return results;
  }

  /** Lets the event loop run, so that others are served and aborts arrive. */
  async #turn(): Promise<void> {
    this.#signal?.throwIfAborted();
    await nextTurn();
    this.#signal?.throwIfAborted();
  }
}
