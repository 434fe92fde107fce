/** Runs graphs with onnxruntime. The only file that touches its API. */
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { DataType, Graph, TensorType } from '../graph/graph.ts';
import { withHalfPrecisionProducts } from '../graph/half-precision.ts';
import { serializeGraph } from '../graph/serialize.ts';
import { type Device, executionProviders, type Precision } from './device/device.ts';

/** Array that holds the elements of each type. */
export type TensorData = Float32Array | BigInt64Array | Int32Array | Uint8Array;

/** How a graph is run. */
export interface SessionOptions {
  /** Threads that share one operator; nothing else runs in parallel. */
  readonly threads: number;
  /** Where it runs; a node that the device cannot run runs on the CPU. Default `cpu`. */
  readonly device?: Device;
  /** `fp16` computes the matrix products in float16; inputs and outputs stay float32. Default `fp32`. */
  readonly precision?: Precision;
  /** Refuses graphs of which the device cannot run every node, instead of running those on the CPU. */
  readonly onlyDevice?: boolean;
  /**
   * Keeps freed intermediates for the next run: faster, and never given back. Default true. Without, a graph that is not
   * running holds no memory.
   */
  readonly arena?: boolean;
  /** Writes onnxruntime's own profile (one JSON file per session) under this path prefix. */
  readonly profilePrefix?: string;
}

/** Thrown when onnxruntime refuses a graph or fails while running one. */
export class SessionError extends Error {
  static readonly code = 'ERR_KERNEL_SESSION';
  readonly code = SessionError.code;
  override readonly name = 'SessionError';
}

/** A tensor over memory of the caller; onnxruntime reads and writes that memory directly. */
export type BoundTensor = Tensor;

type MakeTensor = (type: DataType, data: TensorData, shape: readonly number[]) => Tensor;

/** Loads the native library on first use, with its telemetry off (it is on by default and writes under the home). */
async function loadRuntime(): Promise<typeof import('onnxruntime-node')> {
  // Native code reads the environment of the process, which a worker thread cannot change: whoever starts
  // one (kernels/session/worker-thread.ts) sets it on the main thread as well.
  process.env.ORT_DISABLE_TELEMETRY = '1';
  return await import('onnxruntime-node');
}

/**
 * Frees what the binding hands back: it copies each output into a new array, also where it wrote into the caller's memory.
 * Waiting for the garbage collector would keep gradients of several runs.
 */
function releaseCopies(results: Readonly<Record<string, Tensor>>, fetches: Readonly<Record<string, Tensor>>): void {
  for (const [name, { data }] of Object.entries(results)) {
    if (!ArrayBuffer.isView(data) || !(data.buffer instanceof ArrayBuffer)) continue;
    const fetched = fetches[name]?.data;
    if (ArrayBuffer.isView(fetched) && fetched.buffer !== data.buffer) data.buffer.transfer(0);
  }
}

/** One graph, ready to run. Not reentrant. */
export class Session {
  readonly name: string;
  readonly inputs: ReadonlyMap<string, TensorType>;
  readonly outputs: ReadonlyMap<string, TensorType>;
  readonly #session: InferenceSession;
  readonly #makeTensor: MakeTensor;

  private constructor(name: string, graph: Graph, session: InferenceSession, makeTensor: MakeTensor) {
    this.name = name;
    this.inputs = new Map(graph.inputs.map((value) => [value.name, value]));
    this.outputs = new Map(graph.outputs.map((output) => [output.name, output.value]));
    this.#session = session;
    this.#makeTensor = makeTensor;
  }

  /** Compiles a graph. Throws {@link SessionError}. */
  static async create(name: string, graph: Graph, options: SessionOptions): Promise<Session> {
    const runtime = await loadRuntime();
    const { device = 'cpu', precision = 'fp32' } = options;
    try {
      const program = precision === 'fp16' ? withHalfPrecisionProducts(graph) : graph;
      const session = await runtime.InferenceSession.create(serializeGraph(program, name), {
        executionProviders: executionProviders(device),
        graphOptimizationLevel: 'all',
        executionMode: 'sequential',
        intraOpNumThreads: options.threads,
        interOpNumThreads: 1,
        enableCpuMemArena: options.arena ?? true,
        // A pattern is learnt in the first run and then laid out beside that run's memory: twice the memory, no speed.
        enableMemPattern: false,
        logSeverityLevel: 3,
        ...(options.profilePrefix === undefined
          ? {}
          : { enableProfiling: true, profileFilePrefix: `${options.profilePrefix}-${name}` }),
        extra: {
          session: {
            // Waiting threads sleep: several processes share few cores.
            intra_op: { allow_spinning: '0' },
            // Never set_denormal_as_zero: it flushes them in this thread's other arithmetic, too, for as long as the thread
            // lives, and with that in the aggregates and roots on which everybody has to agree.
            ...(options.onlyDevice === true && device !== 'cpu' ? { disable_cpu_ep_fallback: '1' } : {}),
          },
        },
      });
      return new Session(name, graph, session, (type, data, shape) => new runtime.Tensor(type, data, shape));
    } catch (cause) {
      throw new SessionError(`${name}: ${(cause as Error).message}`, { cause });
    }
  }

  /** A tensor over the caller's memory, typed as the input or output of that name. Throws {@link SessionError}. */
  bind(name: string, data: TensorData): BoundTensor {
    const type = this.inputs.get(name) ?? this.outputs.get(name);
    if (type === undefined) throw new SessionError(`${this.name} has no input or output ${name}`);
    return this.#makeTensor(type.dtype, data, type.shape);
  }

  /**
   * Runs the graph: reads `feeds`, writes into the memory of `fetches`; while it returns, outputs exist twice. The calling
   * thread is busy meanwhile. Throws {@link SessionError}.
   */
  async run(
    feeds: Readonly<Record<string, BoundTensor>>,
    fetches: Readonly<Record<string, BoundTensor>>,
  ): Promise<void> {
    try {
      releaseCopies(await this.#session.run(feeds, fetches), fetches);
    } catch (cause) {
      throw new SessionError(`${this.name}: ${(cause as Error).message}`, { cause });
    }
  }

  /** Frees the native session. */
  async close(): Promise<void> {
    await this.#session.release();
  }
}
