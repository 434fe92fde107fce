/** The output head: final norm, vocabulary projection and cross-entropy. */
import { GraphError, sameShape, type Value } from '../graph/graph.ts';
import { log, mul, sub } from '../graph/ops/elementwise.ts';
import { gatherElements, scatterElementsAdd } from '../graph/ops/indexing.ts';
import { gemm } from '../graph/ops/matrix.ts';
import { reduceMax, softmax } from '../graph/ops/reduction.ts';
import { concat, expand, reshape, split } from '../graph/ops/shape.ts';
import { rmsNorm } from '../graph/ops/transformer.ts';
import type { Preset } from './preset.ts';

/** The most rows that one pass of the head takes: the largest divisor of `rows` that is at most `limit`. */
export function headChunkRows(rows: number, limit: number): number {
  let chunk = Math.max(1, Math.min(rows, Math.floor(limit)));
  while (rows % chunk !== 0) chunk--;
  return chunk;
}

/**
 * Cross-entropy in nats of each row's target under the final norm and head.
 *
 * @param x - `[rows, hidden]`
 * @param norm - `[hidden]`
 * @param headWeight - `[vocabulary, hidden]`
 * @param targets - int64 `[rows, 1]`
 * @param chunk - rows whose logits exist at once; divides `rows`. Default: all.
 * @returns `[rows, 1]`
 */
export function head(
  x: Value,
  norm: Value,
  headWeight: Value,
  targets: Value,
  preset: Preset,
  chunk: number = x.shape[0] ?? 0,
): Value {
  const normalized = rmsNorm(x, norm, preset.normEpsilon);
  const sizes = Array<number>((x.shape[0] ?? 0) / chunk).fill(chunk);
  const targetParts = split(targets, 0, sizes);
  return concat(
    split(normalized, 0, sizes).map((part, i) => linearCrossEntropy(part, headWeight, targetParts[i] as Value)),
    0,
  );
}

/** Cross-entropy of `x weight^T` against target columns, with one gradient for the whole formula. */
export function linearCrossEntropy(x: Value, weight: Value, targets: Value): Value {
  const rows = x.shape[0];
  if (rows === undefined || !sameShape(targets.shape, [rows, 1]))
    throw new GraphError(`cross-entropy of [${x.shape}] against targets [${targets.shape}]`);
  const logits = gemm(x, weight, { transposeB: true });
  const probabilities = softmax(logits);
  // log sum exp(logits) = max - log(max probability): that probability is at least 1 / vocabulary, so nothing underflows
  // and the softmax that the gradient needs is the only exponential.
  const logSumExp = sub(reduceMax(logits, [-1]), log(reduceMax(probabilities, [-1])));
  const losses = sub(logSumExp, gatherElements(logits, targets, -1));
  return x.graph.composite(losses, [x, weight], ([dy]) => {
    if (dy === undefined) return [undefined, undefined];
    const minusOne = expand(reshape(x.graph.scalar(-1), [1, 1]), targets.shape);
    const difference = scatterElementsAdd(probabilities, targets, minusOne, -1);
    // The row weights multiply the narrow operands, never the logits.
    return [mul(dy, gemm(difference, weight)), gemm(difference, mul(dy, x), { transposeA: true })];
  });
}
