/** A model session in a worker thread: jobs, cancellation, errors, the end. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ModelJobError, ModelWorkerBusyError, ModelWorkerExitedError } from '../../kernels/session/errors.ts';
import { ModelClient } from '../../kernels/session/model-client.ts';
import { smallPreset } from './small-preset.ts';
import { accountOf, rejection, seed, sessionInit, tokensFor, withFolder, withSessions } from './small-session.ts';

async function startLoaded(): Promise<ModelClient> {
  const client = await ModelClient.start(sessionInit());
  await client.initialize(seed);
  return client;
}

test('every call gives what a session in this thread gives', async () => {
  await withFolder(async (folder) =>
    withSessions([{}], async (session) => {
      const client = await ModelClient.start(sessionInit());
      const modelRoot = session.initialize(seed);
      assert.is(await client.initialize(seed), modelRoot);
      assert.equal(await client.weights(), session.weights());
      const work = { tokens: tokensFor(12), learningRate: 1e-3 };
      assert.equal((await client.train(work)).losses, (await session.train(work)).losses);
      const round = { round: 3, modelRoot };
      const submissions = [];
      for (const [digit, model] of [client, session].entries()) {
        const account = accountOf(7);
        const bytes = await model.compress({ ...round, author: account }, join(folder, `feedback-${digit}`));
        submissions.push({ account, bytes });
      }
      assert.equal(submissions[0], submissions[1]);
      const [own] = submissions;
      const scoring = { tokens: tokensFor(8, 2), heldOutSequences: 4, submissions: [own!] };
      const { tokensPerSecond, ...scored } = await client.score(round, scoring);
      const { tokensPerSecond: _, ...expected } = await session.score(round, scoring);
      assert.ok(tokensPerSecond > 0);
      assert.equal(scored, expected);
      const accepted = [{ ...own!, weight: 5n }];
      const after = session.aggregate(round, accepted);
      assert.is(await client.aggregate(round, accepted), after);
      const path = join(folder, 'weights');
      await client.save(path, 3);
      assert.equal(await session.open(path), { round: 3, modelRoot: after });
      assert.equal(await client.open(path), { round: 3, modelRoot: after });
      assert.is(await client.open(join(folder, 'none')), undefined);
      // Error feedback and noise.
      await client.openErrorFeedback(join(folder, 'feedback-1'));
      await client.pretend(9);
      session.pretend(9);
      const next = { round: 4, modelRoot: after, author: accountOf(7) };
      assert.equal(
        await client.compress(next, join(folder, 'feedback-0')),
        await session.compress(next, join(folder, 'feedback-1')),
      );
      assert.is(await client.load(session.weights()), after);
      await client.close();
    }),
  );
});

test('training reports its steps, leaves the event loop free and the weights alone', async () => {
  const client = await startLoaded();
  const before = await client.weights();
  const steps: number[] = [];
  let turns = 0;
  let running = true;
  const count = () => {
    turns++;
    if (running) setImmediate(count);
  };
  setImmediate(count);
  const { losses, tokensPerSecond } = await client.train(
    { tokens: tokensFor(40), learningRate: 1e-3 },
    { onStep: ({ step }) => steps.push(step) },
  );
  running = false;
  assert.ok(turns > 10, `${turns} turns of the event loop`);
  assert.equal(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.is(losses.length, 10);
  assert.ok(tokensPerSecond > 0);
  assert.equal(await client.weights(), before);
  await client.close();
});

test('an aborted job rejects with the reason, restores the weights, and the next job runs', async () => {
  const client = await startLoaded();
  const before = await client.weights();
  const abort = new AbortController();
  const queued = new AbortController();
  const reason = new Error('the round is over');
  let lastStep = 0;
  const training = client.train(
    { tokens: tokensFor(4000), learningRate: 1e-2 },
    {
      signal: abort.signal,
      onStep: ({ step }) => {
        lastStep = step;
        if (step === 2) abort.abort(reason);
      },
    },
  );
  const waiting = client.load(new Uint8Array(before.length), { signal: queued.signal });
  const after = client.weights();
  queued.abort(reason);
  assert.is(await rejection(training), reason);
  assert.is(await rejection(waiting), reason);
  assert.ok(lastStep < 1000, `stopped at ${lastStep}`);
  assert.equal(await after, before);
  assert.is(await rejection(client.weights({ signal: AbortSignal.abort(reason) })), reason);
  await client.close();
});

test('errors keep their code, and the worker goes on', async () => {
  const client = await ModelClient.start(sessionInit());
  const round = { round: 1, modelRoot: accountOf(0) };
  const unloaded: (() => Promise<unknown>)[] = [
    () => client.weights(),
    () => client.train({ tokens: tokensFor(4), learningRate: 1 }),
    () => client.aggregate(round, []),
    () => client.score(round, { tokens: tokensFor(4), heldOutSequences: 1, submissions: [] }),
    () => client.save('nowhere', 1),
    () => client.pretend(1),
    () => client.compress({ ...round, author: accountOf(1) }, 'nowhere'),
  ];
  for (const call of unloaded) assert.is((await rejection(call())).code, 'ERR_SESSION_STATE');
  await client.initialize(seed);
  const before = await client.weights();
  const failures: [() => Promise<unknown>, string][] = [
    [() => client.load(new Uint8Array(4)), 'ERR_WEIGHTS_SIZE'],
    [() => client.load(new Uint8Array(before.length).fill(255)), 'ERR_NON_FINITE'],
    [() => client.initialize(new Uint8Array(3)), 'ERR_INVALID_SEED'],
    [
      () => client.train({ tokens: tokensFor(4).with(2, smallPreset.vocabulary), learningRate: 1 }),
      'ERR_INVALID_TOKENS',
    ],
    [() => client.aggregate(round, [{ account: accountOf(1), weight: 1n, bytes: seed }]), 'ERR_AGF1_TRUNCATED'],
    [() => client.save('/nowhere/at/all', 1), 'ENOENT'],
  ];
  for (const [failure, code] of failures) {
    const error = await rejection(failure());
    assert.instance(error, ModelJobError);
    assert.is(error.code, code);
  }
  assert.equal(await client.weights(), before);
  await client.close();
});

test('what cannot be sent to the thread is refused here, and nothing waits for it', async () => {
  const client = await startLoaded();
  const error = await rejection(client.train({ tokens: tokensFor(4), learningRate: (() => 1) as unknown as number }));
  assert.is(error.name, 'DataCloneError');
  assert.is((await client.train({ tokens: tokensFor(4), learningRate: 1e-3 })).losses.length, 1);
  await client.close();
});

test('a model that cannot be set up says why', async () => {
  const bad: [Parameters<typeof sessionInit>[0], string][] = [
    [{ recipe: { batchSequences: 0 } }, 'ERR_INVALID_ENGINE_OPTIONS'],
    [{ preset: { ...smallPreset, queryHeads: 5 } }, 'ERR_INVALID_PRESET'],
  ];
  for (const [change, code] of bad) {
    const error = await rejection(ModelClient.start(sessionInit(change)));
    assert.instance(error, ModelJobError);
    assert.is(error.code, code);
  }
});

test('starting can be given up', async () => {
  const reason = new Error('not needed');
  assert.is(await rejection(ModelClient.start(sessionInit(), { signal: AbortSignal.abort(reason) })), reason);
  const abort = new AbortController();
  const starting = rejection(ModelClient.start(sessionInit(), { signal: abort.signal }));
  abort.abort(reason);
  assert.is(await starting, reason);
});

test('closing cancels what runs and what waits, and later calls are refused at once', async () => {
  const client = await startLoaded();
  const training = rejection(client.train({ tokens: tokensFor(4000), learningRate: 1e-3 }));
  const waiting = rejection(client.weights());
  const closed = client.close();
  assert.instance(await rejection(client.weights()), ModelWorkerExitedError);
  await closed;
  assert.instance(await training, ModelWorkerExitedError);
  assert.instance(await waiting, ModelWorkerExitedError);
  assert.instance(await rejection(client.weights()), ModelWorkerExitedError);
  await client.close();
});

test('waiting jobs are bounded', async () => {
  const client = await startLoaded();
  const jobs = Array.from({ length: 64 }, () => client.weights());
  assert.instance(await rejection(client.weights()), ModelWorkerBusyError);
  await Promise.all(jobs);
  await client.weights();
  await client.close();
});

test('weights that are handed over leave this thread; a part of a larger buffer is copied', async () => {
  const client = await startLoaded();
  const bytes = await client.weights();
  const root = await client.initialize(seed);
  const moved = bytes.slice();
  assert.is(await client.load(moved, { handOver: true }), root);
  assert.is(moved.length, 0);
  const part = new Uint8Array(bytes.length + 8).subarray(8);
  part.set(bytes);
  assert.is(await client.load(part, { handOver: true }), root);
  assert.equal(part.slice(), bytes);
  assert.is(await client.load(bytes), root);
  assert.is(bytes.length, part.length);
  await client.close();
});

if (process.platform === 'linux')
  test("the model's thread and its helpers give way to this one", async () => {
    const nicenesses = () =>
      readdirSync('/proc/self/task').map((task) => {
        const stat = readFileSync(`/proc/self/task/${task}/stat`, 'utf8');
        // Field 19, counted after the name in parentheses, which may hold spaces.
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
      });
    const ownNiceness = () => Number(readFileSync('/proc/self/stat', 'utf8').split(') ')[1]!.split(' ')[16]);
    const own = ownNiceness();
    const client = await ModelClient.start({ ...sessionInit(), threads: 2, niceness: 12 });
    await client.initialize(seed);
    await client.train({ tokens: tokensFor(4), learningRate: 1e-3 });
    // The thread itself and onnxruntime's second one.
    assert.ok(nicenesses().filter((niceness) => niceness === 12).length >= 2, `${nicenesses()}`);
    assert.is(ownNiceness(), own);
    await client.close();
  });

test.run();
