/** Reverse-mode automatic differentiation over a {@link Graph}: emits the backward pass as further nodes. */
import { type Gradient, type Graph, GraphError, sameShape, type Value } from './graph.ts';
import { add } from './ops/elementwise.ts';

/** An output to differentiate and the gradient that flows into it (same shape). */
export interface Cotangent {
  readonly value: Value;
  readonly gradient: Value;
}

/**
 * Gradients of `sum_i <value_i, gradient_i>` with respect to `targets`, in their order; undefined for a target that no
 * value depends on. Throws {@link GraphError} when the path crosses an op without a gradient.
 */
export function gradients(
  graph: Graph,
  cotangents: readonly Cotangent[],
  targets: readonly Value[],
): readonly (Value | undefined)[] {
  const dependent = dependents(graph, targets);
  const accumulated = new Map<number, Value>();
  const accumulate = (value: Value, gradient: Value | undefined) => {
    if (gradient === undefined || !dependent.has(value.id)) return;
    if (!sameShape(value.shape, gradient.shape))
      throw new GraphError(`the gradient of ${value.name} [${value.shape}] came out as [${gradient.shape}]`);
    const present = accumulated.get(value.id);
    accumulated.set(value.id, present === undefined ? gradient : add(present, gradient));
  };
  for (const { value, gradient } of cotangents) accumulate(value, gradient);

  // Nodes emitted below are appended; only those of the forward pass are walked.
  const forward = graph.nodes.slice();
  for (const node of forward.reverse()) {
    const outputGradients = node.outputs.map((output) => accumulated.get(output.id));
    if (outputGradients.every((gradient) => gradient === undefined)) continue;
    const composite = node.outputs.length === 1 ? graph.composites.get(node.outputs[0]?.id ?? -1) : undefined;
    const inputs = composite?.inputs ?? node.inputs;
    if (!inputs.some((input) => dependent.has(input.id))) continue;
    const gradient: Gradient | undefined = composite?.gradient ?? node.gradient;
    if (gradient === undefined) throw new GraphError(`${node.operator} has no gradient`);
    const inputGradients = gradient(outputGradients, node.outputs);
    for (const [index, input] of inputs.entries()) accumulate(input, inputGradients[index]);
  }
  return targets.map((target) => accumulated.get(target.id));
}

/** Ids of the targets and of every value computed from them. */
function dependents(graph: Graph, targets: readonly Value[]): ReadonlySet<number> {
  const ids = new Set(targets.map((target) => target.id));
  for (const node of graph.nodes)
    if (node.inputs.some((input) => ids.has(input.id))) for (const output of node.outputs) ids.add(output.id);
  return ids;
}
