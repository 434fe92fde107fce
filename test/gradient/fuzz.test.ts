import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeUpdate, updateLimits } from '../../kernels/gradient/agf1.ts';
import { compressUpdate } from '../../kernels/gradient/compress.ts';
import { MalformedUpdateError } from '../../kernels/gradient/errors.ts';
import { randomSource } from './heavy-tailed.ts';
import { HEADER, layoutOf } from './layouts.ts';

const layout = layoutOf([[64, 128], [70, 100], [192], [5000]]);
const elements = layout.at(-1)!.offset + layout.at(-1)!.length;
const limits = { ...updateLimits(layout, { topK: 64, valueBits: 32 }), valueBits: [2, 8, 32] as const };

/** Inputs per run: some seconds. `tools/` can run more with other seeds. */
const INPUTS = 40_000;

/** Well-formed updates of every value type, chunking and count mode. */
function seedInputs(): Uint8Array[] {
  const random = randomSource(1);
  const inputs: Uint8Array[] = [];
  for (const valueBits of [2, 8, 32] as const) {
    for (const chunking of ['tiles', 'tensor'] as const) {
      for (const [topK, zeroShare] of [
        [1, 0],
        [8, 0.999],
        [64, 0.5],
      ]) {
        const delta = Float32Array.from({ length: elements }, () => (random() < zeroShare ? 0 : random() - 0.5));
        const options = { topK, valueBits, decay: 0.95, chunking };
        const errorFeedback = new Float32Array(elements);
        inputs.push(compressUpdate({ layout, delta, errorFeedback, options, header: HEADER }));
      }
    }
  }
  return inputs;
}

/** Values that sit at the edges of fields. */
const EDGES = [0, 1, 2, 8, 24, 25, 31, 32, 63, 64, 127, 128, 192, 254, 255];

function mutate(input: Uint8Array, random: () => number): Uint8Array {
  const pick = (bound: number) => Math.floor(random() * bound);
  let bytes = input.slice();
  for (let rounds = 1 + pick(4); rounds > 0 && bytes.length > 0; rounds--) {
    // Half of the changes hit the headers, where the structure is.
    const at = random() < 0.5 ? pick(Math.min(bytes.length, 200)) : pick(bytes.length);
    const kind = pick(7);
    if (kind === 0) bytes[at] ^= 1 << pick(8);
    else if (kind === 1) bytes[at] = EDGES[pick(EDGES.length)];
    else if (kind === 2) bytes[at] = pick(256);
    else if (kind === 3) bytes.fill(random() < 0.5 ? 0 : 0xff, at, at + pick(9));
    else if (kind === 4) bytes = bytes.slice(0, at);
    else if (kind === 5) bytes = Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(at + 1 + pick(4))]);
    else bytes = Uint8Array.from([...bytes.subarray(0, at), pick(256), ...bytes.subarray(at)]);
  }
  return bytes;
}

/** Decodes; a malformed input must say so with a typed error, an accepted one must be sound. Returns what happened. */
function outcome(bytes: Uint8Array): string {
  try {
    const update = decodeUpdate(bytes, { layout, limits });
    let entries = 0;
    let lastTensor = -1;
    for (const { tensor, indices, values } of update.tensors) {
      assert.ok(tensor > lastTensor && tensor < layout.length);
      lastTensor = tensor;
      assert.is(indices.length, values.length);
      for (let i = 0; i < indices.length; i++) {
        if (i > 0 && indices[i] <= indices[i - 1]) assert.unreachable('indices do not ascend');
        if (!Number.isFinite(values[i])) assert.unreachable('a value is not finite');
      }
      if (indices.length > 0) assert.ok(indices[indices.length - 1] < layout[tensor].length);
      entries += indices.length;
    }
    assert.ok(entries <= limits.maxEntries);
    return 'accepted';
  } catch (error) {
    if (error instanceof MalformedUpdateError) return error.code;
    throw error;
  }
}

test('mutated and random inputs are refused with a typed error or are sound', () => {
  const seeds = seedInputs();
  const random = randomSource(2);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < INPUTS; i++) {
    const seed = seeds[Math.floor(random() * seeds.length)];
    // Every tenth input is noise behind a true header, so that it gets as far as the records.
    const input =
      i % 10 === 0
        ? Uint8Array.from({ length: Math.floor(random() * 400) }, (_, at) => (at < 112 ? seed[at] : random() * 256))
        : mutate(seed, random);
    const result = outcome(input);
    outcomes.set(result, (outcomes.get(result) ?? 0) + 1);
  }
  // A fuzzer that only ever meets the first check tests nothing.
  assert.ok(outcomes.size >= 14, [...outcomes].join(' '));
  assert.ok((outcomes.get('accepted') ?? 0) > INPUTS / 50, [...outcomes].join(' '));
});

test('inputs that promise much allocate little', () => {
  // One record that claims the largest tensor whole, with k at its maximum, in few bytes.
  const large = layoutOf([[8192, 8192]]);
  const claims = new Uint8Array(112 + 16 + 64);
  claims.set(
    compressUpdate({
      layout: layoutOf([[1]]),
      delta: new Float32Array(1),
      errorFeedback: new Float32Array(1),
      options: { topK: 1, valueBits: 2, decay: 0 },
      header: HEADER,
    }),
  );
  claims[12] = 1;
  const view = new DataView(claims.buffer);
  const generous = { maxBytes: 1 << 30, maxEntries: 1 << 30 };
  const before = process.memoryUsage().arrayBuffers;
  for (const [chunking, counts, topK] of [
    [1, 0, 4096],
    [1, 1, 4096],
    [0, 0, 2 ** 26],
    [0, 1, 2 ** 26],
  ]) {
    claims.set([2, chunking, counts, 0], 116);
    view.setUint32(120, topK, true);
    view.setUint32(124, 0xffffffff, true);
    for (let i = 0; i < 100; i++) {
      assert.throws(
        () => decodeUpdate(claims, { layout: large, limits: generous }),
        (error: unknown) => error instanceof MalformedUpdateError,
      );
    }
  }
  assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 24);
});

test.run();
