/**
 * Loss and gradient of a model whose weights stay on disk. Layer by layer, weights come from a tensor store and gradients
 * go to a sink; what lives at once is a layer's weights and gradients, one activation per layer, and a tile of the head.
 *
 * Sessions and the order of all additions are those of the resident engine in its `blocks` mode: results are the same to
 * the bit.
 */
import { TensorFileMismatchError } from '../checkpoint/errors.ts';
import { type TensorPart, type TensorStore, tensorParts, wholeTensor } from '../checkpoint/tensor-store.ts';
import { headChunkRows } from '../model/head.ts';
import { blockTensorNames, type TensorSlot, tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { BlockPrograms } from './block-programs.ts';
import type { EngineCallOptions, NonFiniteError } from './engine.ts';
import { ExclusiveUse } from './exclusive-use.ts';
import { addInto, HeadPrograms, type HeadTile, MAX_HEAD_TILE_BYTES } from './head-programs.ts';
import { headSlot } from './model-runner.ts';
import { checkOptions, type EngineOptions, MAX_HEAD_ROWS } from './onnx-engine.ts';
import { SquareSums } from './square-sums.ts';
import { readEmbeddings, storedNonFiniteLoss } from './stored-weights.ts';
import { streamedBuffers } from './streamed-memory.ts';
import { type GradientSink, LossNotFinite, type StreamedModel, type StreamedReading } from './streamed-model.ts';
import { countSequences, type TokenPass, tokenPasses } from './token-passes.ts';
import { sequenceMeans } from './variant-pass.ts';
import { readerOf, WeightStream } from './weight-stream.ts';

type Floats = Float32Array<ArrayBuffer>;

/** How a streamed engine runs: on the CPU, in fp32. */
export interface StreamedEngineOptions
  extends Omit<EngineOptions, 'memory' | 'device' | 'precision' | 'initialLossScale'> {
  /** Whether the next layer's weights are read while the present one computes. Default true; costs a layer's weights. */
  readonly prefetch?: boolean;
}

type Stream = WeightStream<Floats, Floats[]>;

/** What a pass holds through a call. */
interface Pass extends TokenPass {
  readonly rowWeights: Floats;
  readonly losses: Floats;
  /** Input of each block, and of the head; a pass that is not trained has two that take turns. */
  readonly activations: readonly Floats[];
}

/** A model whose weights lie in a store, on onnxruntime. */
export class StreamedEngine implements StreamedModel {
  readonly preset: Preset;
  /** Tokens predicted per sequence. */
  readonly context: number;
  /** Canonical tensor order: `tensorLayout(preset)`. */
  readonly layout: readonly TensorSlot[];
  /** The weights, read at every call. Its owner may change it between calls. */
  readonly store: TensorStore;
  readonly #use = new ExclusiveUse();
  readonly #batch: number;
  readonly #headRows: number;
  readonly #headTileBytes: number;
  readonly #prefetch: boolean;
  readonly #blocks: BlockPrograms;
  readonly #head: HeadPrograms;
  readonly #slots: ReadonlyMap<string, TensorSlot>;
  #weightMemories: readonly Floats[] | undefined;
  #gradientMemories: Floats[] = [];
  /** Activations and tied tables, kept from call to call. */
  readonly #activations: Floats[] = [];
  #activationsInUse = 0;
  readonly #tables: Floats[] = [];
  #reading: StreamedReading = { waitedMs: 0, bytesRead: 0, bytesWritten: 0 };

  /** Throws InvalidEngineOptionsError, TensorFileMismatchError for a store of another model or of something else. */
  constructor(store: TensorStore, options: StreamedEngineOptions) {
    checkOptions(options);
    const { preset, batch } = options;
    if (store.kind !== 'weights' || store.presetHash !== presetHash(preset))
      throw new TensorFileMismatchError(`${store.path} holds ${store.kind} of another model than ${preset.name}`);
    this.preset = preset;
    this.context = options.context ?? preset.context;
    this.layout = tensorLayout(preset);
    this.store = store;
    this.#batch = batch;
    this.#headRows = headChunkRows(batch * this.context, options.headRows ?? MAX_HEAD_ROWS);
    this.#headTileBytes = options.headTileBytes ?? MAX_HEAD_TILE_BYTES;
    this.#prefetch = options.prefetch ?? true;
    this.#slots = new Map(this.layout.map((slot) => [slot.name, slot]));
    const session = {
      threads: options.threads,
      // An arena would keep the largest graph's intermediates while another one runs.
      arena: false,
      ...(options.profilePrefix === undefined ? {} : { profilePrefix: options.profilePrefix }),
    };
    this.#blocks = new BlockPrograms(preset, { batch, positions: this.context }, session);
    this.#head = new HeadPrograms(preset, this.#headRows, session, this.#headTileBytes);
  }

  get reading(): StreamedReading {
    return this.#reading;
  }

  /** Mean loss of each sequence, nats. Throws as `Engine.losses`, and what the store throws. */
  async losses(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<Float64Array<ArrayBuffer>> {
    return await this.#use.call(async () => {
      this.#activationsInUse = 0;
      const passes = await this.#passes(tokens, 2, 0);
      const tiles = this.#head.tiles.map((tile) => this.#tileGroup(tile));
      const stream = this.#stream([...this.#layers().map((layer) => this.#blockGroup(layer)), ...tiles]);
      try {
        await this.#blocksForward(stream, passes, signal);
        await this.#head.forward(this.#headPasses(passes), await this.#headWeights(stream), signal);
      } finally {
        this.#reading = { waitedMs: stream.waitedMs, bytesRead: 4 * stream.elementsRead, bytesWritten: 0 };
        await stream.close();
      }
      const rowLosses = passes.map(({ losses }) => losses);
      const means = sequenceMeans(rowLosses, passes, this.context);
      if (!means.every(Number.isFinite)) throw await this.#nonFiniteLoss();
      return means;
    });
  }

  /**
   * Mean loss over all sequences; its gradient goes to `sink`. Returns the gradient's Euclidean norm with the loss.
   * Throws as `Engine.lossAndGradient`, and what store and sink throw. The sink gets nothing when the loss is not finite;
   * it has got parts when a gradient is not, or the call fails later.
   */
  async gradient(
    tokens: Int32Array,
    sink: GradientSink,
    { signal }: EngineCallOptions = {},
  ): Promise<{ readonly loss: number; readonly gradientNorm: number }> {
    return await this.#use.call(async () => {
      this.#activationsInUse = 0;
      const { layers } = this.preset;
      const rowWeight = 1 / (countSequences(this.preset, this.context, tokens) * this.context);
      const passes = await this.#passes(tokens, layers + 1, rowWeight);
      const sums = new SquareSums();
      const checkedSink: GradientSink = async (part, gradient) => {
        signal?.throwIfAborted();
        sums.add(part.slot, gradient);
        await sink(part, gradient);
      };
      const tiles = this.#head.tiles.map((tile) => this.#tileGroup(tile));
      const blocks = this.#layers().map((layer) => this.#blockGroup(layer));
      const sweeps = Array.from({ length: this.#head.trainingSweeps }, () => tiles).flat();
      const stream = this.#stream([...blocks, ...sweeps, ...blocks.toReversed()]);
      try {
        await this.#blocksForward(stream, passes, signal);
        const upstream = passes.map(() => this.#activation());
        const tied = await this.#headBackward(stream, passes, upstream, checkedSink, signal);
        await this.#blocksBackward(stream, passes, upstream, checkedSink, signal);
        await this.#embeddingBackward(passes, upstream, tied, checkedSink);
      } catch (error) {
        // Only now can the store be read for the weight that is to blame.
        throw error instanceof LossNotFinite ? await this.#nonFiniteLoss() : error;
      } finally {
        this.#reading = { waitedMs: stream.waitedMs, bytesRead: 4 * stream.elementsRead, bytesWritten: 0 };
        await stream.close();
      }
      return { loss: this.#total(passes) * rowWeight, gradientNorm: sums.norm(this.layout) };
    });
  }

  /** Frees device and memory, not the store. */
  async close(): Promise<void> {
    if (!this.#use.end()) return;
    this.#weightMemories = undefined;
    this.#gradientMemories = [];
    this.#activations.length = 0;
    this.#tables.length = 0;
    await this.#blocks.close();
    await this.#head.close();
  }

  /** Lays out a call and looks up its embeddings. */
  async #passes(tokens: Int32Array, activations: number, rowWeight: number): Promise<Pass[]> {
    countSequences(this.preset, this.context, tokens);
    const rows = this.#batch * this.context;
    const passes = tokenPasses(tokens, this.#batch, this.context).map((pass) => ({
      ...pass,
      rowWeights: new Float32Array(rows).fill(rowWeight, 0, pass.sequences * this.context),
      losses: new Float32Array(rows),
      activations: Array.from({ length: activations }, () => this.#activation()),
    }));
    const embedded = passes.map(({ inputs, activations }) => ({ inputs, x: activationOf(activations, 0) }));
    await readEmbeddings(this.store, this.preset.hidden, embedded);
    return passes;
  }

  async #blocksForward(stream: Stream, passes: readonly Pass[], signal?: AbortSignal): Promise<void> {
    for (const layer of this.#layers()) {
      const weights = await stream.next();
      for (const { activations } of passes) {
        signal?.throwIfAborted();
        await this.#blocks.forward(activationOf(activations, layer), weights, activationOf(activations, layer + 1));
      }
    }
  }

  /**
   * Fills `upstream` with the gradients of the head's input. A tied table's gradient is not complete then: it is returned,
   * by pass, instead of going to the sink.
   */
  async #headBackward(
    stream: Stream,
    passes: readonly Pass[],
    upstream: readonly Floats[],
    sink: GradientSink,
    signal: AbortSignal | undefined,
  ): Promise<Floats[] | undefined> {
    const { hidden, layers, tied } = this.preset;
    const slot = headSlot(this.preset, this.layout);
    const tables = tied ? passes.map((_, pass) => this.#table(pass, slot.length)) : undefined;
    const norms = passes.map(() => new Float32Array(hidden));
    const training = passes.map(({ activations, targets, losses, rowWeights }, index) => {
      const [x, dx] = [activations[layers] as Floats, upstream[index] as Floats];
      return { x, dx, targets, losses, rowWeights };
    });
    const gradients = {
      norms,
      room: ({ first, rows }: HeadTile, pass: number) =>
        tables?.[pass]?.subarray(first * hidden, (first + rows) * hidden) ??
        this.#gradientMemory(pass === 0 ? 0 : 1).subarray(0, rows * hidden),
      losses: () => {
        if (!Number.isFinite(this.#total(passes))) throw new LossNotFinite();
      },
      done: async ({ first, rows }: HeadTile, pass: number) => {
        if (tables !== undefined) return;
        const total = this.#gradientMemory(0).subarray(0, rows * hidden);
        if (pass > 0) addInto(total, this.#gradientMemory(1).subarray(0, rows * hidden));
        if (pass === passes.length - 1) await sink({ slot, start: first * hidden, length: rows * hidden }, total);
      },
    };
    await this.#head.train(training, await this.#headWeights(stream), gradients, signal);
    await sink(wholeTensor(this.#slot('norm')), sumInto(norms));
    return tables;
  }

  /** Turns `upstream` from gradients of the head's input into gradients of the embedded tokens. */
  async #blocksBackward(
    stream: Stream,
    passes: readonly Pass[],
    upstream: Floats[],
    sink: GradientSink,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let spare = this.#activation();
    for (const layer of this.#layers().reverse()) {
      const weights = await stream.next();
      const group = this.#blockGroup(layer);
      const total = cut(this.#gradientMemory(0), group);
      for (const [index, { activations }] of passes.entries()) {
        signal?.throwIfAborted();
        const dy = upstream[index] as Floats;
        const gradients = index === 0 ? total : cut(this.#gradientMemory(1), group);
        await this.#blocks.backward(activationOf(activations, layer), dy, weights, spare, gradients);
        upstream[index] = spare;
        spare = dy;
        if (index > 0) for (const [i, sum] of total.entries()) addInto(sum, gradients[i] as Floats);
      }
      for (const [i, part] of group.entries()) await sink(part, total[i] as Floats);
    }
  }

  /** Adds each row's gradient to its token's row, and hands on the table in parts. */
  async #embeddingBackward(
    passes: readonly Pass[],
    upstream: readonly Floats[],
    tied: readonly Floats[] | undefined,
    sink: GradientSink,
  ): Promise<void> {
    const { hidden } = this.preset;
    const slot = this.#slot('embedding');
    const memory = this.#gradientMemory(0);
    const parts = tensorParts(slot, Math.min(memory.length, Math.max(hidden, this.#headTileBytes / 4)));
    if (tied !== undefined) {
      for (const [index, table] of tied.entries()) {
        const { inputs } = passes[index] as Pass;
        for (const [row, token] of inputs.entries())
          addInto(rowOf(table, token, hidden), rowOf(upstream[index] as Floats, row, hidden));
      }
      const table = sumInto(tied);
      for (const part of parts) await sink(part, table.subarray(part.start, part.start + part.length));
      return;
    }
    // Rows in use only, by pass: additions in the order in which whole tables would be added.
    const tables = passes.map(({ inputs }, index) => {
      const rows = new Map<number, Floats>();
      for (const [row, token] of inputs.entries()) {
        const sum = rows.get(token) ?? new Float32Array(hidden);
        addInto(sum, rowOf(upstream[index] as Floats, row, hidden));
        rows.set(token, sum);
      }
      return rows;
    });
    const zeros = new Float32Array(hidden);
    const used = [...new Set(tables.flatMap((rows) => [...rows.keys()]))];
    for (const part of parts) {
      const total = memory.subarray(0, part.length).fill(0);
      for (const token of used) {
        const at = token * hidden - part.start;
        if (at < 0 || at >= part.length) continue;
        const sum = total.subarray(at, at + hidden);
        for (const [index, rows] of tables.entries()) {
          const row = rows.get(token) ?? zeros;
          if (index === 0) sum.set(row);
          else addInto(sum, row);
        }
      }
      await sink(part, total);
    }
  }

  async #nonFiniteLoss(): Promise<NonFiniteError> {
    return await storedNonFiniteLoss(this.store, this.#memories()[0]);
  }

  /** Sum of the losses of all real rows. */
  #total(passes: readonly Pass[]): number {
    let total = 0;
    for (const { losses, sequences } of passes)
      for (let row = 0; row < sequences * this.context; row++) total += losses[row] as number;
    return total;
  }

  async #headWeights(stream: Stream): Promise<{ norm: Floats; tile: () => Promise<Floats> }> {
    const norm = new Float32Array(this.preset.hidden);
    await this.store.read(wholeTensor(this.#slot('norm')), norm);
    return { norm, tile: async () => (await stream.next())[0] as Floats };
  }

  #headPasses(passes: readonly Pass[]): { x: Floats; targets: BigInt64Array<ArrayBuffer>; losses: Floats }[] {
    const { layers } = this.preset;
    return passes.map(({ activations, targets, losses }) => ({
      x: activationOf(activations, layers),
      targets,
      losses,
    }));
  }

  #stream(groups: readonly (readonly TensorPart[])[]): Stream {
    return new WeightStream(readerOf(this.store), this.#memories(), groups);
  }

  #memories(): readonly [Floats, ...Floats[]] {
    if (this.#weightMemories === undefined) {
      const { length, count } = this.#buffers().weights;
      this.#weightMemories = Array.from({ length: count }, () => new Float32Array(length));
    }
    return this.#weightMemories as readonly [Floats, ...Floats[]];
  }

  /** The first for a gradient's sum, the second for that of a pass to be added. */
  #gradientMemory(index: 0 | 1): Floats {
    const memory = this.#gradientMemories[index] ?? new Float32Array(this.#buffers().gradients.length);
    this.#gradientMemories[index] = memory;
    return memory;
  }

  #buffers(): ReturnType<typeof streamedBuffers> {
    return streamedBuffers({
      preset: this.preset,
      batch: this.#batch,
      context: this.context,
      passes: 1,
      headRows: this.#headRows,
      headTileBytes: this.#headTileBytes,
      prefetch: this.#prefetch,
    });
  }

  #blockGroup(layer: number): TensorPart[] {
    return blockTensorNames.map((name) => wholeTensor(this.#slot(`layers.${layer}.${name}`)));
  }

  #tileGroup({ first, rows }: HeadTile): TensorPart[] {
    const { hidden } = this.preset;
    return [{ slot: headSlot(this.preset, this.layout), start: first * hidden, length: rows * hidden }];
  }

  #slot(name: string): TensorSlot {
    const slot = this.#slots.get(name);
    if (slot === undefined) throw new RangeError(`no tensor named ${name}`);
    return slot;
  }

  #layers(): number[] {
    return Array.from({ length: this.preset.layers }, (_, layer) => layer);
  }

  /** One more array of the size of an activation, for the present call. */
  #activation(): Floats {
    const index = this.#activationsInUse++;
    const array = this.#activations[index] ?? new Float32Array(this.#batch * this.context * this.preset.hidden);
    this.#activations[index] = array;
    return array;
  }

  /** Memory for a pass's gradient of a tied table. */
  #table(pass: number, length: number): Floats {
    const array = this.#tables[pass] ?? new Float32Array(length);
    this.#tables[pass] = array;
    return array;
  }
}

/** The input of a layer: fewer arrays than layers take turns. */
function activationOf(activations: readonly Floats[], layer: number): Floats {
  return activations[layer % activations.length] as Floats;
}

function rowOf(table: Floats, row: number, width: number): Floats {
  return table.subarray(row * width, (row + 1) * width);
}

/** Adds all to the first, in order; returns that. */
function sumInto(arrays: readonly Floats[]): Floats {
  const [sum = new Float32Array(0), ...others] = arrays;
  for (const other of others) addInto(sum, other);
  return sum;
}

/** Views of a memory, one for each part. */
function cut(memory: Floats, parts: readonly TensorPart[]): Floats[] {
  let at = 0;
  return parts.map(({ length }) => {
    at += length;
    return memory.subarray(at - length, at);
  });
}
