/** Elementwise ops with NumPy broadcasting. */
import { type DataType, GraphError, singleOutput, type Value } from '../graph.ts';
import { sumTo } from './reduction.ts';

/** Shape of two broadcast operands. Throws {@link GraphError} when they do not fit. */
export function broadcastShape(a: readonly number[], b: readonly number[]): readonly number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) throw new GraphError(`[${a}] and [${b}] do not broadcast`);
    return left === 1 ? right : left;
  });
}

type BinaryGradient = (dy: Value, y: Value) => readonly [Value | undefined, Value | undefined];

/** A binary op; its gradients may have the broadcast shape and are summed back to the operands'. */
function binary(operator: string, a: Value, b: Value, gradient?: BinaryGradient, dtype?: DataType): Value {
  if (a.dtype !== b.dtype) throw new GraphError(`${operator}: ${a.dtype} with ${b.dtype}`);
  return singleOutput({
    operator,
    inputs: [a, b],
    output: { dtype: dtype ?? a.dtype, shape: broadcastShape(a.shape, b.shape) },
    ...(gradient === undefined
      ? {}
      : {
          gradient: (dy: Value, y: Value) => {
            const [da, db] = gradient(dy, y);
            return [da && sumTo(da, a.shape), db && sumTo(db, b.shape)];
          },
        }),
  });
}

/** a + b */
export function add(a: Value, b: Value): Value {
  return binary('Add', a, b, (dy) => [dy, dy]);
}

/** a - b */
export function sub(a: Value, b: Value): Value {
  return binary('Sub', a, b, (dy) => [dy, neg(dy)]);
}

/** a * b */
export function mul(a: Value, b: Value): Value {
  return binary('Mul', a, b, (dy) => [mul(dy, b), mul(dy, a)]);
}

/** a / b */
export function div(a: Value, b: Value): Value {
  return binary('Div', a, b, (dy, y) => {
    const da = div(dy, b);
    return [da, neg(mul(da, y))];
  });
}

/** a * factor, for a constant factor. */
export function scale(a: Value, factor: number): Value {
  return mul(a, a.graph.scalar(factor));
}

/** a > b, as bool. Not differentiable. */
export function greater(a: Value, b: Value): Value {
  return binary('Greater', a, b, undefined, 'bool');
}

/** a = b, as bool. Not differentiable. */
export function equal(a: Value, b: Value): Value {
  return binary('Equal', a, b, undefined, 'bool');
}

/** condition ? a : b, elementwise. `a` and `b` have the condition's shape or broadcast to it. */
export function where(condition: Value, a: Value, b: Value): Value {
  if (condition.dtype !== 'bool') throw new GraphError(`Where: the condition is ${condition.dtype}, not bool`);
  if (a.dtype !== b.dtype) throw new GraphError(`Where: ${a.dtype} with ${b.dtype}`);
  return singleOutput({
    operator: 'Where',
    inputs: [condition, a, b],
    output: { dtype: a.dtype, shape: broadcastShape(condition.shape, broadcastShape(a.shape, b.shape)) },
    gradient: (dy) => {
      const zero = cast(dy.graph.scalar(0), dy.dtype);
      return [undefined, sumTo(where(condition, dy, zero), a.shape), sumTo(where(condition, zero, dy), b.shape)];
    },
  });
}

function unary(operator: string, x: Value, gradient: (dy: Value, y: Value) => Value): Value {
  return singleOutput({
    operator,
    inputs: [x],
    output: { dtype: x.dtype, shape: x.shape },
    gradient: (dy, y) => [gradient(dy, y)],
  });
}

/** -x */
export function neg(x: Value): Value {
  return unary('Neg', x, (dy) => neg(dy));
}

/** e^x */
export function exp(x: Value): Value {
  return unary('Exp', x, (dy, y) => mul(dy, y));
}

/** Natural logarithm. */
export function log(x: Value): Value {
  return unary('Log', x, (dy) => div(dy, x));
}

/** Square root. */
export function sqrt(x: Value): Value {
  return unary('Sqrt', x, (dy, y) => scale(div(dy, y), 0.5));
}

/** 1 / x */
export function reciprocal(x: Value): Value {
  return unary('Reciprocal', x, (dy, y) => neg(mul(dy, mul(y, y))));
}

/** Hyperbolic tangent. */
export function tanh(x: Value): Value {
  return unary('Tanh', x, (dy, y) => sub(dy, mul(dy, mul(y, y))));
}

/** 1 / (1 + e^-x) */
export function sigmoid(x: Value): Value {
  return unary('Sigmoid', x, (dy, y) => mul(dy, sub(y, mul(y, y))));
}

/** max(x, 0) */
export function relu(x: Value): Value {
  return unary('Relu', x, (dy) => where(greater(x, x.graph.scalar(0)), dy, x.graph.scalar(0)));
}

/** x * sigmoid(x), in one pass (onnxruntime's QuickGelu, which WebGPU has too). */
export function silu(x: Value): Value {
  return singleOutput({
    operator: 'QuickGelu',
    domain: 'com.microsoft',
    inputs: [x],
    attributes: { alpha: { kind: 'float', value: 1 } },
    output: { dtype: x.dtype, shape: x.shape },
    // d/dx x s(x) = s + x s (1 - s) = s + y (1 - s) = y + s (1 - y)
    gradient: (dy, y) => {
      const s = sigmoid(x);
      return [mul(dy, add(y, sub(s, mul(s, y))))];
    },
  });
}

/** Conversion between element types. The gradient is converted back. */
export function cast(x: Value, dtype: DataType): Value {
  if (x.dtype === dtype) return x;
  const onnxTypes: Record<DataType, number> = { float32: 1, int32: 6, int64: 7, bool: 9, float16: 10 };
  const floating = (type: DataType) => type === 'float32' || type === 'float16';
  return singleOutput({
    operator: 'Cast',
    inputs: [x],
    attributes: { to: { kind: 'integer', value: onnxTypes[dtype] } },
    output: { dtype, shape: x.shape },
    gradient: (dy) => [floating(x.dtype) && floating(dtype) ? cast(dy, x.dtype) : undefined],
  });
}
