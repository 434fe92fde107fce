/**
 * Miners and validators of one network on different backends: whoever trained a submission, all score it nearly alike, and
 * all that is attested (first weights, aggregate, root) is the same to the bit.
 */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { usableInstructionSets } from '../../kernels/native/library.ts';
import { nativeSupport } from '../../kernels/native/support.ts';
import type { ModelSessionInit } from '../../kernels/session/model-session.ts';
import { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { accountOf, seed, sessionInit, tokensFor, withFolder } from './small-session.ts';

const support = nativeSupport();
/** Skipped where the library is not built; one of other sources than these fails. */
const nativeTest = usableInstructionSets().length > 0 ? test : test.skip;

/** How far scores of two backends may lie apart, as a share of the largest score. */
const SCORE_TOLERANCE = 0.02;

/** One participant on onnxruntime, the others on every instruction set's best and its precisions. */
const participants: readonly Partial<ModelSessionInit>[] = [
  { backend: 'onnx' },
  { backend: 'native', precision: 'fp32', threads: 2 },
  ...(support.usable && support.bf16 ? [{ backend: 'native', precision: 'bf16' } as const] : []),
];

nativeTest('a round of mixed backends: one root, scores that agree', async () => {
  const recipe = { minInnerSteps: 4 };
  const sessions = participants.map((how) => new ResidentModelSession({ ...sessionInit({ recipe }), ...how }));
  try {
    await withFolder(async (folder) => {
      assert.is(new Set(sessions.map((session) => session.initialize(seed))).size, 1);
      for (let round = 1; round <= 2; round++) {
        const roots = new Set(sessions.map((session) => session.aggregate({ round, modelRoot: '' }, [])));
        assert.is(roots.size, 1, `the root before round ${round}`);
        const [modelRoot = ''] = roots;
        const submissions = [];
        for (const [author, session] of sessions.entries()) {
          await session.train({ tokens: tokensFor(16, 100 * round), learningRate: 1e-2 });
          const account = accountOf(author + 1);
          const bytes = await session.compress({ round, author: account, modelRoot }, join(folder, `${author}`));
          submissions.push({ account, bytes });
        }
        const outcomes = [];
        for (const session of sessions) {
          const work = { tokens: tokensFor(8, 100 * round), heldOutSequences: 4, submissions };
          outcomes.push(await session.score({ round, modelRoot }, work));
        }
        const gains = outcomes.map(({ scores }) => scores.map((score) => (score.kind === 'scored' ? score.gain : NaN)));
        const largest = Math.max(...gains.flat());
        assert.ok(largest > 1e-3, `something was learned: ${gains}`);
        for (const [validator, given] of gains.entries())
          for (const [i, gain] of given.entries())
            assert.ok(
              Math.abs(gain - gains[0]![i]!) < SCORE_TOLERANCE * largest,
              `round ${round}, validator ${validator}, submission ${i}: ${gain} instead of ${gains[0]![i]}`,
            );
        const held = outcomes.map(({ heldOutLoss }) => heldOutLoss);
        assert.ok(Math.max(...held) - Math.min(...held) < 1e-4, `held-out losses: ${held}`);
        // The ledger takes medians of whole numbers, which are everybody's weights.
        const accepted = submissions.map((submission, i) => ({ ...submission, weight: BigInt(i + 1) }));
        const after = sessions.map((session) => session.aggregate({ round, modelRoot }, accepted));
        assert.is(new Set(after).size, 1, `the root after round ${round}`);
        assert.is.not(after[0], modelRoot);
        for (const session of sessions)
          assert.equal(Buffer.compare(session.weights(), sessions[0]!.weights()), 0, 'weights are equal to the bit');
      }
    });
  } finally {
    for (const session of sessions) await session.close();
  }
});

for (const how of participants)
  (how.backend === 'native' ? nativeTest : test)(
    `the thread computes by IEEE after ${how.backend} ${how.precision ?? ''}: no small number is flushed to zero`,
    async () => {
      const session = new ResidentModelSession({ ...sessionInit(), ...how });
      session.initialize(seed);
      await session.train({ tokens: tokensFor(4), learningRate: 1e-3 });
      await session.close();
      // Aggregates and roots are computed in the same thread: a mode that a library leaves behind would divide the network.
      const tiny = Float32Array.of(2 ** -140, 2 ** -149);
      tiny[0] = tiny[0]! / 2;
      assert.equal([...tiny], [2 ** -141, 2 ** -149]);
      assert.is(Number.MIN_VALUE * 3, 1.5e-323);
    },
  );

test.run();
