/** Fused ops of transformers: root-mean-square normalization and rotary positions. */
import { GraphError, sameShape, singleOutput, type Value } from '../graph.ts';
import { add, mul, reciprocal, scale, sqrt, sub } from './elementwise.ts';
import { gemm } from './matrix.ts';
import { reduceSum, reduceSumSquare } from './reduction.ts';
import { reshape } from './shape.ts';

/**
 * RMSNorm over the last axis of a matrix: `x / sqrt(mean(x^2) + epsilon) * weight`.
 *
 * @param x - `[rows, width]`
 * @param weight - `[width]`
 */
export function rmsNorm(x: Value, weight: Value, epsilon: number): Value {
  const [, width] = x.shape;
  if (x.shape.length !== 2 || width === undefined || !sameShape(weight.shape, [width]))
    throw new GraphError(`RMSNorm: [${x.shape}] with a weight of [${weight.shape}]`);
  return singleOutput({
    // onnxruntime's own operator, registered in the ONNX domain; CPU, CUDA and WebGPU have it.
    operator: 'SimplifiedLayerNormalization',
    inputs: [x, weight],
    attributes: {
      axis: { kind: 'integer', value: -1 },
      epsilon: { kind: 'float', value: epsilon },
      stash_type: { kind: 'integer', value: 1 },
    },
    output: { dtype: x.dtype, shape: x.shape },
    // With r = 1 / sqrt(mean(x^2) + epsilon) and n = x r:
    //   dw = sum_rows(dy n),  dx = r (dy w - n mean(dy w n))
    gradient: (dy) => {
      const meanSquare = scale(reduceSumSquare(x, [-1]), 1 / width);
      const r = reciprocal(sqrt(add(meanSquare, x.graph.scalar(epsilon))));
      const normalized = mul(x, r);
      const product = mul(dy, normalized);
      const mean = gemm(product, reshape(weight, [width, 1]), { alpha: 1 / width });
      return [mul(r, sub(mul(dy, weight), mul(normalized, mean))), reduceSum(product, [0], { keep: false })];
    },
  });
}

/** Tables of {@link rotary}: cosines and sines, `[positions, headWidth / 2]` each, float32. */
export interface RotaryTables {
  readonly cosine: Value;
  readonly sine: Value;
  readonly negativeSine: Value;
}

/**
 * Rotates pairs (i, i + headWidth / 2) of every head by an angle that grows with the position (rotary positions in the
 * rotate-half form). Positions count from 0 along axis 1.
 *
 * @param x - `[batch, positions, heads * headWidth]`
 */
export function rotary(x: Value, heads: number, tables: RotaryTables): Value {
  const [, positions, width] = x.shape;
  const [tablePositions, half] = tables.cosine.shape;
  if (x.shape.length !== 3 || positions !== tablePositions || half === undefined || width !== heads * half * 2)
    throw new GraphError(`RotaryEmbedding: [${x.shape}] with ${heads} heads and tables of [${tables.cosine.shape}]`);
  return singleOutput({
    operator: 'RotaryEmbedding',
    domain: 'com.microsoft',
    inputs: [x, x.graph.integers([0]), tables.cosine, tables.sine],
    attributes: { interleaved: { kind: 'integer', value: 0 } },
    output: { dtype: x.dtype, shape: x.shape },
    // A rotation is undone by the opposite angle, and its transpose is its inverse.
    gradient: (dy) => [
      rotary(dy, heads, { cosine: tables.cosine, sine: tables.negativeSine, negativeSine: tables.sine }),
      undefined,
      undefined,
      undefined,
    ],
  });
}
