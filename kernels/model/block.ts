/**
 * One transformer block as graph nodes: RMSNorm, grouped-query attention with rotary positions, RMSNorm, SwiGLU, each
 * half added to the residual stream.
 */
import type { Graph, Value } from '../graph/graph.ts';
import { add, mul, silu } from '../graph/ops/elementwise.ts';
import { gemm } from '../graph/ops/matrix.ts';
import { reshape, transpose } from '../graph/ops/shape.ts';
import { type RotaryTables, rmsNorm, rotary } from '../graph/ops/transformer.ts';
import { causalAttention } from './attention.ts';
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
}

/**
 * Most query positions of an attention tile. Of 64, 128, 256 and all, 128 was fastest or even with it at every context
 * from 256 to 1024 (`alice-50m`, two cores); at 128 one tile is faster than two.
 */
const MAX_TILE_POSITIONS = 128;

/** Most bytes of one tile's scores, over all heads and sequences. Backward holds about three such tensors. */
const MAX_TILE_BYTES = 32 * 2 ** 20;

/** Query positions of an attention tile. */
export function attentionTile({ queryHeads }: Preset, { batch, positions }: BatchShape): number {
  const bytesPerPosition = 4 * batch * queryHeads * positions;
  return Math.max(1, Math.min(MAX_TILE_POSITIONS, Math.floor(MAX_TILE_BYTES / bytesPerPosition)));
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
  { rotary: tables }: BlockConstants,
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

  // The softmax scale rides on the query product.
  const query = transpose(
    reshape(rotated(weights['attention.query'], queryHeads, 1 / Math.sqrt(width)), [
      batch,
      positions,
      keyValueHeads,
      group,
      width,
    ]),
    [0, 2, 3, 1, 4],
  );
  const byHead = (x: Value) => transpose(reshape(x, [batch, positions, keyValueHeads, width]), [0, 2, 1, 3]);
  const key = byHead(rotated(weights['attention.key'], keyValueHeads, 1));
  const value = byHead(gemm(normalized, weights['attention.value'], { transposeB: true }));
  const context = transpose(
    causalAttention(query, key, value, attentionTile(preset, { batch, positions })),
    [0, 3, 1, 2, 4],
  );
  return gemm(reshape(context, [batch * positions, hidden]), weights['attention.output'], { transposeB: true });
}
