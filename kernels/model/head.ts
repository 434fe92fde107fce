/** The output head: final norm, vocabulary projection and cross-entropy. */
import { GraphError, sameShape, type Value } from '../graph/graph.ts';
import { exp, log, mul, sub } from '../graph/ops/elementwise.ts';
import { gatherElements, scatterElementsAdd } from '../graph/ops/indexing.ts';
import { gemm } from '../graph/ops/matrix.ts';
import { reduceMax, reduceSum, softmax } from '../graph/ops/reduction.ts';
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

/** Rows of the vocabulary in one tile of a head of that preset: all, or as many as fit into `maxBytes`, a multiple of 64. */
export function headTileRows({ vocabulary, hidden }: Preset, maxBytes: number): number {
  const tiles = Math.ceil((vocabulary * hidden * 4) / maxBytes);
  // Compression works on tiles of 64 rows, which no border may cut.
  return tiles <= 1 ? vocabulary : Math.min(vocabulary, Math.ceil(vocabulary / tiles / 64) * 64);
}

/** What a tile of the vocabulary adds to cross-entropy, each `[rows, 1]`. */
export interface TileStatistics {
  /** Largest logit. */
  readonly max: Value;
  /** Sum of exponentials of the logits less `max`. */
  readonly sum: Value;
  /** Logit of the target; of no meaning where the target is in another tile. */
  readonly target: Value;
}

/** @param targets - int64 `[rows, 1]`, counted from the tile's first row; any row of the tile where it is in another */
export function tileStatistics(x: Value, weight: Value, targets: Value): TileStatistics {
  const logits = gemm(x, weight, { transposeB: true });
  const max = reduceMax(logits, [-1]);
  return { max, sum: reduceSum(exp(sub(logits, max)), [-1]), target: gatherElements(logits, targets, -1) };
}

/**
 * Share of a tile in the loss, for its gradient (the value itself is of use only where the target is in the tile).
 *
 * @param logSumExp - over all tiles, `[rows, 1]`
 * @param hit - `[rows, 1]`: -1 where the target is in this tile, 0 elsewhere
 */
export function tileCrossEntropy(x: Value, weight: Value, targets: Value, logSumExp: Value, hit: Value): Value {
  const logits = gemm(x, weight, { transposeB: true });
  return x.graph.composite(sub(logSumExp, gatherElements(logits, targets, -1)), [x, weight], ([dy]) => {
    if (dy === undefined) return [undefined, undefined];
    const difference = scatterElementsAdd(exp(sub(logits, logSumExp)), targets, hit, -1);
    return [mul(dy, gemm(difference, weight)), gemm(difference, mul(dy, x), { transposeA: true })];
  });
}
