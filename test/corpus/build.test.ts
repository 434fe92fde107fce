import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { zstdCompressSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type BuildCorpusOptions, buildCorpus } from '../../corpus/build/build-corpus.ts';
import { DocumentOrder } from '../../corpus/build/document-order.ts';
import { packShards } from '../../corpus/build/pack.ts';
import { planShards } from '../../corpus/build/plan.ts';
import type { BuildProgress } from '../../corpus/build/progress.ts';
import { loadShard, type Manifest, readManifest, type ShardEntry } from '../../corpus/shard/manifest.ts';
import { readShard } from '../../corpus/shard/shard.ts';
import { createTokenizer } from '../../corpus/tokenizer/tokenizer.ts';
import { collect, randomParagraphs, seededIntegers, temporaryFolder, thrownBy } from './seeded.ts';

const folder = temporaryFolder();
test.after(() => rmSync(folder, { recursive: true, force: true }));

let made = 0;
/** A new folder with the given files. */
function tree(files: Record<string, string | Uint8Array>): string {
  const base = join(folder, `in${made++}`);
  mkdirSync(base);
  for (const [path, content] of Object.entries(files)) writeFileSync(join(base, path), content);
  return base;
}
const output = () => join(folder, `out${made++}`);

const seed = new Uint8Array(32).fill(9);
const small = { vocabulary: 1024, seed, shardTokens: 512 } as const;
const manifestHash = (outDir: string) =>
  createHash('sha256')
    .update(readFileSync(join(outDir, 'manifest.json')))
    .digest('hex');

/** Tokens of shards, one after the other. */
async function tokensOf(outDir: string, manifest: Manifest, entries: readonly ShardEntry[]): Promise<number[]> {
  const tokens: number[] = [];
  for (const entry of entries) tokens.push(...(await loadShard(outDir, manifest, entry)).tokens);
  return tokens;
}

const paragraphs = (value: number) => JSON.stringify({ text: randomParagraphs(value, 600) });
const jsonl = (count: number, from = 0) =>
  Array.from({ length: count }, (_, index) => paragraphs(from + index)).join('\n');

test('shard sizes: powers of two that give 64 shards, held-out share, and the smallest corpus', async () => {
  const plan = (tokens: number, options = {}) => planShards({ documents: 1000, tokens }, options);
  assert.equal(plan(2_886_070), { shardTokens: 32_768, heldOutShards: 4 });
  assert.equal(plan(426_000), { shardTokens: 4096, heldOutShards: 5 });
  assert.equal(plan(64 * 8192), { shardTokens: 8192, heldOutShards: 3 });
  assert.equal(plan(64 * 8192 - 1), { shardTokens: 4096, heldOutShards: 6 });
  assert.equal(plan(60e9), { shardTokens: 1_048_576, heldOutShards: 64 });
  assert.equal(plan(12_288), { shardTokens: 4096, heldOutShards: 1 });
  assert.equal(plan(1000, { shardTokens: 256 }), { shardTokens: 256, heldOutShards: 1 });
  assert.equal(plan(100_000, { shardTokens: 1000, heldOutFraction: 0.25 }), { shardTokens: 1000, heldOutShards: 25 });
  assert.is((await thrownBy(() => plan(12_287))).code, 'ERR_CORPUS_TOO_SMALL');
  for (const options of [
    { shardTokens: 255 },
    { shardTokens: 2 ** 21 },
    { shardTokens: 300.5 },
    { heldOutFraction: 0 },
  ]) {
    assert.is((await thrownBy(() => plan(1e6, options))).code, 'ERR_CORPUS_OPTION');
  }
});

test('document order: every different document once, the same order whatever comes first, over many buckets', async () => {
  const documents = Array.from({ length: 3000 }, (_, index) => ({
    text: `document ${index}`,
    tokens: Uint16Array.from({ length: 1 + (index % 50) }, () => index),
  }));
  const orders: number[][] = [];
  // 1 bucket, then 8; forwards, then backwards with every third document twice.
  for (const [expectedBytes, list] of [
    [0, documents],
    [8 * 32 * 1024 * 1024, [...documents, ...documents.filter((_, index) => index % 3 === 0)].reverse()],
  ] as const) {
    const work = output();
    mkdirSync(work);
    const order = new DocumentOrder({ folder: work, seed, expectedBytes });
    for (const { text, tokens } of list) await order.add(text, tokens);
    assert.equal(await order.settle(), {
      documents: 3000,
      duplicates: list.length - 3000,
      textBytes: documents.reduce((sum, { text }) => sum + text.length, 0),
      tokens: documents.reduce((sum, { tokens }) => sum + tokens.length, 0),
    });
    orders.push((await collect(order.documents())).map((tokens) => tokens[0]));
  }
  assert.equal(orders[0], orders[1]);
  assert.equal(
    [...orders[0]].sort((a, b) => a - b),
    documents.map((_, index) => index),
  );
  // Shuffled: the first tenth holds about as many early documents as late ones.
  const early = orders[0].slice(0, 300).filter((index) => index < 1500).length;
  assert.ok(early > 100 && early < 200, `${early} of 300`);
});

test('packing: exact shards, nothing between, no document on both sides', async () => {
  const integer = seededIntegers(21);
  for (let round = 0; round < 30; round++) {
    // The tokens of document d are all d, so shards tell which documents they hold.
    const lengths = Array.from({ length: 60 }, () => 1 + integer(round % 2 === 0 ? 40 : 900));
    async function* documents() {
      for (const [index, length] of lengths.entries()) yield new Uint16Array(length).fill(index);
    }
    const plan = { shardTokens: 256, heldOutShards: 1 + integer(2), vocabulary: 512 };
    const written = new Map<string, Uint16Array>();
    const packed = await packShards(documents(), plan, async (entry, bytes) => {
      written.set(entry.sha256, readShard(bytes).tokens as Uint16Array);
    });
    const held = packed.heldOut.flatMap((entry) => [...written.get(entry.sha256)!]);
    const trained = packed.training.flatMap((entry) => [...written.get(entry.sha256)!]);
    assert.is(packed.heldOut.length, plan.heldOutShards);
    assert.ok([...written.values()].every((tokens) => tokens.length === 256));
    const stream = lengths.flatMap((length, index) => new Array<number>(length).fill(index));
    assert.equal(held, stream.slice(0, held.length));
    assert.is(packed.heldOutDocuments, held.at(-1)! + 1);
    const rest = stream.filter((index) => index >= packed.heldOutDocuments);
    // A training shard inside one long document may repeat; what is written is still in order and without gaps.
    assert.equal(trained, rest.slice(0, trained.length));
    assert.ok(rest.length - trained.length < 256);
  }
});

test('packing: a training shard that equals a held-out one is left out', async () => {
  async function* documents() {
    yield new Uint16Array(256).fill(7);
    yield new Uint16Array(512).fill(7);
    yield new Uint16Array(256).fill(8);
  }
  const packed = await packShards(documents(), { shardTokens: 256, heldOutShards: 1, vocabulary: 512 }, async () => {});
  assert.is(packed.training.length, 1);
  assert.is.not(packed.training[0].sha256, packed.heldOut[0].sha256);
});

test('a corpus: shards hold whole documents, each ended by end-of-text, and no held-out document is trained on', async () => {
  const outDir = output();
  const documents = Array.from({ length: 200 }, (_, index) => JSON.parse(paragraphs(index)).text.trim() as string);
  const text = `${jsonl(200)}\n${jsonl(20)}\n`;
  const manifest = await buildCorpus({ ...small, sources: [tree({ 'a.jsonl': text })], outDir, heldOutFraction: 0.2 });
  assert.equal(await readManifest(outDir), manifest);
  assert.is(manifest.totals.documents, 200);
  assert.is(manifest.totals.duplicates, 20);
  assert.is(
    manifest.totals.textBytes,
    documents.reduce((sum, document) => sum + document.length, 0),
  );
  const tokenizer = createTokenizer(1024);
  assert.is(
    manifest.totals.tokens,
    documents.reduce((sum, document) => sum + tokenizer.encode(document).length + 1, 0),
  );
  const known = new Map(documents.map((document) => [document, 0]));
  const sides: string[][] = [];
  for (const entries of [manifest.heldOut, manifest.training]) {
    const tokens = await tokensOf(outDir, manifest, entries);
    assert.is(tokens.length, entries.length * 512);
    const parts = tokenizer.decode(tokens).split('<|endoftext|>');
    const last = parts.pop()!;
    for (const part of parts) known.set(part, known.get(part)! + 1);
    sides.push(last === '' ? parts : [...parts, documents.find((document) => document.startsWith(last))!]);
  }
  // Nothing but documents, none twice.
  assert.is(known.size, 200);
  assert.ok([...known.values()].every((times) => times <= 1));
  const [held, trained] = sides;
  assert.is(held.length, manifest.totals.heldOutDocuments);
  assert.not.ok(held.some((document) => trained.includes(document)));
  assert.ok(Math.abs(manifest.heldOut.length / (manifest.heldOut.length + manifest.training.length) - 0.2) < 0.03);
  // All but the two remainders and the rest of the last held-out document are in a shard.
  const shards = manifest.training.length + manifest.heldOut.length;
  assert.is(manifest.totals.droppedTokens, manifest.totals.tokens - shards * 512);
  assert.ok(manifest.totals.droppedTokens < 512 + 400, `${manifest.totals.droppedTokens}`);
});

test('rebuilding gives the same manifest: elsewhere, after other files, in other order; another seed another', async () => {
  const first = tree({ 'a.jsonl': jsonl(60), 'b.txt': randomParagraphs(99, 30_000) });
  const a = output();
  await buildCorpus({ ...small, sources: [first], outDir: a });
  const b = output();
  await buildCorpus({ ...small, sources: [tree({ 'c.jsonl': jsonl(80, 500) })], outDir: b });
  const second = tree({ 'a.jsonl': jsonl(60).split('\n').reverse().join('\n'), 'b.txt': randomParagraphs(99, 30_000) });
  await buildCorpus({ ...small, sources: [`${second}/b.*`, `${second}/a.*`], outDir: b });
  assert.is(manifestHash(b), manifestHash(a));
  // What belonged to the former corpus only is gone.
  assert.equal(readdirSync(b).sort(), readdirSync(a).sort());
  await buildCorpus({ ...small, seed: new Uint8Array(32), sources: [first], outDir: a });
  assert.is.not(manifestHash(b), manifestHash(a));
});

test('the same inputs are not built again; changed or damaged ones are', async () => {
  const base = tree({ 'a.jsonl': jsonl(60) });
  const outDir = output();
  const phases: string[] = [];
  const options: BuildCorpusOptions = {
    ...small,
    sources: [base],
    outDir,
    onProgress: ({ phase }) => phases.push(phase),
  };
  const build = async (changes: Partial<BuildCorpusOptions> = {}) => {
    const manifest = await buildCorpus({ ...options, ...changes });
    return { manifest, phase: phases.at(-1) };
  };
  const { manifest } = await build();
  assert.equal(await build(), { manifest, phase: 'reused' });

  const shard = join(outDir, manifest.training[0].file);
  for (const damage of [
    () => writeFileSync(shard, 'damaged'),
    () => rmSync(shard),
    () => writeFileSync(join(outDir, 'manifest.json'), '{}'),
    () => rmSync(join(outDir, 'manifest.json')),
    () => writeFileSync(join(outDir, 'inputs.json'), 'x'),
    () => utimesSync(join(base, 'a.jsonl'), 1, 1),
  ]) {
    damage();
    assert.equal(await build(), { manifest, phase: 'done' });
    assert.equal(await build(), { manifest, phase: 'reused' });
  }
  for (const changes of [
    { vocabulary: 1025 },
    { shardTokens: 511 },
    { heldOutFraction: 0.1 },
    { seed: new Uint8Array(32) },
  ]) {
    const changed = await build(changes);
    assert.is(changed.phase, 'done');
    assert.not.equal(changed.manifest, manifest);
  }
});

test('an interrupted build leaves nothing, or the former corpus', async () => {
  const base = tree({ 'a.jsonl': jsonl(3000) });
  const outDir = output();
  const interrupt = async (when: (progress: BuildProgress) => boolean) => {
    const stop = new AbortController();
    const reason = new Error('stopped');
    const error = await thrownBy(() =>
      buildCorpus({
        ...small,
        sources: [base],
        outDir,
        signal: stop.signal,
        onProgress: (progress) => {
          if (when(progress)) stop.abort(reason);
        },
      }),
    );
    assert.is(error, reason);
  };
  const already = await thrownBy(() =>
    buildCorpus({ ...small, sources: [base], outDir, signal: AbortSignal.abort(new Error('before')) }),
  );
  assert.is(already.message, 'before');
  await interrupt((progress) => progress.phase === 'reading');
  assert.equal(existsSync(outDir) ? readdirSync(outDir) : [], []);
  const former = await buildCorpus({ ...small, sources: [tree({ 'b.jsonl': jsonl(50, 9000) })], outDir });
  const names = readdirSync(outDir).sort();
  await interrupt((progress) => progress.phase === 'packing');
  assert.equal(readdirSync(outDir).sort(), names);
  assert.equal(await readManifest(outDir), former);
  for (const entry of former.training) await loadShard(outDir, former, entry);
});

test('what a killed build left behind is cleared by the next', async () => {
  const outDir = output();
  mkdirSync(join(outDir, '.building'), { recursive: true });
  writeFileSync(join(outDir, '.building', 'documents-0'), 'half a record');
  const manifest = await buildCorpus({ ...small, sources: [tree({ 'a.jsonl': jsonl(60) })], outDir });
  assert.is(manifest.totals.documents, 60);
  assert.not.ok(existsSync(join(outDir, '.building')));
});

test('all formats together give the corpus of their documents', async () => {
  const lines = jsonl(90).split('\n');
  const outDir = output();
  const manifest = await buildCorpus({
    ...small,
    sources: [
      tree({
        'a.jsonl': lines.slice(0, 30).join('\n'),
        'b.jsonl.zst': Buffer.concat([
          zstdCompressSync(Buffer.from(`${lines.slice(30, 50).join('\n')}\n`)),
          zstdCompressSync(Buffer.from(lines.slice(50).join('\n'))),
        ]),
        'c.md': '# A title\n\nAnd text.\n',
      }),
    ],
    outDir,
  });
  assert.is(manifest.totals.documents, 91);
  assert.is(manifest.source.files, 3);
  assert.is(manifest.source.description, 'a.jsonl, b.jsonl.zst, c.md');
});

test('special-token text in a document is ordinary text', async () => {
  const outDir = output();
  const documents = Array.from({ length: 60 }, (_, index) => ({
    text: `${index}<|endoftext|>${randomParagraphs(index, 400)}`,
  }));
  const manifest = await buildCorpus({
    ...small,
    sources: [tree({ 'a.jsonl': documents.map((document) => JSON.stringify(document)).join('\n') })],
    outDir,
  });
  const tokens = await tokensOf(outDir, manifest, [...manifest.heldOut, ...manifest.training]);
  assert.ok(tokens.filter((token) => token === 1023).length <= 60);
});

test('progress: counts go up to the totals', async () => {
  const reports: BuildProgress[] = [];
  const base = tree({ 'a.txt': randomParagraphs(5, 3_000_000) });
  const options = { vocabulary: 4096, seed, sources: [base], outDir: output() };
  const manifest = await buildCorpus({ ...options, onProgress: (progress) => reports.push(progress) });
  const last = reports.at(-1)!;
  assert.is(last.phase, 'done');
  assert.is(last.bytesRead, last.bytesTotal);
  assert.is(last.tokens, manifest.totals.tokens);
  assert.is(last.shards, manifest.training.length + manifest.heldOut.length);
  assert.ok(last.megabytesPerSecond > 0 && last.seconds > 0);
  for (const [index, report] of reports.slice(1).entries()) assert.ok(report.bytesRead >= reports[index].bytesRead);
});

test('what is wrong with a corpus is said with a code, and nothing is left in the folder', async () => {
  const cases: [string, Partial<BuildCorpusOptions>, string][] = [
    ['too small', { sources: [tree({ 'a.txt': 'A few words.' })] }, 'ERR_CORPUS_TOO_SMALL'],
    [
      'one document',
      { sources: [tree({ 'a.jsonl': JSON.stringify({ text: randomParagraphs(1, 90_000) }) })] },
      'ERR_CORPUS_TOO_SMALL',
    ],
    ['white space', { sources: [tree({ 'a.txt': ' \n \n' })] }, 'ERR_CORPUS_SOURCE_EMPTY'],
    ['not UTF-8', { sources: [tree({ 'a.txt': Buffer.from('caf\xe9 ', 'latin1') })] }, 'ERR_CORPUS_NOT_UTF8'],
    ['bad line', { sources: [tree({ 'a.jsonl': '{"text":"a"}\n{' })] }, 'ERR_CORPUS_JSON_LINE'],
    ['bad zst', { sources: [tree({ 'a.jsonl.zst': 'x' })] }, 'ERR_CORPUS_ZSTD'],
    ['missing', { sources: [join(folder, 'missing')] }, 'ERR_CORPUS_SOURCE_MISSING'],
    ['no files', { sources: [tree({})] }, 'ERR_CORPUS_NO_FILES'],
    ['vocabulary', { vocabulary: 100 }, 'ERR_VOCABULARY'],
    ['seed', { seed: new Uint8Array(16) }, 'ERR_CORPUS_OPTION'],
    ['held-out share', { heldOutFraction: 0.9 }, 'ERR_CORPUS_OPTION'],
  ];
  for (const [name, changes, code] of cases) {
    const outDir = output();
    const error = await thrownBy(() => buildCorpus({ ...small, sources: 'default', outDir, ...changes }));
    assert.is(error.code, code, `${name}: ${error.message}`);
    assert.not.match(error.message, '\n');
    assert.equal(existsSync(outDir) ? readdirSync(outDir) : [], []);
  }
});

test('a folder that cannot be written is named', async () => {
  const base = tree({ 'a.jsonl': jsonl(60), file: 'x' });
  const blocked = [join(base, 'file', 'out')];
  // Root may write anywhere, so permissions tell nothing then.
  if (process.getuid?.() !== 0) {
    const locked = output();
    mkdirSync(locked);
    chmodSync(locked, 0o500);
    blocked.push(locked);
  }
  for (const outDir of blocked) {
    const error = await thrownBy(() => buildCorpus({ ...small, sources: [join(base, 'a.jsonl')], outDir }));
    assert.is(error.code, 'ERR_CORPUS_OUTPUT');
    assert.match(error.message, outDir);
  }
});

test('the default corpus at vocabulary 4096: at least 64 shards, held-out text like the rest', async () => {
  const outDir = output();
  const started = performance.now();
  const manifest = await buildCorpus({ sources: 'default', outDir, vocabulary: 4096, seed });
  console.log(`default corpus: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  assert.ok(manifest.training.length >= 60 && manifest.training.length + manifest.heldOut.length >= 64);
  assert.is(manifest.shardTokens, 32_768);
  assert.ok(manifest.heldOut.length >= 3);
  // The same distribution: the share of a frequent word differs little between the two sides.
  const tokenizer = createTokenizer(4096);
  const shares: number[] = [];
  const [word] = tokenizer.encode(' the');
  for (const entries of [manifest.heldOut, manifest.training]) {
    const tokens = await tokensOf(outDir, manifest, entries);
    shares.push(tokens.filter((token) => token === word).length / tokens.length);
  }
  assert.ok(Math.abs(shares[0] / shares[1] - 1) < 0.1, `${shares}`);
});

const shakespeare = resolve(dirname(fileURLToPath(import.meta.url)), '../../../shared/corpus/shakespeare.txt');
const testWithShakespeare = existsSync(shakespeare) ? test : test.skip;
if (!existsSync(shakespeare)) console.log('skipped: ../shared/corpus/shakespeare.txt is not there');
testWithShakespeare('one book is enough', async () => {
  const manifest = await buildCorpus({ sources: [shakespeare], outDir: output(), vocabulary: 4096, seed });
  assert.is(manifest.shardTokens, 4096);
  assert.ok(manifest.training.length >= 64, `${manifest.training.length} training shards`);
  assert.ok(manifest.heldOut.length >= 3);
  assert.ok(manifest.totals.documents > 200);
  assert.ok(manifest.totals.textBytes > 0.99 * manifest.source.bytes);
});

test.run();
