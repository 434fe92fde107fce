import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  assembleUpdate,
  decodeUpdate,
  InvalidUpdateHeaderError,
  openUpdate,
  UPDATE_HEADER_BYTES,
} from '../../kernels/gradient/agf1.ts';
import { type Chunking, chunkGeometry, fullEntries } from '../../kernels/gradient/chunks.ts';
import { compressUpdate } from '../../kernels/gradient/compress.ts';
import type { ValueBits } from '../../kernels/gradient/quantize.ts';
import { encodeRecord } from '../../kernels/gradient/record.ts';
import { bestRiceParameter, MAX_RICE_PARAMETER, RiceReader, writeRice } from '../../kernels/gradient/rice.ts';
import { randomSource } from './heavy-tailed.ts';
import { HEADER, layoutOf, openLimits } from './layouts.ts';

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** Encodes values at the given positions of a 4096-element vector and reads them back. */
function roundTrip(values: Float32Array, valueBits: ValueBits): { sent: Float32Array; read: Float32Array } {
  const layout = layoutOf([[4096]]);
  const geometry = chunkGeometry([4096], 'tiles');
  const positions = Uint32Array.from(values, (_, i) => i * 3);
  const options = { tensor: 0, topK: 64, valueBits, geometry, chunking: 'tiles' as const };
  const { record, decoded } = encodeRecord(options, Uint32Array.of(values.length), positions, values);
  const update = decodeUpdate(assembleUpdate(HEADER, [record]), { layout, limits: openLimits(layout) });
  assert.equal(update.tensors[0].indices, positions);
  assert.equal(bitsOf(update.tensors[0].values), bitsOf(decoded), 'the encoder knows what decoders read');
  return { sent: values, read: update.tensors[0].values };
}

test('an update without elements', () => {
  const layout = layoutOf([[64, 64], [10]]);
  for (const valueBits of [2, 8, 32] as const) {
    const errorFeedback = new Float32Array(4106);
    const delta = new Float32Array(4106).fill(-0);
    const options = { topK: 4, valueBits, decay: 0.95 };
    const bytes = compressUpdate({ layout, delta, errorFeedback, options, header: HEADER });
    assert.is(bytes.length, UPDATE_HEADER_BYTES);
    assert.equal(decodeUpdate(bytes, { layout, limits: openLimits(layout) }), { header: HEADER, tensors: [] });
  }
});

test('all-equal values are exact in every type', () => {
  for (const valueBits of [2, 8, 32] as const) {
    for (const value of [1, -1, 0.1, 3.4028234663852886e38, -1.401298464324817e-45, 1e-40]) {
      for (const count of [1, 2, 3, 5, 64]) {
        const { sent, read } = roundTrip(new Float32Array(count).fill(value), valueBits);
        assert.equal(bitsOf(read), bitsOf(sent), `${valueBits} bits, ${count} times ${value}`);
      }
    }
  }
});

test('denormals and negative zero: exact in float32, near in 8 bits', () => {
  const values = Float32Array.of(1.401298464324817e-45, -1e-40, 1e-39, -0, 0, 1.1754942e-38, -1.1754944e-38);
  const exact = roundTrip(values, 32);
  assert.equal(bitsOf(exact.read), bitsOf(values));
  const near = roundTrip(values, 8);
  assert.ok(Object.is(near.read[3], -0) && Object.is(near.read[4], 0), 'zeros keep their sign');
  near.read.forEach((value, i) => {
    assert.ok(Math.abs(value - values[i]) <= 1.2e-38 / 127, `${value} for ${values[i]}`);
    assert.is(Math.sign(1 / value), Math.sign(1 / values[i]));
  });
});

test('denormals and negative zero in 2 bits: finite and small, four distinct values exact', () => {
  const denormals = Float32Array.of(1.401298464324817e-45, -1e-40, 1e-39, -0, 0, 1.1754942e-38, -1.1754944e-38);
  const { read } = roundTrip(denormals, 2);
  for (const [i, value] of read.entries()) assert.ok(Math.abs(value - denormals[i]) <= 1.2e-38, `${value}`);
  const zeros = roundTrip(Float32Array.of(-0, 0, -0), 2).read;
  assert.ok(zeros.every((value) => value === 0));
  const four = roundTrip(Float32Array.of(-1e-40, -1e-41, 1e-41, 1e-40), 2);
  assert.equal(bitsOf(four.read), bitsOf(four.sent));
});

test('two opposite values are exact in 2 bits; four levels are near for any values', () => {
  const { sent, read } = roundTrip(Float32Array.of(1, -1, 1, 1, -1, -1, -1), 2);
  assert.equal(read, sent);
  const random = randomSource(4);
  const values = Float32Array.from({ length: 64 }, () => (random() < 0.5 ? -1 : 1) * (1 + random()));
  const near = roundTrip(values, 2).read;
  assert.ok(near.every((value, i) => Math.abs(value - values[i]) <= 0.5));
});

test('8-bit magnitudes are off by at most half a step of their logarithmic scale', () => {
  const random = randomSource(8);
  const values = Float32Array.from({ length: 64 }, () => (random() < 0.5 ? -1 : 1) * 10 ** (random() * 3 - 4));
  const { read } = roundTrip(values, 8);
  // Three decades are 9.97 octaves; a step is 1/127 of the bit patterns between the ends.
  read.forEach((value, i) => {
    assert.ok(Math.abs(value / values[i] - 1) < (9.97 / 127) * 0.55, `${value} for ${values[i]}`);
  });
});

test('random sparse tensors of every chunking, shape and density survive', () => {
  const random = randomSource(21);
  const shapes = [[64, 64], [65, 130], [200, 64], [4096], [9000], [17], [2, 5000]];
  for (let trial = 0; trial < 400; trial++) {
    const shape = shapes[trial % shapes.length];
    const chunking: Chunking = random() < 0.7 ? 'tiles' : 'tensor';
    const valueBits = ([2, 8, 32] as const)[trial % 3];
    const geometry = chunkGeometry(shape, chunking);
    const topK = 1 + Math.floor(random() ** 4 * (geometry.largestChunk - 1));
    const counts = new Uint32Array(geometry.chunks);
    const positions: number[] = [];
    const full = random() < 0.4;
    for (let band = 0, chunk = 0; band < geometry.bands; band++) {
      for (let place = 0; place < geometry.chunksPerBand; place++, chunk++) {
        const rows = geometry.tiled ? Math.min(64, shape[0] - band * 64) : 1;
        const run = Math.min(geometry.largestChunk, geometry.length - band * geometry.largestChunk);
        const size = geometry.tiled ? rows * Math.min(64, shape[1] - place * 64) : run;
        const cap = Math.min(topK, size);
        const count = full ? cap : Math.floor(random() * (cap + 1));
        const chosen = new Set<number>();
        while (chosen.size < count) chosen.add(Math.floor(random() * size));
        counts[chunk] = count;
        positions.push(...[...chosen].sort((a, b) => a - b));
      }
    }
    if (positions.length === 0) continue;
    const values = Float32Array.from(positions, () => random() - 0.5);
    const layout = layoutOf([shape]);
    const options = { tensor: 0, topK, valueBits, geometry, chunking };
    const { record, decoded } = encodeRecord(options, counts, Uint32Array.from(positions), values);
    const [tensor] = decodeUpdate(assembleUpdate(HEADER, [record]), { layout, limits: openLimits(layout) }).tensors;
    assert.ok(tensor.indices.every((at, i) => at < layout[0].length && (i === 0 || at > tensor.indices[i - 1])));
    assert.is(tensor.values.length, positions.length);
    assert.ok(positions.length <= fullEntries(geometry, topK));
    // The value of an element is found at its own place: compare as sets of (index, value bits).
    const expected = new Map<number, number>();
    let at = 0;
    for (let band = 0, chunk = 0; band < geometry.bands; band++) {
      for (let place = 0; place < geometry.chunksPerBand; place++, chunk++) {
        const width = geometry.tiled ? Math.min(64, shape[1] - place * 64) : geometry.largestChunk;
        for (const end = at + counts[chunk]; at < end; at++) {
          const row = Math.floor(positions[at] / width);
          const index = geometry.tiled
            ? (band * 64 + row) * shape[1] + place * 64 + (positions[at] % width)
            : band * geometry.largestChunk + positions[at];
          expected.set(index, bitsOf(decoded)[at]);
        }
      }
    }
    tensor.indices.forEach((index, i) => {
      assert.is(bitsOf(tensor.values)[i], expected.get(index));
    });
  }
});

test('Rice codes survive with every parameter, and the chosen parameter is the best', () => {
  const random = randomSource(31);
  for (let trial = 0; trial < 200; trial++) {
    const size = 1 + Math.floor(random() ** 3 * 2 ** 22);
    const chunks = 1 + Math.floor(random() * 4);
    const counts = Uint32Array.from({ length: chunks }, () => Math.floor(random() * Math.min(size, 40)));
    const positions: number[] = [];
    for (const count of counts) {
      const chosen = new Set<number>();
      while (chosen.size < count) chosen.add(Math.floor(random() ** 2 * size));
      positions.push(...[...chosen].sort((a, b) => a - b));
    }
    const all = Uint32Array.from(positions);
    const best = bestRiceParameter(counts, all, all.length);
    for (let parameter = 0; parameter <= MAX_RICE_PARAMETER; parameter++) {
      let bits = 0;
      let at = 0;
      for (const count of counts) {
        for (let i = 0, next = 0; i < count; i++, at++) {
          bits += ((positions[at] - next) >>> parameter) + 1 + parameter;
          next = positions[at] + 1;
        }
      }
      assert.ok(bits > best.bits || (bits === best.bits && parameter >= best.parameter), `${parameter}`);
      if (bits > 1e6) continue;
      const stream = new Uint8Array(Math.ceil(bits / 8));
      writeRice(counts, all, parameter, stream);
      const reader = new RiceReader(stream, parameter);
      const read = new Uint32Array(all.length);
      let to = 0;
      for (const count of counts) {
        reader.read(count, size, read, to);
        to += count;
      }
      reader.finish();
      assert.equal(read, all);
    }
  }
});

test('a reader decodes tensor by tensor, as often as asked', () => {
  const layout = layoutOf([[64, 64], [100], [128, 64]]);
  const delta = Float32Array.from({ length: 12388 }, (_, i) => Math.sin(i));
  const options = { topK: 8, valueBits: 8, decay: 0 } as const;
  const errorFeedback = new Float32Array(delta.length);
  const bytes = compressUpdate({ layout, delta, errorFeedback, options, header: HEADER });
  // At an odd place of a larger buffer: decoders must not rely on alignment or on the buffer's start.
  const shifted = new Uint8Array(bytes.length + 3).subarray(3);
  shifted.set(bytes);
  const reader = openUpdate(shifted, { layout, limits: openLimits(layout) });
  assert.equal([...reader.tensors], [...reader.tensors]);
  assert.equal([...reader.tensors], [...decodeUpdate(bytes, { layout, limits: openLimits(layout) }).tensors]);
  assert.equal(
    [...reader.tensors].map(({ tensor }) => tensor),
    [0, 1, 2],
  );
});

test('headers that cannot be written are refused', () => {
  const changes = [{ round: -1 }, { round: 2 ** 32 }, { author: 'xyz' }, { modelRoot: 'AB'.repeat(32) }];
  for (const change of changes) {
    assert.throws(
      () => assembleUpdate({ ...HEADER, ...change }, []),
      (error: unknown) => error instanceof InvalidUpdateHeaderError,
    );
  }
});

test.run();
