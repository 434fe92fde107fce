/** Ops that move elements without changing them. */
import { elementCount, GraphError, sameShape, singleOutput, type Value } from '../graph.ts';
import { broadcastShape, cast } from './elementwise.ts';
import { normalizeAxes, sumTo } from './reduction.ts';

/** Same elements, other shape. Free at run time. */
export function reshape(x: Value, shape: readonly number[]): Value {
  if (sameShape(x.shape, shape)) return x;
  if (elementCount(shape) !== elementCount(x.shape))
    throw new GraphError(`Reshape: [${x.shape}] to [${shape}] changes the number of elements`);
  return singleOutput({
    operator: 'Reshape',
    inputs: [x, x.graph.integers(shape)],
    output: { dtype: x.dtype, shape },
    gradient: (dy) => [reshape(dy, x.shape), undefined],
  });
}

/** Permutes axes: axis i of the result is axis `permutation[i]` of `x`. */
export function transpose(x: Value, permutation: readonly number[]): Value {
  if (permutation.length !== x.shape.length) throw new GraphError(`Transpose: [${permutation}] of [${x.shape}]`);
  normalizeAxes(x.shape.length, permutation);
  if (permutation.every((axis, index) => axis === index)) return x;
  const inverse = permutation.map((_, axis) => permutation.indexOf(axis));
  return singleOutput({
    operator: 'Transpose',
    inputs: [x],
    attributes: { perm: { kind: 'integers', value: permutation } },
    output: { dtype: x.dtype, shape: permutation.map((axis) => x.shape[axis] as number) },
    gradient: (dy) => [transpose(dy, inverse)],
  });
}

/** Repeats axes of size 1 to the given shape (NumPy's broadcast_to). */
export function expand(x: Value, shape: readonly number[]): Value {
  if (sameShape(x.shape, shape)) return x;
  if (!sameShape(broadcastShape(x.shape, shape), shape)) throw new GraphError(`Expand: [${x.shape}] to [${shape}]`);
  return singleOutput({
    operator: 'Expand',
    inputs: [x, x.graph.integers(shape)],
    output: { dtype: x.dtype, shape },
    gradient: (dy) => [sumTo(dy, x.shape), undefined],
  });
}

/** Elements `start <= i < end` along one axis. */
export function slice(x: Value, axis: number, start: number, end: number): Value {
  const [at] = normalizeAxes(x.shape.length, [axis]) as [number];
  const size = x.shape[at] as number;
  if (!(start >= 0 && start < end && end <= size))
    throw new GraphError(`Slice: ${start} to ${end} of axis ${at} of [${x.shape}]`);
  if (start === 0 && end === size) return x;
  const { graph } = x;
  return singleOutput({
    operator: 'Slice',
    inputs: [x, graph.integers([start]), graph.integers([end]), graph.integers([at])],
    output: { dtype: x.dtype, shape: x.shape.map((length, index) => (index === at ? end - start : length)) },
    gradient: (dy) => [pad(dy, at, start, size - end), undefined, undefined, undefined],
  });
}

/** Zeros before and after along one axis. */
export function pad(x: Value, axis: number, before: number, after: number): Value {
  const [at] = normalizeAxes(x.shape.length, [axis]) as [number];
  const size = x.shape[at] as number;
  const rank = x.shape.length;
  const pads = Array.from({ length: 2 * rank }, (_, index) =>
    index === at ? before : index === rank + at ? after : 0,
  );
  return singleOutput({
    operator: 'Pad',
    inputs: [x, x.graph.integers(pads)],
    output: { dtype: x.dtype, shape: x.shape.map((length, index) => (index === at ? before + size + after : length)) },
    gradient: (dy) => [slice(dy, at, before, before + size), undefined],
  });
}

/** Joins values along one axis. */
export function concat(values: readonly Value[], axis: number): Value {
  const first = values[0];
  if (first === undefined) throw new GraphError('Concat of nothing');
  const [at] = normalizeAxes(first.shape.length, [axis]) as [number];
  for (const value of values)
    if (
      value.dtype !== first.dtype ||
      value.shape.length !== first.shape.length ||
      value.shape.some((size, index) => index !== at && size !== first.shape[index])
    )
      throw new GraphError(`Concat along ${at}: [${value.shape}] with [${first.shape}]`);
  if (values.length === 1) return first;
  const total = values.reduce((sum, value) => sum + (value.shape[at] as number), 0);
  return singleOutput({
    operator: 'Concat',
    inputs: values,
    attributes: { axis: { kind: 'integer', value: at } },
    output: { dtype: first.dtype, shape: first.shape.map((size, index) => (index === at ? total : size)) },
    gradient: (dy) =>
      split(
        dy,
        at,
        values.map((value) => value.shape[at] as number),
      ),
  });
}

/** Cuts a value into parts of the given sizes along one axis. */
export function split(x: Value, axis: number, sizes: readonly number[]): readonly Value[] {
  const [at] = normalizeAxes(x.shape.length, [axis]) as [number];
  if (sizes.reduce((sum, size) => sum + size, 0) !== x.shape[at] || sizes.some((size) => size < 1))
    throw new GraphError(`Split: [${x.shape}] into [${sizes}] along ${at}`);
  if (sizes.length === 1) return [x];
  const shapes = sizes.map((part) => x.shape.map((size, index) => (index === at ? part : size)));
  return x.graph.node({
    operator: 'Split',
    inputs: [x, x.graph.integers(sizes)],
    attributes: { axis: { kind: 'integer', value: at } },
    outputs: shapes.map((shape) => ({ dtype: x.dtype, shape })),
    gradient: (parts) => [
      concat(
        parts.map((part, index) => part ?? expand(cast(x.graph.scalar(0), x.dtype), shapes[index] as number[])),
        at,
      ),
      undefined,
    ],
  });
}
