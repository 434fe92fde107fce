/**
 * Typed ONNX graphs: values with static shapes, nodes that know their vector-Jacobian product.
 *
 * A {@link Graph} only grows. Ops (`ops/*.ts`) are functions from values to values; each checks its operands, infers the
 * type of its result and declares its gradient, once, where it is defined. `autodiff.ts` walks nodes backwards,
 * `serialize.ts` writes the ones that the outputs need.
 */

/** Element types in use. */
export type DataType = 'float32' | 'float16' | 'int64' | 'int32' | 'bool';

/** Type of a value: element type and static shape ([] is a scalar). */
export interface TensorType {
  readonly dtype: DataType;
  readonly shape: readonly number[];
}

/** A value of a graph: an input, a constant or an output of a node. */
export interface Value extends TensorType {
  readonly graph: Graph;
  /** Unique in the graph; also its position in creation order. */
  readonly id: number;
  /** Name in the ONNX file. */
  readonly name: string;
}

/** An ONNX attribute. `integer` and `integers` become int64. */
export type Attribute =
  | { readonly kind: 'integer'; readonly value: number }
  | { readonly kind: 'integers'; readonly value: readonly number[] }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string };

/**
 * The vector-Jacobian product of a node: from the gradients of its outputs (undefined where none flows) to those of its
 * inputs (undefined where an input has none, such as an index). Emits nodes into the same graph.
 */
export type Gradient = (
  outputGradients: readonly (Value | undefined)[],
  outputs: readonly Value[],
) => readonly (Value | undefined)[];

/** What an op hands to {@link Graph.node}. */
export interface NodeDescription {
  readonly operator: string;
  /** '' is ONNX itself; 'com.microsoft' holds onnxruntime's contributed operators. */
  readonly domain?: '' | 'com.microsoft';
  readonly inputs: readonly Value[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly outputs: readonly TensorType[];
  /** Absent: not differentiable, and asking for its gradient is an error. */
  readonly gradient?: Gradient;
}

/** A node as the graph keeps it. */
export interface Node {
  readonly operator: string;
  readonly domain: '' | 'com.microsoft';
  readonly inputs: readonly Value[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly outputs: readonly Value[];
  readonly gradient: Gradient | undefined;
}

/** Data of a constant. Float16 constants are made by casting. */
export type ConstantData = Float32Array | BigInt64Array | Int32Array;

/** Thrown when an op is given operands that do not fit: a mistake in the program, found when the graph is built. */
export class GraphError extends Error {
  static readonly code = 'ERR_GRAPH';
  readonly code = GraphError.code;
  override readonly name = 'GraphError';
}

/** Product of the dimensions. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Whether two shapes are the same. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** A graph under construction. */
export class Graph {
  /** Nodes in creation order, which is a topological order. */
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly outputs: { readonly name: string; readonly value: Value }[] = [];
  readonly constants: { readonly value: Value; readonly data: ConstantData }[] = [];
  /** Gradients that replace those of the nodes inside a composite: {@link Graph.composite}. */
  readonly composites = new Map<number, { readonly inputs: readonly Value[]; readonly gradient: Gradient }>();
  /** The node that made each value, by value id. */
  readonly producers = new Map<number, Node>();
  #values = 0;
  readonly #constantsByContent = new Map<string, Value>();

  /** Declares an input that is fed at every run. */
  input(name: string, type: TensorType): Value {
    const value = this.#value(type, name);
    this.inputs.push(value);
    return value;
  }

  /** Embeds data. Equal small constants are kept once. */
  constant(data: ConstantData, shape: readonly number[] = [data.length]): Value {
    if (elementCount(shape) !== data.length)
      throw new GraphError(`a constant of shape [${shape}] has ${elementCount(shape)} elements, not ${data.length}`);
    const dtype = data instanceof Float32Array ? 'float32' : data instanceof Int32Array ? 'int32' : 'int64';
    const key = data.length <= 16 ? `${dtype}[${shape}]${[...data]}` : undefined;
    const known = key === undefined ? undefined : this.#constantsByContent.get(key);
    if (known !== undefined) return known;
    const value = this.#value({ dtype, shape }, `constant${this.#values}`);
    this.constants.push({ value, data });
    if (key !== undefined) this.#constantsByContent.set(key, value);
    return value;
  }

  /** A float32 scalar. */
  scalar(value: number): Value {
    return this.constant(Float32Array.of(value), []);
  }

  /** An int64 vector: shapes, axes and the like. */
  integers(values: readonly number[]): Value {
    return this.constant(BigInt64Array.from(values, BigInt));
  }

  /** Names a value as an output of the graph. */
  output(name: string, value: Value): void {
    this.outputs.push({ name, value });
  }

  /** Adds a node and returns its outputs. For ops; models call ops. */
  node(description: NodeDescription): readonly Value[] {
    const outputs = description.outputs.map((type) => this.#value(type, `v${this.#values}`));
    const node: Node = {
      operator: description.operator,
      domain: description.domain ?? '',
      inputs: description.inputs,
      attributes: description.attributes ?? {},
      outputs,
      gradient: description.gradient,
    };
    for (const input of node.inputs)
      if (input.graph !== this) throw new GraphError(`${node.operator}: ${input.name} belongs to another graph`);
    this.nodes.push(node);
    for (const output of outputs) this.producers.set(output.id, node);
    return outputs;
  }

  /**
   * Gives a value that was computed from `inputs` by several nodes one gradient of its own, as if a single node had made
   * it: for formulas whose derivative is better than the sum of their parts'.
   */
  composite(output: Value, inputs: readonly Value[], gradient: Gradient): Value {
    this.composites.set(output.id, { inputs, gradient });
    return output;
  }

  #value(type: TensorType, name: string): Value {
    for (const size of type.shape)
      if (!Number.isSafeInteger(size) || size < 0) throw new GraphError(`${name}: bad shape [${type.shape}]`);
    return { graph: this, id: this.#values++, name, dtype: type.dtype, shape: [...type.shape] };
  }
}

/** Adds a node with one output; see {@link Graph.node}. */
export function singleOutput(
  description: Omit<NodeDescription, 'outputs' | 'gradient'> & {
    readonly output: TensorType;
    readonly gradient?: (outputGradient: Value, output: Value) => readonly (Value | undefined)[];
  },
): Value {
  const first = description.inputs[0];
  if (first === undefined) throw new GraphError(`${description.operator} needs an input`);
  const { gradient, output, ...rest } = description;
  const outputs = first.graph.node({
    ...rest,
    outputs: [output],
    ...(gradient === undefined
      ? {}
      : {
          gradient: ([dy], [y]) =>
            dy === undefined || y === undefined ? rest.inputs.map(() => undefined) : gradient(dy, y),
        }),
  });
  return outputs[0] as Value;
}
