/**
 * One transformer block as graph nodes: RMSNorm, grouped-query attention with rotary positions, RMSNorm, SwiGLU, each
 * half added to the residual stream.
 */
import type { Graph, Value } from '../graph/graph.ts';
import { add, mul, silu } from '../graph/ops/elementwise.ts';
import { gemm, matMul } from '../graph/ops/matrix.ts';
import { softmax } from '../graph/ops/reduction.ts';
import { reshape, transpose } from '../graph/ops/shape.ts';
import { type RotaryTables, rmsNorm, rotary } from '../graph/ops/transformer.ts';
import type { BlockTensorName } from './layout.ts';
import { headWidth, type Preset } from './preset.ts';

/** Number of sequences and their length, which a graph fixes. */
export interface BatchShape {
  readonly batch: number;
  readonly positions: number;
}

/** Constants that every block of a graph shares. */
export interface BlockConstants {
  readonly rotary: RotaryTables;
  /** `[positions, positions]`: 0 where a query (row) may see a key (column), -infinity where it may not. */
  readonly causalMask: Value;
}

/** Makes the constants for sequences of the given length. */
export function blockConstants(graph: Graph, preset: Preset, positions: number): BlockConstants {
  const half = headWidth(preset) / 2;
  const cosine = new Float32Array(positions * half);
  const sine = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++)
    for (let pair = 0; pair < half; pair++) {
      const angle = position * preset.ropeTheta ** (-pair / half);
      cosine[position * half + pair] = Math.cos(angle);
      sine[position * half + pair] = Math.sin(angle);
    }
  const mask = new Float32Array(positions * positions);
  for (let query = 0; query < positions; query++)
    mask.fill(Number.NEGATIVE_INFINITY, query * positions + query + 1, (query + 1) * positions);
  const shape = [positions, half];
  return {
    rotary: {
      cosine: graph.constant(cosine, shape),
      sine: graph.constant(sine, shape),
      negativeSine: graph.constant(
        sine.map((value) => -value),
        shape,
      ),
    },
    causalMask: graph.constant(mask, [positions, positions]),
  };
}

/**
 * Applies a block.
 *
 * @param x - `[batch * positions, hidden]`, a sequence after the other
 * @returns the same shape
 */
export function block(
  x: Value,
  weights: Readonly<Record<BlockTensorName, Value>>,
  constants: BlockConstants,
  preset: Preset,
  shape: BatchShape,
): Value {
  const attended = add(x, attention(x, weights, constants, preset, shape));
  const normalized = rmsNorm(attended, weights['ffn.norm'], preset.normEpsilon);
  const gate = gemm(normalized, weights['ffn.gate'], { transposeB: true });
  const up = gemm(normalized, weights['ffn.up'], { transposeB: true });
  return add(attended, gemm(mul(silu(gate), up), weights['ffn.down'], { transposeB: true }));
}

function attention(
  x: Value,
  weights: Readonly<Record<BlockTensorName, Value>>,
  { rotary: tables, causalMask }: BlockConstants,
  preset: Preset,
  { batch, positions }: BatchShape,
): Value {
  const { queryHeads, keyValueHeads, hidden } = preset;
  const width = headWidth(preset);
  const group = queryHeads / keyValueHeads;
  const normalized = rmsNorm(x, weights['attention.norm'], preset.normEpsilon);
  const rotated = (weight: Value, heads: number, alpha: number) =>
    rotary(
      reshape(gemm(normalized, weight, { transposeB: true, alpha }), [batch, positions, heads * width]),
      heads,
      tables,
    );

  // The query heads of a group become further rows of their shared key/value head: no head is ever repeated. The
  // softmax scale rides on the query product.
  const query = reshape(
    transpose(
      reshape(rotated(weights['attention.query'], queryHeads, 1 / Math.sqrt(width)), [
        batch,
        positions,
        keyValueHeads,
        group,
        width,
      ]),
      [0, 2, 3, 1, 4],
    ),
    [batch, keyValueHeads, group * positions, width],
  );
  const keyTransposed = transpose(
    reshape(rotated(weights['attention.key'], keyValueHeads, 1), [batch, positions, keyValueHeads, width]),
    [0, 2, 3, 1],
  );
  const value = transpose(
    reshape(gemm(normalized, weights['attention.value'], { transposeB: true }), [
      batch,
      positions,
      keyValueHeads,
      width,
    ]),
    [0, 2, 1, 3],
  );
  const scores = reshape(matMul(query, keyTransposed), [batch, keyValueHeads, group, positions, positions]);
  const probabilities = reshape(softmax(add(scores, causalMask)), [batch, keyValueHeads, group * positions, positions]);
  const context = transpose(
    reshape(matMul(probabilities, value), [batch, keyValueHeads, group, positions, width]),
    [0, 3, 1, 2, 4],
  );
  return gemm(reshape(context, [batch * positions, hidden]), weights['attention.output'], { transposeB: true });
}
