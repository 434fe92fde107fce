/** Mixed precision as a pass over a finished graph: matrix products in float16, everything else as it was. */
import { type DataType, Graph, type Node, type Value } from './graph.ts';
import { cast } from './ops/elementwise.ts';

const PRODUCTS: ReadonlySet<string> = new Set(['Gemm', 'MatMul']);

/** Move elements without computing: they keep the type of what they are given. */
const MOVEMENTS: ReadonlySet<string> = new Set(['Reshape', 'Transpose', 'Slice', 'Split', 'Concat', 'Expand']);

/**
 * True for a product that is worth float16. One with a single row or column is a reduction (the gradient of RMSNorm has
 * one), and reductions stay float32.
 */
function isProduct({ operator, outputs: [output] }: Node): boolean {
  const [rows, columns] = output?.shape.slice(-2) ?? [];
  return PRODUCTS.has(operator) && output?.dtype === 'float32' && rows !== 1 && columns !== 1;
}

/**
 * The same function with its matrix products in float16: operands are rounded, results are float16, and values are
 * converted back where anything else uses them (norms, softmax, cross-entropy, residual sums, rotary positions, all
 * reductions). Inputs and outputs stay float32, which is what keeps master weights and gradients there. Gradients of
 * the nodes are not carried over: differentiate first.
 */
export function withHalfPrecisionProducts(graph: Graph): Graph {
  const result = new Graph();
  /** Each value of the old graph in the new one, with the old type or as float16; at least one is there. */
  const own = new Map<number, Value>();
  const half = new Map<number, Value>();
  const converted = (value: Value, dtype: DataType): Value => {
    const [wanted, other] = dtype === 'float16' ? [half, own] : [own, half];
    const present = wanted.get(value.id);
    if (present !== undefined) return present;
    const made = cast(other.get(value.id) as Value, dtype);
    wanted.set(value.id, made);
    return made;
  };
  for (const input of graph.inputs) own.set(input.id, result.input(input.name, input));
  for (const { value, data } of graph.constants) own.set(value.id, result.constant(data, value.shape));
  for (const node of graph.nodes) {
    const isFloat = (value: Value) => value.dtype === 'float32';
    const moved =
      MOVEMENTS.has(node.operator) && node.inputs.some(isFloat) && node.inputs.filter(isFloat).every(onlyHalf);
    const inHalf = isProduct(node) || moved;
    const outputs = result.node({
      operator: node.operator,
      domain: node.domain,
      inputs: node.inputs.map((input) => converted(input, inHalf && isFloat(input) ? 'float16' : input.dtype)),
      attributes: node.attributes,
      outputs: node.outputs.map(({ dtype, shape }) => ({
        dtype: inHalf && dtype === 'float32' ? 'float16' : dtype,
        shape,
      })),
    });
    for (const [index, output] of node.outputs.entries())
      (inHalf && isFloat(output) ? half : own).set(output.id, outputs[index] as Value);
  }
  for (const { name, value } of graph.outputs) result.output(name, converted(value, value.dtype));
  return result;

  /** Made in float16, and not asked for otherwise so far. */
  function onlyHalf(value: Value): boolean {
    return half.has(value.id) && !own.has(value.id);
  }
}
