/** One round, one root: wherever, however and in whatever order it is computed. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { applyUpdate, MAX_WEIGHT, undoChange } from '../../kernels/aggregate/apply.ts';
import { changedChunks } from '../../kernels/aggregate/changed-chunks.ts';
import { ModelTree, modelRoot } from '../../kernels/aggregate/model-root.ts';
import { aggregate, type Submission } from '../../kernels/aggregate/rule.ts';
import { weightedMean } from '../../kernels/aggregate/weighted-mean.ts';
import type { SparseTensor } from '../../kernels/gradient/layout.ts';
import { HotLoops, hotLoops } from '../../kernels/wasm/hot-loops.ts';
import { randomSource } from '../gradient/heavy-tailed.ts';
import { layoutOf } from '../gradient/layouts.ts';
import { accountOf, RULES, randomRound, randomUpdate, ruleNamed, sameBits, shuffled } from './updates.ts';

/** More than one chunk of the model, several blocks of the kernels, lengths that are odd and small. */
const layout = layoutOf([[300, 301], [7], [64, 64], [1], [450, 500]]);
const elements = layout.at(-1)!.offset + layout.at(-1)!.length;

/** Weights of every kind, both zeros and denormals included. */
function weightsOf(seed: number): Float32Array {
  const random = randomSource(seed);
  const odd = [0, -0, 1e-45, -1e-40];
  return Float32Array.from({ length: elements }, (_, i) => (i % 11 < 4 ? odd[i % 4]! : random() - 0.5));
}

async function inThread(name: string, submissions: Submission[], first: number, end: number): Promise<SparseTensor[]> {
  const workerData = { name, layout, submissions, first, end };
  const worker = new Worker(new URL('./aggregate-worker.ts', import.meta.url), { workerData });
  const [tensors] = (await once(worker, 'message')) as [SparseTensor[]];
  await worker.terminate();
  return tensors;
}

/** Root after the aggregate was applied; the weights are then put back and must be as they were. */
function rootAfter(weights: Float32Array, tensors: readonly SparseTensor[]): string {
  const before = weights.slice();
  const tree = ModelTree.ofWeights(weights);
  const saved = applyUpdate(weights, layout, { tensors }, 1.5);
  const root = modelRoot(weights);
  tree.update(weights, changedChunks({ tensors }, layout));
  assert.is(tree.root, root, 'updating what changed gives the root of everything');
  undoChange(weights, saved);
  assert.ok(sameBits(weights, before), 'undo restores every byte');
  return root;
}

/** Terms that cancel: any other order of addition would show. */
function cancellingRound(seed: number): Submission[] {
  const [first, second] = [seed, seed + 1].map((s) => randomUpdate(layout, 0.4, s, 1e25));
  const negated = (tensors: SparseTensor[]) =>
    tensors.map((tensor) => ({ ...tensor, values: tensor.values.map((value) => -value) }));
  return [first!, second!, negated(first!), negated(second!), randomUpdate(layout, 0.4, seed + 2)].map(
    (tensors, i) => ({
      account: accountOf(i + 1),
      weight: 3n,
      update: { tensors },
    }),
  );
}

for (const name of RULES) {
  test(`${name}: main thread, a worker, two workers, any order of arrival: one root`, async () => {
    for (const [seed, round] of [randomRound(layout, 5, 41, 0.7), cancellingRound(42)].entries()) {
      const weights = weightsOf(seed);
      const expected = rootAfter(weights, aggregate(ruleNamed(name), layout, round).tensors);
      assert.is.not(expected, modelRoot(weights), 'the round changes something');
      const arrived = shuffled(round, 7 + seed);
      assert.is(rootAfter(weights, aggregate(ruleNamed(name), layout, arrived).tensors), expected);
      const alone = await inThread(name, arrived, 0, layout.length);
      assert.is(rootAfter(weights, alone), expected);
      const split = 1 + seed * 2;
      const halves = await Promise.all([
        inThread(name, shuffled(round, 8), split, layout.length),
        inThread(name, shuffled(round, 9), 0, split),
      ]);
      assert.is(rootAfter(weights, [...halves[1]!, ...halves[0]!]), expected);
    }
  });
}

/** Values at both ends of float32, whose sums and outer step overflow, beside honest ones. */
function extremeRound(seed: number): Submission[] {
  const random = randomSource(seed);
  const ends = [3.4028234663852886e38, -3.4028234663852886e38, 1e-45, -1e-45, 1.1754943508222875e-38, -0, 65_504, 1e30];
  const ended = (same: boolean) =>
    randomUpdate(layout, 0.5, seed).map((tensor) => ({
      ...tensor,
      values: tensor.values.map((_, i) => ends[same ? i % ends.length : Math.floor(random() * ends.length)]!),
    }));
  // The first two say the same at the same places: their mean is as large as they are.
  const updates = [ended(true), ended(true), ended(false), ended(false), randomUpdate(layout, 0.4, seed + 1)];
  return updates.map((tensors, i) => ({
    account: accountOf(i + 1),
    weight: i < 2 ? 10n ** 11n : 3n,
    update: { tensors },
  }));
}

for (const name of RULES) {
  test(`${name}: values at the ends of float32 have an aggregate and weights, one root everywhere`, async () => {
    for (const seed of [1, 2, 3]) {
      const round = extremeRound(seed);
      const weights = weightsOf(seed);
      const tensors = aggregate(ruleNamed(name), layout, round).tensors;
      const expected = rootAfter(weights, tensors);
      assert.is(rootAfter(weights, aggregate(ruleNamed(name), layout, shuffled(round, seed)).tensors), expected);
      assert.is(rootAfter(weights, await inThread(name, shuffled(round, 9), 0, layout.length)), expected);
      applyUpdate(weights, layout, { tensors }, 1.5);
      assert.ok(weights.every((weight) => Math.abs(weight) <= MAX_WEIGHT));
      if (name.startsWith('weighted')) assert.ok(weights.includes(MAX_WEIGHT) && weights.includes(-MAX_WEIGHT));
    }
  });
}

test('weighted mean: WebAssembly gives the root that JavaScript gives, also in memory that was used', () => {
  assert.ok(hotLoops !== null, 'this engine has SIMD');
  for (let seed = 1; seed <= 6; seed++) {
    const round =
      seed % 3 === 0
        ? extremeRound(seed)
        : seed % 2 === 0
          ? cancellingRound(seed)
          : randomRound(layout, 3 + seed, seed, 0.1 * seed);
    const weights = weightsOf(seed);
    const plain = aggregate(weightedMean({ loops: null }), layout, round).tensors;
    for (const loops of [hotLoops, HotLoops.create()]) {
      new Uint8Array(loops!.reserve(1 << 20)).fill(seed);
      const fast = aggregate(weightedMean({ loops }), layout, shuffled(round, seed)).tensors;
      assert.equal(
        fast.map(({ tensor, indices }) => [tensor, indices]),
        plain.map(({ tensor, indices }) => [tensor, indices]),
      );
      for (const [i, { values }] of fast.entries()) assert.ok(sameBits(values, plain[i]!.values));
      assert.is(rootAfter(weights, fast), rootAfter(weights, plain));
    }
  }
});

test.run();
