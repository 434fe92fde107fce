/** Writes a {@link Graph} as the bytes of an ONNX model. */
import { Buffer } from 'node:buffer';
import type { Attribute, ConstantData, Graph, Node, Value } from './graph.ts';
import { type AttributeProto, AttributeType, encodeModel, OnnxDataType, type ValueInfoProto } from './onnx-schema.ts';

/** ONNX operator set. onnxruntime 1.30 knows newer ones; its graph optimizer knows this one in full. */
const OPSET_VERSION = 21n;
/** ONNX file format that goes with that operator set. */
const IR_VERSION = 10n;

/**
 * The ONNX model of a graph: the nodes that its outputs need, in order. Nodes that autodiff emitted for gradients that
 * nobody asked for are left out. All inputs are kept, so that what must be fed does not depend on what is used.
 */
export function serializeGraph(graph: Graph, name: string): Uint8Array {
  const needed = new Set<number>(graph.outputs.map(({ value }) => value.id));
  const nodes: Node[] = [];
  for (const node of graph.nodes.slice().reverse()) {
    if (!node.outputs.some((output) => needed.has(output.id))) continue;
    for (const input of node.inputs) needed.add(input.id);
    nodes.push(node);
  }
  nodes.reverse();

  // A node's result that is an output takes the output's name; an input, a constant or a second name needs a copy.
  const names = new Map<number, string>();
  const copies: { readonly from: Value; readonly to: string }[] = [];
  for (const { name: outputName, value } of graph.outputs) {
    if (graph.producers.has(value.id) && !names.has(value.id)) names.set(value.id, outputName);
    else copies.push({ from: value, to: outputName });
  }
  const nameOf = (value: Value) => names.get(value.id) ?? value.name;
  return encodeModel({
    irVersion: IR_VERSION,
    producerName: 'alice',
    opsetImport: [
      { domain: '', version: OPSET_VERSION },
      { domain: 'com.microsoft', version: 1n },
    ],
    graph: {
      name,
      node: [
        ...nodes.map((node, index) => ({
          name: `${index}.${node.operator}`,
          opType: node.operator,
          domain: node.domain,
          input: node.inputs.map(nameOf),
          output: node.outputs.map(nameOf),
          attribute: Object.entries(node.attributes).map(([key, attribute]) => attributeProto(key, attribute)),
        })),
        ...copies.map(({ from, to }) => ({
          name: `copy.${to}`,
          opType: 'Identity',
          domain: '',
          input: [nameOf(from)],
          output: [to],
          attribute: [],
        })),
      ],
      initializer: graph.constants
        .filter(({ value }) => needed.has(value.id))
        .map(({ value, data }) => ({
          name: value.name,
          dims: value.shape.map(BigInt),
          dataType: OnnxDataType[value.dtype],
          rawData: littleEndianBytes(data),
        })),
      input: graph.inputs.map((value) => valueInfo(value.name, value)),
      output: graph.outputs.map(({ name: outputName, value }) => valueInfo(outputName, value)),
    },
  });
}

function valueInfo(name: string, value: Value): ValueInfoProto {
  return {
    name,
    type: {
      tensorType: {
        elemType: OnnxDataType[value.dtype],
        shape: { dim: value.shape.map((size) => ({ dimValue: BigInt(size) })) },
      },
    },
  };
}

function attributeProto(name: string, attribute: Attribute): AttributeProto {
  switch (attribute.kind) {
    case 'integer':
      return { name, type: AttributeType.INT, i: BigInt(attribute.value) };
    case 'integers':
      return { name, type: AttributeType.INTS, ints: attribute.value.map(BigInt) };
    case 'float':
      return { name, type: AttributeType.FLOAT, f: attribute.value };
    case 'string':
      return { name, type: AttributeType.STRING, s: Buffer.from(attribute.value, 'utf8') };
  }
}

/** ONNX raw data is little-endian, as is every machine that onnxruntime runs on. */
function littleEndianBytes(data: ConstantData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
