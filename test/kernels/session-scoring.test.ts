/** How a validator's session scores submissions. */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ModelTree } from '../../kernels/aggregate/model-root.ts';
import { NonFiniteError, type VariantLosses } from '../../kernels/engine/engine.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { decodeUpdate, UPDATE_HEADER_BYTES, updateLimits } from '../../kernels/gradient/agf1.ts';
import { valueBounds } from '../../kernels/gradient/value-bounds.ts';
import { tensorLayout } from '../../kernels/model/layout.ts';
import { parsePreset } from '../../kernels/model/preset.ts';
import type { EncodedSubmission } from '../../kernels/session/model-session.ts';
import type { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import {
  BEST_GAIN,
  type SubmissionScore,
  scoreCandidates,
  WORST_GAIN,
  WORST_LOSS,
} from '../../kernels/session/scoring.ts';
import { openLimits } from '../gradient/layouts.ts';
import { smallPreset } from './small-preset.ts';
import {
  accountOf,
  noiseSubmission,
  rejection,
  smallRecipe,
  tokensFor,
  withFolder,
  withSessions,
} from './small-session.ts';

const numbers = (session: ResidentModelSession) => new Float32Array(session.weights().buffer);
const rootOf = (session: ResidentModelSession) => ModelTree.ofWeights(numbers(session)).root;
const gainOf = (score: SubmissionScore | undefined) => (score?.kind === 'scored' ? score.gain : Number.NaN);
/** Two ids in turn: what can be learned at once. */
const easyTokens = (sequences: number) =>
  Int32Array.from(
    { length: sequences * (smallPreset.context + 1) },
    (_, i) => 5 + ((i % (smallPreset.context + 1)) & 1),
  );

const malformed = { kind: 'malformed' };

/** A float32 submission whose last record, which ends with its values, has `value` everywhere. */
async function uniformSubmission(
  session: ResidentModelSession,
  folder: string,
  round: { round: number; modelRoot: string },
  author: number,
  value: number,
): Promise<EncodedSubmission> {
  const { account, bytes } = await noiseSubmission(session, folder, round, author);
  const layout = tensorLayout(smallPreset);
  const { tensors } = decodeUpdate(bytes, { layout, limits: openLimits(layout) });
  const changed = bytes.slice();
  const view = new DataView(changed.buffer);
  const last = tensors.at(-1)!.values.length;
  for (let i = 1; i <= last; i++) view.setFloat32(changed.length - 4 * i, value, true);
  return { account, bytes: changed };
}

test('training on the data gains, its opposite loses, and scoring leaves no trace', async () => {
  await withFolder((folder) =>
    withSessions([{}, { recipe: { outerStep: -2 } }], async (session, opposite) => {
      const round = { round: 2, modelRoot: rootOf(session) };
      const account = accountOf(1);
      const before = session.weights();
      await session.train({ tokens: easyTokens(40), learningRate: 3e-3 });
      const trained = {
        account,
        bytes: await session.compress({ ...round, author: account }, join(folder, 'feedback')),
      };
      const work = { tokens: easyTokens(6), heldOutSequences: 2, submissions: [trained] };
      const { heldOutLoss, scores, tokensPerSecond } = await session.score(round, work);
      assert.ok(gainOf(scores[0]) > 0.01, `${gainOf(scores[0])}`);
      assert.ok(gainOf((await opposite.score(round, work)).scores[0]) < -0.01);
      assert.ok(Math.abs(heldOutLoss - Math.log(smallPreset.vocabulary)) < 0.3, `${heldOutLoss}`);
      assert.ok(tokensPerSecond > 0);
      assert.equal(session.weights(), before);
    }),
  );
});

test('newcomers that send next to nothing do not have everybody clipped to it', async () => {
  await withFolder((folder) =>
    withSessions([{}, {}, {}], async (session, ...idle) => {
      const round = { round: 2, modelRoot: rootOf(session) };
      const submissions: EncodedSubmission[] = [];
      for (const [i, author] of [session, ...idle].entries()) {
        const account = accountOf(i + 1);
        await author.train({ tokens: easyTokens(40), learningRate: author === session ? 3e-3 : 1e-12 });
        const bytes = await author.compress({ ...round, author: account }, join(folder, `feedback-${i}`));
        submissions.push({ account, bytes });
      }
      const work = { tokens: easyTokens(6), heldOutSequences: 2, submissions };
      const alone = await session.score(round, { ...work, submissions: submissions.slice(0, 1) });
      const { scores } = await session.score(round, { ...work, proven: [true, false, false] });
      assert.is(gainOf(scores[0]), gainOf(alone.scores[0]));
      assert.ok(gainOf(scores[0]) > 0.01, `${gainOf(scores[0])}`);
      for (const score of scores.slice(1)) assert.ok(gainOf(score) < 1e-6);
    }),
  );
});

test('a gain is the loss before minus the loss after the clipped step; the held-out loss is of the first sequences', async () => {
  await withFolder((folder) =>
    withSessions([{ recipe: { valueBits: 32 } }], async (session) => {
      const round = { round: 2, modelRoot: rootOf(session) };
      const submissions = [];
      for (const [author, value] of [0.01, 0.03, 0.2].entries())
        submissions.push(await uniformSubmission(session, folder, round, author, value));
      const layout = tensorLayout(smallPreset);
      const limits = updateLimits(layout, { ...smallRecipe, valueBits: 32 });
      const decoded = submissions.map(({ bytes }) => decodeUpdate(bytes, { layout, limits }));
      const norms = decoded.map(({ tensors }) =>
        Math.sqrt(tensors.reduce((sum, { values }) => values.reduce((part, value) => part + value ** 2, sum), 0)),
      );
      const limit = norms[1]!;
      assert.ok(norms[0]! < 0.8 * limit && norms[2]! > 3 * limit, `${norms}`);
      const tokens = tokensFor(7, 3);
      const { heldOutLoss, scores } = await session.score(round, { tokens, heldOutSequences: 3, submissions });
      const engine = createEngine({ preset: smallPreset, threads: 1, batch: smallRecipe.batchSequences });
      const mean = (losses: Float64Array) => losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
      const weights = numbers(session);
      engine.loadWeights(weights);
      const base = await engine.losses(tokens);
      assert.is(heldOutLoss, mean(base.subarray(0, 3)));
      for (const [i, update] of decoded.entries()) {
        const step = smallRecipe.outerStep * smallRecipe.scoringStepShare * Math.min(1, limit / norms[i]!);
        const changed = weights.slice();
        for (const { tensor, indices, values } of update.tensors)
          for (const [at, index] of indices.entries()) changed[layout[tensor]!.offset + index]! -= step * values[at]!;
        engine.loadWeights(changed);
        const gain = mean(base) - mean(await engine.losses(tokens));
        assert.ok(Math.abs(gainOf(scores[i]) - gain) < 1e-6, `${gainOf(scores[i])} is ${gain}`);
      }
      await engine.close();
    }),
  );
});

test('garbage and what is not of this round is malformed, and the rest is scored as without it', async () => {
  const foreign = parsePreset({ ...smallPreset, ropeTheta: 20_000 });
  await withFolder((folder) =>
    withSessions(
      [{}, {}, { preset: foreign }, { recipe: { topK: 65 } }, { recipe: { valueBits: 32 } }],
      async (session, other, stranger, greedy, float32) => {
        const before = session.weights();
        const round = { round: 2, modelRoot: rootOf(session) };
        const good = [1, 2];
        const honest: EncodedSubmission[] = [];
        for (const author of good) honest.push(await noiseSubmission(session, folder, round, author));
        const elsewhere = { ...round, modelRoot: other.initialize(new Uint8Array(32)) };
        const bytes = honest[0]!.bytes;
        const nan = (await noiseSubmission(float32, folder, round, 3)).bytes.slice();
        new DataView(nan.buffer).setFloat32(nan.length - 4, Number.NaN, true);
        const account = accountOf(3);
        const bad: Record<string, EncodedSubmission> = {
          nothing: { account, bytes: new Uint8Array(0) },
          garbage: { account, bytes: new Uint8Array(5000).map((_, i) => i * 7) },
          'cut off': { account: accountOf(1), bytes: bytes.subarray(0, -3) },
          'header only, of two records': { account: accountOf(1), bytes: bytes.subarray(0, UPDATE_HEADER_BYTES) },
          'longer than allowed': { account: accountOf(1), bytes: new Uint8Array(1_000_000) },
          'another round': await noiseSubmission(session, folder, { ...round, round: 1 }, 3),
          'another author': { account, bytes },
          'another model root': await noiseSubmission(other, folder, elsewhere, 3),
          'another preset': await noiseSubmission(stranger, folder, round, 3),
          'more elements than allowed': await noiseSubmission(greedy, folder, round, 3),
          'another value type': await noiseSubmission(float32, folder, round, 3),
          'a value that is NaN': { account, bytes: nan },
        };
        const work = { tokens: tokensFor(5, 3), heldOutSequences: 2 };
        const alone = await session.score(round, { ...work, submissions: honest });
        const [first, second] = honest;
        const all = await session.score(round, { ...work, submissions: [first!, ...Object.values(bad), second!] });
        for (const [i, what] of Object.keys(bad).entries()) assert.equal(all.scores[i + 1], malformed, what);
        assert.equal([all.scores[0], all.scores.at(-1)], alone.scores);
        assert.is(all.heldOutLoss, alone.heldOutLoss);
        assert.equal(session.weights(), before);
        const none = await session.score(round, { ...work, submissions: Object.values(bad).slice(0, 2) });
        assert.equal(none.scores, [malformed, malformed]);
        // A value that is NaN would be refused where float32 is allowed, too.
        const own = await float32.score(round, { ...work, submissions: [bad['a value that is NaN']!] });
        assert.equal(own.scores, [malformed]);
      },
    ),
  );
});

test('values that no honest training comes near are malformed, alone and all together', async () => {
  const { maxMagnitude, maxRms } = valueBounds(smallRecipe);
  await withFolder((folder) =>
    withSessions([{ recipe: { valueBits: 32 } }], async (session) => {
      const round = { round: 2, modelRoot: rootOf(session) };
      const work = { tokens: tokensFor(5, 3), heldOutSequences: 2 };
      const honest = await noiseSubmission(session, folder, round, 1);
      const alone = await session.score(round, { ...work, submissions: [honest] });
      const submissions = [honest];
      for (const value of [maxRms * 1.001, -maxMagnitude * 1.001, 1e12, 3.3e38])
        submissions.push(await uniformSubmission(session, folder, round, submissions.length + 1, value));
      // One value may be larger than all of them.
      const one = (await noiseSubmission(session, folder, round, 6)).bytes.slice();
      new DataView(one.buffer).setFloat32(one.length - 4, maxMagnitude, true);
      submissions.push({ account: accountOf(6), bytes: one });
      const { scores, heldOutLoss } = await session.score(round, { ...work, submissions });
      assert.equal(scores.slice(1, 5), [malformed, malformed, malformed, malformed]);
      assert.is(scores[5]?.kind, 'scored');
      assert.is(heldOutLoss, alone.heldOutLoss);
    }),
  );
});

test('a model without a finite loss, and one of an astronomical loss, have verdicts', async () => {
  const work = { tokens: new Int32Array(3 * 5), heldOutSequences: 1, step: 1 };
  const candidate = { norm: 1, variant: () => 'changed' };
  const one = (loss: number) => new Float64Array(3).fill(loss);
  const score = (losses: () => Promise<VariantLosses>) => scoreCandidates([candidate, undefined], work, 4, losses);
  const broken = await score(async () => {
    throw new NonFiniteError('losses');
  });
  assert.equal([broken.heldOutLoss, broken.scores], [WORST_LOSS, [{ kind: 'scored', gain: WORST_GAIN }, malformed]]);
  const huge = await score(async () => ({ base: one(3e38), variants: [one(1)] }));
  assert.equal([huge.heldOutLoss, huge.scores[0]], [WORST_LOSS, { kind: 'scored', gain: BEST_GAIN }]);
  const worse = await score(async () => ({ base: one(1), variants: [one(3e38)] }));
  assert.equal([worse.heldOutLoss, worse.scores[0]], [1, { kind: 'scored', gain: WORST_GAIN }]);
  // A weight that is not a number is this machine's fault: no verdict is better than a wrong one.
  const fault = await rejection(
    score(async () => {
      throw new NonFiniteError('embedding');
    }),
  );
  assert.is(fault.code, 'ERR_NON_FINITE');
});

test('an update that breaks the model gets the worst gain and harms no other', async () => {
  // Recipes under which every finite value is allowed: the bounds on values are not what is tested here.
  const gentle = { recipe: { valueBits: 32 as const, innerLearningRate: 1e38 } };
  // At this step the change itself leaves float32.
  const violent = { recipe: { ...gentle.recipe, outerStep: 10, scoringStepShare: 1 } };
  await withFolder((folder) =>
    withSessions([gentle, violent], async (...sessions) => {
      for (const session of sessions) {
        const before = session.weights();
        const round = { round: 2, modelRoot: rootOf(session) };
        const work = { tokens: tokensFor(5, 3), heldOutSequences: 2 };
        const honest = await noiseSubmission(session, folder, round, 1);
        const alone = await session.score(round, { ...work, submissions: [honest] });
        for (const value of [3.3e38, -3.3e38, 1e37, 1e12]) {
          // Three of four, so that the median norm is theirs and clips nothing.
          const huge = [];
          for (const author of [2, 3, 4]) huge.push(await uniformSubmission(session, folder, round, author, value));
          const { scores } = await session.score(round, { ...work, submissions: [honest, ...huge] });
          for (const score of scores.slice(1)) assert.is(gainOf(score), WORST_GAIN, `${value}`);
          assert.equal(scores[0], alone.scores[0]);
          // Where the others are honest, clipping makes it harmless or at least finite.
          const [clipped] = (await session.score(round, { ...work, submissions: [huge[0]!, honest] })).scores;
          assert.ok(Number.isFinite(gainOf(clipped)) && gainOf(clipped) > WORST_GAIN);
          assert.equal(session.weights(), before);
        }
      }
    }),
  );
});

test('bad work is refused before anything is scored; an abort leaves no trace', async () => {
  await withFolder((folder) =>
    withSessions([{}], async (session) => {
      const before = session.weights();
      const round = { round: 2, modelRoot: rootOf(session) };
      const submissions = [await noiseSubmission(session, folder, round, 1)];
      const tokens = tokensFor(4);
      const bad = [
        { tokens, heldOutSequences: 0 },
        { tokens, heldOutSequences: 5 },
        { tokens, heldOutSequences: 0.5 },
        { tokens: tokens.subarray(1), heldOutSequences: 1 },
        { tokens: new Int32Array(0), heldOutSequences: 1 },
        { tokens: tokens.with(0, -1), heldOutSequences: 1 },
      ];
      for (const work of bad)
        assert.is((await rejection(session.score(round, { ...work, submissions }))).code, 'ERR_INVALID_TOKENS');
      const abort = new AbortController();
      const scoring = session.score(
        round,
        { tokens: tokensFor(400), heldOutSequences: 1, submissions },
        { signal: abort.signal },
      );
      const reason = new Error('too late');
      abort.abort(reason);
      assert.is(await rejection(scoring), reason);
      assert.equal(session.weights(), before);
    }),
  );
});

test.run();
