/**
 * The part of `onnx.proto` (ONNX 1.17, IR version 10) that graphs use, as a protobuf descriptor. Field numbers are those
 * of https://github.com/onnx/onnx/blob/v1.17.0/onnx/onnx.proto; `proto2`, so that zeros that were set are written.
 */
import { create, createFileRegistry, type DescMessage, type Message, toBinary } from '@bufbuild/protobuf';
import {
  type FieldDescriptorProto,
  FieldDescriptorProtoSchema,
  FileDescriptorProtoSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from '@bufbuild/protobuf/wkt';

type FieldType = 'float' | 'int32' | 'int64' | 'string' | 'bytes' | `.onnx.${string}`;

const scalarTypes: Record<string, Type> = {
  float: Type.FLOAT,
  int32: Type.INT32,
  int64: Type.INT64,
  string: Type.STRING,
  bytes: Type.BYTES,
};

function field(number: number, name: string, type: FieldType, repeated = false, packed = false): FieldDescriptorProto {
  const scalar = scalarTypes[type];
  return create(FieldDescriptorProtoSchema, {
    number,
    name,
    label: repeated ? Label.REPEATED : Label.OPTIONAL,
    type: scalar ?? Type.MESSAGE,
    ...(scalar === undefined ? { typeName: type } : {}),
    ...(packed ? { options: { packed: true } } : {}),
  });
}

const file = create(FileDescriptorProtoSchema, {
  name: 'onnx.proto',
  package: 'onnx',
  syntax: 'proto2',
  messageType: [
    {
      name: 'ModelProto',
      field: [
        field(1, 'ir_version', 'int64'),
        field(2, 'producer_name', 'string'),
        field(7, 'graph', '.onnx.GraphProto'),
        field(8, 'opset_import', '.onnx.OperatorSetIdProto', true),
      ],
    },
    { name: 'OperatorSetIdProto', field: [field(1, 'domain', 'string'), field(2, 'version', 'int64')] },
    {
      name: 'GraphProto',
      field: [
        field(1, 'node', '.onnx.NodeProto', true),
        field(2, 'name', 'string'),
        field(5, 'initializer', '.onnx.TensorProto', true),
        field(11, 'input', '.onnx.ValueInfoProto', true),
        field(12, 'output', '.onnx.ValueInfoProto', true),
      ],
    },
    {
      name: 'NodeProto',
      field: [
        field(1, 'input', 'string', true),
        field(2, 'output', 'string', true),
        field(3, 'name', 'string'),
        field(4, 'op_type', 'string'),
        field(5, 'attribute', '.onnx.AttributeProto', true),
        field(7, 'domain', 'string'),
      ],
    },
    {
      name: 'AttributeProto',
      field: [
        field(1, 'name', 'string'),
        field(2, 'f', 'float'),
        field(3, 'i', 'int64'),
        field(4, 's', 'bytes'),
        field(8, 'ints', 'int64', true),
        // An enum in onnx.proto, which is an int32 on the wire.
        field(20, 'type', 'int32'),
      ],
    },
    {
      name: 'TensorProto',
      field: [
        field(1, 'dims', 'int64', true),
        field(2, 'data_type', 'int32'),
        field(8, 'name', 'string'),
        field(9, 'raw_data', 'bytes'),
      ],
    },
    {
      name: 'ValueInfoProto',
      field: [field(1, 'name', 'string'), field(2, 'type', '.onnx.TypeProto')],
    },
    {
      name: 'TypeProto',
      nestedType: [
        {
          name: 'Tensor',
          field: [field(1, 'elem_type', 'int32'), field(2, 'shape', '.onnx.TensorShapeProto')],
        },
      ],
      field: [field(1, 'tensor_type', '.onnx.TypeProto.Tensor')],
    },
    {
      name: 'TensorShapeProto',
      nestedType: [{ name: 'Dimension', field: [field(1, 'dim_value', 'int64')] }],
      field: [field(1, 'dim', '.onnx.TensorShapeProto.Dimension', true)],
    },
  ],
});

/** `AttributeProto.AttributeType`, the kinds in use. */
export const AttributeType = { FLOAT: 1, INT: 2, STRING: 3, INTS: 7 } as const;

/** `TensorProto.DataType`, the types in use. */
export const OnnxDataType = { float32: 1, int32: 6, int64: 7, bool: 9, float16: 10 } as const;

/** AttributeProto. */
export interface AttributeProto {
  readonly name: string;
  readonly type: number;
  readonly f?: number;
  readonly i?: bigint;
  readonly s?: Uint8Array;
  readonly ints?: readonly bigint[];
}

/** ValueInfoProto of a tensor. */
export interface ValueInfoProto {
  readonly name: string;
  readonly type: {
    readonly tensorType: {
      readonly elemType: number;
      readonly shape: { readonly dim: readonly { readonly dimValue: bigint }[] };
    };
  };
}

/** ModelProto, the part in use. */
export interface ModelProto {
  readonly irVersion: bigint;
  readonly producerName: string;
  readonly opsetImport: readonly { readonly domain: string; readonly version: bigint }[];
  readonly graph: {
    readonly name: string;
    readonly node: readonly {
      readonly name: string;
      readonly opType: string;
      readonly domain: string;
      readonly input: readonly string[];
      readonly output: readonly string[];
      readonly attribute: readonly AttributeProto[];
    }[];
    readonly initializer: readonly {
      readonly name: string;
      readonly dims: readonly bigint[];
      readonly dataType: number;
      readonly rawData: Uint8Array;
    }[];
    readonly input: readonly ValueInfoProto[];
    readonly output: readonly ValueInfoProto[];
  };
}

const registry = createFileRegistry(file, () => undefined);

/** Encodes a model as the bytes of an `.onnx` file. */
export function encodeModel(model: ModelProto): Uint8Array {
  const schema = registry.getMessage('onnx.ModelProto') as DescMessage;
  // The descriptor is known at run time only, so its message shape is not in the type system; ModelProto mirrors it.
  const message = create(schema, model as unknown as Record<string, never>) as Message;
  return toBinary(schema, message);
}
