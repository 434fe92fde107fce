/** Gather, scatter and top-k. Indices are int64 and carry no gradient. */
import { GraphError, singleOutput, type Value } from '../graph.ts';
import { normalizeAxes } from './reduction.ts';
import { expand, reshape } from './shape.ts';

/** Rows of a table: result[..., :] = table[indices[...], :]. `table` has rank 2. */
export function gatherRows(table: Value, indices: Value): Value {
  const [rows, width] = table.shape;
  if (table.shape.length !== 2 || rows === undefined || width === undefined)
    throw new GraphError(`Gather: a table of shape [${table.shape}]`);
  checkIndices('Gather', indices);
  return singleOutput({
    operator: 'Gather',
    inputs: [table, indices],
    attributes: { axis: { kind: 'integer', value: 0 } },
    output: { dtype: table.dtype, shape: [...indices.shape, width] },
    gradient: (dy) => {
      const zeros = expand(reshape(table.graph.scalar(0), [1, 1]), table.shape);
      return [scatterRowsAdd(zeros, indices, dy), undefined];
    },
  });
}

/** A copy of `table` with `updates[i, :]` added to row `indices[i]`; repeated indices add up. */
export function scatterRowsAdd(table: Value, indices: Value, updates: Value): Value {
  checkIndices('ScatterND', indices);
  const width = table.shape[1];
  if (table.shape.length !== 2 || width === undefined || updates.shape.at(-1) !== width)
    throw new GraphError(`ScatterND: [${updates.shape}] into [${table.shape}]`);
  return singleOutput({
    operator: 'ScatterND',
    inputs: [table, reshape(indices, [...indices.shape, 1]), updates],
    attributes: { reduction: { kind: 'string', value: 'add' } },
    output: { dtype: table.dtype, shape: table.shape },
    gradient: (dy) => [dy, undefined, gatherRows(dy, indices)],
  });
}

/** result[i][j] = x[i][indices[i][j]] along an axis (PyTorch's `gather`). */
export function gatherElements(x: Value, indices: Value, axis: number): Value {
  const at = checkElementIndices('GatherElements', x, indices, axis);
  return singleOutput({
    operator: 'GatherElements',
    inputs: [x, indices],
    attributes: { axis: { kind: 'integer', value: at } },
    output: { dtype: x.dtype, shape: indices.shape },
    gradient: (dy) => {
      const zeros = expand(x.graph.scalar(0), x.shape);
      return [scatterElementsAdd(zeros, indices, dy, at), undefined];
    },
  });
}

/** A copy of `x` with `updates` added at `indices` along an axis; repeated indices add up. */
export function scatterElementsAdd(x: Value, indices: Value, updates: Value, axis: number): Value {
  const at = checkElementIndices('ScatterElements', x, indices, axis);
  return singleOutput({
    operator: 'ScatterElements',
    inputs: [x, indices, updates],
    attributes: { axis: { kind: 'integer', value: at }, reduction: { kind: 'string', value: 'add' } },
    output: { dtype: x.dtype, shape: x.shape },
    gradient: (dy) => [dy, undefined, gatherElements(dy, indices, at)],
  });
}

/** The k largest elements along the last axis, in descending order, and their indices. */
export function topK(x: Value, k: number): { readonly values: Value; readonly indices: Value } {
  const last = x.shape.at(-1);
  if (last === undefined || !(k >= 1 && k <= last)) throw new GraphError(`TopK: ${k} of [${x.shape}]`);
  const shape = [...x.shape.slice(0, -1), k];
  const [values, indices] = x.graph.node({
    operator: 'TopK',
    inputs: [x, x.graph.integers([k])],
    attributes: { axis: { kind: 'integer', value: -1 } },
    outputs: [
      { dtype: x.dtype, shape },
      { dtype: 'int64', shape },
    ],
    gradient: ([dy], [, chosen]) => {
      if (dy === undefined || chosen === undefined) return [undefined, undefined];
      return [scatterElementsAdd(expand(x.graph.scalar(0), x.shape), chosen, dy, -1), undefined];
    },
  }) as readonly [Value, Value];
  return { values, indices };
}

function checkIndices(operator: string, indices: Value): void {
  if (indices.dtype !== 'int64') throw new GraphError(`${operator}: indices are ${indices.dtype}, not int64`);
}

function checkElementIndices(operator: string, x: Value, indices: Value, axis: number): number {
  checkIndices(operator, indices);
  const [at] = normalizeAxes(x.shape.length, [axis]) as [number];
  if (
    indices.shape.length !== x.shape.length ||
    indices.shape.some((size, index) => index !== at && size > (x.shape[index] as number))
  )
    throw new GraphError(`${operator}: indices [${indices.shape}] into [${x.shape}] along ${at}`);
  return at;
}
