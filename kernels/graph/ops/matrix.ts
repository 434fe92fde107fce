/** Matrix products. */
import { GraphError, singleOutput, type Value } from '../graph.ts';
import { broadcastShape } from './elementwise.ts';
import { sumTo } from './reduction.ts';
import { transpose } from './shape.ts';

/** Options of {@link gemm}. */
export interface GemmOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** The product is multiplied by this constant. Default 1. */
  readonly alpha?: number;
}

/** alpha * op(a) op(b) of two matrices, where op transposes or not, as an attribute: nothing is materialized. */
export function gemm(a: Value, b: Value, options: GemmOptions = {}): Value {
  const { transposeA = false, transposeB = false, alpha = 1 } = options;
  const [m, k] = transposeA ? [a.shape[1], a.shape[0]] : a.shape;
  const [k2, n] = transposeB ? [b.shape[1], b.shape[0]] : b.shape;
  if (a.shape.length !== 2 || b.shape.length !== 2 || m === undefined || n === undefined || k !== k2)
    throw new GraphError(`Gemm: [${a.shape}]${transposeA ? "'" : ''} times [${b.shape}]${transposeB ? "'" : ''}`);
  if (a.dtype !== b.dtype) throw new GraphError(`Gemm: ${a.dtype} with ${b.dtype}`);
  return singleOutput({
    operator: 'Gemm',
    inputs: [a, b],
    attributes: {
      alpha: { kind: 'float', value: alpha },
      transA: { kind: 'integer', value: transposeA ? 1 : 0 },
      transB: { kind: 'integer', value: transposeB ? 1 : 0 },
    },
    output: { dtype: a.dtype, shape: [m, n] },
    // With A' = op(A), B' = op(B): dA' = alpha dY B'^T and dB' = alpha A'^T dY; transposed back by swapping operands.
    gradient: (dy) => [
      transposeA
        ? gemm(b, dy, { transposeA: transposeB, transposeB: true, alpha })
        : gemm(dy, b, { transposeB: !transposeB, alpha }),
      transposeB
        ? gemm(dy, a, { transposeA: true, transposeB: transposeA, alpha })
        : gemm(a, dy, { transposeA: !transposeA, alpha }),
    ],
  });
}

/** Swaps the last two axes. In front of {@link matMul}, onnxruntime fuses it into the product on CPU and CUDA. */
export function swapLast(x: Value): Value {
  const rank = x.shape.length;
  return transpose(x, [...Array(rank - 2).keys(), rank - 1, rank - 2]);
}

/** Batched matrix product over the last two axes; the leading axes broadcast. */
export function matMul(a: Value, b: Value): Value {
  const [m, k] = a.shape.slice(-2);
  const [k2, n] = b.shape.slice(-2);
  if (a.shape.length < 2 || b.shape.length < 2 || m === undefined || n === undefined || k !== k2)
    throw new GraphError(`MatMul: [${a.shape}] times [${b.shape}]`);
  if (a.dtype !== b.dtype) throw new GraphError(`MatMul: ${a.dtype} with ${b.dtype}`);
  return singleOutput({
    operator: 'MatMul',
    inputs: [a, b],
    output: { dtype: a.dtype, shape: [...broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n] },
    gradient: (dy) => [sumTo(matMul(dy, swapLast(b)), a.shape), sumTo(matMul(swapLast(a), dy), b.shape)],
  });
}
