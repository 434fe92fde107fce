/** What a model session promises of its weights, its files and what it sends. */
import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { InvalidSubmissionsError } from '../../kernels/aggregate/errors.ts';
import { ModelTree } from '../../kernels/aggregate/model-root.ts';
import { readErrorFeedback } from '../../kernels/checkpoint/model-state.ts';
import { type DecodedUpdate, decodeUpdate, flattenUpdate, updateLimits } from '../../kernels/gradient/agf1.ts';
import { MalformedUpdateError, ValueTooLargeError } from '../../kernels/gradient/errors.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { parsePreset } from '../../kernels/model/preset.ts';
import { SessionStateError } from '../../kernels/session/errors.ts';
import { pretendedGradient } from '../../kernels/session/pretended-gradient.ts';
import type { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { smallPreset } from './small-preset.ts';
import {
  accountOf,
  noiseSubmission,
  rejection,
  seed,
  smallRecipe,
  tokensFor,
  withFolder,
  withSessions,
} from './small-session.ts';

const elements = parameterCount(smallPreset);
const layout = tensorLayout(smallPreset);

/** The weights as numbers. */
const numbers = (session: ResidentModelSession) => new Float32Array(session.weights().buffer);
const rootOf = (session: ResidentModelSession) => ModelTree.ofWeights(numbers(session)).root;

test('saved weights come back with their round and root', async () => {
  await withFolder((folder) =>
    withSessions([{}, {}], async (session, other) => {
      const path = join(folder, 'weights');
      other.initialize(new Uint8Array(32));
      await session.save(path, 17);
      assert.equal(await other.open(path), { round: 17, modelRoot: rootOf(session) });
      assert.equal(other.weights(), session.weights());
      // The opened root is the one that later calls work with.
      await other.save(join(folder, 'again'), 17);
      assert.equal(await readFile(join(folder, 'again')), await readFile(path));
    }),
  );
});

test('a missing, damaged or foreign file opens as nothing and changes nothing', async () => {
  const foreign = parsePreset({ ...smallPreset, ropeTheta: 20_000 });
  await withFolder((folder) =>
    withSessions([{}, {}, { preset: foreign }], async (session, writer, stranger) => {
      writer.initialize(new Uint8Array(32));
      const before = session.weights();
      const path = join(folder, 'weights');
      const opensAsNothing = async (what: string) => {
        assert.is(await session.open(path), undefined, what);
        assert.equal(session.weights(), before, what);
        assert.is(await session.save(join(folder, 'copy'), 1), undefined, what);
      };
      await opensAsNothing('missing');
      await writer.save(path, 2);
      const sound = await readFile(path);
      for (const [what, at] of Object.entries({ header: 20, first: 4096, last: sound.length - 1 })) {
        const damaged = Buffer.from(sound);
        damaged[at]! ^= 1;
        await writeFile(path, damaged);
        await opensAsNothing(what);
      }
      await truncate(path, 5000);
      await opensAsNothing('truncated');
      await stranger.save(path, 2);
      await opensAsNothing('the same shape, computed otherwise');
      await writer.compress(await trained(writer), path);
      await opensAsNothing('error feedback');
      // What is no damage is not hidden.
      await rm(path);
      await mkdir(path);
      assert.is((await rejection(session.open(path))).code, 'EISDIR');
    }),
  );

  async function trained(session: ResidentModelSession) {
    session.pretend(1);
    return { round: 1, modelRoot: rootOf(session), author: accountOf(1) };
  }
});

test('the order in which submissions come does not matter, and the root is that of the weights', async () => {
  // Three chunks of the model root, of which an update may touch some only.
  const preset = parsePreset({ ...smallPreset, vocabulary: 9000 });
  const change = { preset, recipe: { topK: 3 } };
  await withFolder((folder) =>
    withSessions([change, change, change], async (miner, first, second) => {
      const before = first.weights();
      const round = { round: 6, modelRoot: rootOf(first) };
      const accepted = [];
      for (const author of [4, 2, 9, 5])
        accepted.push({ ...(await noiseSubmission(miner, folder, round, author)), weight: BigInt(author) ** 20n });
      const root = first.aggregate(round, accepted);
      assert.is(second.aggregate(round, accepted.toReversed()), root);
      assert.is(rootOf(first), root);
      assert.equal(first.weights(), second.weights());
      assert.not.equal(first.weights(), before);
      // A second round builds on the tree that the first one updated.
      const next = { round: 7, modelRoot: root };
      miner.load(first.weights());
      const more = [{ ...(await noiseSubmission(miner, folder, next, 3)), weight: 1n }];
      assert.is(first.aggregate(next, more), rootOf(first));
      // Nobody's submission leaves the weights.
      const last = rootOf(second);
      assert.is(second.aggregate(next, []), last);
      assert.is(rootOf(second), last);
    }),
  );
});

test('an aggregate with one bad submission leaves weights and root', async () => {
  await withFolder((folder) =>
    withSessions([{}, {}, { recipe: { valueBits: 32 } }], async (session, miner, float32) => {
      const round = { round: 6, modelRoot: rootOf(session) };
      const good = { ...(await noiseSubmission(miner, folder, round, 1)), weight: 3n };
      const other = { ...(await noiseSubmission(miner, folder, round, 2)), weight: 2n };
      const before = session.weights();
      const path = join(folder, 'weights');
      const refused = async (bad: typeof good, kind: abstract new (...args: never[]) => Error) => {
        for (const submissions of [[good, bad], [bad, good], [bad]]) {
          if (bad.account === good.account && submissions.length === 1) continue;
          assert.throws(
            () => session.aggregate(round, submissions),
            (error: unknown) => error instanceof kind,
          );
          assert.equal(session.weights(), before);
          // The root that goes into a file is still that of the weights: the file can be read.
          await session.save(path, 1);
          assert.equal(await session.open(path), { round: 1, modelRoot: round.modelRoot });
        }
      };
      await refused({ ...other, bytes: other.bytes.subarray(0, -1) }, MalformedUpdateError);
      await refused({ ...other, bytes: new Uint8Array(0) }, MalformedUpdateError);
      await refused({ ...other, account: accountOf(3) }, MalformedUpdateError);
      await refused({ ...good, weight: 1n }, InvalidSubmissionsError);
      await refused({ ...other, weight: -1n }, InvalidSubmissionsError);
      assert.throws(
        () => session.aggregate({ ...round, round: 7 }, [good]),
        (error: unknown) => error instanceof MalformedUpdateError,
      );
      assert.is.not(session.aggregate(round, [good, other]), round.modelRoot);

      // A value that no honest training comes near: at the end of float32, of one submission only.
      const huge = await compressHuge(float32);
      const stay = float32.weights();
      assert.throws(
        () => float32.aggregate(round, [{ ...huge, weight: 1n }]),
        (error: unknown) => error instanceof ValueTooLargeError,
      );
      assert.equal(float32.weights(), stay);

      async function compressHuge(model: ResidentModelSession) {
        const bytes = (await noiseSubmission(model, folder, round, 8)).bytes.slice();
        // The last record ends with its float32 values.
        new DataView(bytes.buffer).setFloat32(bytes.length - 4, 3.4e38, true);
        return { account: accountOf(8), bytes };
      }
    }),
  );
});

test('training moves nothing but what waits to be sent', async () => {
  await withFolder((folder) =>
    withSessions([{}], async (session) => {
      const before = session.weights();
      const round = { round: 1, modelRoot: rootOf(session), author: accountOf(1) };
      const steps: number[] = [];
      const outcome = await session.train(
        { tokens: tokensFor(12), learningRate: 1e-2 },
        { onStep: ({ step }) => steps.push(step) },
      );
      assert.equal(steps, [1, 2, 3]);
      assert.is(outcome.losses.length, 3);
      assert.equal(session.weights(), before);
      const bytes = await session.compress(round, join(folder, 'feedback'));
      assert.ok(bytes.length > 1000);
      // Sent is sent.
      assert.instance(await rejection(session.compress(round, join(folder, 'feedback'))), SessionStateError);
    }),
  );
});

test('aborted training leaves the weights, and nothing of it or of before is sent', async () => {
  await withFolder((folder) =>
    withSessions([{}], async (session) => {
      const before = session.weights();
      const round = { round: 1, modelRoot: rootOf(session), author: accountOf(1) };
      const path = join(folder, 'feedback');
      await session.train({ tokens: tokensFor(4), learningRate: 1e-2 });
      const abort = new AbortController();
      const reason = new Error('the round is over');
      const training = session.train(
        { tokens: tokensFor(400), learningRate: 1e-2 },
        { signal: abort.signal, onStep: ({ step }) => step === 3 && abort.abort(reason) },
      );
      assert.is(await rejection(training), reason);
      assert.equal(session.weights(), before);
      assert.instance(await rejection(session.compress(round, path)), SessionStateError);
      assert.is((await session.train({ tokens: tokensFor(4), learningRate: 1e-2 })).losses.length, 1);
    }),
  );
});

test('what was trained from other weights is not sent for this round', async () => {
  await withFolder((folder) =>
    withSessions([{}], async (session) => {
      const modelRoot = rootOf(session);
      session.pretend(1);
      const next = session.initialize(new Uint8Array(32));
      const send = (root: string) =>
        session.compress({ round: 1, modelRoot: root, author: accountOf(1) }, join(folder, 'feedback'));
      assert.instance(await rejection(send(next)), SessionStateError);
      assert.ok((await send(modelRoot)).length > 0);
    }),
  );
});

/** A decoded submission of the small model as one dense vector. */
function dense(update: DecodedUpdate): Float64Array {
  const { indices, values } = flattenUpdate(update, layout);
  const result = new Float64Array(elements);
  for (const [at, index] of indices.entries()) result[index] = values[at]!;
  return result;
}

test('error feedback is on disk before a submission is handed out, and goes on after a restart', async () => {
  // Without decay nothing may get lost: what was sent and what is left add up to what was trained.
  const change = { recipe: { errorFeedbackDecay: 1, valueBits: 2 as const } };
  const limits = updateLimits(layout, { ...smallRecipe, valueBits: 2 });
  await withFolder((folder) =>
    withSessions([change, change, change, change], async (steady, restarted, forgetful, damaged) => {
      const modelRoot = rootOf(steady);
      const author = accountOf(1);
      const path = join(folder, 'feedback');
      steady.pretend(1);
      const first = await steady.compress({ round: 1, modelRoot, author }, path);
      const kept = await readErrorFeedback(path, { presetHash: steady.presetHash, elements });
      assert.is(kept.round, 1);

      await restarted.openErrorFeedback(path);
      await forgetful.openErrorFeedback(join(folder, 'none'));
      const broken = await readFile(path);
      broken[5000]! ^= 1;
      await writeFile(join(folder, 'broken'), broken);
      // Had some, but a file that cannot be read starts from zero.
      await damaged.openErrorFeedback(path);
      await damaged.openErrorFeedback(join(folder, 'broken'));

      const second = { round: 2, modelRoot, author };
      const sent = [];
      for (const session of [steady, restarted, forgetful, damaged]) {
        session.pretend(2);
        sent.push(await session.compress(second, join(folder, `feedback-${sent.length}`)));
      }
      const [without, after, fresh, zeroed] = sent;
      assert.equal(after, without);
      assert.not.equal(fresh, without);
      assert.equal(zeroed, fresh);
      assert.equal(await readFile(join(folder, 'feedback-1')), await readFile(join(folder, 'feedback-0')));

      const { errorFeedback } = await readErrorFeedback(join(folder, 'feedback-1'), {
        presetHash: steady.presetHash,
        elements,
      });
      const parts = [first, after!].map((bytes) => dense(decodeUpdate(bytes, { layout, limits })));
      const trained = [1, 2].map((noise) => pretendedGradient(elements, noise));
      for (let i = 0; i < elements; i++) {
        const accounted = parts[0]![i]! + parts[1]![i]! + errorFeedback[i]!;
        const wanted = trained[0]![i]! + trained[1]![i]!;
        assert.ok(Math.abs(accounted - wanted) < 1e-8, `element ${i}: ${accounted} of ${wanted}`);
      }
    }),
  );
});

test('a failed or aborted write of the error feedback changes nothing, and can be repeated', async () => {
  await withFolder((folder) =>
    withSessions([{}, {}], async (session, undisturbed) => {
      const author = accountOf(1);
      const modelRoot = rootOf(session);
      const send = (model: ResidentModelSession, round: number, path: string, options = {}) =>
        model.compress({ round, modelRoot, author }, path, options);
      for (const round of [1, 2, 3]) {
        const path = join(folder, 'feedback');
        const previous = round === 1 ? undefined : await readFile(path);
        session.pretend(round);
        assert.is((await rejection(send(session, round, join(folder, 'missing', 'feedback')))).code, 'ENOENT');
        const reason = new Error('stop');
        assert.is(await rejection(send(session, round, path, { signal: AbortSignal.abort(reason) })), reason);
        assert.is((await rejection(send(session, -1, path))).code, 'ERR_INVALID_UPDATE_HEADER');
        assert.equal(await readFile(path).catch(() => undefined), previous);
        undisturbed.pretend(round);
        assert.equal(
          await send(session, round, path),
          await send(undisturbed, round, join(folder, 'undisturbed')),
          `round ${round}`,
        );
        assert.equal(await readFile(path), await readFile(join(folder, 'undisturbed')));
      }
    }),
  );
});

test('loading takes exactly the weights of this model', async () => {
  await withSessions([{}, {}], async (session, other) => {
    other.initialize(new Uint8Array(32));
    assert.is(other.load(session.weights()), rootOf(session));
    assert.equal(other.weights(), session.weights());
    assert.is(other.initialize(seed), rootOf(session));
    const copy = other.weights();
    copy.fill(0);
    assert.not.equal(other.weights(), copy, 'weights() is a copy');
  });
});

test.run();
