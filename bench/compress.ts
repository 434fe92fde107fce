/**
 * Size and speed of submissions (DESIGN 3.5). Speeds are of one 2048 x 4096 matrix. The size at 6.2 B parameters is
 * measured on the first rows of each kind of tensor of a 7B model and extrapolated by rows and by their number in it.
 */
import { decodeUpdate, UPDATE_HEADER_BYTES } from '../kernels/gradient/agf1.ts';
import { CHUNK_ELEMENTS, chunkGeometry, fullEntries } from '../kernels/gradient/chunks.ts';
import { compressTensor, compressUpdate } from '../kernels/gradient/compress.ts';
import type { TensorSlot } from '../kernels/gradient/layout.ts';
import { tableBytes, type ValueBits } from '../kernels/gradient/quantize.ts';
import { RECORD_HEADER_BYTES } from '../kernels/gradient/record.ts';
import { accumulateAndSelect } from '../kernels/gradient/top-k.ts';
import { hotLoops } from '../kernels/wasm/hot-loops.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { compare, ratioOf } from './measure.ts';
import { NO_NUMPY, NumPy } from './submissions/numpy.ts';
import { memcpySpeed, speedOf, syntheticGradient } from './submissions/synthetic.ts';

const HEADER = { round: 1, author: '0'.repeat(64), modelRoot: '0'.repeat(64), presetHash: '0'.repeat(64) };

function slotOf(rows: number, columns: number): TensorSlot {
  return { name: `${rows}x${columns}`, shape: [rows, columns], offset: 0, length: rows * columns };
}

/** Tensors of Alice-7B with how often they occur: 32 layers, untied embedding and head, 6.18 B parameters. */
const SEVEN_B: readonly (readonly [rows: number, columns: number, times: number])[] = [
  [4096, 4096, 2 * 32],
  [1024, 4096, 2 * 32],
  [11264, 4096, 2 * 32],
  [4096, 11264, 32],
  [1, 4096, 2 * 32 + 1],
  [50257, 4096, 2],
];

/** Parameters of the published model, for which sizes are given (MISSION.md). */
const PARAMETERS = 6.2e9;

/** Rows of a large tensor that are measured; the rest is extrapolated. */
const MEASURED_ROWS = 1024;

/** Bytes of a 6.2 B-parameter submission, from the first rows of every kind of tensor. */
function bytesAtSevenB(topK: number, valueBits: ValueBits): number {
  let bytes = 0;
  let parameters = 0;
  SEVEN_B.forEach(([rows, columns, times], seed) => {
    const measured = Math.min(rows, MEASURED_ROWS);
    const slot = slotOf(measured, columns);
    const delta = syntheticGradient(measured, columns, seed + 1);
    const options = { topK, valueBits, decay: 0.95 };
    const record = compressTensor({ slot, tensor: 0, delta, feedback: new Float32Array(slot.length), options });
    bytes += ((record?.length ?? 0) / measured) * rows * times;
    parameters += rows * columns * times;
  });
  return Math.ceil((bytes / parameters) * PARAMETERS);
}

/** log2 of the binomial coefficient: bits that name k of n. */
function log2Binomial(n: number, k: number): number {
  let bits = 0;
  for (let i = 0; i < k; i++) bits += Math.log2((n - i) / (k - i));
  return bits;
}

/** One line for the list of benchmarks. */
export const describe = 'size and speed of compressed submissions, against memcpy and NumPy';

/** Bits of an index over log2(binomial(4096, k)) / k, minus 1. */
function indexOverhead(bytes: number, topK: number, slot: TensorSlot): number {
  const geometry = chunkGeometry(slot.shape, 'tiles');
  const entries = fullEntries(geometry, topK);
  // All but the index stream: header, record header, 8-bit table, a byte per value.
  const indexBits = (bytes - UPDATE_HEADER_BYTES - RECORD_HEADER_BYTES - tableBytes(8) - entries) * 8;
  return indexBits / (geometry.chunks * log2Binomial(CHUNK_ELEMENTS, topK)) - 1;
}

/** Configurations that are measured; the first is the default of the network, whose speed is `mb_per_s`. */
const CONFIGURATIONS = [
  { topK: 64, valueBits: 2 },
  { topK: 64, valueBits: 8 },
  { topK: 32, valueBits: 8 },
  { topK: 4, valueBits: 8 },
  { topK: 4, valueBits: 32 },
] as const;

/** Measures. Speeds are in MB of dense fp32 per second on one core. */
export async function run({ signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const slot = slotOf(2048, 4096);
  const layout = [slot];
  const delta = syntheticGradient(2048, 4096, 7);
  const variants: Record<string, () => Promise<number>> = { memcpy: memcpySpeed(delta) };
  const ratios: Record<string, number> = {};
  const overheads: number[] = [];
  for (const { topK, valueBits } of CONFIGURATIONS) {
    const name = `k${topK}_${valueBits}bit`;
    const options = { topK, valueBits, decay: 0.95 };
    const errorFeedback = new Float32Array(slot.length);
    // The first submission is the one measured in bytes; times are of those that follow, with error feedback in play.
    const bytes = compressUpdate({ layout, delta, errorFeedback, options, header: HEADER });
    ratios[`ratio_${name}`] = delta.byteLength / bytes.length;
    if (valueBits === 8) overheads.push(indexOverhead(bytes.length, topK, slot));
    const limits = { maxBytes: bytes.length, maxEntries: slot.length };
    variants[`compress_${name}`] = speedOf(delta.byteLength, () =>
      compressUpdate({ layout, delta, errorFeedback, options, header: HEADER }),
    );
    variants[`decode_${name}`] = speedOf(delta.byteLength, () => decodeUpdate(bytes, { layout, limits }));
  }
  // Selection alone, with and without WebAssembly: the difference is what SIMD saves.
  const geometry = chunkGeometry(slot.shape, 'tiles');
  for (const loops of [hotLoops, null]) {
    const feedback = new Float32Array(slot.length);
    variants[`select_k64_${loops === null ? 'javascript' : 'wasm'}`] = speedOf(delta.byteLength, () =>
      accumulateAndSelect(delta, feedback, geometry, 64, 0.95, loops),
    );
  }
  const numpy = await NumPy.start(delta, 2048, 4096, 64);
  if (numpy !== undefined) {
    variants.numpy_compress_k64_2bit = numpy.speed('compress', delta.byteLength);
    variants.numpy_decode_k64_2bit = numpy.speed('decode', delta.byteLength);
  }
  progress('speeds');
  const speeds = await compare(variants, { signal });
  await numpy?.close();
  const numpyRatio = (what: string) =>
    numpy === undefined ? null : ratioOf(speeds, `${what}_k64_2bit`, `numpy_${what}_k64_2bit`).median;
  const named = Object.entries(speeds.summaries).map(([name, { median }]) => [`${name}_mb_per_s`, median]);
  progress('sizes of a 6.2 B-parameter submission');
  return {
    figures: {
      ratio_k64_2bit: ratios.ratio_k64_2bit,
      bytes_6p2b_k4_8bit: bytesAtSevenB(4, 8),
      index_overhead: Math.max(...overheads),
      mb_per_s: speeds.summaries.compress_k64_2bit?.median ?? null,
      memcpy_share: ratioOf(speeds, 'compress_k64_2bit', 'memcpy').median,
      decode_memcpy_share: ratioOf(speeds, 'decode_k64_2bit', 'memcpy').median,
      numpy_ratio: numpyRatio('compress'),
      decode_numpy_ratio: numpyRatio('decode'),
      bytes_6p2b_k64_2bit: bytesAtSevenB(64, 2),
      ...ratios,
      ...Object.fromEntries(named),
    },
    notes: [
      'random heavy-tailed matrices, not gradients',
      `6.2 B parameters: extrapolated from ${MEASURED_ROWS} rows of each kind of tensor by their number in the model`,
      'index_overhead: worst of k = 4, 32, 64',
      'one core; numpy_ratio: times the speed of bench/submissions/straightforward.py, which codes no indices',
      numpy === undefined ? NO_NUMPY : `NumPy ${numpy.version}, one thread`,
    ],
  };
}
