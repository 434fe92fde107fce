// time-limit: 120 s
/** A validator with its weights on disk gives the scores and roots of one with them in memory, in less memory. */
import { execFile } from 'node:child_process';
import { mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { platform } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TensorFileMismatchError } from '../../kernels/checkpoint/errors.ts';
import { createInitialStore } from '../../kernels/checkpoint/initial-store.ts';
import { TensorFileWriter } from '../../kernels/checkpoint/tensor-file-writer.ts';
import { formatSize } from '../../kernels/engine/memory-plan.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { type SparseDelta, splitDelta } from '../../kernels/engine/sparse-delta.ts';
import { StreamedScorer } from '../../kernels/engine/streamed-scorer.ts';
import { assembleUpdate } from '../../kernels/gradient/agf1.ts';
import { compressTensor } from '../../kernels/gradient/compress.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { pretendedGradient } from '../../kernels/session/pretended-gradient.ts';
import { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import {
  accountOf,
  noiseSubmission,
  rejection,
  type SessionChange,
  seed,
  sessionInit,
  smallRecipe,
  streamedSession,
  tokensFor,
  withFolder,
} from './small-session.ts';
import { storeOf } from './streamed-store.ts';

const CHILD = fileURLToPath(new URL('scoring-peak.ts', import.meta.url));

/** Changes of some weights of every tensor, and of few: the second one of the last rows of the vocabulary alone. */
function someDeltas(preset: Preset): SparseDelta[] {
  const parameters = parameterCount(preset);
  const everywhere = Uint32Array.from({ length: Math.floor(parameters / 7) }, (_, i) => 7 * i);
  const head = tensorLayout(preset).find(({ name }) => name === (preset.tied ? 'embedding' : 'head'))!;
  const rows = Uint32Array.from({ length: 3 * preset.hidden }, (_, i) => head.offset + head.length - 1 - i);
  const middle = tensorLayout(preset).find(({ name }) => name === 'layers.1.ffn.up')!;
  return [everywhere, rows, Uint32Array.of(middle.offset + 3, middle.offset + 3), new Uint32Array(0)].map(
    (indices, i) => ({ indices, deltas: pretendedGradient(indices.length, i).map((value) => 30 * value) }),
  );
}

for (const tied of [false, true])
  for (const headTileBytes of [2 ** 28, 128 * 32 * 4])
    test(`losses of variants are those of the engine in memory: ${tied ? 'tied' : 'untied'}, tiles of ${headTileBytes}`, async () => {
      const preset = parsePreset({ ...smallPreset, vocabulary: 300, tied });
      const options = { preset, threads: 1, batch: 2, headRows: 16, headTileBytes };
      const weights = initialWeights(preset, seed);
      const engine = createEngine({ ...options, memory: 'blocks' });
      const tokens = seededTokens(4, 5, preset.context, preset.vocabulary);
      const variants = someDeltas(preset);
      await withFolder(async (folder) => {
        const store = await storeOf(join(folder, 'weights'), preset, weights);
        engine.loadWeights(weights);
        const expected = await engine.variantLosses(tokens, variants);
        assert.equal(expected.base, await engine.losses(tokens));
        assert.equal(expected.variants[3], expected.base);
        for (const [i, { indices, deltas }] of variants.entries()) {
          const changed = weights.slice();
          for (const [at, index] of indices.entries()) changed[index]! += deltas[at]!;
          engine.loadWeights(changed);
          assert.equal(expected.variants[i], await engine.losses(tokens), `variant ${i}`);
        }
        assert.not.equal(expected.variants[1], expected.base);
        const before = await readFile(store.path);
        const parts: [number, number][] = [];
        for (const [prefetch, maxBytes] of [
          [true, 2 ** 30],
          [false, 2 ** 30],
          // Two activations at once: a sweep for each of 3 x 5 cells. Then seven, which cuts through passes.
          [true, 2 * 4 * 32 * 32],
          [true, 8 * 4 * 32 * 32],
        ] as const) {
          const scorer = new StreamedScorer(store, { ...options, prefetch });
          const changes = variants.map((variant) => splitDelta(variant, store.layout));
          const onPart = (done: number, all: number) => parts.push([done, all]);
          const losses = await scorer.variantLosses(tokens, changes, { maxBytes, onPart });
          assert.equal(losses, expected, `${prefetch} ${maxBytes}`);
          await scorer.close();
        }
        assert.equal(parts.slice(0, 3), [
          [1, 3],
          [2, 3],
          [3, 3],
        ]);
        assert.is(parts[6]?.[1], 3 * 15);
        assert.equal(await readFile(store.path), before);
        await store.close();
      });
      await engine.close();
    });

/** A session in memory and one on disk, with the same weights. */
async function withBoth(
  change: SessionChange,
  body: (
    resident: ResidentModelSession,
    streamed: Awaited<ReturnType<typeof streamedSession>>,
    round: { round: number; modelRoot: string },
    folder: string,
  ) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    const resident = new ResidentModelSession(sessionInit(change));
    const streamed = await streamedSession(join(folder, 'streaming'), change);
    try {
      const modelRoot = resident.initialize(seed);
      assert.is(await streamed.initialize(seed), modelRoot);
      await body(resident, streamed, { round: 2, modelRoot }, folder);
    } finally {
      await resident.close();
      await streamed.close();
    }
  });
}

/** What a validator says, but for its speed. */
async function scored(
  session: Pick<ResidentModelSession, 'score'>,
  ...call: Parameters<ResidentModelSession['score']>
) {
  const { tokensPerSecond, ...outcome } = await session.score(...call);
  assert.ok(tokensPerSecond > 0);
  return outcome;
}

for (const tied of [false, true])
  test(`scores and the root after them are those of a session in memory, ${tied ? 'tied' : 'untied'}`, async () => {
    const preset = parsePreset({ ...smallPreset, vocabulary: 200, tied });
    await withBoth({ preset, recipe: { topK: 9, valueBits: 2 } }, async (resident, streamed, round, folder) => {
      const submissions = [];
      for (const author of [1, 2, 3]) submissions.push(await noiseSubmission(resident, folder, round, author));
      await resident.train({ tokens: tokensFor(40), learningRate: 1e-2 });
      const bytes = await resident.compress({ ...round, author: accountOf(4) }, join(folder, 'trained'));
      submissions.push({ account: accountOf(4), bytes });
      const bad = [
        { account: accountOf(5), bytes: new Uint8Array(0) },
        { account: accountOf(5), bytes },
        { account: accountOf(4), bytes: bytes.subarray(0, -1) },
        { account: accountOf(4), bytes: Uint8Array.from([...bytes, 0]) },
      ];
      const work = { tokens: tokensFor(7, 3), heldOutSequences: 3, submissions: [...bad, ...submissions] };
      const expected = await scored(resident, round, work);
      assert.equal(await scored(streamed, round, work), expected);
      assert.equal(
        expected.scores.map(({ kind }) => kind),
        [...bad.map(() => 'malformed'), ...submissions.map(() => 'scored')],
      );
      assert.is(new Set(expected.scores.slice(4).map((score) => score.kind === 'scored' && score.gain)).size, 4);
      assert.equal(await scored(streamed, round, { ...work, submissions: [] }), {
        heldOutLoss: expected.heldOutLoss,
        scores: [],
      });
      const accepted = submissions.map((submission, i) => ({ ...submission, weight: BigInt(i + 1) }));
      const root = resident.aggregate(round, accepted);
      assert.is(await streamed.aggregate(round, accepted), root);
      const next = { round: 3, modelRoot: root };
      const later = { ...work, submissions: [await noiseSubmission(resident, folder, next, 1)] };
      assert.equal(await scored(streamed, next, later), await scored(resident, next, later));
    });
  });

test('an update that leaves float32, at once or on the way, has the worst gain of a session in memory', async () => {
  for (const [outerStep, scoringStepShare] of [
    [2, 0.2],
    [10, 1],
  ] as const)
    await withBoth(
      { recipe: { valueBits: 32, outerStep, scoringStepShare } },
      async (resident, streamed, round, folder) => {
        const submissions = [];
        for (const author of [1, 2, 3]) {
          const { account, bytes } = await noiseSubmission(resident, folder, round, author);
          const changed = bytes.slice();
          if (author > 1)
            new DataView(changed.buffer).setFloat32(changed.length - 4, author === 2 ? 3.3e38 : 1e30, true);
          submissions.push({ account, bytes: changed });
        }
        const work = { tokens: tokensFor(5, 3), heldOutSequences: 2, submissions };
        assert.equal(await scored(streamed, round, work), await scored(resident, round, work));
      },
    );
});

test('bad work, an abort and damaged weights end scoring, and what is sound goes on', async () => {
  await withBoth({}, async (resident, streamed, round, folder) => {
    const submissions = [await noiseSubmission(resident, folder, round, 1)];
    const work = { tokens: tokensFor(5), heldOutSequences: 1, submissions };
    for (const bad of [
      { ...work, heldOutSequences: 6 },
      { ...work, tokens: work.tokens.subarray(1) },
      { ...work, tokens: work.tokens.with(0, -1) },
    ])
      assert.is((await rejection(streamed.score(round, bad))).code, 'ERR_INVALID_TOKENS');
    const reason = new Error('too late');
    const abort = new AbortController();
    const seen: number[] = [];
    const onPart = ({ done, parts }: { done: number; parts: number }) => {
      seen.push(done, parts);
      if (done === 2) abort.abort(reason);
    };
    assert.is(await rejection(streamed.score(round, work, { signal: abort.signal, onPart })), reason);
    assert.equal(seen, [1, 3, 2, 3]);
    const expected = await scored(resident, round, work);
    assert.equal(await scored(streamed, round, work), expected);
    const path = join(folder, 'weights.bin');
    await streamed.save(path, 1);
    const sound = await readFile(path);
    const file = await open(path, 'r+');
    const position = 4096 + 4 * tensorLayout(smallPreset).find(({ name }) => name === 'layers.1.ffn.gate')!.offset;
    await file.write(Buffer.of(1, 2, 3, 4), 0, 4, position);
    await file.close();
    const damaged = await rejection(streamed.score(round, work));
    assert.is(damaged.code, 'ERR_TENSOR_FILE_CONTENT');
    assert.match(damaged.message, /layers\.1\.ffn\.gate/);
    await truncate(path, position);
    assert.is((await rejection(streamed.score(round, work))).code, 'ERR_TENSOR_FILE_SIZE');
    const again = await open(path, 'r+');
    await again.write(sound, 0, sound.length, 0);
    await again.close();
    assert.equal(await scored(streamed, round, work), expected);
  });
});

test('a scorer is for weights of its model', async () => {
  await withFolder(async (folder) => {
    const store = await createInitialStore(join(folder, 'weights'), smallPreset, seed);
    const preset = parsePreset({ ...smallPreset, ropeTheta: 20_000 });
    assert.throws(
      () => new StreamedScorer(store, { preset, threads: 1, batch: 1 }),
      (error: unknown) => error instanceof TensorFileMismatchError,
    );
    await store.close();
  });
});

test('a validator whose weights are several times its budget scores and aggregates within it', async () => {
  if (platform() !== 'linux') return;
  const preset = parsePreset({ ...smallPreset, name: 'large', hidden: 512, ffn: 1376, layers: 100 });
  const memoryBytes = 300 * 2 ** 20;
  const bytes = 4 * parameterCount(preset);
  const layout = tensorLayout(preset);
  await withFolder(async (folder) => {
    await mkdir(join(folder, 'streaming'));
    // Weights as small as those of a new model, but made faster.
    const writer = await TensorFileWriter.create(join(folder, 'weights.bin'));
    const piece = new Uint8Array(pretendedGradient(2 ** 18, 1).buffer);
    for (let left = bytes; left > 0; left -= piece.length)
      await writer.append(piece.subarray(0, Math.min(left, piece.length)));
    const root = writer.root();
    await writer.finish({ kind: 'weights', round: 1, presetHash: presetHash(preset), root });
    const round = { round: 2, modelRoot: root };
    const submissions = 3;
    for (let author = 0; author < submissions; author++) {
      const records = layout.flatMap((slot, tensor) => {
        if (tensor % 50 !== author) return [];
        const delta = pretendedGradient(slot.length, author);
        const feedback = new Float32Array(slot.length);
        return [compressTensor({ slot, tensor, delta, feedback, options: { ...smallRecipe, decay: 1 } })!];
      });
      const header = { ...round, author: accountOf(author), presetHash: presetHash(preset) };
      await writeFile(join(folder, `submission-${author}`), assembleUpdate(header, records));
    }
    const init = { preset, recipe: { ...smallRecipe, batchSequences: 1 }, threads: 2, memoryBytes };
    const tokens = [...tokensFor(6)];
    await writeFile(join(folder, 'work.json'), JSON.stringify({ init, round, tokens, submissions }));
    const { stdout } = await promisify(execFile)(process.execPath, [CHILD, folder], { timeout: 90_000 });
    const { mode, opened, scores, peak, root: after } = JSON.parse(stdout);
    assert.is(mode, 'streamed');
    assert.equal(opened, { round: 1, modelRoot: root });
    for (const { kind, gain } of scores) assert.ok(kind === 'scored' && Number.isFinite(gain) && gain !== 0);
    assert.not.equal(after, root);
    const said = `${formatSize(peak)} of ${formatSize(memoryBytes)}, weights ${formatSize(bytes)}`;
    console.log(said);
    assert.ok(peak < memoryBytes, said);
    assert.ok(bytes > 3.5 * memoryBytes, said);
  });
});

test.run();
