import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { applyDeltas, applyUpdate, scoringVariant, undoChange } from '../../kernels/aggregate/apply.ts';
import { NonFiniteWeightError } from '../../kernels/aggregate/errors.ts';
import { layoutOf } from '../gradient/layouts.ts';
import { dense, randomUpdate, sameBits } from './updates.ts';

const layout = layoutOf([[100, 90], [7], [64, 64]]);
const elements = 9000 + 7 + 4096;

/** Weights with every kind of bits that undo could lose: both zeros, denormals, large and small. */
function oddWeights(): Float32Array {
  const odd = [0, -0, 1e-45, -1e-40, 1, -1, 1e30, 3e-8];
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

test('a scoring variant is the clipped submission times the step, added and taken back', () => {
  const weights = oddWeights();
  const before = weights.slice();
  const update = { tensors: randomUpdate(layout, 0.2, 4) };
  const variant = scoringVariant(update, layout, { clipScale: 0.5, step: 0.4 });
  assert.ok(variant.indices.every((index, i) => i === 0 || index > variant.indices[i - 1]));
  const saved = applyDeltas(weights, variant);
  const values = dense(update, layout);
  weights.forEach((weight, i) => {
    assert.is(weight + 0, Math.fround(before[i] + Math.fround(-0.2 * values[i])) + 0);
  });
  undoChange(weights, saved);
  assert.ok(sameBits(weights, before));
});

test('an update that would spoil a weight changes nothing', () => {
  const weights = oddWeights();
  weights[9003] = 3e38;
  const before = weights.slice();
  const good = { tensor: 0, indices: Uint32Array.of(1, 5), values: Float32Array.of(1, 2) };
  for (const value of [-3e38, Number.NaN]) {
    const bad = { tensor: 1, indices: Uint32Array.of(2, 3, 6), values: Float32Array.of(1, value, 1) };
    assert.throws(
      () => applyUpdate(weights, layout, { tensors: [good, bad] }, 1),
      (error: unknown) => error instanceof NonFiniteWeightError,
    );
    assert.ok(sameBits(weights, before));
    assert.throws(
      () => applyDeltas(weights, { indices: Uint32Array.of(9003), deltas: Float32Array.of(-value) }),
      (error: unknown) => error instanceof NonFiniteWeightError,
    );
    assert.ok(sameBits(weights, before));
  }
});

test.run();
