/** A share of what `npm run fuzz -- submission` does, with the same inputs and checks. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeUpdate } from '../../kernels/gradient/agf1.ts';
import { compressUpdate } from '../../kernels/gradient/compress.ts';
import { MalformedUpdateError } from '../../kernels/gradient/errors.ts';
import { InputSource } from '../../tools/fuzz/inputs.ts';
import * as submission from '../../tools/fuzz/targets/submission.ts';
import { HEADER, layoutOf } from './layouts.ts';

/** Inputs per run: some seconds. */
const INPUTS = 40_000;

test('mutated and random inputs are refused with a typed error or are sound', () => {
  const source = new InputSource(submission, 2);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < INPUTS; i++) {
    const outcome = submission.run(source.input(i));
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  // A fuzzer that only ever meets the first check tests nothing.
  assert.ok(outcomes.size >= 16, [...outcomes].join(' '));
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
