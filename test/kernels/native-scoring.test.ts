/** Scoring on the native library with the weights on disk: the same bits as in memory, and a plan for it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TensorFileMismatchError } from '../../kernels/checkpoint/errors.ts';
import { NonFiniteError } from '../../kernels/engine/engine.ts';
import { formatSize, MemoryBudgetError } from '../../kernels/engine/memory-plan.ts';
import { type SparseDelta, splitDelta } from '../../kernels/engine/sparse-delta.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount } from '../../kernels/model/layout.ts';
import { parsePreset, presets } from '../../kernels/model/preset.ts';
import { usableInstructionSets } from '../../kernels/native/library.ts';
import { createNativeEngine } from '../../kernels/native/native-engine.ts';
import { NativeStreamedScorer } from '../../kernels/native/native-streamed-scorer.ts';
import { createSession, planSession } from '../../kernels/session/create-session.ts';
import { leastNativeSessionBytes, planNativeScoring } from '../../kernels/session/native-budget.ts';
import { pretendedGradient } from '../../kernels/session/pretended-gradient.ts';
import { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import { noiseSubmission, rejection, seed, smallRecipe } from './small-session.ts';
import { storeOf, withFolder } from './streamed-store.ts';

const nativeTest = usableInstructionSets().length === 0 ? test.skip : test;

for (const tied of [false, true])
  nativeTest(`losses of changes are those of the engine in memory, to the bit${tied ? ', tied' : ''}`, async () => {
    const preset = parsePreset({ ...smallPreset, vocabulary: 2300, tied });
    const weights = initialWeights(preset, seed);
    const tokens = seededTokens(4, 5, preset.context, preset.vocabulary);
    const count = parameterCount(preset);
    const variants = [7, 301, count].map((step, i): SparseDelta => {
      const indices = Uint32Array.from({ length: Math.floor(count / step) }, (_, at) => step * at + i);
      return { indices, deltas: pretendedGradient(indices.length, i).map((value) => 30 * value) };
    });
    const options = { preset, threads: 2, batch: 2 };
    const engine = createNativeEngine({ ...options, variants: 'exact' });
    engine.loadWeights(weights);
    const expected = await engine.variantLosses(tokens, variants);
    assert.not.equal(expected.variants[0], expected.base);
    await withFolder(async (folder) => {
      const store = await storeOf(join(folder, 'weights'), preset, weights);
      const before = await readFile(store.path);
      const changes = variants.map((variant) => splitDelta(variant, store.layout));
      for (const [prefetch, batch, maxBytes] of [
        [true, 2, 2 ** 30],
        [false, 1, 2 ** 30],
        // Two activations at once.
        [true, 3, 1],
      ] as const) {
        const scorer = new NativeStreamedScorer(store, { ...options, batch, prefetch });
        const losses = await scorer.variantLosses(tokens, changes, { maxBytes });
        assert.equal(losses, expected, `${prefetch} ${batch} ${maxBytes}`);
        await scorer.close();
      }
      assert.equal(await readFile(store.path), before);
      const other = parsePreset({ ...preset, ropeTheta: 20_000 });
      assert.throws(
        () => new NativeStreamedScorer(store, { ...options, preset: other }),
        (error: unknown) => error instanceof TensorFileMismatchError,
      );
      await store.close();
      const broken = await storeOf(join(folder, 'broken'), preset, weights.with(weights.length - 1, Number.NaN));
      const scorer = new NativeStreamedScorer(broken, options);
      assert.instance(await rejection(scorer.variantLosses(tokens, [])), NonFiniteError);
      await scorer.close();
      await broken.close();
    });
    await engine.close();
  });

nativeTest('a session within a budget trains, scores and agrees with one in memory', async () => {
  const preset = presets['alice-nano'];
  const init = { preset, recipe: smallRecipe, threads: 2, backend: 'native' as const };
  await withFolder(async (folder) => {
    const memoryBytes = 230 * 2 ** 20;
    const streamed = await createSession({ ...init, memoryBytes, streamFolder: join(folder, 'streaming') });
    const { backend, mode, bytes, native } = streamed.memory;
    assert.equal(
      { backend, mode, precision: native?.precision },
      { backend: 'native', mode: 'streamed', precision: 'fp32' },
    );
    assert.ok(bytes <= memoryBytes, formatSize(bytes));
    const resident = new ResidentModelSession(init);
    const modelRoot = resident.initialize(seed);
    assert.is(await streamed.initialize(seed), modelRoot);
    const round = { round: 1, modelRoot };
    const tokens = (sequences: number) => seededTokens(3, sequences, preset.context, preset.vocabulary);
    const work = { tokens: tokens(8), learningRate: 1e-3 };
    const [losses, expected] = [(await streamed.train(work)).losses, (await resident.train(work)).losses];
    for (const [i, loss] of losses.entries()) assert.ok(Math.abs(loss / (expected[i] as number) - 1) < 1e-4);
    const submissions = [
      await noiseSubmission(resident, folder, round, 1),
      await noiseSubmission(streamed, folder, round, 2),
    ];
    const scoring = { tokens: tokens(6), heldOutSequences: 2, submissions };
    const [a, b] = [await streamed.score(round, scoring), await resident.score(round, scoring)];
    assert.ok(Math.abs(a.heldOutLoss - b.heldOutLoss) < 1e-5);
    for (const [i, score] of a.scores.entries()) {
      const other = b.scores[i];
      if (score.kind !== 'scored' || other?.kind !== 'scored') throw new Error(`${score.kind}, ${other?.kind}`);
      // In memory changes are evaluated as differences where the processor has bf16.
      assert.ok(Math.abs(score.gain - other.gain) < 1e-4 && score.gain !== 0, `${score.gain} ${other.gain}`);
    }
    const accepted = submissions.map((submission) => ({ ...submission, weight: 1n }));
    assert.is(await streamed.aggregate(round, accepted), resident.aggregate(round, accepted));
    await resident.close();
    await streamed.close();
  });
});

test('a plan covers training and scoring', () => {
  const gib = 2 ** 30;
  const precision = 'bf16';
  const recipe = { ...smallRecipe, batchSequences: 8 };
  const init = {
    preset: presets['alice-7b'],
    recipe,
    threads: 2,
    backend: 'native',
    precision,
    streamFolder: 'x',
  } as const;
  const plan = planSession({ ...init, memoryBytes: 8 * gib });
  assert.equal(plan.native, { precision, batch: 1, spill: true });
  assert.ok(plan.bytes <= 8 * gib);
  const least = leastNativeSessionBytes(init);
  assert.ok(least > 6 * gib && least < 7 * gib, formatSize(least));
  for (const memoryBytes of [least, 8 * gib, 16 * gib]) {
    const { batch, maxBytes } = planNativeScoring({ ...init, memoryBytes });
    // Two activations: it goes on.
    assert.ok(maxBytes >= 2 * 4 * batch * init.preset.context * init.preset.hidden, formatSize(memoryBytes));
  }
  assert.is(planSession({ ...init, memoryBytes: least }).mode, 'streamed-no-prefetch');
  assert.throws(
    () => planSession({ ...init, memoryBytes: least - 1 }),
    (error: unknown) => error instanceof MemoryBudgetError && error.neededBytes === least,
  );
});

test.run();
