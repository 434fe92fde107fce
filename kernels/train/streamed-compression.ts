/**
 * A submission from a pseudo-gradient that comes by tensor, with error feedback on disk. Bytes and error feedback are those
 * of `compressUpdate`; in memory are one tensor, its error feedback, and what is sent.
 */
import { type TensorPart, TensorStore, type TensorStoreInit, wholeTensor } from '../checkpoint/tensor-store.ts';
import { assembleUpdate, type UpdateHeader } from '../gradient/agf1.ts';
import { type CompressionOptions, compressTensor } from '../gradient/compress.ts';

type Floats = Float32Array<ArrayBuffer>;

/** Thrown when parts do not make up tensors: left out, twice, or out of order. */
export class IncompleteGradientError extends Error {
  static readonly code = 'ERR_INCOMPLETE_GRADIENT';
  readonly code = IncompleteGradientError.code;
  override readonly name = 'IncompleteGradientError';
}

/** Takes a pseudo-gradient as a `GradientSink` does: parts of a tensor in order, tensors in any order. */
export class StreamedCompression {
  /** The error feedback to be: takes the name of the present one when it is whole. */
  readonly #feedback: TensorStore;
  readonly #options: CompressionOptions;
  readonly #records = new Map<number, Uint8Array | undefined>();
  readonly #memories: readonly [Floats, Floats];
  /** The tensor that parts are coming of, and its elements that came. */
  #open: { readonly name: string; readonly elements: number } | undefined;

  private constructor(feedback: TensorStore, options: CompressionOptions) {
    this.#feedback = feedback;
    this.#options = options;
    const longest = feedback.layout.reduce((most, { length }) => Math.max(most, length), 0);
    this.#memories = [new Float32Array(longest), new Float32Array(longest)];
  }

  /**
   * @param feedback - error feedback of the rounds before, which stays as it is, and may be closed afterwards; undefined
   *   where there is none: it is zero then.
   * @param path - where the new one goes, over the present one. Disk for both is needed for a while.
   */
  static async begin(
    path: string,
    model: Omit<TensorStoreInit, 'kind'>,
    feedback: TensorStore | undefined,
    options: CompressionOptions,
  ): Promise<StreamedCompression> {
    const { presetHash, layout } = model;
    const next =
      (await feedback?.copy(path)) ?? (await TensorStore.create(path, { kind: 'error-feedback', presetHash, layout }));
    return new StreamedCompression(next, options);
  }

  /**
   * Takes a part; the last one of a tensor has it compressed. Throws {@link IncompleteGradientError},
   * NonFiniteGradientError, what the store throws.
   */
  async add({ slot, start, length }: TensorPart, delta: Float32Array): Promise<void> {
    const { layout } = this.#feedback;
    const tensor = layout.findIndex(({ name }) => name === slot.name);
    const came = this.#open?.name === slot.name ? this.#open.elements : 0;
    const another = this.#open !== undefined && this.#open.name !== slot.name;
    if (tensor < 0 || another || start !== came || this.#records.has(tensor) || start + length > slot.length)
      throw new IncompleteGradientError(`elements from ${start} of ${slot.name} do not follow what came before`);
    const [whole, feedback] = this.#memories.map((memory) => memory.subarray(0, slot.length)) as [Floats, Floats];
    whole.set(delta, start);
    this.#open = { name: slot.name, elements: start + length };
    if (start + length < slot.length) return;
    this.#open = undefined;
    await this.#feedback.read(wholeTensor(slot), feedback);
    this.#records.set(tensor, compressTensor({ slot, tensor, delta: whole, feedback, options: this.#options }));
    await this.#feedback.write(wholeTensor(slot), feedback);
  }

  /**
   * Makes the error feedback durable as that after the header's round, and returns the submission. A crash later never
   * sends the same twice. Throws {@link IncompleteGradientError} when a tensor is missing, InvalidUpdateHeaderError.
   */
  async finish(header: UpdateHeader, options: { readonly signal?: AbortSignal } = {}): Promise<Uint8Array> {
    const missing = this.#feedback.layout.find((_, tensor) => !this.#records.has(tensor));
    if (missing !== undefined) throw new IncompleteGradientError(`${missing.name} did not come`);
    const records = [...this.#records].sort(([a], [b]) => a - b).map(([, record]) => record);
    const bytes = assembleUpdate(
      header,
      records.filter((record) => record !== undefined),
    );
    await this.#feedback.seal(header.round, options);
    return bytes;
  }

  /** The new error feedback, which the caller of {@link finish} may keep open and closes, instead of {@link close}. */
  get feedback(): TensorStore {
    return this.#feedback;
  }

  /** Ends the use of files; what was not finished leaves the error feedback as it was. */
  async close(): Promise<void> {
    await this.#feedback.close();
  }
}
