/** Random submissions for tests of aggregation. */
import { centeredClipping } from '../../kernels/aggregate/centered-clipping.ts';
import { coordinateMedian, trimmedMean } from '../../kernels/aggregate/coordinate-rules.ts';
import type { AggregationRule, Submission } from '../../kernels/aggregate/rule.ts';
import { weightedMean } from '../../kernels/aggregate/weighted-mean.ts';
import type { SparseTensor, TensorLayout } from '../../kernels/gradient/layout.ts';
import { hotLoops } from '../../kernels/wasm/hot-loops.ts';
import { normalSource, randomSource } from '../gradient/heavy-tailed.ts';

/** Random elements of each tensor with the given density; a tensor may be left out. */
export function randomUpdate(layout: TensorLayout, density: number, seed: number, scale = 1): SparseTensor[] {
  const random = randomSource(seed);
  const normal = normalSource(random);
  return layout.flatMap(({ length }, tensor) => {
    const indices: number[] = [];
    for (let i = 0; i < length; i++) if (random() < density) indices.push(i);
    if (indices.length === 0 || random() < 0.1) return [];
    const values = Float32Array.from(indices, () => scale * normal() * Math.exp(normal()));
    return [{ tensor, indices: Uint32Array.from(indices), values }];
  });
}

/** Account number `i` of a test. */
export function accountOf(i: number): string {
  return ((i * 0x9e3779b1) >>> 0).toString(16).padStart(8, '0').repeat(8);
}

/** A round of `count` random submissions with weights of very different size. */
export function randomRound(layout: TensorLayout, count: number, seed: number, density = 0.1): Submission[] {
  const random = randomSource(seed ^ 0x5bd1e995);
  return Array.from({ length: count }, (_, i) => ({
    account: accountOf(i + 1),
    weight: BigInt(Math.floor(random() ** 3 * 1e12)),
    update: { tensors: randomUpdate(layout, density, seed * 1000 + i, 10 ** (random() * 2 - 1)) },
  }));
}

/** A seeded permutation. */
export function shuffled<T>(items: readonly T[], seed: number): T[] {
  const random = randomSource(seed);
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** All values of an update as one dense vector. */
export function dense(update: { readonly tensors: Iterable<SparseTensor> }, layout: TensorLayout): Float32Array {
  const last = layout[layout.length - 1];
  const out = new Float32Array(last.offset + last.length);
  for (const { tensor, indices, values } of update.tensors) {
    for (let i = 0; i < indices.length; i++) out[layout[tensor].offset + indices[i]] = values[i];
  }
  return out;
}

/** True when two vectors have the same bits. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const bytes = (v: Float32Array) => new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
  return Buffer.compare(bytes(a), bytes(b)) === 0;
}

/** Names of all rules, for threads that cannot be given a function. */
export const RULES = ['weighted-mean', 'weighted-mean-wasm', 'centered-clipping', 'trimmed-mean', 'coordinate-median'];

/** The rule of that name. */
export function ruleNamed(name: string): AggregationRule {
  if (name === 'weighted-mean') return weightedMean();
  if (name === 'weighted-mean-wasm') return weightedMean({ loops: hotLoops });
  if (name === 'centered-clipping') return centeredClipping();
  return name === 'trimmed-mean' ? trimmedMean(0.2) : coordinateMedian();
}
