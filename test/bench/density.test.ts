/** The learning study: its loop is what the docs claim it is, on a model that trains in milliseconds. */
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../bench/density/catalogue.ts';
import { catalogue } from '../../bench/density/catalogue.ts';
import { studyFigures } from '../../bench/density/figures.ts';
import { dataParallel, dense, type Method, phased, sparse } from '../../bench/density/method.ts';
import { contributorsMean, denseTensors, OuterStep } from '../../bench/density/outer-step.ts';
import { carryOut, planRuns } from '../../bench/density/plan.ts';
import { collectResults, renderPlots, renderTables } from '../../bench/density/report.ts';
import { BadResultsError, readResults, runKey } from '../../bench/density/results.ts';
import { dealText, heldOutTokens, splitText, TextTooShortError } from '../../bench/density/text.ts';
import { InvalidMethodError, rateShare, type StudySettings, trainOnce } from '../../bench/density/train.ts';
import { aggregate } from '../../kernels/aggregate/rule.ts';
import { parameterCount } from '../../kernels/model/layout.ts';
import { parsePreset } from '../../kernels/model/preset.ts';

const settings: StudySettings = {
  preset: parsePreset({
    name: 'density-test',
    layers: 1,
    hidden: 64,
    queryHeads: 2,
    keyValueHeads: 1,
    ffn: 64,
    vocabulary: 256,
    context: 8,
    ropeTheta: 10_000,
    normEpsilon: 1e-5,
    tied: false,
  }),
  sequencesPerStep: 2,
  // 4 workers x 2 sequences x 8 tokens: 12 steps.
  tokens: 768,
  heldOutSequences: { last: 32, onTheWay: 8 },
  evaluations: 3,
};
const modelBytes = 4 * parameterCount(settings.preset);

/** Text with something to learn, 8 blocks of each kind of line. */
const bytes = Buffer.from(
  Array.from({ length: 6000 }, (_, i) => `the ${i % 7} mice saw the ${i % 5} cats\n`).join(''),
  'utf8',
);
const text = splitText('mice', bytes);

test('text: a tenth is held out, nothing is in both, nothing is lost', () => {
  assert.is(text.training.length + text.heldOut.length, bytes.length);
  assert.ok(Math.abs(text.heldOut.length / bytes.length - 0.1) < 0.06);
  const numbered = splitText(
    'n',
    Uint8Array.from({ length: 8192 * 20 }, (_, i) => Math.floor(i / 8192)),
  );
  assert.equal([...new Set(numbered.heldOut)], [9, 19]);
  assert.not.ok(numbered.training.includes(9) || numbered.training.includes(19));
});

test('text: workers read disjoint windows, each once before any twice; contiguous parts are runs of the text', () => {
  // Every window of 8 bytes is known by its first two.
  const distinct = { ...text, training: new Uint8Array(8 * 64 + 1).map((_, i) => (i % 8 === 0 ? i / 8 : 255)) };
  for (const parts of ['interleaved', 'contiguous'] as const) {
    const streams = dealText(distinct, { context: 8, workers: 4, parts, seed: 3 });
    const seen = streams.map((stream) => {
      const tokens = stream.take(16);
      return Array.from({ length: 16 }, (_, i) => tokens[i * 9]);
    });
    assert.is(new Set(seen.flat()).size, 64, parts);
    const sorted = seen.map((own) => own.toSorted((a, b) => a - b));
    const runs = sorted.every((own, worker) => own.every((window, i) => window === worker * 16 + i));
    assert.is(runs, parts === 'contiguous');
    assert.not.equal(seen[0], sorted[0], 'within a part the order is random');
  }
  assert.throws(
    () => dealText(distinct, { context: 8, workers: 65, parts: 'contiguous', seed: 1 }),
    (error: unknown) => error instanceof TextTooShortError,
  );
  const all = heldOutTokens(text, 8, 10);
  assert.is(all.length, 10 * 9);
  assert.not.equal(all.subarray(0, 9), all.subarray(81, 90));
});

test('every method trains on the same tokens, and learns', async () => {
  const methods: Method[] = [
    dataParallel(),
    dataParallel({ workers: 2 }),
    dense({ innerSteps: 5, outerStep: 0.7, outerMomentum: 0.9 }),
    sparse({ innerSteps: 5 }),
    sparse({ innerSteps: 1, topK: 4, valueBits: 32, chunking: 'model', submits: 'gradient', outerStep: 1 }),
    sparse({ divideBy: 'contributors', outerStep: 1, parts: 'contiguous' }),
  ];
  for (const method of methods) {
    const { tokens, loss, curve, rounds } = await trainOnce(text, settings, method, 1);
    assert.is(tokens, settings.tokens);
    assert.is(curve.at(-1)?.loss, loss);
    assert.ok(loss < Math.log(256), `${JSON.stringify(method)}: ${loss}`);
    // Rounds of 5 in 12 steps: the last one is short.
    if (method.kind === 'local-steps' && method.phases[0].innerSteps === 5) assert.is(rounds, 3);
  }
  const half = await trainOnce(text, settings, sparse({ workers: 2, tokenShare: 0.5, innerSteps: 5 }), 1);
  assert.is(half.tokens, settings.tokens / 2);
  assert.is(half.rounds, 3);
});

test('bytes: dense exchanges cost the model each, submissions what AGF1 says', async () => {
  const all = await trainOnce(text, settings, dataParallel(), 1);
  assert.is(all.bytesPerWorker, 12 * modelBytes);
  const local = await trainOnce(text, settings, dense({ innerSteps: 4 }), 1);
  assert.is(local.bytesPerWorker, 3 * modelBytes);
  const two = await trainOnce(text, settings, sparse({ innerSteps: 4, valueBits: 2 }), 1);
  const eight = await trainOnce(text, settings, sparse({ innerSteps: 4, valueBits: 8 }), 1);
  assert.ok(two.bytesPerWorker < eight.bytesPerWorker);
  // The whole and the quarter: phases count what they send.
  const mixed = await trainOnce(
    text,
    settings,
    phased([
      { share: 1 / 3, innerSteps: 4, topK: null, valueBits: 32, outerStep: 1 },
      { share: 2 / 3, innerSteps: 4, topK: 64, valueBits: 2, outerStep: 2 },
    ]),
    1,
  );
  assert.is(mixed.rounds, 3);
  assert.ok(mixed.bytesPerWorker > modelBytes && mixed.bytesPerWorker < modelBytes + two.bytesPerWorker);
  // k = 4 of 4096 float32 values over the whole model: 4 bytes and at most 12 bits of index each, and the header.
  const global = await trainOnce(
    text,
    settings,
    sparse({ innerSteps: 1, topK: 4, valueBits: 32, chunking: 'model', submits: 'gradient', outerStep: 1 }),
    1,
  );
  const entries = Math.ceil((modelBytes / 4) * (4 / 4096));
  const perRound = global.bytesPerWorker / global.rounds;
  assert.ok(perRound > 112 + 4 * entries && perRound < 112 + 40 + 5.6 * entries, `${perRound} for ${entries}`);
});

test('the same run gives the same weights; another seed, another method others', async () => {
  const method = sparse({ innerSteps: 5, halfDropped: 'lost' });
  const first = await trainOnce(text, settings, method, 1);
  assert.equal(await trainOnce(text, settings, method, 1), first);
  const digests = new Set([first.weights]);
  for (const other of [sparse({ innerSteps: 5 }), sparse({ innerSteps: 5, halfDropped: 'returned' })])
    digests.add((await trainOnce(text, settings, other, 1)).weights);
  digests.add((await trainOnce(text, settings, method, 2)).weights);
  assert.is(digests.size, 4);
});

test('own start: none is the shared start, and a share of the error feedback is another', async () => {
  const weightsOf = async (ownStart?: number) => {
    const changes = { innerSteps: 3, ...(ownStart !== undefined && { ownStart }) };
    return (await trainOnce(text, settings, sparse(changes), 1)).weights;
  };
  const shared = await weightsOf();
  assert.is(await weightsOf(0), shared);
  assert.not.equal(await weightsOf(0.5), shared);
});

test('gradients of dense size under one AdamW at everyone are data parallel training', async () => {
  const parallel = await trainOnce(text, settings, dataParallel(), 1);
  const everyone = await trainOnce(
    text,
    settings,
    sparse({ innerSteps: 1, submits: 'gradient', topK: null, valueBits: 32, outerAdamBeta2: 0.95 }),
    1,
  );
  // Beside the median-norm clip and the order of additions.
  assert.ok(Math.abs(everyone.loss - parallel.loss) < 0.02, `${everyone.loss} and ${parallel.loss}`);
  assert.is(everyone.bytesPerWorker, parallel.bytesPerWorker);
});

test('methods that make no sense are refused', async () => {
  for (const method of [
    sparse({ submits: 'gradient', innerSteps: 2 }),
    phased([{ share: 0.5, innerSteps: 1, topK: 64, valueBits: 2, outerStep: 1 }]),
  ])
    try {
      await trainOnce(text, settings, method, 1);
      assert.unreachable();
    } catch (error) {
      assert.ok(error instanceof InvalidMethodError, String(error));
    }
});

test('learning rate: up over a twentieth, down to a tenth', () => {
  assert.is(rateShare(0, 100), 0.2);
  assert.is(rateShare(5, 100), 1);
  assert.ok(Math.abs(rateShare(99, 100) - 0.1) < 0.01);
});

const layout = [{ name: 'matrix', shape: [4], offset: 0, length: 4 }];
const submission = (account: number, indices: number[], values: number[]) => ({
  account: String(account).padStart(64, '0'),
  weight: 1n,
  update: { tensors: [{ tensor: 0, indices: Uint32Array.from(indices), values: Float32Array.from(values) }] },
});

test('contributors: divides by those who have a coordinate, after the median-norm clip', () => {
  const { tensors } = aggregate(contributorsMean(), layout, [
    submission(1, [0, 1], [3, 4]),
    submission(2, [1, 3], [4, 3]),
    submission(3, [2], [50]),
  ]);
  assert.equal([...tensors[0].indices], [0, 1, 2, 3]);
  assert.equal([...tensors[0].values], [3, 4, 5, 3]);
});

test('outer step: plain, and Nesterov as DiLoCo has it', () => {
  const all = [{ ...submission(1, [], []), update: { tensors: denseTensors(layout, Float32Array.of(1, 2, 0, 0)) } }];
  const plain = Float32Array.of(0, 0, 0, 0);
  new OuterStep(layout, { divideBy: 'present', momentum: 0 }).take(plain, all, 0.5);
  assert.equal([...plain], [-0.5, -1, 0, 0]);
  const nesterov = Float32Array.of(0, 0, 0, 0);
  const outer = new OuterStep(layout, { divideBy: 'present', momentum: 0.5 });
  outer.take(nesterov, all, 1);
  // v = 1, direction 1 + 0.5; then v = 1.5, direction 1 + 0.75.
  assert.equal([...nesterov], [-1.5, -3, 0, 0]);
  outer.take(nesterov, all, 1);
  assert.equal([...nesterov], [-3.25, -6.5, 0, 0]);
});

/** A small catalogue with all that figures look for. */
const small: readonly Entry[] = [
  { name: 'adamw', question: 'Baselines', method: dataParallel(), seeds: 2, keySeeds: 1 },
  { name: 'H=6', question: 'Rounds', method: sparse({ innerSteps: 6 }), seeds: 2, keySeeds: 1 },
  { name: 'H=6 again', question: 'Other', method: sparse({ innerSteps: 6 }), seeds: 1, keySeeds: 0 },
  {
    name: 'dropped',
    question: 'Half',
    method: sparse({ innerSteps: 6, halfDropped: 'lost' }),
    seeds: 1,
    keySeeds: 0,
  },
  {
    name: 'control',
    question: 'Half',
    method: sparse({ innerSteps: 6, workers: 2, tokenShare: 0.5 }),
    seeds: 1,
    keySeeds: 0,
  },
];

test('runs are kept as they finish and never repeated; an interrupted one is repeated', async () => {
  const resultsPath = join(await mkdtemp(join(tmpdir(), 'density-')), 'results.jsonl');
  const said: string[] = [];
  const options = { text, settings, resultsPath, progress: (message: string) => said.push(message) };
  const planned = planRuns(small, text, settings, { extent: 'all' });
  // Seven rows, two of which are the same run; first seeds first.
  assert.equal(
    planned.map(({ seed }) => seed),
    [1, 1, 1, 1, 2, 2],
  );
  assert.is(planRuns(small, text, settings, { extent: 'key' }).length, 2);
  assert.is(planRuns(small, text, settings, { extent: 'none' }).length, 0);
  assert.is(planRuns(small, text, settings, { extent: 'all', only: ['H=6'] }).length, 2);

  const interrupt = new AbortController();
  const progress = (message: string) => {
    said.push(message);
    if (message.startsWith('3/') && said.length > 0) interrupt.abort();
  };
  const first = await carryOut(planned, { ...options, progress, signal: interrupt.signal });
  assert.is(first.length, 2);
  assert.equal(await readResults(resultsPath), first);
  const done = new Set(first.map(({ key }) => key));
  await carryOut(
    planned.filter(({ key }) => !done.has(key)),
    options,
  );
  const records = await readResults(resultsPath);
  assert.equal(
    records.map(({ key }) => key),
    planned.map(({ key }) => key),
  );

  const [corpus] = collectResults(small, settings, records);
  assert.equal(
    corpus.results.map(({ losses }) => losses.size),
    [2, 2, 1, 1, 1],
  );
  const { figures, notes } = studyFigures([corpus], 'mice', settings);
  assert.is(notes.length, 1);
  const lossOf = (name: string, seed: number) =>
    corpus.results.find(({ entry }) => entry.name === name)!.losses.get(seed)!;
  const gaps = [1, 2].map((seed) => lossOf('H=6', seed) - lossOf('adamw', seed));
  assert.is(figures.gap_nats_200x, (gaps[0] + gaps[1]) / 2);
  assert.is(figures.dropped_half_cost_nats, lossOf('dropped', 1) - lossOf('control', 1));
  assert.is(figures.dropped_half_returned_cost_nats, null);
  assert.is(figures.best_200x, 'Rounds: H=6');
  const tables = renderTables(corpus);
  assert.match(tables, /\| adamw \| .* \| 2 \|/);
  for (const svg of Object.values(renderPlots(corpus, ['adamw', 'H=6']))) assert.match(svg, /^<svg [\s\S]*<\/svg>\n$/);
  assert.not.ok(Object.values(renderPlots(corpus, ['adamw'])).some((svg) => svg.includes('NaN')));

  // Results of another text or another size are not these.
  assert.is(collectResults(small, { ...settings, tokens: 1 }, records)[0].results.length, 0);
  assert.not.equal(runKey({ digest: 'other' }, settings, dataParallel(), 1), runKey(text, settings, dataParallel(), 1));
  await writeFile(resultsPath, `${await readFile(resultsPath, 'utf8')}{"torn`);
  try {
    await readResults(resultsPath);
    assert.unreachable();
  } catch (error) {
    assert.ok(error instanceof BadResultsError);
    assert.match((error as Error).message, /:7 /);
  }
});

test('a run that diverges is a result, with its reason', async () => {
  const resultsPath = join(await mkdtemp(join(tmpdir(), 'density-')), 'results.jsonl');
  const wild: Entry = {
    name: 'wild',
    question: 'Wild',
    method: sparse({ innerSteps: 1, outerStep: 1e38, learningRate: 1e3 }),
    seeds: 1,
    keySeeds: 1,
  };
  const planned = planRuns([wild], text, settings, { extent: 'all' });
  const [record] = await carryOut(planned, { text, settings, resultsPath, progress: () => {} });
  assert.is(record.outcome, null);
  assert.match(record.reason!, /infinit|NaN|finite/);
  const [corpus] = collectResults([wild], settings, [record]);
  assert.match(renderTables(corpus), /diverged/);
});

test('the catalogue: names are unique within a question, shares of phases add up', () => {
  const names = catalogue.map(({ question, name }) => `${question}: ${name}`);
  assert.is(new Set(names).size, names.length);
  for (const { method, name } of catalogue) {
    if (method.kind !== 'local-steps') continue;
    const sum = method.phases.reduce((total, { share }) => total + share, 0);
    assert.ok(Math.abs(sum - 1) < 1e-9, name);
  }
});

test.run();
