import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { applyUpdate, MAX_WEIGHT, scoringVariant, undoChange } from '../../kernels/aggregate/apply.ts';
import { layoutOf } from '../gradient/layouts.ts';
import { dense, randomUpdate, sameBits } from './updates.ts';

const layout = layoutOf([[100, 90], [7], [64, 64]]);
const elements = 9000 + 7 + 4096;

/** Weights with every kind of bits that undo could lose: both zeros, denormals, large and small. */
function oddWeights(): Float32Array {
  const odd = [0, -0, 1e-45, -1e-40, 1, -1, 9e3, 3e-8];
  return Float32Array.from({ length: elements }, (_, i) => odd[i % odd.length] * (1 + (i % 7)));
}

test('applying subtracts step times aggregate, rounded once; undoing restores every byte', () => {
  const weights = oddWeights();
  const before = weights.slice();
  const update = { tensors: randomUpdate(layout, 0.3, 1) };
  const saved = applyUpdate(weights, layout, update, 1.7);
  const expected = dense(update, layout).map((value, i) => (value === 0 ? before[i] : before[i] - 1.7 * value));
  assert.ok(sameBits(weights, expected));
  assert.not.ok(sameBits(weights, before));
  undoChange(weights, saved);
  assert.ok(sameBits(weights, before));
});

test('changes nest: undone in reverse order they restore every byte', () => {
  const weights = oddWeights();
  const before = weights.slice();
  const saved = [1, 2, 3].map((seed) =>
    applyUpdate(weights, layout, { tensors: randomUpdate(layout, 0.3, seed) }, 0.5),
  );
  for (const change of saved.reverse()) undoChange(weights, change);
  assert.ok(sameBits(weights, before));
});

test('a scoring variant is the clipped submission times the step, to be added', () => {
  const update = { tensors: randomUpdate(layout, 0.2, 4) };
  const variant = scoringVariant(update, layout, { clipScale: 0.5, step: 0.4 });
  assert.ok(variant.indices.every((index, i) => i === 0 || index > variant.indices[i - 1]));
  const values = dense(update, layout);
  const deltas = new Float32Array(elements);
  for (const [i, index] of variant.indices.entries()) deltas[index] = variant.deltas[i];
  deltas.forEach((delta, i) => {
    assert.is(delta + 0, Math.fround(-0.2 * values[i]) + 0);
  });
});

test('a weight that an update would take beyond the bound ends there, and undoing restores it', () => {
  const weights = oddWeights();
  weights.set([0.5, -0.5, MAX_WEIGHT, -MAX_WEIGHT, 1e-45, 65_503.9, 1], 9000);
  const before = weights.slice();
  const largest = 3.4028234663852886e38;
  const values = [-largest, largest, -largest, largest, Number.POSITIVE_INFINITY, -0.2, -0];
  const update = {
    tensors: [{ tensor: 1, indices: Uint32Array.from(values.keys()), values: Float32Array.from(values) }],
  };
  const saved = applyUpdate(weights, layout, update, 1.7);
  assert.equal(
    [...weights.subarray(9000, 9007)],
    [MAX_WEIGHT, -MAX_WEIGHT, MAX_WEIGHT, -MAX_WEIGHT, -MAX_WEIGHT, MAX_WEIGHT, 1],
  );
  undoChange(weights, saved);
  assert.ok(sameBits(weights, before));
});

test.run();
