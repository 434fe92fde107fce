import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { centeredClipping, centeredCoefficients } from '../../kernels/aggregate/centered-clipping.ts';
import { coordinateMedian, trimmedMean } from '../../kernels/aggregate/coordinate-rules.ts';
import { InvalidSubmissionsError } from '../../kernels/aggregate/errors.ts';
import { clipScale, innerProduct, medianNorm, normOf } from '../../kernels/aggregate/norm.ts';
import { type AggregationRule, aggregate, type Submission } from '../../kernels/aggregate/rule.ts';
import { weightedMean, weightShares } from '../../kernels/aggregate/weighted-mean.ts';
import { openUpdate } from '../../kernels/gradient/agf1.ts';
import { compressUpdate } from '../../kernels/gradient/compress.ts';
import type { SparseTensor } from '../../kernels/gradient/layout.ts';
import { HEADER, layoutOf, openLimits } from '../gradient/layouts.ts';
import { accountOf, dense, randomRound, randomUpdate, sameBits, shuffled } from './updates.ts';

/** A tensor over several blocks of the kernels, a small one, one that is seldom touched. */
const layout = layoutOf([[200, 200], [7], [64, 64]]);
const elements = 200 * 200 + 7 + 64 * 64;

/** What every rule must do. Each rule runs all of it. */
function complianceSuite(rule: AggregationRule): void {
  const name = rule.name;

  test(`${name}: the order of arrival changes nothing`, () => {
    for (let seed = 1; seed <= 3; seed++) {
      // Dense enough for a median that is not zero.
      const round = randomRound(layout, 2 + seed * 2, seed, 0.8);
      const expected = dense(aggregate(rule, layout, round), layout);
      assert.ok(expected.some((value) => value !== 0));
      for (let order = 0; order < 4; order++) {
        const result = dense(aggregate(rule, layout, shuffled(round, seed * 100 + order)), layout);
        assert.ok(sameBits(result, expected), `seed ${seed}, order ${order}`);
      }
    }
  });

  test(`${name}: nor does it where terms cancel, and any other order of addition would show`, () => {
    // Random rounds alone would not tell: an fp64 sum in another order seldom rounds to another fp32.
    const [first, second] = [31, 32].map((seed) => randomUpdate(layout, 0.5, seed, 1e25));
    const negated = (tensors: SparseTensor[]) =>
      tensors.map((tensor) => ({ ...tensor, values: tensor.values.map((value) => -value) }));
    const updates = [first, second, negated(first), negated(second), randomUpdate(layout, 0.5, 33)];
    for (let assignment = 0; assignment < 4; assignment++) {
      const round = shuffled(updates, assignment).map((tensors, i) => {
        return { account: accountOf(i + 1), weight: 3n, update: { tensors } };
      });
      const expected = dense(aggregate(rule, layout, round), layout);
      for (let order = 0; order < 5; order++) {
        assert.ok(sameBits(dense(aggregate(rule, layout, shuffled(round, 50 + order)), layout), expected));
      }
    }
  });

  test(`${name}: what is left out of an update and what is zero in it are the same`, () => {
    const round = randomRound(layout, 5, 3);
    const spelledOut = round.map((submission) => ({
      ...submission,
      update: {
        tensors: layout.map(({ length, offset }, tensor) => ({
          tensor,
          indices: Uint32Array.from({ length }, (_, i) => i),
          values: dense(submission.update, layout).slice(offset, offset + length),
        })),
      },
    }));
    assert.ok(
      sameBits(dense(aggregate(rule, layout, spelledOut), layout), dense(aggregate(rule, layout, round), layout)),
    );
  });

  test(`${name}: a lone submission, or equal ones, come out as they are`, () => {
    const tensors = randomUpdate(layout, 0.1, 9);
    for (const count of [1, 2, 5]) {
      const round = Array.from({ length: count }, (_, i) => ({
        account: accountOf(i),
        weight: 7n,
        update: { tensors },
      }));
      const result = dense(aggregate(rule, layout, round), layout);
      dense({ tensors }, layout).forEach((value, i) => {
        assert.ok(Math.abs(result[i] - value) <= 1e-6 * Math.abs(value), `${result[i]} for ${value}`);
      });
    }
  });

  test(`${name}: no coordinate leaves the range of what was submitted and zero`, () => {
    const round = randomRound(layout, 7, 5);
    const low = new Float32Array(elements);
    const high = new Float32Array(elements);
    for (const { update } of round) {
      dense(update, layout).forEach((value, i) => {
        low[i] = Math.min(low[i], value);
        high[i] = Math.max(high[i], value);
      });
    }
    const result = dense(aggregate(rule, layout, round), layout);
    assert.ok(result.every((value, i) => value >= low[i] && value <= high[i]));
  });

  test(`${name}: one submission scaled up a million times moves little`, () => {
    const honest = randomRound(layout, 7, 6).map((submission) => ({ ...submission, weight: 10n }));
    const scaled = honest.map((submission, i) => {
      if (i !== 3) return submission;
      const tensors = [...submission.update.tensors].map((tensor) => ({
        ...tensor,
        values: tensor.values.map((v) => v * 1e6),
      }));
      return { ...submission, update: { tensors } };
    });
    const limit = Math.max(...honest.map(({ update }) => normOf(update)));
    assert.ok(normOf(aggregate(rule, layout, scaled)) <= limit);
  });

  test(`${name}: no submissions, empty submissions, a tensor that nobody has`, () => {
    assert.equal(aggregate(rule, layout, []).tensors, []);
    const empty = [1, 2, 3].map((i) => ({ account: accountOf(i), weight: 1n, update: { tensors: [] } }));
    assert.equal(aggregate(rule, layout, empty).tensors, []);
    const round = randomRound(layout, 3, 8).map((submission) => {
      const tensors = [...submission.update.tensors].filter(({ tensor }) => tensor !== 1);
      return { ...submission, update: { tensors } };
    });
    assert.ok(aggregate(rule, layout, round).tensors.every(({ tensor }) => tensor !== 1));
  });

  test(`${name}: results are ascending, finite, without zeros`, () => {
    for (const { indices, values } of aggregate(rule, layout, randomRound(layout, 6, 4, 0.5)).tensors) {
      assert.ok(indices.every((index, i) => i === 0 || index > indices[i - 1]));
      assert.ok(values.every((value) => value !== 0 && Number.isFinite(value)));
      assert.is(indices.length, values.length);
    }
  });

  test(`${name}: contradictory submissions are refused`, () => {
    const [first, second] = randomRound(layout, 2, 2);
    const refused = (round: Submission[]) =>
      assert.throws(
        () => aggregate(rule, layout, round),
        (error: unknown) => error instanceof InvalidSubmissionsError,
      );
    refused([first, { ...second, account: first.account }]);
    refused([first, { ...second, weight: -1n }]);
    const outside = { tensor: 3, indices: Uint32Array.of(0), values: Float32Array.of(1) };
    refused([{ ...first, update: { tensors: [outside] } }]);
    const inside = { ...outside, tensor: 0 };
    refused([{ ...first, update: { tensors: [inside, inside] } }]);
  });
}

for (const rule of [weightedMean(), centeredClipping(), trimmedMean(0.2), coordinateMedian()]) complianceSuite(rule);

test('weighted mean: terms in account order, in fp64, one rounding', () => {
  const round = randomRound(layout, 9, 12, 0.3);
  const ordered = [...round].sort((a, b) => (a.account < b.account ? -1 : 1));
  const norms = ordered.map(({ update }) => normOf(update));
  const total = Number(ordered.reduce((sum, { weight }) => sum + weight, 0n));
  const limit = [...norms].sort((a, b) => a - b)[4];
  const sums = new Float64Array(elements);
  ordered.forEach(({ update, weight }, i) => {
    const coefficient = (Number(weight) / total) * (norms[i] <= limit ? 1 : limit / norms[i]);
    dense(update, layout).forEach((value, at) => {
      if (value !== 0) sums[at] += coefficient * value;
    });
  });
  assert.ok(sameBits(dense(aggregate(weightedMean(), layout, round), layout), Float32Array.from(sums)));
});

test('weighted mean: no submission moves a coordinate by more than its share of the weight', () => {
  const round = randomRound(layout, 6, 13);
  const shares = weightShares(round);
  const without = (i: number) => round.map((s, j) => (j === i ? { ...s, update: { tensors: [] } } : s));
  const limit = medianNorm(round.map(({ update }) => normOf(update)));
  const rule = weightedMean({ normLimit: limit });
  const result = dense(aggregate(rule, layout, round), layout);
  round.forEach(({ update }, i) => {
    const others = dense(aggregate(rule, layout, without(i)), layout);
    dense(update, layout).forEach((value, at) => {
      const bound = shares[i] * Math.abs(value) * (1 + 1e-6) + 1e-6 * Math.abs(others[at]);
      assert.ok(Math.abs(result[at] - others[at]) <= bound);
    });
  });
});

test('weighted mean: weights that no double holds exactly still add up to one; no weight means no update', () => {
  const round = randomRound(layout, 3, 14).map((s, i) => ({ ...s, weight: 2n ** 80n + BigInt(i) }));
  assert.ok(Math.abs(weightShares(round).reduce((a, b) => a + b) - 1) < 1e-15);
  assert.equal(
    aggregate(
      weightedMean(),
      layout,
      round.map((s) => ({ ...s, weight: 0n })),
    ).tensors,
    [],
  );
});

test('median and trimmed mean: against their definition, zeros of the absent included', () => {
  const round = randomRound(layout, 6, 15, 0.6);
  const limit = medianNorm(round.map(({ update }) => normOf(update)));
  const columns = round.map(({ update }) => {
    const scale = clipScale(normOf(update), limit);
    return Float64Array.from(dense(update, layout), (value) => scale * value);
  });
  const median = dense(aggregate(coordinateMedian(), layout, round), layout);
  const trimmed = dense(aggregate(trimmedMean(0.2), layout, round), layout);
  for (let at = 0; at < elements; at++) {
    const sorted = columns.map((column) => column[at]).sort((a, b) => a - b);
    assert.is(median[at] + 0, Math.fround((sorted[2] + sorted[3]) / 2) + 0);
    assert.is(trimmed[at] + 0, Math.fround((sorted[1] + sorted[2] + sorted[3] + sorted[4]) / 4) + 0);
  }
  assert.throws(() => trimmedMean(0.5), RangeError);
});

test('median of many submissions takes the other sorting path', () => {
  const small = layoutOf([[50]]);
  const round = randomRound(small, 61, 16, 0.9);
  const limit = medianNorm(round.map(({ update }) => normOf(update)));
  const result = dense(aggregate(coordinateMedian(), small, round), small);
  for (let at = 0; at < 50; at++) {
    const sorted = round
      .map(({ update }) => clipScale(normOf(update), limit) * dense(update, small)[at])
      .sort((a, b) => a - b);
    assert.is(result[at] + 0, Math.fround(sorted[30]) + 0);
  }
});

test('centered clipping: the coefficients are those of the iteration on dense vectors', () => {
  const round = randomRound(layout, 5, 17, 0.3).map((s, i) => ({ ...s, weight: BigInt(1 + i) }));
  const vectors = round.map(({ update }) => dense(update, layout));
  const shares = weightShares(round);
  const products = round.map(({ update }) => Float64Array.from(round, (other) => innerProduct(update, other.update)));
  const radius = medianNorm(round.map(({ update }) => normOf(update)));
  let center = new Float64Array(elements);
  for (let iterations = 1; iterations <= 4; iterations++) {
    const next = center.slice();
    vectors.forEach((vector, i) => {
      const offsets = center.map((c, at) => vector[at] - c);
      const distance = Math.sqrt(offsets.reduce((sum, d) => sum + d * d, 0));
      const scale = Math.min(1, radius / distance) * shares[i];
      offsets.forEach((d, at) => {
        next[at] += scale * d;
      });
    });
    center = next;
    const coefficients = centeredCoefficients(products, shares, radius, iterations);
    const size = Math.sqrt(center.reduce((sum, c) => sum + c * c, 0));
    const error = center.map((c, at) => vectors.reduce((sum, v, i) => sum + coefficients[i] * v[at], -c));
    assert.ok(Math.sqrt(error.reduce((sum, d) => sum + d * d, 0)) < 1e-9 * size);
  }
});

test('norms, products and the median of norms', () => {
  const a = { tensors: randomUpdate(layout, 0.2, 18) };
  const b = { tensors: randomUpdate(layout, 0.2, 19) };
  const [da, db] = [dense(a, layout), dense(b, layout)];
  const product = da.reduce((sum, value, i) => sum + value * db[i], 0);
  assert.ok(Math.abs(innerProduct(a, b) - product) < 1e-9 * normOf(a) * normOf(b));
  assert.is(innerProduct(a, b), innerProduct(b, a));
  assert.is(Math.sqrt(innerProduct(a, a)), normOf(a));
  assert.is(normOf({ tensors: [] }), 0);
  assert.is(medianNorm([]), 0);
  assert.is(medianNorm([3, 1, 2]), 2);
  assert.is(medianNorm([4, 1, 10, 2]), 2, 'the lower middle');
  assert.is(clipScale(4, 2), 0.5);
  assert.is(clipScale(1, 2), 1);
  assert.is(clipScale(0, 0), 1);
});

test('submissions read from bytes tensor by tensor aggregate like those in memory', () => {
  const round = randomRound(layout, 3, 20);
  const asBytes = round.map((submission) => {
    const delta = dense(submission.update, layout);
    const options = { topK: 4096, valueBits: 32, decay: 0 } as const;
    const bytes = compressUpdate({ layout, delta, errorFeedback: new Float32Array(elements), options, header: HEADER });
    return { ...submission, update: openUpdate(bytes, { layout, limits: openLimits(layout) }) };
  });
  const expected = dense(aggregate(weightedMean(), layout, round), layout);
  assert.ok(sameBits(dense(aggregate(weightedMean(), layout, asBytes), layout), expected));
});

test.run();
