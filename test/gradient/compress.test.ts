import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { assembleUpdate, decodeUpdate, flattenUpdate, updateLimits } from '../../kernels/gradient/agf1.ts';
import { chunkAt, chunkGeometry } from '../../kernels/gradient/chunks.ts';
import {
  type CompressionOptions,
  compressTensor,
  compressUpdate,
  InvalidCompressionError,
  keptElements,
  NonFiniteGradientError,
} from '../../kernels/gradient/compress.ts';
import type { TensorSlot } from '../../kernels/gradient/layout.ts';
import { accumulateAndSelect } from '../../kernels/gradient/top-k.ts';
import { heavyTailed, normalSource, randomSource } from './heavy-tailed.ts';
import { HEADER, layoutOf, openLimits } from './layouts.ts';

/** Matrices with and without edge tiles, short and long vectors, a matrix too thin for tiles, three dimensions. */
const SHAPES = [[128, 192], [70, 131], [64, 64], [192], [5000], [3, 3000], [8, 16, 40], [1]];

function randomVector(length: number, seed: number, scale = 1e-3): Float32Array {
  const normal = normalSource(randomSource(seed));
  return Float32Array.from({ length }, () => scale * normal() * Math.exp(normal()));
}

/** Selection by its definition: sort each chunk by magnitude, then by position; drop zeros. */
function selectByDefinition(values: Float32Array, shape: readonly number[], topK: number): number[] {
  const geometry = chunkGeometry(shape, 'tiles');
  const chosen: number[] = [];
  for (let band = 0; band < geometry.bands; band++) {
    for (let place = 0; place < geometry.chunksPerBand; place++) {
      const { start, height, width } = chunkAt(geometry, band, place);
      const elements = Array.from(
        { length: height * width },
        (_, p) => start + Math.floor(p / width) * geometry.columns + (p % width),
      );
      const kept = elements
        .map((at, position) => ({ at, position, magnitude: Math.abs(values[at]) }))
        .filter(({ magnitude }) => magnitude > 0)
        .sort((a, b) => b.magnitude - a.magnitude || a.position - b.position)
        .slice(0, topK)
        .sort((a, b) => a.position - b.position);
      chosen.push(...kept.map(({ at }) => at));
    }
  }
  return chosen;
}

test('selection is the k largest of each chunk, ties to the lowest position, never zeros', () => {
  const random = randomSource(11);
  for (const shape of SHAPES) {
    for (const topK of [1, 4, 64, 4096]) {
      const length = shape.reduce((a, b) => a * b, 1);
      const continuous = randomVector(length, length + topK);
      // Few distinct magnitudes: ties everywhere. Every tenth chunk-sized stretch is zero, of both signs.
      const tied = Float32Array.from({ length }, (_, i) =>
        Math.floor(i / 400) % 10 === 3 ? (i % 2 ? -0 : 0) : Math.round((random() - 0.5) * 6),
      );
      for (const values of [continuous, tied]) {
        const geometry = chunkGeometry(shape, 'tiles');
        const selection = accumulateAndSelect(values, new Float32Array(length), geometry, topK, 0.95);
        assert.equal([...selection.indices], selectByDefinition(values, shape, topK), `${shape} k=${topK}`);
      }
    }
  }
});

test('magnitudes that jump between chunks do not mislead the threshold', () => {
  const values = new Float32Array(4096 * 8);
  const random = randomSource(5);
  [1, 1e-30, 1e30, 0, 1e-42, 1, 1e-3, 1e3].forEach((scale, chunk) => {
    for (let i = 0; i < 4096; i++) values[chunk * 4096 + i] = (random() - 0.5) * scale;
  });
  const shape = [values.length];
  const selection = accumulateAndSelect(values, new Float32Array(values.length), chunkGeometry(shape, 'tiles'), 64, 1);
  assert.equal([...selection.indices], selectByDefinition(values, shape, 64));
});

/** Runs rounds of compression and checks feedback against its definition, element by element, bit by bit. */
function checkErrorFeedback(options: CompressionOptions, layout: TensorSlot[]): void {
  const elements = layout.at(-1)!.offset + layout.at(-1)!.length;
  const feedback = new Float32Array(elements);
  for (let round = 0; round < 4; round++) {
    const delta = randomVector(elements, 100 + round);
    const before = feedback.slice();
    const bytes = compressUpdate({ layout, delta, errorFeedback: feedback, options, header: HEADER });
    const update = decodeUpdate(bytes, { layout, limits: openLimits(layout) });
    const expected = before.map((e, i) => Math.fround(options.decay * e + delta[i]));
    const { indices, values } = flattenUpdate(update, layout);
    indices.forEach((at, i) => {
      expected[at] = Math.fround(expected[at] - values[i]);
    });
    assert.equal(
      Buffer.compare(Buffer.from(expected.buffer), Buffer.from(feedback.buffer)),
      0,
      JSON.stringify(options),
    );
    assert.ok(
      indices.every((at, i) => i === 0 || at > indices[i - 1]),
      'indices ascend',
    );
  }
}

test('error feedback is the decayed sum minus what decoders read, for every value type and chunking', () => {
  const layout = layoutOf(SHAPES);
  for (const valueBits of [2, 8, 32] as const) {
    for (const chunking of ['tiles', 'tensor'] as const) {
      for (const topK of [4, 64]) checkErrorFeedback({ topK, valueBits, decay: 0.95, chunking }, layout);
    }
  }
  checkErrorFeedback({ topK: 4096, valueBits: 32, decay: 0, chunking: 'tiles' }, layout);
});

test('float32 values leave nothing behind where they were sent', () => {
  const layout = layoutOf([[128, 128]]);
  const errorFeedback = new Float32Array(128 * 128);
  const delta = randomVector(errorFeedback.length, 3);
  const options = { topK: 4096, valueBits: 32, decay: 0.95 } as const;
  const bytes = compressUpdate({ layout, delta, errorFeedback, options, header: HEADER });
  assert.ok(errorFeedback.every((e) => e === 0));
  const [tensor] = decodeUpdate(bytes, { layout, limits: openLimits(layout) }).tensors;
  assert.equal(tensor.values, delta);
});

test('a submission keeps the promised number of elements and fits the limits of its network', () => {
  const layout = layoutOf(SHAPES);
  const elements = layout.at(-1)!.offset + layout.at(-1)!.length;
  for (const valueBits of [2, 8, 32] as const) {
    for (const topK of [1, 4, 64, 1000]) {
      const limits = updateLimits(layout, { topK, valueBits, innerLearningRate: 1, maxInnerSteps: 1e6 });
      for (const chunking of ['tiles', 'tensor'] as const) {
        const delta = randomVector(elements, topK);
        // Elements far apart at the far end: the costliest positions.
        for (let i = 0; topK === 4 && i < elements; i++) if (i % 4096 < 4080) delta[i] = 1e-9;
        const options = { topK, valueBits, decay: 0.95, chunking };
        const input = { layout, delta, errorFeedback: new Float32Array(elements), options, header: HEADER };
        const update = decodeUpdate(compressUpdate(input), { layout, limits, expected: HEADER });
        const kept = update.tensors.reduce((sum, { indices }) => sum + indices.length, 0);
        if (chunking === 'tiles') assert.is(kept, keptElements(layout, topK));
        assert.ok(kept <= limits.maxEntries);
      }
    }
  }
});

test('whatever was trained, what is sent is within the bounds, and the rest waits', () => {
  const layout = layoutOf(SHAPES);
  const elements = layout.at(-1)!.offset + layout.at(-1)!.length;
  const bounds = { maxMagnitude: 2, maxRms: 0.5 };
  for (const valueBits of [2, 8, 32] as const) {
    for (const scale of [1, 30, 1e20, 1e37]) {
      const delta = randomVector(elements, 5).map((value, i) => (i % 97 === 0 ? scale : 1) * value);
      const errorFeedback = new Float32Array(elements);
      const options = { topK: 64, valueBits, decay: 0.95, bounds };
      const bytes = compressUpdate({ layout, delta, errorFeedback, options, header: HEADER });
      const update = decodeUpdate(bytes, { layout, limits: { ...openLimits(layout), bounds } });
      for (const { tensor, indices, values } of update.tensors) {
        for (const [i, index] of indices.entries()) {
          const at = layout[tensor].offset + index;
          assert.is(errorFeedback[at], Math.fround(delta[at] - values[i]));
        }
      }
      const unbounded = { ...options, bounds: { maxMagnitude: Number.POSITIVE_INFINITY, maxRms: 1e30 } };
      const input = { layout, delta, errorFeedback: new Float32Array(elements), header: HEADER };
      if (scale > 1e30) continue;
      const { bounds: _, ...plain } = options;
      assert.equal(
        compressUpdate({ ...input, options: unbounded }),
        compressUpdate({ ...input, errorFeedback: new Float32Array(elements), options: plain }),
      );
    }
  }
});

test('tensor by tensor in any order gives the same bytes as all at once', () => {
  const layout = layoutOf(SHAPES);
  const elements = layout.at(-1)!.offset + layout.at(-1)!.length;
  const delta = randomVector(elements, 9);
  const options = { topK: 32, valueBits: 2, decay: 0.9 } as const;
  const whole = compressUpdate({ layout, delta, errorFeedback: new Float32Array(elements), options, header: HEADER });
  const records = layout
    .map((slot, tensor) => {
      const part = delta.slice(slot.offset, slot.offset + slot.length);
      return compressTensor({ slot, tensor, delta: part, feedback: new Float32Array(slot.length), options })!;
    })
    .reverse();
  assert.equal(assembleUpdate(HEADER, records), whole);
});

test('what is not finite is refused and changes nothing', () => {
  const layout = layoutOf([[64, 64], [100]]);
  const options = { topK: 4, valueBits: 2, decay: 1 } as const;
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 3.4e38]) {
    const delta = new Float32Array(4196).fill(1);
    delta[4150] = bad;
    const errorFeedback = new Float32Array(4196).fill(3.4e38 / 2);
    const before = errorFeedback.slice();
    assert.throws(
      () => compressUpdate({ layout, delta, errorFeedback, options, header: HEADER }),
      (error: unknown) => error instanceof NonFiniteGradientError && error.message.includes('t1'),
    );
    assert.equal(errorFeedback, before);
  }
});

test('sums up to the largest fp32 pass, sums that round to infinity do not', () => {
  const layout = layoutOf([[2]]);
  const options = { topK: 1, valueBits: 32, decay: 1 } as const;
  const largest = 3.4028234663852886e38;
  const halfUnit = 2 ** 103;
  const run = (added: number) => {
    const input = { delta: Float32Array.of(largest, 0), errorFeedback: Float32Array.of(added, 0) };
    compressUpdate({ layout, ...input, options, header: HEADER });
  };
  run(halfUnit / 2);
  assert.throws(
    () => run(halfUnit),
    (error: unknown) => error instanceof NonFiniteGradientError,
  );
});

test('options out of range and arrays that do not fit are refused', () => {
  const layout = layoutOf([[64]]);
  const good = { topK: 4, valueBits: 2, decay: 0.9 } as const;
  const bad = [{ topK: 0 }, { topK: 4097 }, { topK: 1.5 }, { decay: 1.1 }, { decay: Number.NaN }];
  for (const change of bad) {
    const input = { layout, delta: new Float32Array(64), errorFeedback: new Float32Array(64), header: HEADER };
    assert.throws(
      () => compressUpdate({ ...input, options: { ...good, ...change } }),
      (error: unknown) => error instanceof InvalidCompressionError,
    );
  }
  const short = { layout, delta: new Float32Array(63), errorFeedback: new Float32Array(64), header: HEADER };
  assert.throws(
    () => compressUpdate({ ...short, options: good }),
    (error: unknown) => error instanceof InvalidCompressionError,
  );
});

test('sizes: 200 times smaller at k=64 with 2 bits; indices within 3 % of the entropy bound', () => {
  const layout = layoutOf([[512, 1024]]);
  const delta = heavyTailed(512, 1024, 1);
  const bytesAt = (topK: number, valueBits: 2 | 8) => {
    const input = { layout, delta, errorFeedback: new Float32Array(delta.length) };
    return compressUpdate({ ...input, options: { topK, valueBits, decay: 0.95 }, header: HEADER }).length;
  };
  assert.ok(delta.byteLength / bytesAt(64, 2) >= 200, `${delta.byteLength / bytesAt(64, 2)}`);
  for (const [topK, boundBits] of [
    [4, 10.85],
    [32, 8.32],
    [64, 7.36],
  ]) {
    const entries = (delta.length / 4096) * topK;
    const indexBits = ((bytesAt(topK, 8) - 112 - 16 - 8 - entries) * 8) / entries;
    assert.ok(indexBits < 1.03 * boundBits, `k=${topK}: ${indexBits} bits`);
  }
});

test('reconstruction: 2-bit values keep every sign of heavy-tailed values; 8-bit values are within 2 %', () => {
  const shape = [256, 256];
  const geometry = chunkGeometry(shape, 'tiles');
  const delta = heavyTailed(256, 256, 2);
  for (const [valueBits, bound] of [
    [2, 0.4],
    [8, 0.02],
  ] as const) {
    const feedback = delta.slice();
    const layout = layoutOf([shape]);
    const input = { layout, delta: new Float32Array(delta.length), errorFeedback: feedback, header: HEADER };
    const bytes = compressUpdate({ ...input, options: { topK: 64, valueBits, decay: 1 } });
    const { indices, values } = decodeUpdate(bytes, { layout, limits: openLimits(layout) }).tensors[0];
    let error = 0;
    let norm = 0;
    indices.forEach((at, i) => {
      assert.is(Math.sign(values[i]), Math.sign(delta[at]));
      error += (values[i] - delta[at]) ** 2;
      norm += delta[at] ** 2;
    });
    assert.ok(Math.sqrt(error / norm) < bound, `${valueBits} bits: ${Math.sqrt(error / norm)}`);
    assert.is(indices.length, geometry.chunks * 64);
  }
});

test.run();
