/** Tries a device: a small product whose result is known, and how fast it is. Runs inside the probe's own process. */
import { performance } from 'node:perf_hooks';
import { Graph } from '../../graph/graph.ts';
import { matMul } from '../../graph/ops/matrix.ts';
import { initialWeights } from '../../model/initialize.ts';
import { presets } from '../../model/preset.ts';
import { createNativeEngine } from '../../native/native-engine.ts';
import { nativeSupport } from '../../native/support.ts';
import type { Engine } from '../engine.ts';
import { createEngine } from '../onnx-engine.ts';
import { Session, type SessionOptions } from '../session.ts';
import type { Device, Precision } from './device.ts';

/** What a probe is to find out. Crosses processes as JSON. */
export interface ProbeRequest {
  readonly device: Device;
  readonly threads: number;
  /** Also takes training steps of `alice-nano`. */
  readonly training: boolean;
}

/** What works, and how fast. Crosses processes as JSON. */
export interface DeviceMeasurement {
  /** fp32 matrix products, copies to and from the device included, 10^9 operations per second. */
  readonly gflops: number;
  /** The same in fp16; null where the device gets fp16 wrong or refuses it. */
  readonly halfGflops: number | null;
  /** Predicted tokens per second of training `alice-nano` (loss and gradient) in fp32; null when not asked for. */
  readonly trainingTokensPerSecond: number | null;
  /** The same by the native backend; null where that is not usable, on other devices, and when not asked for. */
  readonly native: NativeMeasurement | null;
}

/** How fast the native backend trains: predicted tokens of `alice-nano` per second. */
export interface NativeMeasurement {
  readonly instructionSet: string;
  readonly fp32: number;
  /** Null where the processor has no bf16. */
  readonly bf16: number | null;
}

/** Thrown when a device computes a product, and the result is wrong. */
export class WrongProductError extends Error {
  static readonly code = 'ERR_WRONG_PRODUCT';
  readonly code = WrongProductError.code;
  override readonly name = 'WrongProductError';
}

/** Edge of the matrices whose product is known: sums of 64 products of integers up to 2 are exact in float16, too. */
const KNOWN_EDGE = 64;

/** Edges of the matrices that are timed: the second makes 1.07 GFLOP, the first is enough to tell a slow device. */
const TRIAL_EDGE = 128;
const TIMED_EDGE = 512;
/** Products in one run: several for each copied result. */
const TIMED_PRODUCTS = 4;

/** A device that does less in the trial is timed no further: it is software, and would keep everybody waiting. */
const SLOW_GFLOPS = 2;

/** Runs are repeated this long, and the fastest counts. */
const TIMED_MS = 100;

/** Training is timed this long, after one step that compiles it. */
const TRAINING_MS = 500;

/** Sequences of a training step: few, so that a slow device is measured in seconds. */
const TRAINING_SEQUENCES = 2;

/** What is trained. */
const TRAINED = { preset: presets['alice-nano'], batch: TRAINING_SEQUENCES };

const product = (edge: number, count: number): Graph => {
  const graph = new Graph();
  const a = graph.input('a', { dtype: 'float32', shape: [edge, edge] });
  const b = graph.input('b', { dtype: 'float32', shape: [edge, edge] });
  let c = a;
  for (let i = 0; i < count; i++) c = matMul(c, b);
  graph.output('c', c);
  return graph;
};

/** Throws {@link WrongProductError}, SessionError. */
async function checkKnownProduct(options: SessionOptions): Promise<void> {
  const edge = KNOWN_EDGE;
  const a = Float32Array.from({ length: edge * edge }, (_, i) => ((i + Math.floor(i / edge)) % 5) - 2);
  const b = Float32Array.from({ length: edge * edge }, (_, i) => ((3 * i + Math.floor(i / edge)) % 5) - 2);
  const c = new Float32Array(edge * edge).fill(Number.NaN);
  const session = await Session.create('known-product', product(edge, 1), options);
  try {
    await session.run({ a: session.bind('a', a), b: session.bind('b', b) }, { c: session.bind('c', c) });
  } finally {
    await session.close();
  }
  for (let row = 0; row < edge; row++)
    for (let column = 0; column < edge; column++) {
      let sum = 0;
      for (let k = 0; k < edge; k++) sum += (a[row * edge + k] as number) * (b[k * edge + column] as number);
      const got = c[row * edge + column];
      if (got !== sum) throw new WrongProductError(`a known product came out as ${got} instead of ${sum}`);
    }
}

/** GFLOP/s of the fastest run. */
async function measureProducts(options: SessionOptions): Promise<number> {
  const trial = await timeProducts(TRIAL_EDGE, options);
  return trial < SLOW_GFLOPS ? trial : await timeProducts(TIMED_EDGE, options);
}

async function timeProducts(edge: number, options: SessionOptions): Promise<number> {
  const elements = edge ** 2;
  // Columns of b sum to 1: the products neither grow nor vanish.
  const a = new Float32Array(elements).fill(1);
  const b = new Float32Array(elements).fill(1 / edge);
  const session = await Session.create('products', product(edge, TIMED_PRODUCTS), options);
  try {
    const feeds = { a: session.bind('a', a), b: session.bind('b', b) };
    const fetches = { c: session.bind('c', new Float32Array(elements)) };
    await session.run(feeds, fetches);
    let fastestMs = Number.POSITIVE_INFINITY;
    const began = performance.now();
    while (performance.now() - began < TIMED_MS) {
      const start = performance.now();
      await session.run(feeds, fetches);
      fastestMs = Math.min(fastestMs, performance.now() - start);
    }
    return (2 * TIMED_PRODUCTS * edge ** 3) / (1e6 * fastestMs);
  } finally {
    await session.close();
  }
}

async function measureTraining(engine: Engine): Promise<number> {
  try {
    const { preset } = engine;
    engine.loadWeights(initialWeights(preset, new Uint8Array(32)));
    const tokens = Int32Array.from(
      { length: TRAINING_SEQUENCES * (engine.context + 1) },
      (_, i) => (17 * i) % preset.vocabulary,
    );
    await engine.lossAndGradient(tokens);
    let steps = 0;
    const began = performance.now();
    do {
      await engine.lossAndGradient(tokens);
      steps++;
    } while (performance.now() - began < TRAINING_MS);
    return (1000 * steps * TRAINING_SEQUENCES * engine.context) / (performance.now() - began);
  } finally {
    await engine.close();
  }
}

async function measureNative(threads: number): Promise<NativeMeasurement | null> {
  const support = nativeSupport();
  if (!support.usable) return null;
  const measure = (precision: 'fp32' | 'bf16') =>
    measureTraining(createNativeEngine({ ...TRAINED, threads, precision }));
  const { instructionSet, bf16 } = support;
  return { instructionSet, fp32: await measure('fp32'), bf16: bf16 ? await measure('bf16') : null };
}

/** fp16 on the device; null where it does not work. On the CPU it would be fp32 with conversions around it. */
async function measureHalf(device: Device, options: SessionOptions): Promise<number | null> {
  if (device === 'cpu') return null;
  const half = { ...options, precision: 'fp16' } satisfies SessionOptions & { precision: Precision };
  try {
    await checkKnownProduct(half);
    return await measureProducts(half);
  } catch {
    return null;
  }
}

/** Tries a device. Throws {@link WrongProductError}, SessionError; a broken driver may end the process instead. */
export async function measureDevice({ device, threads, training }: ProbeRequest): Promise<DeviceMeasurement> {
  const options = { device, threads, onlyDevice: true };
  await checkKnownProduct(options);
  return {
    gflops: await measureProducts(options),
    halfGflops: await measureHalf(device, options),
    trainingTokensPerSecond: training ? await measureTraining(createEngine({ ...TRAINED, threads, device })) : null,
    native: training && device === 'cpu' ? await measureNative(threads) : null,
  };
}
