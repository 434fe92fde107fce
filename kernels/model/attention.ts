/**
 * Causal attention in tiles of query positions: a tile's scores, against the keys that it may see, are all that exists of
 * the `positions x positions` matrix at a time. Keys beyond a tile's last position are never touched, which also saves up
 * to half of the arithmetic.
 */
import { elementCount, GraphError, sameShape, type Value } from '../graph/graph.ts';
import { add, mul, sub } from '../graph/ops/elementwise.ts';
import { matMul, swapLast } from '../graph/ops/matrix.ts';
import { reduceSum, softmax } from '../graph/ops/reduction.ts';
import { concat, pad, reshape, slice, split } from '../graph/ops/shape.ts';

/** Sequences, key/value heads, query heads per key/value head, positions, head width. */
type Dimensions = readonly [batch: number, heads: number, group: number, positions: number, width: number];

/**
 * Attention of every query to the keys at its own and earlier positions.
 *
 * Where there are several tiles, the backward pass computes each tile's probabilities again, so that it holds no more of
 * them than the forward pass does.
 *
 * @param query - `[batch, heads, group, positions, width]`, scaled already
 * @param key - `[batch, heads, positions, width]`
 * @param value - same shape
 * @param tile - query positions of a tile; the last one may have fewer
 * @returns the shape of `query`
 */
export function causalAttention(query: Value, key: Value, value: Value, tile: number): Value {
  const [batch, heads, group, positions, width] = query.shape as Dimensions;
  const narrow = [batch, heads, positions, width];
  if (query.shape.length !== 5 || !sameShape(key.shape, narrow) || !sameShape(value.shape, narrow))
    throw new GraphError(`attention of [${query.shape}] to [${key.shape}] and [${value.shape}]`);
  if (!Number.isInteger(tile) || tile < 1) throw new GraphError(`attention in tiles of ${tile} positions`);
  const sizes: number[] = [];
  for (let start = 0; start < positions; start += tile) sizes.push(Math.min(tile, positions - start));
  const masks = new Map([...new Set(sizes)].map((size) => [size, causalMask(query, size)]));
  // The query heads of a group are further rows of their shared key/value head: no head is ever repeated.
  const rowsOf = (x: Value) =>
    split(x, 3, sizes).map((part, i) => reshape(part, [batch, heads, group * (sizes[i] as number), x.shape[4] ?? 0]));
  const tiles = rowsOf(query).map((rows, i): Tile => {
    const size = sizes[i] as number;
    const mask = masks.get(size) as Value;
    return { start: i * tile, end: i * tile + size, rows, mask, size, group };
  });
  const kept = tiles.map((each) => probabilities(each, each.rows, key));
  const context = tiles.map(({ end, size }, i) =>
    reshape(matMul(kept[i] as Value, slice(value, 2, 0, end)), [batch, heads, group, size, width]),
  );
  const output = concat(context, 3);
  return query.graph.composite(output, [query, key, value], ([dy]) => {
    if (dy === undefined) return [undefined, undefined, undefined];
    // With dP = dY V^T, the softmax gives dS = P (dP - sum(dP P)), and that sum is the one over dY Y, which is narrow.
    const sums = rowsOf(reduceSum(mul(dy, output), [-1]));
    const gradients = rowsOf(dy);
    const queryParts: Value[] = [];
    let dKey: Value | undefined;
    let dValue: Value | undefined;
    let present: readonly [rows: Value, dRows: Value] = [tiles[0]?.rows as Value, gradients[0] as Value];
    for (const [i, each] of tiles.entries()) {
      const [rows, dRows] = present;
      const { end, size } = each;
      const p = tiles.length === 1 ? (kept[0] as Value) : probabilities(each, rows, key);
      const dp = matMul(dRows, swapLast(slice(value, 2, 0, end)));
      const ds = mul(p, sub(dp, sums[i] as Value));
      let dQuery = matMul(ds, slice(key, 2, 0, end));
      dKey = extend(dKey, matMul(swapLast(ds), rows), size);
      dValue = extend(dValue, matMul(swapLast(p), dRows), size);
      const next = tiles[i + 1];
      if (next !== undefined)
        [dQuery, dKey, dValue, ...present] = together([dQuery, dKey, dValue, next.rows, gradients[i + 1] as Value]) as [
          Value,
          Value,
          Value,
          Value,
          Value,
        ];
      queryParts.push(reshape(dQuery, [batch, heads, group, size, width]));
    }
    return [concat(queryParts, 3), dKey, dValue];
  });
}

/** Queries at positions `start <= i < end`, with the keys before `end`. */
interface Tile {
  readonly start: number;
  readonly end: number;
  /** `[batch, heads, group * size, width]` */
  readonly rows: Value;
  /** `[size, size]` */
  readonly mask: Value;
  readonly size: number;
  readonly group: number;
}

/** `[size, size]`: 0 where a query (row) may see a key (column), -infinity where it may not. */
function causalMask({ graph }: Value, size: number): Value {
  const mask = new Float32Array(size * size);
  for (let query = 0; query < size; query++)
    mask.fill(Number.NEGATIVE_INFINITY, query * size + query + 1, (query + 1) * size);
  return graph.constant(mask, [size, size]);
}

/** Probabilities of a tile, `[batch, heads, group * size, end]`. Only the tile's own positions need the mask. */
function probabilities({ start, end, mask, size, group }: Tile, rows: Value, key: Value): Value {
  const [batch, heads] = rows.shape as [number, number];
  const scores = (from: number, to: number) => matMul(rows, swapLast(slice(key, 2, from, to)));
  const own = reshape(add(reshape(scores(start, end), [batch, heads, group, size, size]), mask), [
    batch,
    heads,
    group * size,
    size,
  ]);
  return softmax(start === 0 ? own : concat([scores(0, start), own], 3));
}

/** Adds a tile's gradient to that of the tiles before it, which saw `size` positions fewer. */
function extend(sum: Value | undefined, gradient: Value, size: number): Value {
  return sum === undefined ? gradient : add(pad(sum, 2, 0, size), gradient);
}

/**
 * The same values, none of which exists before all do. onnxruntime orders nodes by what each result needs: without this it
 * would compute the scores of all tiles for one gradient, and hold them until another asks.
 */
function together(values: readonly Value[]): Value[] {
  const lengths = values.map(({ shape }) => elementCount(shape));
  const joined = concat(
    values.map((value, i) => reshape(value, [lengths[i] as number])),
    0,
  );
  return split(joined, 0, lengths).map((part, i) => reshape(part, values[i]?.shape ?? []));
}
