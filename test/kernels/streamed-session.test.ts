// time-limit: 120 s
/** A model session with its weights on disk gives what one with them in memory gives, and never leaves half a state. */
import { execFile } from 'node:child_process';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MAX_WEIGHT } from '../../kernels/aggregate/apply.ts';
import { InvalidSubmissionsError } from '../../kernels/aggregate/errors.ts';
import { TensorStore } from '../../kernels/checkpoint/tensor-store.ts';
import { estimateMemory, MemoryBudgetError } from '../../kernels/engine/memory-plan.ts';
import { MalformedUpdateError, ValueTooLargeError } from '../../kernels/gradient/errors.ts';
import { tensorLayout } from '../../kernels/model/layout.ts';
import { parsePreset, presets } from '../../kernels/model/preset.ts';
import { createSession } from '../../kernels/session/create-session.ts';
import { requireDiskSpace } from '../../kernels/session/disk-space.ts';
import { DiskSpaceError, SessionStateError } from '../../kernels/session/errors.ts';
import { ModelClient } from '../../kernels/session/model-client.ts';
import { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { BEST_GAIN, WORST_GAIN, WORST_LOSS } from '../../kernels/session/scoring.ts';
import { streamedWorkBytes } from '../../kernels/session/streamed-budget.ts';
import type { StreamedModelSession } from '../../kernels/session/streamed-session.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import {
  accountOf,
  noiseSubmission,
  rejection,
  type SessionChange,
  seed,
  sessionInit,
  streamedSession,
  tokensFor,
  withFolder,
} from './small-session.ts';

const CHILD = fileURLToPath(new URL('streamed-crash.ts', import.meta.url));

/** A session in memory, in the mode that recomputes activations as streaming does. */
function blocksSession(change: SessionChange = {}): ResidentModelSession {
  const init = sessionInit(change);
  const request = { preset: init.preset, batch: init.recipe.batchSequences, context: init.preset.context };
  const session = new ResidentModelSession({ ...init, memoryBytes: Math.ceil(estimateMemory(request, 'blocks')) });
  assert.is(session.memory.mode, 'blocks');
  return session;
}

/** Runs `body` with a resident and a streamed session, both with the weights of {@link seed}. */
async function withBoth(
  change: SessionChange,
  body: (resident: ResidentModelSession, streamed: StreamedModelSession, folder: string) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const resident = blocksSession(change);
    const streamed = await streamedSession(join(folder, 'streaming'), change);
    try {
      assert.is(await streamed.initialize(seed), resident.initialize(seed));
      await body(resident, streamed, folder);
    } finally {
      await resident.close();
      await streamed.close();
    }
    assert.not((await readdir(folder)).includes('streaming'));
  });
}

for (const tied of [false, true])
  test(`rounds give the submissions and roots of a session in memory, ${tied ? 'tied' : 'untied'}`, async () => {
    // Three chunks of the model root.
    const preset = parsePreset({ ...smallPreset, vocabulary: 9000, tied });
    const change = { preset, recipe: { topK: 9, valueBits: 2 as const } };
    await withBoth(change, async (resident, streamed, folder) => {
      const other = blocksSession(change);
      const path = join(folder, 'weights');
      let modelRoot = other.initialize(seed);
      for (const number of [1, 2, 3]) {
        const round = { round: number, modelRoot };
        const work = { tokens: tokensFor(8, number), learningRate: 1e-2 };
        assert.equal((await streamed.train(work)).losses, (await resident.train(work)).losses);
        const author = accountOf(1);
        const sent = [];
        for (const [name, session] of Object.entries({ resident, streamed }))
          sent.push(await session.compress({ ...round, author }, join(folder, `feedback-${name}`)));
        assert.equal(sent[1], sent[0], `submission of round ${number}`);
        assert.equal(
          await readFile(join(folder, 'feedback-streamed')),
          await readFile(join(folder, 'feedback-resident')),
        );
        const accepted = [{ account: author, bytes: sent[0]!, weight: 10n ** 9n }];
        for (const digit of [7, 4])
          accepted.push({ ...(await noiseSubmission(other, folder, round, digit)), weight: BigInt(digit) ** 20n });
        modelRoot = resident.aggregate(round, accepted);
        assert.is(await streamed.aggregate(round, accepted.toReversed()), modelRoot);
        assert.equal(await streamed.weights(), resident.weights());
        // Saved in one round, not in another: the next starts from a file of its own or of the folder.
        if (number !== 2) {
          await streamed.save(path, number);
          await resident.save(join(folder, 'expected'), number);
          assert.equal(await readFile(path), await readFile(join(folder, 'expected')));
        }
        other.load(resident.weights());
      }
      // Either kind of session takes up what the other left.
      assert.equal(await other.open(path), { round: 3, modelRoot });
      const restarted = await streamedSession(join(folder, 'restarted'), change);
      assert.equal(await restarted.open(join(folder, 'expected')), { round: 3, modelRoot });
      await restarted.openErrorFeedback(join(folder, 'feedback-resident'));
      await other.openErrorFeedback(join(folder, 'feedback-streamed'));
      const sent = [];
      for (const session of [restarted, other]) {
        await session.pretend(5);
        const header = { round: 4, modelRoot, author: accountOf(1) };
        sent.push(await session.compress(header, join(folder, `feedback-${sent.length}`)));
      }
      assert.equal(sent[0], sent[1]);
      assert.is(await restarted.load(other.weights()), modelRoot);
      await restarted.close();
      await other.close();
    });
  });

test('what was saved is never written again, and a second name gets a copy', async () => {
  await withBoth({}, async (resident, streamed, folder) => {
    const path = join(folder, 'weights');
    await streamed.save(path, 0);
    const saved = await readFile(path);
    const { ino } = await stat(path);
    const round = { round: 1, modelRoot: await streamed.load(resident.weights()) };
    assert.equal(await streamed.open(path), { round: 0, modelRoot: round.modelRoot });
    const accepted = [{ ...(await noiseSubmission(resident, folder, round, 3)), weight: 1n }];
    const after = await streamed.aggregate(round, accepted);
    assert.equal(await readFile(path), saved);
    assert.is((await stat(path)).ino, ino);
    await streamed.save(path, 1);
    await streamed.save(join(folder, 'again'), 1);
    await streamed.save(path, 2);
    assert.equal(await streamed.open(join(folder, 'again')), { round: 1, modelRoot: after });
    assert.equal(await streamed.open(path), { round: 2, modelRoot: after });
    // One file of weights at a time, and nothing that a round left.
    assert.equal(await readdir(join(folder, 'streaming')), []);
    // Nobody's submission leaves them.
    assert.is(await streamed.aggregate({ round: 3, modelRoot: after }, []), after);
  });
});

test('whatever is well-formed has an aggregate: overflowing weights end at the bound, in memory as on disk', async () => {
  // A recipe under which every finite value is allowed.
  await withBoth({ recipe: { valueBits: 32, innerLearningRate: 1e38 } }, async (resident, streamed, folder) => {
    const round = { round: 6, modelRoot: resident.initialize(seed) };
    const submissions = [];
    for (const author of [1, 2, 3]) {
      const { account, bytes } = await noiseSubmission(resident, folder, round, author);
      const changed = bytes.slice();
      const view = new DataView(changed.buffer);
      // All three alike, so that their mean is as large as they are.
      for (const [i, value] of [3.4e38, -3.4e38, 1e-45, 1e30].entries()) {
        view.setFloat32(changed.length - 4 * (i + 1), value, true);
      }
      submissions.push({ account, bytes: changed, weight: 10n ** 11n });
    }
    const root = resident.aggregate(round, submissions);
    assert.is(await streamed.aggregate(round, submissions), root);
    const weights = new Float32Array(resident.weights().buffer);
    assert.ok(weights.every((weight) => Math.abs(weight) <= MAX_WEIGHT));
    assert.ok(weights.includes(MAX_WEIGHT) && weights.includes(-MAX_WEIGHT));
    // The model is broken, and still the next round has verdicts; on onnxruntime and on disk the same.
    const next = { round: 7, modelRoot: root };
    const work = {
      tokens: tokensFor(4),
      heldOutSequences: 2,
      submissions: [await noiseSubmission(resident, folder, next, 1)],
    };
    for (const session of [resident, streamed]) {
      const { heldOutLoss, scores } = await session.score(next, work);
      assert.ok(heldOutLoss > 0 && heldOutLoss <= WORST_LOSS, `${heldOutLoss}`);
      const [score] = scores;
      assert.ok(score?.kind === 'scored' && score.gain >= WORST_GAIN && score.gain <= BEST_GAIN);
    }
  });
});

test('an aggregate that is refused or aborted leaves the weights', async () => {
  await withBoth({ recipe: { valueBits: 32 } }, async (resident, streamed, folder) => {
    const round = { round: 6, modelRoot: resident.initialize(seed) };
    const good = { ...(await noiseSubmission(resident, folder, round, 1)), weight: 3n };
    const other = { ...(await noiseSubmission(resident, folder, round, 2)), weight: 2n };
    const huge = { ...other, bytes: other.bytes.slice() };
    new DataView(huge.bytes.buffer).setFloat32(huge.bytes.length - 4, 3.4e38, true);
    for (const [bad, kind] of [
      [{ ...other, bytes: other.bytes.subarray(0, -1) }, MalformedUpdateError],
      [{ ...other, account: accountOf(3) }, MalformedUpdateError],
      [{ ...good, weight: 1n }, InvalidSubmissionsError],
      [{ ...other, weight: -1n }, InvalidSubmissionsError],
    ] as const)
      assert.instance(await rejection(streamed.aggregate(round, [good, bad])), kind);
    assert.instance(await rejection(streamed.aggregate(round, [huge])), ValueTooLargeError);
    const reason = new Error('stop');
    const { write } = TensorStore.prototype;
    const abort = new AbortController();
    try {
      // In the middle of the weights.
      TensorStore.prototype.write = async function (...call) {
        await write.apply(this, call);
        if (call[0].slot.name.includes('.1.')) abort.abort(reason);
      };
      assert.is(await rejection(streamed.aggregate(round, [good], { signal: abort.signal })), reason);
    } finally {
      TensorStore.prototype.write = write;
    }
    assert.equal(await streamed.weights(), resident.weights());
    assert.is(await streamed.aggregate(round, [good, other]), resident.aggregate(round, [good, other]));
  });
});

test('aborted training leaves the weights, and nothing of it is sent; a failed submission can be repeated', async () => {
  await withBoth({}, async (resident, streamed, folder) => {
    const header = { round: 1, modelRoot: resident.initialize(seed), author: accountOf(1) };
    const path = join(folder, 'feedback');
    await streamed.pretend(1);
    const abort = new AbortController();
    const reason = new Error('the round is over');
    const training = streamed.train(
      { tokens: tokensFor(400), learningRate: 1e-2 },
      { signal: abort.signal, onStep: ({ step }) => step === 2 && abort.abort(reason) },
    );
    assert.is(await rejection(training), reason);
    assert.equal(await streamed.weights(), resident.weights());
    assert.instance(await rejection(streamed.compress(header, path)), SessionStateError);
    for (const round of [1, 2]) {
      const next = { ...header, round };
      await streamed.pretend(round);
      resident.pretend(round);
      assert.is((await rejection(streamed.compress(next, join(folder, 'missing', 'feedback')))).code, 'ENOENT');
      const stopped = streamed.compress(next, path, { signal: AbortSignal.abort(reason) });
      assert.is(await rejection(stopped), reason);
      assert.is((await rejection(streamed.compress({ ...next, round: -1 }, path))).code, 'ERR_INVALID_UPDATE_HEADER');
      assert.equal(await streamed.compress(next, path), await resident.compress(next, join(folder, 'expected')));
      assert.equal(await readFile(path), await readFile(join(folder, 'expected')));
    }
    await streamed.pretend(3);
    const wrong = await rejection(streamed.compress({ ...header, modelRoot: '0'.repeat(64) }, path));
    assert.instance(wrong, SessionStateError);
  });
});

test('killed at any moment of a round, the saved weights are those before or after it', async () => {
  await withBoth({}, async (resident, streamed, folder) => {
    const round = { round: 1, modelRoot: resident.initialize(seed) };
    const { account, bytes } = await noiseSubmission(resident, folder, round, 1);
    const after = resident.aggregate(round, [{ account, bytes, weight: 1n }]);
    await writeFile(join(folder, 'round.json'), JSON.stringify({ round, account }));
    await writeFile(join(folder, 'submission'), bytes);
    const path = join(folder, 'weights');
    await streamed.save(path, 0);
    const start = await readFile(path);
    // Each tensor is one part; then both ends of the seal, and the move.
    const writes = tensorLayout(smallPreset).length;
    const outcomes: string[] = [];
    for (const at of [1, writes, writes + 1, writes + 2, writes + 3, writes + 4]) {
      await writeFile(path, start);
      const ended = await promisify(execFile)(process.execPath, [CHILD, folder, `${at}`]).then(
        () => 'done',
        (error: { signal?: string }) => error.signal,
      );
      const next = await streamedSession(join(folder, 'streaming'));
      const opened = await next.open(path);
      outcomes.push(`${ended} ${opened?.round}`);
      assert.is(opened?.modelRoot, opened?.round === 1 ? after : round.modelRoot, `write ${at}`);
      if (opened?.round === 0) assert.is(await next.aggregate(round, [{ account, bytes, weight: 1n }]), after);
      await next.close();
    }
    assert.equal(outcomes, ['SIGKILL 0', 'SIGKILL 0', 'SIGKILL 0', 'SIGKILL 0', 'SIGKILL 1', 'done 1']);
  });
});

test('a budget chooses streaming only where there is a folder for it', async () => {
  await withFolder(async (folder) => {
    const init = { ...sessionInit({ preset: presets['alice-nano'] }), memoryBytes: 260 * 2 ** 20 };
    assert.instance(await rejection(createSession(init)), MemoryBudgetError);
    const streamFolder = join(folder, 'streaming');
    const streaming = { ...init, streamFolder };
    assert.instance(await rejection(createSession({ ...streaming, memoryBytes: 2 ** 20 })), MemoryBudgetError);
    assert.instance(await rejection(createSession({ ...streaming, precision: 'fp16' })), MemoryBudgetError);
    await writeFile(join(folder, 'left'), '');
    const client = await ModelClient.start(streaming);
    assert.is(client.memory.mode, 'streamed');
    assert.ok(client.memory.bytes <= init.memoryBytes);
    const request = { preset: init.preset, batch: init.recipe.batchSequences, context: init.preset.context };
    assert.ok(client.memory.bytes > estimateMemory(request, 'streamed') + streamedWorkBytes(init.preset));
    const modelRoot = await client.initialize(seed);
    const steps = { tokens: seededTokens(1, 100, init.preset.context, init.preset.vocabulary), learningRate: 1e-3 };
    const abort = new AbortController();
    const reason = new Error('the round is over');
    const options = { signal: abort.signal, onStep: () => abort.abort(reason) };
    assert.is(await rejection(client.train(steps, options)), reason);
    assert.is(await client.aggregate({ round: 1, modelRoot }, []), modelRoot);
    await client.close();
    assert.equal(await readdir(folder), ['left']);
    const { memoryBytes: _, ...unbounded } = streaming;
    const resident = await createSession(unbounded);
    assert.is(resident.memory.mode, 'whole');
    await resident.close();
  });
});

test('too little room on the disk is said before anything is written', async () => {
  const free = async () => 3 * 2 ** 30;
  await requireDiskSpace('/data', 3 * 2 ** 30, 'streaming', free);
  const error = await rejection(requireDiskSpace('/data', 4 * 2 ** 30, 'streaming', free));
  assert.instance(error, DiskSpaceError);
  assert.match(error.message, /streaming needs 4\.00 GiB in \/data, where 3\.00 GiB are free/);
  // A model that no disk holds.
  const preset = parsePreset({ ...smallPreset, layers: 512, hidden: 16_384, ffn: 65_536, queryHeads: 128 });
  await withFolder(async (folder) => {
    const streamFolder = join(folder, 'streaming');
    const session = await streamedSession(streamFolder, { preset });
    const refused = await rejection(session.initialize(seed));
    assert.instance(refused, DiskSpaceError);
    assert.ok(refused.message.includes(streamFolder), refused.message);
    assert.equal(await readdir(streamFolder), []);
    await session.close();
  });
});

test.run();
