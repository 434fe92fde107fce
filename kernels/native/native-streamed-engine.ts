/**
 * Loss and gradient on the native library of a model whose weights stay on disk. Layer by layer, weights come from a tensor
 * store and gradients go to a sink; what lives at once is a layer's weights and gradient, and the intermediates of one
 * pass, which are some sequences, through one layer. Passes follow one another within a layer, and their gradients add up.
 *
 * The order of all additions is that of `NativeEngine` with `memory: 'blocks'` and the same `batch`: results are the same to
 * the bit, but for a tied table over several passes. Where the context is a multiple of 1024 tokens, they do not depend on
 * `batch` either.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { TensorFileContentError, TensorFileMismatchError } from '../checkpoint/errors.ts';
import { type TensorPart, type TensorStore, tensorParts, wholeTensor } from '../checkpoint/tensor-store.ts';
import { ActivationFile, type Activations, ActivationsInMemory } from '../engine/activations.ts';
import { type EngineCallOptions, NonFiniteError } from '../engine/engine.ts';
import { ExclusiveUse } from '../engine/exclusive-use.ts';
import { addInto } from '../engine/head-programs.ts';
import { headSlot } from '../engine/model-runner.ts';
import { checkOptions, InvalidEngineOptionsError } from '../engine/onnx-engine.ts';
import { readEmbeddings, storedNonFiniteLoss } from '../engine/stored-weights.ts';
import {
  type GradientSink,
  LossNotFinite,
  type StreamedModel,
  type StreamedReading,
} from '../engine/streamed-model.ts';
import { countSequences } from '../engine/token-passes.ts';
import { groupLength, WeightStream } from '../engine/weight-stream.ts';
import { blockTensorNames, type TensorSlot, tensorLayout } from '../model/layout.ts';
import type { Preset } from '../model/preset.ts';
import { presetHash } from '../model/preset-hash.ts';
import { loadNativeLibrary, type NativeHandle, type NativeLibrary, type NativeReadPart } from './library.ts';

import type { NativeEngineOptions } from './native-engine.ts';
import { HEAD_BYTES } from './native-memory.ts';
import { HEAD_TILE_BYTES, nativeHeadTileRows, nativeStreamedBuffers } from './native-streamed-memory.ts';

import { RoundedCopy } from './rounded-copy.ts';

type Floats = Float32Array<ArrayBuffer>;
type Precision = 'fp32' | 'bf16';

/** How a native streamed engine runs. A pass has `batch` sequences. */
export interface NativeStreamedEngineOptions extends Omit<NativeEngineOptions, 'memory'> {
  /** Most bytes of the head's gradient at once. Default {@link HEAD_TILE_BYTES}. */
  readonly headTileBytes?: number;
  /** Whether the next layer's weights are read while the present one computes. Default true; costs a layer's weights. */
  readonly prefetch?: boolean;
  /**
   * Folder for files of the engine's own, which it deletes when it is closed. With one, and in bf16, weights that were read
   * once are read again from a copy of half the size (`rounded-copy.ts`).
   */
  readonly scratchFolder?: string;
  /** Keeps the inputs of all blocks in a file in the scratch folder instead of in memory. Default false. */
  readonly spill?: boolean;
}

/** Weights of a group as they are handed to the library. */
interface GroupWeights {
  readonly norms: Floats;
  readonly weights: Floats | Uint16Array<ArrayBuffer>;
}

/** Room for a group. */
interface GroupMemory {
  readonly norms: Floats;
  readonly bytes: ArrayBuffer;
  readonly byteOffset: number;
}

/** Sequences of a call that go through a layer together. */
interface Pass {
  readonly inputs: Int32Array;
  /** Rows of the call before it. */
  readonly first: number;
  readonly rows: number;
}

/** What a call works with. */
interface Call {
  readonly passes: readonly Pass[];
  readonly targets: Int32Array;
  readonly activations: Activations;
  readonly stream: WeightStream<GroupMemory, GroupWeights>;
  readonly engine: NativeHandle;
  readonly signal: AbortSignal | undefined;
}

/** See the file comment. */
export class NativeStreamedEngine implements StreamedModel {
  readonly preset: Preset;
  readonly context: number;
  readonly layout: readonly TensorSlot[];
  readonly store: TensorStore;
  /** Of the library in use. */
  readonly instructionSet: string;
  readonly #library: NativeLibrary;
  readonly #options: NativeStreamedEngineOptions;
  readonly #precision: Precision;
  readonly #makeEngine: (precision: Precision) => NativeHandle;
  readonly #slots: ReadonlyMap<string, TensorSlot>;
  readonly #headTiles: readonly TensorPart[];
  readonly #inMemory = new ActivationsInMemory();
  #file: ActivationFile | undefined;
  #copy: RoundedCopy | undefined;
  #trainer: NativeHandle | undefined;
  #weightBytes: ArrayBuffer | undefined;
  #gradient: Floats | undefined;
  #tiedTable: Floats | undefined;
  readonly #upstream: Floats[] = [];
  #reading: StreamedReading = { waitedMs: 0, bytesRead: 0, bytesWritten: 0 };
  #bytesRead = 0;
  #bytesWritten = 0;
  readonly #use = new ExclusiveUse();

  /**
   * Throws InvalidEngineOptionsError, NativeUnavailableError, TensorFileMismatchError for a store of another model or of
   * something else.
   */
  constructor(store: TensorStore, options: NativeStreamedEngineOptions) {
    const { preset, threads, batch } = options;
    checkOptions(options);
    if (options.spill === true && options.scratchFolder === undefined)
      throw new InvalidEngineOptionsError('engine: activations cannot be spilled without a scratch folder');
    if (store.kind !== 'weights' || store.presetHash !== presetHash(preset))
      throw new TensorFileMismatchError(`${store.path} holds ${store.kind} of another model than ${preset.name}`);
    const library = loadNativeLibrary(options.instructionSet);
    if (options.precision === 'bf16' && !library.bf16)
      throw new InvalidEngineOptionsError(`engine: ${library.isa} has no bf16; use fp32`);
    this.preset = preset;
    this.context = options.context ?? preset.context;
    this.layout = tensorLayout(preset);
    this.store = store;
    this.instructionSet = library.isa;
    this.#library = library;
    this.#options = options;
    this.#precision = options.precision ?? 'fp32';
    this.#slots = new Map(this.layout.map((slot) => [slot.name, slot]));
    const slot = headSlot(preset, this.layout);
    const tile = nativeHeadTileRows(preset, options.headTileBytes ?? HEAD_TILE_BYTES) * preset.hidden;
    this.#headTiles = Array.from({ length: Math.ceil(slot.length / tile) }, (_, i) => ({
      ...{ slot, start: i * tile, length: Math.min(tile, slot.length - i * tile) },
    }));
    const { name: _forPeople, ...shape } = preset;
    this.#makeEngine = (precision) =>
      library.create({
        ...shape,
        ...{ context: this.context, batch, threads, tied: Number(preset.tied), recompute: 1 },
        ...{ headBytes: options.headBytes ?? HEAD_BYTES, bf16: Number(precision === 'bf16') },
      });
  }

  get reading(): StreamedReading {
    return this.#reading;
  }

  /** In fp32 throughout, as `Engine.losses`. */
  async losses(tokens: Int32Array, { signal }: EngineCallOptions = {}): Promise<Float64Array<ArrayBuffer>> {
    return await this.#use.call(async () => {
      const tiles = this.#headTiles.map((tile) => [tile]);
      const engine = this.#precision === 'fp32' ? this.#training() : this.#makeEngine('fp32');
      try {
        const groups = [...this.#layers().map((layer) => this.#blockGroup(layer)), ...tiles];
        return await this.#call(tokens, 'fp32', engine, groups, signal, async (call) => {
          await this.#blocksForward(call);
          const norm = await this.#norm();
          this.#library.headBegin(engine, call.targets, 0);
          for (const { start } of this.#headTiles) await this.#headForward(call, norm, start, await call.stream.next());
          const rows = new Float32Array(call.targets.length);
          this.#library.headFinish(engine, 0, rows);
          const means = new Float64Array(rows.length / this.context);
          for (const [i] of means.entries())
            means[i] =
              rows.subarray(i * this.context, (i + 1) * this.context).reduce((a, b) => a + b, 0) / this.context;
          if (!means.every(Number.isFinite)) throw new LossNotFinite();
          return means;
        });
      } finally {
        if (engine !== this.#trainer) this.#library.close(engine);
      }
    });
  }

  async gradient(
    tokens: Int32Array,
    sink: GradientSink,
    { signal }: EngineCallOptions = {},
  ): Promise<{ readonly loss: number; readonly gradientNorm: number }> {
    return await this.#use.call(async () => {
      const engine = this.#training();
      const sums = new Map<string, number>();
      const checkedSink: GradientSink = async (part, gradient) => {
        signal?.throwIfAborted();
        const sum = (sums.get(part.slot.name) ?? 0) + this.#library.squares(engine, gradient);
        if (!Number.isFinite(sum)) throw new NonFiniteError(part.slot.name);
        sums.set(part.slot.name, sum);
        await sink(part, gradient);
      };
      const blocks = this.#layers().map((layer) => this.#blockGroup(layer));
      const tiles = this.#headTiles.map((tile) => [tile]);
      // A head in one part stays where it is between its two sweeps.
      const groups = [...blocks, ...tiles, ...(tiles.length > 1 ? tiles : []), ...blocks.toReversed()];
      return await this.#call(tokens, this.#precision, engine, groups, signal, async (call) => {
        await this.#blocksForward(call);
        const upstream = call.passes.map(({ rows }, pass) => this.#upstreamOf(pass, rows));
        const loss = await this.#head(call, upstream, checkedSink);
        await this.#blocksBackward(call, upstream, checkedSink);
        await this.#embeddingBackward(call, upstream, checkedSink);
        let sum = 0;
        for (const { name } of this.layout) sum += sums.get(name) ?? 0;
        return { loss, gradientNorm: Math.sqrt(sum) };
      });
    });
  }

  async close(): Promise<void> {
    if (!this.#use.end()) return;
    if (this.#trainer !== undefined) this.#library.close(this.#trainer);
    this.#weightBytes = this.#gradient = this.#tiedTable = undefined;
    this.#upstream.length = 0;
    await this.#file?.close();
    await this.#copy?.close();
  }

  #training(): NativeHandle {
    this.#trainer ??= this.#makeEngine(this.#precision);
    return this.#trainer;
  }

  /** Lays out a call, looks up its embeddings, and ends what it began. */
  async #call<T>(
    tokens: Int32Array,
    precision: Precision,
    engine: NativeHandle,
    groups: readonly (readonly TensorPart[])[],
    signal: AbortSignal | undefined,
    body: (call: Call) => Promise<T>,
  ): Promise<T> {
    const { preset, context } = this;
    const sequences = countSequences(preset, context, tokens);
    const targets = new Int32Array(sequences * context);
    const inputs = new Int32Array(sequences * context);
    for (let sequence = 0; sequence < sequences; sequence++) {
      const from = sequence * (context + 1);
      inputs.set(tokens.subarray(from, from + context), sequence * context);
      targets.set(tokens.subarray(from + 1, from + 1 + context), sequence * context);
    }
    const passRows = this.#options.batch * context;
    const passes = Array.from({ length: Math.ceil(targets.length / passRows) }, (_, pass): Pass => {
      const first = pass * passRows;
      const rows = Math.min(passRows, targets.length - first);
      return { inputs: inputs.subarray(first, first + rows), first, rows };
    });
    const activations = await this.#beginActivations(passes);
    if (precision === 'bf16' && this.#options.scratchFolder !== undefined)
      this.#copy ??= await RoundedCopy.create(this.store, this.#scratchPath('rounded-weights'));
    this.#bytesRead = this.#bytesWritten = 0;
    const stream = new WeightStream(
      (group: readonly TensorPart[], memory: GroupMemory) => this.#readGroup(group, memory, precision),
      this.#memories(precision),
      groups,
    );
    try {
      await this.#embed(passes, activations);
      return await body({ passes, targets, activations, stream, engine, signal });
    } catch (error) {
      if (!(error instanceof LossNotFinite)) throw error;
      await stream.close();
      throw await storedNonFiniteLoss(this.store, new Float32Array(Math.min(this.#longestGroup(), 2 ** 22)));
    } finally {
      await stream.close();
      await activations.settle();
      const [bytesRead, bytesWritten] = [this.#bytesRead, this.#bytesWritten];
      this.#reading = { waitedMs: stream.waitedMs, bytesRead, bytesWritten };
    }
  }

  async #beginActivations(passes: readonly Pass[]): Promise<Activations> {
    const { hidden, layers } = this.preset;
    const lengths = passes.map(({ rows }) => rows * hidden);
    if (this.#options.spill !== true) {
      this.#inMemory.begin(lengths);
      return this.#inMemory;
    }
    const longest = this.#options.batch * this.context * hidden;
    this.#file ??= await ActivationFile.create(this.#scratchPath('activations'), layers, longest);
    this.#file.begin(lengths);
    return this.#file;
  }

  async #embed(passes: readonly Pass[], activations: Activations): Promise<void> {
    const { hidden } = this.preset;
    for (const [pass, { inputs }] of passes.entries()) {
      const x = await activations.room(0, pass);
      await readEmbeddings(this.store, hidden, [{ inputs, x }]);
      await activations.keep(0, pass);
    }
  }

  async #blocksForward({ passes, activations, stream, engine, signal }: Call): Promise<void> {
    for (const layer of this.#layers()) {
      const { norms, weights } = await stream.next();
      for (const [pass] of passes.entries()) {
        const next = pass + 1 < passes.length ? ([layer, pass + 1] as const) : ([layer + 1, 0] as const);
        const x = await activations.of(layer, pass, next);
        const y = await activations.room(layer + 1, pass);
        await turn(signal);
        this.#library.blockForward(engine, norms, weights, x, y);
        await activations.keep(layer + 1, pass);
      }
    }
  }

  async #headForward(
    { passes, activations, engine, signal }: Call,
    norm: Floats,
    start: number,
    { weights }: GroupWeights,
  ): Promise<void> {
    const { layers, hidden } = this.preset;
    for (const [pass, { first }] of passes.entries()) {
      const x = await activations.of(layers, pass, [layers, (pass + 1) % passes.length]);
      await turn(signal);
      this.#library.headForward(engine, norm, weights, start / hidden, x, first);
    }
  }

  /** Fills `upstream` with the gradients of the head's input; returns the mean loss. */
  async #head(call: Call, upstream: readonly Floats[], sink: GradientSink): Promise<number> {
    const { passes, activations, stream, engine, signal, targets } = call;
    const { layers, hidden, tied } = this.preset;
    const norm = await this.#norm();
    const rowWeight = 1 / targets.length;
    this.#library.headBegin(engine, targets, 1);
    let group: GroupWeights | undefined;
    for (const { start } of this.#headTiles) {
      group = await stream.next();
      await this.#headForward(call, norm, start, group);
    }
    const rowLosses = new Float32Array(targets.length);
    this.#library.headFinish(engine, rowWeight, rowLosses);
    let total = 0;
    for (const loss of rowLosses) total += loss;
    if (!Number.isFinite(total * rowWeight)) throw new LossNotFinite();
    if (tied) this.#tiedTable ??= new Float32Array(this.#slot('embedding').length);
    for (const part of this.#headTiles) {
      const { start, length } = part;
      if (group === undefined || this.#headTiles.length > 1) group = await stream.next();
      const gradient =
        (tied ? this.#tiedTable : undefined)?.subarray(start, start + length) ?? this.#gradientOf(length);
      for (const [pass, { first }] of passes.entries()) {
        const x = await activations.of(layers, pass, [layers, (pass + 1) % passes.length]);
        const dx = upstream[pass] as Floats;
        await turn(signal);
        const { weights } = group;
        this.#library.headBackward(engine, norm, weights, start / hidden, x, first, dx, gradient, Number(pass > 0));
      }
      if (!tied) await sink(part, gradient);
    }
    const dNorm = new Float32Array(hidden);
    for (const [pass] of passes.entries()) {
      const next = pass + 1 < passes.length ? ([layers, pass + 1] as const) : ([layers - 1, 0] as const);
      const x = await activations.of(layers, pass, next);
      this.#library.headEnd(engine, norm, x, upstream[pass] as Floats, dNorm, Number(pass > 0));
    }
    await sink(wholeTensor(this.#slot('norm')), dNorm);
    return total * rowWeight;
  }

  /** Turns `upstream` from gradients of the head's input into gradients of the embedded tokens. */
  async #blocksBackward(call: Call, upstream: readonly Floats[], sink: GradientSink): Promise<void> {
    const { passes, activations, stream, engine, signal } = call;
    for (const layer of this.#layers().reverse()) {
      const group = this.#blockGroup(layer);
      const { norms, weights } = await stream.next();
      const gradient = this.#gradientOf(groupLength(group));
      for (const [pass] of passes.entries()) {
        const next = pass + 1 < passes.length ? ([layer, pass + 1] as const) : ([Math.max(0, layer - 1), 0] as const);
        const x = await activations.of(layer, pass, next);
        const dStream = upstream[pass] as Floats;
        await turn(signal);
        this.#library.blockBackward(engine, norms, weights, x, dStream, gradient, Number(pass > 0));
      }
      let at = 0;
      for (const part of group) {
        await sink(part, gradient.subarray(at, at + part.length));
        at += part.length;
      }
    }
  }

  /** Adds each row's gradient to its token's row, in order, and hands on the table in parts. */
  async #embeddingBackward({ passes }: Call, upstream: readonly Floats[], sink: GradientSink): Promise<void> {
    const { hidden, tied } = this.preset;
    const slot = this.#slot('embedding');
    const rowsOf = new Map<number, Floats[]>();
    for (const [pass, { inputs }] of passes.entries())
      for (const [row, token] of inputs.entries()) {
        const gradient = rowOf(upstream[pass] as Floats, row, hidden);
        const others = rowsOf.get(token);
        if (others === undefined) rowsOf.set(token, [gradient]);
        else others.push(gradient);
      }
    for (const part of tensorParts(slot, this.#longestGroup())) {
      const { start, length } = part;
      const table = tied ? this.#tiedTable?.subarray(start, start + length) : undefined;
      const total = table ?? this.#gradientOf(length).fill(0);
      for (const [token, rows] of rowsOf) {
        const at = token * hidden - start;
        if (at >= 0 && at < length) for (const row of rows) addInto(total.subarray(at, at + hidden), row);
      }
      await sink(part, total);
    }
  }

  /** Reads a group into a memory. Matrices lie at their places in the group; norms lie in `norms`. */
  async #readGroup(group: readonly TensorPart[], memory: GroupMemory, precision: Precision): Promise<GroupWeights> {
    const { norms, bytes, byteOffset } = memory;
    const length = groupLength(group);
    const weights =
      precision === 'bf16' ? new Uint16Array(bytes, byteOffset, length) : new Float32Array(bytes, byteOffset, length);
    const reads: NativeReadPart[] = [];
    const done: (() => void)[] = [];
    let at = 0;
    let norm = 0;
    for (const part of group) {
      const to = weights.subarray(at, at + part.length);
      at += part.length;
      if (part.slot.role === 'norm') {
        reads.push({ ...this.store.region(part), to: norms.subarray(norm, norm + part.length), rounds: 0 });
        norm += part.length;
      } else if (!(to instanceof Uint16Array)) reads.push({ ...this.store.region(part), to, rounds: 0 });
      else if (this.#copy === undefined) reads.push({ ...this.store.region(part), to, rounds: 1 });
      else {
        const planned = this.#copy.plan(part, to);
        reads.push(planned.read);
        done.push(planned.done);
      }
    }
    const failed = await this.#readAll(reads);
    if (failed !== undefined) throw await this.#unreadable(group[failed] as TensorPart);
    for (const finish of done) finish();
    for (const { to, rounds, copy } of reads) {
      this.#bytesRead += to.length * (rounds === 1 || to instanceof Float32Array ? 4 : 2);
      if (copy !== undefined) this.#bytesWritten += to.byteLength;
    }
    return { norms, weights };
  }

  /** Reads by two threads; resolves to the number of the first part that is damaged or cut off, when both have ended. */
  async #readAll(reads: readonly NativeReadPart[]): Promise<number | undefined> {
    const lanes: { bytes: number; numbers: number[] }[] = [
      { bytes: 0, numbers: [] },
      { bytes: 0, numbers: [] },
    ];
    for (const [number, { to }] of reads.entries()) {
      const lane = lanes.reduce((least, other) => (other.bytes < least.bytes ? other : least));
      lane.bytes += to.byteLength;
      lane.numbers.push(number);
    }
    const ended = await Promise.allSettled(
      lanes
        .filter(({ numbers }) => numbers.length > 0)
        .map(async ({ numbers }) => {
          const failed = await this.#library.read(numbers.map((number) => reads[number] as NativeReadPart));
          return failed === undefined ? undefined : numbers[failed];
        }),
    );
    const failed: number[] = [];
    for (const end of ended) {
      if (end.status === 'rejected') throw end.reason;
      if (end.value !== undefined) failed.push(end.value);
    }
    return failed.length === 0 ? undefined : Math.min(...failed);
  }

  /** What the store says of a part that could not be read. */
  async #unreadable({ slot, start, length }: TensorPart): Promise<unknown> {
    try {
      const memory = new Float32Array(Math.min(length, 2 ** 22));
      for (const part of tensorParts(slot, memory.length))
        if (part.start < start + length && part.start + part.length > start)
          await this.store.read(part, memory.subarray(0, part.length));
    } catch (error) {
      return error;
    }
    return new TensorFileContentError(`${slot.name} in the copy of ${this.store.path} is damaged`);
  }

  async #norm(): Promise<Floats> {
    const norm = new Float32Array(this.preset.hidden);
    await this.store.read(wholeTensor(this.#slot('norm')), norm);
    return norm;
  }

  /** Rounded weights take half the memory: where there is room for two groups of them, there is for one in fp32. */
  #memories(precision: Precision): [GroupMemory, ...GroupMemory[]] {
    const { weights } = this.#buffers();
    const own = this.#precision === 'bf16' ? 2 : 4;
    const groupBytes = Math.ceil((weights.length * (precision === 'bf16' ? 2 : 4)) / 8) * 8;
    const ownBytes = Math.ceil((weights.length * own) / 8) * 8;
    this.#weightBytes ??= new ArrayBuffer(ownBytes * weights.count);
    const kept = this.#weightBytes;
    const bytes = kept.byteLength >= groupBytes ? kept : new ArrayBuffer(groupBytes);
    const count = Math.min(weights.count, Math.floor(bytes.byteLength / groupBytes));
    const memory = (index: number): GroupMemory => {
      return { norms: new Float32Array(2 * this.preset.hidden), bytes, byteOffset: index * groupBytes };
    };
    return [memory(0), ...(count > 1 ? [memory(1)] : [])];
  }

  #buffers(): ReturnType<typeof nativeStreamedBuffers> {
    const { preset, context } = this;
    const { batch, headTileBytes = HEAD_TILE_BYTES, prefetch = true, spill = false } = this.#options;
    return nativeStreamedBuffers({ preset, context, batch, passes: 1, headTileBytes, prefetch, spill });
  }

  #longestGroup(): number {
    return this.#buffers().weights.length;
  }

  #gradientOf(length: number): Floats {
    this.#gradient ??= new Float32Array(this.#longestGroup());
    return this.#gradient.subarray(0, length);
  }

  #upstreamOf(pass: number, rows: number): Floats {
    const length = rows * this.preset.hidden;
    const known = this.#upstream[pass];
    if (known !== undefined && known.length >= length) return known.subarray(0, length);
    const array = new Float32Array(length);
    this.#upstream[pass] = array;
    return array;
  }

  /** A name that no other engine uses. */
  #scratchPath(what: string): string {
    return join(this.#options.scratchFolder ?? '.', `${what}-${randomBytes(6).toString('hex')}`);
  }

  #blockGroup(layer: number): TensorPart[] {
    return blockTensorNames.map((name) => wholeTensor(this.#slot(`layers.${layer}.${name}`)));
  }

  #slot(name: string): TensorSlot {
    const slot = this.#slots.get(name);
    if (slot === undefined) throw new RangeError(`no tensor named ${name}`);
    return slot;
  }

  #layers(): number[] {
    return Array.from({ length: this.preset.layers }, (_, layer) => layer);
  }
}

/** Lets the event loop run, so that others are served and aborts arrive. Throws the signal's reason. */
async function turn(signal: AbortSignal | undefined): Promise<void> {
  await nextTurn();
  signal?.throwIfAborted();
}

function rowOf(table: Floats, row: number, width: number): Floats {
  return table.subarray(row * width, (row + 1) * width);
}
