/** A model in a worker thread: jobs, cancellation, errors, the end. */
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import {
  ModelJobError,
  ModelWorker,
  ModelWorkerBusyError,
  ModelWorkerExitedError,
} from '../../kernels/engine/worker/model-client.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';

const options = { preset: smallPreset, threads: 1, batch: 4 };
const weights = initialWeights(smallPreset, new Uint8Array(32).fill(5));
const tokensFor = (sequences: number) => seededTokens(1, sequences, smallPreset.context, smallPreset.vocabulary);

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => assert.unreachable('it did not reject'),
    (reason: unknown) => reason,
  );
}

async function startLoaded(): Promise<ModelWorker> {
  const worker = await ModelWorker.start(options);
  await worker.loadWeights(weights);
  return worker;
}

test('a worker computes what an engine in this thread computes', async () => {
  const worker = await startLoaded();
  const engine = createEngine(options);
  engine.loadWeights(weights);
  const tokens = tokensFor(5);
  const delta = { indices: Uint32Array.of(100, 5000, 100), deltas: Float32Array.of(0.5, -0.5, 0.25) };
  const { base, variants } = await worker.evaluate(tokens, [delta]);
  assert.equal(base, await engine.losses(tokens));
  assert.not.equal(variants[0], base);
  const here = await engine.lossAndGradient(tokens);
  const there = await worker.gradient(tokens);
  assert.equal(there, { loss: here.loss, gradient: here.gradient, gradientNorm: here.gradientNorm });
  assert.equal(await worker.readWeights(), weights);
  await engine.close();
  await worker.close();
});

test('training reports its steps, leaves the event loop free and the weights alone', async () => {
  const worker = await startLoaded();
  const steps: number[] = [];
  let turns = 0;
  let running = true;
  const count = () => {
    turns++;
    if (running) setImmediate(count);
  };
  setImmediate(count);
  const request = { tokens: tokensFor(40), sequencesPerStep: 4, learningRate: 1e-3, keepMoments: false };
  const first = await worker.train(request, { onProgress: ({ step }) => steps.push(step) });
  running = false;
  assert.ok(turns > 10, `${turns} turns of the event loop`);
  assert.equal(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.ok(first.tokensPerSecond > 0);
  assert.equal(await worker.readWeights(), weights);
  const fresh = await worker.train(request);
  assert.equal(fresh.pseudoGradient, first.pseudoGradient);
  const kept = await worker.train({ ...request, keepMoments: true });
  assert.not.equal(kept.pseudoGradient, first.pseudoGradient);
  await worker.close();
});

test('an aborted job rejects with the reason, restores the weights, and the next job runs', async () => {
  const worker = await startLoaded();
  const abort = new AbortController();
  const queued = new AbortController();
  const reason = new Error('the round is over');
  let lastStep = 0;
  const training = worker.train(
    { tokens: tokensFor(4000), sequencesPerStep: 4, learningRate: 1e-2, keepMoments: false },
    {
      signal: abort.signal,
      onProgress: ({ step }) => {
        lastStep = step;
        if (step === 2) abort.abort(reason);
      },
    },
  );
  const waiting = worker.evaluate(tokensFor(1), [], { signal: queued.signal });
  const after = worker.readWeights();
  queued.abort(reason);
  assert.is(await rejection(training), reason);
  assert.is(await rejection(waiting), reason);
  assert.ok(lastStep < 1000, `stopped at ${lastStep}`);
  assert.equal(await after, weights);
  assert.is(await rejection(worker.readWeights({ signal: AbortSignal.abort(reason) })), reason);
  await worker.close();
});

test('errors keep their code, and the worker goes on', async () => {
  const worker = await startLoaded();
  const failures: [() => Promise<unknown>, string][] = [
    [() => worker.evaluate(tokensFor(1).with(2, smallPreset.vocabulary)), 'ERR_INVALID_TOKENS'],
    [() => worker.loadWeights(new Float32Array(1)), 'ERR_WEIGHTS_LENGTH'],
    [
      () => worker.evaluate(tokensFor(1), [{ indices: Uint32Array.of(weights.length), deltas: Float32Array.of(0) }]),
      'ERR_INVALID_DELTA',
    ],
  ];
  for (const [failure, code] of failures) {
    const error = await rejection(failure());
    assert.instance(error, ModelJobError);
    assert.is((error as ModelJobError).code, code);
  }
  await worker.loadWeights(weights.with(9900, Number.NaN));
  const error = (await rejection(worker.gradient(tokensFor(1)))) as ModelJobError;
  assert.is(error.code, 'ERR_NON_FINITE');
  assert.match(error.message, 'layers.1.');
  await worker.loadWeights(weights);
  assert.equal(await worker.readWeights(), weights);
  await worker.close();
});

test('a worker that cannot be set up says why', async () => {
  const error = await rejection(ModelWorker.start({ ...options, batch: 0 }));
  assert.instance(error, ModelJobError);
  assert.is((error as ModelJobError).code, 'ERR_INVALID_ENGINE_OPTIONS');
});

test('closing cancels what runs, and later jobs are refused', async () => {
  const worker = await startLoaded();
  const training = rejection(
    worker.train({ tokens: tokensFor(4000), sequencesPerStep: 4, learningRate: 1e-3, keepMoments: false }),
  );
  await worker.close();
  assert.instance(await training, ModelWorkerExitedError);
  assert.instance(await rejection(worker.readWeights()), ModelWorkerExitedError);
  await worker.close();
});

test('waiting jobs are bounded', async () => {
  const worker = await startLoaded();
  const jobs = Array.from({ length: 64 }, () => worker.evaluate(tokensFor(1)));
  assert.instance(await rejection(worker.evaluate(tokensFor(1))), ModelWorkerBusyError);
  await Promise.all(jobs);
  await worker.evaluate(tokensFor(1));
  await worker.close();
});

test('transferred weights leave this thread', async () => {
  const worker = await startLoaded();
  const moved = weights.slice().fill(0.25);
  await worker.run('load-weights', { weights: moved }, { transfer: [moved.buffer] });
  assert.is(moved.length, 0);
  assert.is((await worker.readWeights())[7], 0.25);
  await worker.close();
});

if (process.platform === 'linux')
  test("the model's thread and its helpers give way to this one", async () => {
    const nicenesses = () =>
      readdirSync('/proc/self/task').map((task) => {
        const stat = readFileSync(`/proc/self/task/${task}/stat`, 'utf8');
        // Field 19, counted after the name in parentheses, which may hold spaces.
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
      });
    const own = Number(readFileSync('/proc/self/stat', 'utf8').split(') ')[1]!.split(' ')[16]);
    const worker = await ModelWorker.start({ ...options, threads: 2, niceness: 12 });
    await worker.loadWeights(weights);
    await worker.evaluate(tokensFor(4));
    // The thread itself and onnxruntime's second one.
    assert.ok(nicenesses().filter((niceness) => niceness === 12).length >= 2, `${nicenesses()}`);
    assert.is(Number(readFileSync('/proc/self/stat', 'utf8').split(') ')[1]!.split(' ')[16]), own);
    await worker.close();
  });

test.run();
