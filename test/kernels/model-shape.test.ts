/** Presets, tensor layout and initial weights: data that a network agrees on. */
import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  INITIAL_DEVIATION,
  InvalidSeedError,
  initializeTensor,
  initialWeights,
} from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import {
  InvalidPresetError,
  type Preset,
  parsePreset,
  presetByName,
  presetRecord,
  presets,
} from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';

const nano = presets['alice-nano'];

test('presets have the published sizes', () => {
  const counts = Object.fromEntries(
    Object.values<Preset>(presets).map((preset) => [preset.name, parameterCount(preset)]),
  );
  assert.equal(counts, {
    'alice-nano': 3_147_456,
    'alice-tiny': 15_733_632,
    'alice-50m': 47_891_456,
    'alice-125m': 124_730_880,
    'alice-1b': 927_340_544,
    'alice-7b': 6_183_333_888,
  });
  for (const [name, preset] of Object.entries<Preset>(presets)) assert.is(presetByName(name), preset);
  assert.throws(
    () => presetByName('alice-8b'),
    (error: Error) => error instanceof InvalidPresetError && error.message.includes('alice-nano'),
  );
});

test('a preset goes through a genesis record unchanged', () => {
  for (const preset of Object.values<Preset>(presets))
    assert.equal(parsePreset(JSON.parse(JSON.stringify(presetRecord(preset)))), preset);
});

test('a preset has the documented hash, whatever its name and the order of its fields', () => {
  const text =
    '{"context":128,"ffn":512,"hidden":192,"keyValueHeads":2,"layers":4,"normEpsilon":0.00001,"queryHeads":6,' +
    '"ropeTheta":10000,"tied":false,"vocabulary":4096}';
  const documented = createHash('sha256').update(`\x0ealice/preset/1${text}`).digest('hex');
  assert.is(presetHash(nano), documented);
  assert.is(presetHash(nano), '18bb085cf49d9288184a074520fee19cd03afd4256252a90c857b205ad73b671');
  const reversed = Object.fromEntries(Object.entries(presetRecord(nano)).reverse());
  assert.is(presetHash(parsePreset({ ...reversed, name: 'other' })), documented);
  const others: Partial<Preset>[] = [
    { context: 64 },
    { ffn: 256 },
    { hidden: 96 },
    { keyValueHeads: 3 },
    { layers: 5 },
    { normEpsilon: 1e-6 },
    { queryHeads: 2 },
    { ropeTheta: 10_001 },
    { tied: true },
    { vocabulary: 4097 },
  ];
  // Every field but the name counts.
  assert.equal(
    others.flatMap((other) => Object.keys(other)).sort(),
    Object.keys(nano)
      .filter((field) => field !== 'name')
      .sort(),
  );
  const hashes = others.map((other) => presetHash(parsePreset({ ...nano, ...other })));
  assert.is(new Set([documented, ...hashes]).size, others.length + 1);
  // A stray field would make two hashes of one model.
  const stray = { ...nano, extra: 1 };
  assert.throws(
    () => presetHash(stray),
    (error: Error) => error instanceof InvalidPresetError,
  );
});

test('a preset that contradicts itself is refused, naming the field', () => {
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ layers: 0 }, /layers/],
    [{ layers: 1.5 }, /layers/],
    [{ hidden: '192' }, /hidden/],
    [{ hidden: 190 }, /query heads/],
    [{ hidden: 18, queryHeads: 6 }, /even/],
    [{ keyValueHeads: 4 }, /key\/value heads/],
    [{ vocabulary: 1 }, /vocabulary/],
    [{ normEpsilon: Number.NaN }, /normEpsilon/],
    [{ ropeTheta: Number.POSITIVE_INFINITY }, /ropeTheta/],
    [{ tied: 1 }, /tied/],
    [{ name: '../x' }, /name/],
    [{ extra: 1 }, /extra/],
    [{ ffn: undefined }, /ffn/],
    [{ hidden: 2 ** 40, queryHeads: 1, keyValueHeads: 1 }, /hidden/],
  ];
  for (const [change, message] of wrong)
    assert.throws(
      () => parsePreset({ ...presetRecord(nano), ...change }),
      (error: Error) => error instanceof InvalidPresetError && message.test(error.message),
      JSON.stringify(change),
    );
});

test('the layout has every tensor once, without gaps', () => {
  for (const preset of [nano, parsePreset({ ...nano, tied: true })]) {
    const layout = tensorLayout(preset);
    let offset = 0;
    for (const slot of layout) {
      assert.is(slot.offset, offset);
      assert.is(
        slot.length,
        slot.shape.reduce((a, b) => a * b, 1),
      );
      offset += slot.length;
    }
    assert.is(offset, parameterCount(preset));
    assert.is(new Set(layout.map((slot) => slot.name)).size, layout.length);
    assert.is(layout.length, 2 + 9 * preset.layers + (preset.tied ? 0 : 1));
  }
  assert.equal(
    tensorLayout(nano)
      .slice(0, 11)
      .map(({ name, shape }) => `${name} ${shape}`),
    [
      'embedding 4096,192',
      'layers.0.attention.norm 192',
      'layers.0.attention.query 192,192',
      'layers.0.attention.key 64,192',
      'layers.0.attention.value 64,192',
      'layers.0.attention.output 192,192',
      'layers.0.ffn.norm 192',
      'layers.0.ffn.gate 512,192',
      'layers.0.ffn.up 512,192',
      'layers.0.ffn.down 192,512',
      'layers.1.attention.norm 192',
    ],
  );
});

test('initial weights are these bytes on every machine', () => {
  const hash = (weights: Float32Array) => createHash('sha256').update(new Uint8Array(weights.buffer)).digest('hex');
  assert.is(
    hash(initialWeights(nano, new Uint8Array(32))),
    '063d487196868df8937eb0268a8d784542b326e5a6d8704d21b2e8acd21028cd',
  );
  assert.is.not(hash(initialWeights(nano, new Uint8Array(32).fill(1))), hash(initialWeights(nano, new Uint8Array(32))));
});

test('initial weights have the intended distribution', () => {
  const weights = initialWeights(nano, new Uint8Array(32).fill(9));
  for (const { name, role, offset, length } of tensorLayout(nano)) {
    const values = weights.subarray(offset, offset + length);
    if (role === 'norm') {
      assert.ok(
        values.every((value) => value === 1),
        name,
      );
      continue;
    }
    const deviation = role === 'residual-projection' ? INITIAL_DEVIATION / Math.sqrt(8) : INITIAL_DEVIATION;
    const mean = values.reduce((sum, value) => sum + value, 0) / length;
    const square = values.reduce((sum, value) => sum + value * value, 0) / length;
    // Bounds of five standard errors.
    assert.ok(Math.abs(mean) < (5 * deviation) / Math.sqrt(length), `${name}: mean ${mean}`);
    assert.ok(Math.abs(Math.sqrt(square) / deviation - 1) < 5 / Math.sqrt(2 * length), `${name}: ${Math.sqrt(square)}`);
    // Not all from one end, no repetition of the key stream.
    assert.ok(new Set(values).size > Math.min(length * 0.8, 100_000) * 0.5, name);
  }
});

test('one tensor alone comes out as within the model, and a seed has 32 bytes', () => {
  const seed = new Uint8Array(32).fill(3);
  const weights = initialWeights(nano, seed);
  const slot = tensorLayout(nano)[9]!;
  const alone = new Float32Array(slot.length);
  initializeTensor(nano, seed, slot, alone);
  assert.equal(alone, weights.slice(slot.offset, slot.offset + slot.length));
  assert.throws(
    () => initialWeights(nano, new Uint8Array(31)),
    (error: Error) => error instanceof InvalidSeedError,
  );
});

test.run();
