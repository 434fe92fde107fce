/** What curves and gradients are judged by. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { learn } from '../../bench/learning/course.ts';
import { tensorErrors, worstOf } from '../../bench/learning/gradient-error.ts';
import type { LearnerName } from '../../bench/learning/learner.ts';
import type { CourseResult } from '../../bench/learning/results.ts';
import { summarizeLearners, summarizePairs } from '../../bench/learning/statistics.ts';
import { phaseFigures, phaseFlops } from '../../bench/speed/phases.ts';
import { parsePreset } from '../../kernels/model/preset.ts';

const settings = { preset: 'p', digest: 'd', steps: 2, batch: 1, context: 4 };
const result = (learner: LearnerName, seed: number, ...losses: number[]): CourseResult => ({
  ...settings,
  learner,
  seed,
  curve: losses.map((loss, step) => ({ step, loss })),
});

test('differences are of equal seeds, and measured by the spread of the reference', () => {
  const reference = [result('native_fp32', 1, 9, 5), result('native_fp32', 2, 9, 7)];
  const pairOf = (...ours: CourseResult[]) => summarizePairs([...ours, ...reference])['native_bf16-native_fp32']!;
  const near = pairOf(result('native_bf16', 2, 9.5, 7.25), result('native_bf16', 1, 9, 4.25));
  assert.equal(near.differences, { 1: -0.75, 2: 0.25 });
  assert.is(near.mean, -0.25);
  assert.is(near.largest_along_the_way, -0.75);
  assert.is(near.within_deviation, true);
  assert.is(near.each_within_range, true);
  const far = pairOf(result('native_bf16', 1, 9, 8), result('native_bf16', 2, 9, 8.5));
  assert.is(far.within_deviation, false);
  assert.is(far.each_within_range, false);
  assert.equal(summarizeLearners(reference).native_fp32, {
    ...{ final: { 1: 5, 2: 7 }, mean: 6, deviation: Math.SQRT2, range: 2 },
  });
  assert.equal(summarizePairs([result('native_bf16', 3, 1), ...reference]), {});
});

test('one seed has no deviation, and nothing is said to be within it', () => {
  const pairs = summarizePairs([result('native_bf16', 1, 5), result('native_fp32', 1, 5)]);
  assert.is(pairs['native_bf16-native_fp32']!.within_deviation, null);
});

test('errors are relative to each tensor, and NaN is the worst', () => {
  const layout = [
    { name: 'a', role: 'norm', shape: [2], offset: 0, length: 2 },
    { name: 'b', role: 'norm', shape: [1], offset: 2, length: 1 },
  ] as const;
  const errors = tensorErrors(layout, Float32Array.of(3, 5, 12), Float32Array.of(3, 4, 12));
  assert.equal(errors, [
    { name: 'a', error: 0.2, share: 5 / 13 },
    { name: 'b', error: 0, share: 12 / 13 },
  ]);
  assert.is(worstOf(errors)?.name, 'a');
  assert.is(worstOf(tensorErrors(layout, Float32Array.of(3, 5, Number.NaN), Float32Array.of(3, 4, 12)))?.name, 'b');
});

test('a course takes its steps, evaluates at the ends, and depends on the seed alone', async () => {
  const training = Int32Array.from({ length: 1000 }, (_, i) => i);
  const text = { length: 1000, digest: '', training, heldOut: new Int32Array(5) };
  const batches = async (seed: number) => {
    const seen: number[][] = [];
    const rates: number[] = [];
    const learner = {
      step: async (tokens: Int32Array, rate: number) => {
        seen.push([...tokens]);
        rates.push(rate);
      },
      meanLoss: async () => seen.length,
    };
    const course = { text, steps: 25, batch: 2, context: 4, evaluations: 10 };
    const curve = await learn(course, learner, seed, new AbortController().signal);
    assert.equal(curve[0], { step: 0, loss: 0 });
    assert.equal(curve.at(-1), { step: 25, loss: 25 });
    assert.is(rates.length, 25);
    return seen;
  };
  assert.equal(await batches(1), await batches(1));
  assert.not.equal(await batches(1), await batches(2));
});

test("phases add up to a step's products", () => {
  const preset = parsePreset({
    ...{ name: 'p', layers: 2, hidden: 8, queryHeads: 2, keyValueHeads: 1, ffn: 16, vocabulary: 10, context: 4 },
    ...{ ropeTheta: 10_000, normEpsilon: 1e-5, tied: true },
  });
  const flops = phaseFlops({ preset, batch: 3, context: 4 });
  const block = 8 * (8 + 4 + 4) + 8 * 8 + 3 * 8 * 16;
  assert.is(flops.blocks_forward, 2 * 12 * 2 * block);
  assert.is(flops.head_backward, 4 * 12 * 10 * 8);
  // Position i sees i + 1 keys, in two products, in each of 8 dimensions, layers and sequences.
  assert.is(flops.attention_forward, 2 * 2 * (1 + 2 + 3 + 4) * 8 * 2 * 3);
  const profile = Object.fromEntries(Object.keys(flops).map((name) => [name, 1])) as typeof flops;
  const figures = phaseFigures([profile, { ...profile, optimizer: 3 }], flops, flops.head_backward / 1e9);
  assert.is(figures.optimizer.milliseconds, 2000);
  assert.is(figures.optimizer.peak_share, null);
  assert.is(figures.head_backward.peak_share, 1);
  assert.is(figures.head_backward.time_share, 0.111);
});

test.run();
