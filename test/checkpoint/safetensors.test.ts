/** Files of strangers: every way in which a safetensors file or a folder can be wrong, with its code. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { modelRoot } from '../../kernels/aggregate/model-root.ts';
import { toFloat32Bytes } from '../../kernels/checkpoint/float-formats.ts';
import { encodeConfig } from '../../kernels/checkpoint/hugging-face-config.ts';
import { exportModel, SAFETENSORS_INDEX_FILE } from '../../kernels/checkpoint/model-export.ts';
import { importModel } from '../../kernels/checkpoint/model-import.ts';
import * as errors from '../../kernels/checkpoint/safetensors-errors.ts';
import {
  encodeSafetensorsHeader,
  MAX_SAFETENSORS_HEADER_BYTES,
  parseSafetensorsHeader,
  type SafetensorsEntry,
  safetensorsHeaderLength,
} from '../../kernels/checkpoint/safetensors-header.ts';
import { CASES, inFolder, weightsOf, writeCase } from './hugging-face-cases.ts';

/** Codes that a test below expects. */
const tested = new Set<string>();

function refusedHeader(name: string, error: { readonly code: string }, json: string | Uint8Array, dataBytes = 0): void {
  tested.add(error.code);
  test(`${error.code}: ${name}`, () => {
    const bytes = typeof json === 'string' ? Buffer.from(json) : json;
    assert.throws(
      () => parseSafetensorsHeader(bytes, dataBytes),
      (thrown: { code?: string }) => thrown.code === error.code || assert.unreachable(`${thrown}`),
    );
  });
}

const {
  SafetensorsHeaderError: Header,
  SafetensorsOffsetsError: Offsets,
  SafetensorsDtypeError: Dtype,
  SafetensorsTruncatedError: Truncated,
} = errors;

const entry = (fields: object) => JSON.stringify({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...fields } });

test('the header that is changed below is sound', () => {
  assert.equal(parseSafetensorsHeader(Buffer.from(entry({})), 8).tensors, [
    { name: 'a', dtype: 'F32', shape: [2], begin: 0, end: 8 },
  ]);
  const empty = parseSafetensorsHeader(Buffer.from('{}   '), 0);
  assert.equal(empty.tensors, []);
  const scalar = entry({ shape: [], data_offsets: [0, 4] });
  assert.equal(parseSafetensorsHeader(Buffer.from(scalar), 4).tensors[0]!.shape, []);
});

refusedHeader('no bytes', Header, '');
refusedHeader('white space first', Header, ' {}');
refusedHeader('no JSON', Header, '{"a"');
refusedHeader('JSON and more', Header, '{} {}');
refusedHeader('no UTF-8', Header, Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x30, 0x7d]));
refusedHeader('a tensor twice', Header, `${entry({}).slice(0, -1)},${entry({}).slice(1)}`, 8);
refusedHeader(
  'a tensor twice, spelled otherwise',
  Header,
  `${entry({}).slice(0, -1)},${entry({}).slice(1).replace('"a"', '"\\u0061"')}`,
  8,
);
refusedHeader('a tensor that is a number', Header, '{"a":1}');
refusedHeader('a tensor that is a list', Header, '{"a":[]}');
refusedHeader('a further field', Header, entry({ strides: [1] }), 8);
refusedHeader('no dtype', Header, entry({ dtype: undefined }), 8);
refusedHeader('metadata that are no texts', Header, '{"__metadata__":{"a":1}}');
refusedHeader('metadata that are no map', Header, '{"__metadata__":[]}');
refusedHeader('a negative dimension', Header, entry({ shape: [-2] }), 8);
refusedHeader('half a dimension', Header, entry({ shape: [0.5, 4] }), 8);
refusedHeader('too many dimensions', Header, entry({ shape: Array(65).fill(1), data_offsets: [0, 4] }), 4);
refusedHeader('offsets that are no pair', Header, entry({ data_offsets: [0, 8, 8] }), 8);
refusedHeader('a negative offset', Header, entry({ data_offsets: [-8, 0] }), 8);
refusedHeader(
  'offsets beyond 2^53',
  Header,
  '{"a":{"dtype":"U8","shape":[1],"data_offsets":[9007199254740992,9007199254740993]}}',
  8,
);
refusedHeader('an unknown dtype', Dtype, entry({ dtype: 'F31' }), 8);
refusedHeader('a dtype that every object has', Dtype, entry({ dtype: 'constructor' }), 8);
refusedHeader('offsets that do not fit the shape', Offsets, entry({ shape: [3] }), 8);
refusedHeader('offsets that end before they begin', Offsets, entry({ data_offsets: [8, 0] }), 8);
refusedHeader('a shape that overflows', Offsets, entry({ shape: [2 ** 40, 2 ** 40, 0.0], data_offsets: [0, 8] }), 8);
refusedHeader(
  'a product beyond 2^53 that wraps to the right size',
  Offsets,
  entry({ shape: [2 ** 32, 2 ** 32, 2] }),
  8,
);
refusedHeader('a hole in front', Offsets, entry({ data_offsets: [4, 12] }), 12);
refusedHeader('bytes after the last tensor', Offsets, entry({}), 9);
refusedHeader(
  'tensors that overlap',
  Offsets,
  JSON.stringify({
    a: { dtype: 'U8', shape: [8], data_offsets: [0, 8] },
    b: { dtype: 'U8', shape: [8], data_offsets: [4, 12] },
  }),
  12,
);
refusedHeader('data that are cut off', Truncated, entry({}), 7);

test('ERR_SAFETENSORS_HEADER_TOO_LARGE, ERR_SAFETENSORS_TRUNCATED: lengths are refused before anything is read', () => {
  tested.add(errors.SafetensorsHeaderTooLargeError.code);
  const prefix = (length: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(length);
    return bytes;
  };
  const most = BigInt(MAX_SAFETENSORS_HEADER_BYTES);
  for (const length of [most + 1n, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
    assert.throws(
      () => safetensorsHeaderLength(prefix(length), Number.MAX_SAFE_INTEGER),
      (thrown: unknown) => thrown instanceof errors.SafetensorsHeaderTooLargeError,
    );
  }
  assert.is(safetensorsHeaderLength(prefix(most), 8 + Number(most)), Number(most));
  for (const [bytes, size] of [
    [prefix(most), 7 + Number(most)],
    [prefix(1n), 8],
    [new Uint8Array(7), 7],
  ] as const) {
    assert.throws(
      () => safetensorsHeaderLength(bytes, size),
      (thrown: unknown) => thrown instanceof Truncated,
    );
  }
});

test('headers that are written are read as they were, data aligned', () => {
  const tensors: SafetensorsEntry[] = [
    { name: 'π "quoted" \\', dtype: 'F32', shape: [1, 3], begin: 0, end: 12 },
    { name: '__proto__', dtype: 'BF16', shape: [2], begin: 12, end: 16 },
    { name: '7', dtype: 'I64', shape: [0, 5], begin: 16, end: 16 },
  ];
  const bytes = encodeSafetensorsHeader(tensors, { format: 'pt' });
  assert.is(bytes.length % 8, 0);
  assert.is(safetensorsHeaderLength(bytes, bytes.length + 16), bytes.length - 8);
  const header = parseSafetensorsHeader(bytes.subarray(8), 16);
  assert.equal(header.tensors, tensors);
  assert.equal([...header.metadata], [['format', 'pt']]);
});

test('F16 and BF16 widen without loss', () => {
  const halves = new Uint16Array(65_536).map((_, i) => i);
  const bytesOf = (array: Uint16Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const wide = new Float32Array(toFloat32Bytes('F16', bytesOf(halves)).buffer);
  halves.forEach((bits, i) => {
    // IEEE 754 binary16, from its definition.
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    const magnitude =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent < 31
          ? (1024 + fraction) * 2 ** (exponent - 25)
          : fraction === 0
            ? Number.POSITIVE_INFINITY
            : Number.NaN;
    assert.ok(Object.is(wide[i], sign * magnitude), `${bits.toString(16)}: ${wide[i]}`);
  });
  const numbers = Float32Array.of(1, -0, 3.4e38, -1e-40, Number.POSITIVE_INFINITY);
  const upper = Uint16Array.from(new Uint32Array(numbers.buffer), (bits) => bits >>> 16);
  const expected = Uint32Array.from(upper, (bits) => bits * 65_536);
  assert.equal(new Uint32Array(toFloat32Bytes('BF16', bytesOf(upper)).buffer), expected);
});

const preset = CASES[0]!;

/** Exports the first case, lets `change` spoil the folder, and returns the code of what import says. */
async function importOf(change: (folder: string) => Promise<void>, shardBytes?: number): Promise<string> {
  let code = '';
  await inFolder(async (folder) => {
    const source = join(folder, 'weights.bin');
    await writeCase(source, preset);
    const exported = join(folder, 'exported');
    await exportModel({ source, preset, folder: exported, shardBytes });
    await change(exported);
    const target = join(folder, 'target');
    code = await importModel({ source: exported, target }).then(
      ({ modelRoot: root }) => root,
      (error: { code: string }) => error.code,
    );
  });
  return code;
}

/** Rewrites model.safetensors with its entries and data changed. */
function rewritten(
  change: (tensors: SafetensorsEntry[], data: Buffer) => { tensors: SafetensorsEntry[]; data: Uint8Array },
) {
  return async (folder: string) => {
    const path = join(folder, 'model.safetensors');
    const bytes = await readFile(path);
    const start = 8 + safetensorsHeaderLength(bytes, bytes.length);
    const header = parseSafetensorsHeader(bytes.subarray(8, start), bytes.length - start);
    const { tensors, data } = change([...header.tensors], bytes.subarray(start));
    await writeFile(path, Buffer.concat([encodeSafetensorsHeader(tensors, Object.fromEntries(header.metadata)), data]));
  };
}

/** Converts the whole file to two-byte elements. */
function narrowed(dtype: string, narrow: (value: number) => number) {
  return rewritten((tensors, data) => {
    const numbers = new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
    const halves = tensors.map((tensor) => ({ ...tensor, dtype, begin: tensor.begin / 2, end: tensor.end / 2 }));
    return { tensors: halves, data: new Uint8Array(Uint16Array.from(numbers, narrow).buffer) };
  });
}

const upperHalf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16;

test('BF16 weights are imported as what they are, whatever root the header claims', async () => {
  const truncated = weightsOf(preset).map((value) => {
    return new Float32Array(Uint32Array.of(upperHalf(value) * 65_536).buffer)[0]!;
  });
  assert.is(await importOf(narrowed('BF16', upperHalf)), modelRoot(truncated));
});

test('a folder as other programs write it: tensors in another order, derived buffers', async () => {
  const reordered = rewritten((tensors, data) => {
    const buffer = { name: 'model.layers.0.self_attn.rotary_emb.inv_freq', dtype: 'F32', shape: [2], begin: 0, end: 0 };
    const parts: Uint8Array[] = [];
    let at = 0;
    const moved = [...tensors.toReversed(), buffer].map((tensor) => {
      const part = tensor === buffer ? new Uint8Array(8) : data.subarray(tensor.begin, tensor.end);
      parts.push(part);
      at += part.length;
      return { ...tensor, begin: at - part.length, end: at };
    });
    return { tensors: moved, data: Buffer.concat(parts) };
  });
  assert.is(await importOf(reordered), modelRoot(weightsOf(preset)));
});

function refusedFolder(
  name: string,
  error: { readonly code: string },
  change: (folder: string) => Promise<void>,
  shardBytes?: number,
): void {
  tested.add(error.code);
  test(`${error.code}: ${name}`, async () => {
    assert.is(await importOf(change, shardBytes), error.code);
  });
}

refusedFolder(
  'a shape that is transposed',
  errors.TensorShapeError,
  rewritten((tensors, data) => {
    const [table, ...others] = tensors;
    return { tensors: [{ ...table!, shape: table!.shape.toReversed() }, ...others], data };
  }),
);
refusedFolder(
  'a tensor that is not there',
  errors.MissingTensorError,
  rewritten((tensors, data) => {
    const last = tensors.pop()!;
    return { tensors, data: data.subarray(0, last.begin) };
  }),
);
refusedFolder(
  'a tensor that the model does not have',
  errors.ExtraTensorError,
  rewritten((tensors, data) => {
    const bias = { name: 'lm_head.bias', dtype: 'F32', shape: [1], begin: data.length, end: data.length + 4 };
    return { tensors: [...tensors, bias], data: Buffer.concat([data, Buffer.alloc(4)]) };
  }),
);
refusedFolder(
  'weights that are integers',
  Dtype,
  rewritten((tensors, data) => {
    return { tensors: tensors.map((tensor) => ({ ...tensor, dtype: 'I32' })), data };
  }),
);
refusedFolder(
  'an infinite weight',
  errors.NonFiniteTensorError,
  rewritten((tensors, data) => {
    data.writeFloatLE(Number.POSITIVE_INFINITY, 400);
    return { tensors, data };
  }),
);
refusedFolder(
  'weights that were changed',
  errors.ModelRootMismatchError,
  rewritten((tensors, data) => {
    data.writeFloatLE(1, 400);
    return { tensors, data };
  }),
);
refusedFolder('a file that is cut off', Truncated, async (folder) => {
  const path = join(folder, 'model.safetensors');
  await writeFile(path, (await readFile(path)).subarray(0, -1));
});

const configured = (fields: object) => async (folder: string) => {
  const path = join(folder, 'config.json');
  await writeFile(path, JSON.stringify({ ...JSON.parse(encodeConfig(preset)), ...fields }));
};
refusedFolder('another architecture', errors.ModelConfigError, configured({ model_type: 'gpt2' }));
refusedFolder('biases', errors.ModelConfigError, configured({ attention_bias: true }));
refusedFolder('scaled rotary positions', errors.ModelConfigError, configured({ rope_scaling: { type: 'linear' } }));
refusedFolder('heads of another width', errors.ModelConfigError, configured({ head_dim: 8 }));
refusedFolder('a width that is no number', errors.ModelConfigError, configured({ hidden_size: '24' }));
refusedFolder('a width that no memory holds', errors.ModelConfigError, configured({ vocab_size: 1e300 }));
refusedFolder('no JSON', errors.ModelConfigError, async (folder) => writeFile(join(folder, 'config.json'), '{'));

const indexed = (change: (map: Record<string, string>) => void) => async (folder: string) => {
  const path = join(folder, SAFETENSORS_INDEX_FILE);
  const index = JSON.parse(await readFile(path, 'utf8'));
  change(index.weight_map);
  await writeFile(path, JSON.stringify(index));
};
const SHARD = 4000;
refusedFolder(
  'an index that leads out of the folder',
  errors.ModelIndexError,
  indexed((map) => {
    map['model.norm.weight'] = '../weights.safetensors';
  }),
  SHARD,
);
refusedFolder(
  'an index that contradicts a file',
  errors.ModelIndexError,
  indexed((map) => {
    map['model.norm.weight'] = map['model.embed_tokens.weight']!;
  }),
  SHARD,
);
refusedFolder(
  'an index that leaves a tensor of a file out',
  errors.ModelIndexError,
  indexed((map) => {
    delete map['model.norm.weight'];
  }),
  SHARD,
);
refusedFolder(
  'an index without a map',
  errors.ModelIndexError,
  async (folder) => {
    await writeFile(join(folder, SAFETENSORS_INDEX_FILE), '{"weight_map":[1]}');
  },
  SHARD,
);

test('every class of malformed folder has a test above', () => {
  tested.add(errors.ModelTargetError.code);
  const codes = Object.values(errors).flatMap((error) => ('code' in error ? [error.code as string] : []));
  assert.equal([...tested].sort(), codes.sort());
});

test.run();
