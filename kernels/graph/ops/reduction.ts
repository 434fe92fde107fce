/** Reductions and softmax. Axes may be negative, counted from the end. */
import { elementCount, GraphError, sameShape, singleOutput, type Value } from '../graph.ts';
import { cast, div, equal, exp, mul, scale, sub } from './elementwise.ts';
import { expand, reshape } from './shape.ts';

/** Axes as ascending non-negative numbers. Throws {@link GraphError} when one is out of range or named twice. */
export function normalizeAxes(rank: number, axes: readonly number[]): readonly number[] {
  const normalized = axes.map((axis) => (axis < 0 ? axis + rank : axis));
  if (normalized.some((axis) => !Number.isInteger(axis) || axis < 0 || axis >= rank))
    throw new GraphError(`axes [${axes}] of a tensor of rank ${rank}`);
  if (new Set(normalized).size !== axes.length) throw new GraphError(`axes [${axes}] name one twice`);
  return normalized.sort((a, b) => a - b);
}

interface Reduction {
  /** Whether reduced axes stay with size 1. Default true. */
  readonly keep?: boolean;
}

type ReduceOperator = 'ReduceSum' | 'ReduceMean' | 'ReduceMax' | 'ReduceSumSquare';

function reduce(
  operator: ReduceOperator,
  x: Value,
  axes: readonly number[],
  { keep = true }: Reduction,
  /** Gets gradient and output with reduced axes kept. */
  gradient: (dy: Value, y: Value) => Value,
): Value {
  const reduced = normalizeAxes(x.shape.length, axes);
  const kept = x.shape.map((size, axis) => (reduced.includes(axis) ? 1 : size));
  return singleOutput({
    operator,
    inputs: [x, x.graph.integers(reduced)],
    attributes: { keepdims: { kind: 'integer', value: keep ? 1 : 0 } },
    output: { dtype: x.dtype, shape: keep ? kept : x.shape.filter((_, axis) => !reduced.includes(axis)) },
    gradient: (dy, y) => [gradient(reshape(dy, kept), reshape(y, kept)), undefined],
  });
}

/** Sum over axes. */
export function reduceSum(x: Value, axes: readonly number[], options: Reduction = {}): Value {
  return reduce('ReduceSum', x, axes, options, (dy) => expand(dy, x.shape));
}

/** Mean over axes. */
export function reduceMean(x: Value, axes: readonly number[], options: Reduction = {}): Value {
  const count = elementCount(normalizeAxes(x.shape.length, axes).map((axis) => x.shape[axis] ?? 1));
  return reduce('ReduceMean', x, axes, options, (dy) => scale(expand(dy, x.shape), 1 / count));
}

/** Sum of squares over axes. */
export function reduceSumSquare(x: Value, axes: readonly number[], options: Reduction = {}): Value {
  return reduce('ReduceSumSquare', x, axes, options, (dy) => mul(x, scale(dy, 2)));
}

/** Maximum over axes. Where several elements are the maximum, they share its gradient evenly. */
export function reduceMax(x: Value, axes: readonly number[], options: Reduction = {}): Value {
  return reduce('ReduceMax', x, axes, options, (dy, y) => {
    const winners = cast(equal(x, y), x.dtype);
    return mul(winners, div(dy, reduceSum(winners, axes)));
  });
}

/** Sums a broadcast value back to the shape it was broadcast from. */
export function sumTo(x: Value, shape: readonly number[]): Value {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.shape.length - shape.length;
  const axes = x.shape.flatMap((size, axis) => (axis < lead || (shape[axis - lead] === 1 && size !== 1) ? [axis] : []));
  if (axes.length === 0) return reshape(x, shape);
  return reshape(reduceSum(x, axes), shape);
}

/** Softmax over the last axis. */
export function softmax(x: Value): Value {
  return singleOutput({
    operator: 'Softmax',
    inputs: [x],
    attributes: { axis: { kind: 'integer', value: -1 } },
    output: { dtype: x.dtype, shape: x.shape },
    gradient: (dy, y) => {
      const weighted = mul(dy, y);
      return [sub(weighted, mul(y, reduceSum(weighted, [-1])))];
    },
  });
}

/** Logarithm of the softmax over the last axis. */
export function logSoftmax(x: Value): Value {
  return singleOutput({
    operator: 'LogSoftmax',
    inputs: [x],
    attributes: { axis: { kind: 'integer', value: -1 } },
    output: { dtype: x.dtype, shape: x.shape },
    gradient: (dy, y) => [sub(dy, mul(exp(y), reduceSum(dy, [-1])))],
  });
}
