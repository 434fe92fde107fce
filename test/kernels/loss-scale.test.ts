import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LossScale } from '../../kernels/engine/loss-scale.ts';

test('overflow halves, good steps in a row double', () => {
  const scale = new LossScale({ initial: 8, growthInterval: 3, largest: 16 });
  assert.is(scale.overflowed(), true);
  assert.is(scale.value, 4);
  scale.succeeded();
  scale.succeeded();
  assert.is(scale.value, 4);
  scale.succeeded();
  assert.is(scale.value, 8);
  for (let i = 0; i < 3; i++) scale.succeeded();
  assert.is(scale.value, 16);
  for (let i = 0; i < 9; i++) scale.succeeded();
  assert.is(scale.value, 16, 'the largest');
});

test('an overflow starts the count anew', () => {
  const scale = new LossScale({ initial: 8, growthInterval: 2 });
  scale.succeeded();
  scale.overflowed();
  scale.succeeded();
  assert.is(scale.value, 4);
  scale.succeeded();
  assert.is(scale.value, 8);
});

test('at 1 an overflow is no matter of the scale', () => {
  const scale = new LossScale({ initial: 2 });
  assert.is(scale.overflowed(), true);
  assert.is(scale.overflowed(), false);
  assert.is(scale.value, 1);
});

test('only powers of two, which round nothing', () => {
  assert.throws(() => new LossScale({ initial: 1000 }), /power of two/);
  assert.throws(() => new LossScale({ initial: 0.5 }), /power of two/);
  assert.throws(() => new LossScale({ largest: Number.NaN }), /power of two/);
});

test.run();
