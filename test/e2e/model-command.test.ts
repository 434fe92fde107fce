// time-limit: 120 s
// test-time-limit: 60 s
/** `alice model` as a person uses it: out to a folder, back, and every mistake with its line. */
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { presets } from '../../kernels/model/preset.ts';
import { CASES, writeCase } from '../checkpoint/hugging-face-cases.ts';
import { alice } from './alice-process.ts';

const preset = presets['alice-nano'];
let base = '';
let root = '';
let node = '';

test.before(async () => {
  base = await mkdtemp(join(tmpdir(), 'alice-model-command-'));
  node = join(base, 'node');
  await mkdir(node);
  root = await writeCase(join(node, 'weights.bin'), preset, initialWeights(preset, new Uint8Array(32).fill(1)));
});
test.after(async () => {
  await rm(base, { recursive: true, force: true });
});

/** Runs `alice model ... --json` and returns its object. */
async function model(code: number, ...args: readonly string[]): Promise<Record<string, unknown>> {
  const finished = await alice('model', ...args, '--json');
  assert.is(finished.code, code, finished.stderr);
  return JSON.parse(finished.stdout.trim().split('\n').at(-1)!) as Record<string, unknown>;
}

async function refuses(says: RegExp, ...args: readonly string[]): Promise<void> {
  const { code, stderr } = await alice('model', ...args);
  assert.is(code, 2, `${args.join(' ')}: ${stderr}`);
  assert.match(stderr.split('\n').find((line) => line.startsWith('alice: ')) ?? '', says);
  assert.not.match(stderr, /\n\s+at /, 'no stack');
}

test("a node's weights go out and come back with the same root", async () => {
  const folder = join(base, 'hf');
  const exported = await model(0, 'export', node, folder);
  assert.is(exported.model_root, root);
  assert.is(exported.preset, 'alice-nano');
  const names = ['config.json', 'merges.txt', 'model.safetensors', 'special_tokens_map.json'];
  assert.equal((await readdir(folder)).sort(), [...names, 'tokenizer.json', 'tokenizer_config.json', 'vocab.json']);
  assert.is(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')).vocab_size, 4096);
  assert.is((await model(0, 'inspect', folder)).model_root, root);
  assert.equal((await model(0, 'verify', folder)).matches, true);
  const back = join(base, 'back.bin');
  assert.is((await model(0, 'import', folder, back)).model_root, root);
  assert.is(Buffer.compare(await readFile(back), await readFile(join(node, 'weights.bin'))), 0);
  const inspected = await model(0, 'inspect', back);
  assert.equal([inspected.preset, inspected.round, inspected.kind], ['alice-nano', 12, 'weights']);
  await refuses(/exists already: --force/, 'import', folder, back);
  assert.is((await model(0, 'import', join(folder, 'model.safetensors'), back, '--force')).model_root, root);
  await refuses(/exists already/, 'export', node, folder);
});

test('damage is told with exit code 1', async () => {
  const damaged = join(base, 'damaged.bin');
  await copyFile(join(node, 'weights.bin'), damaged);
  const bytes = await readFile(damaged);
  bytes[9000] ^= 1;
  await writeFile(damaged, bytes);
  assert.equal((await model(1, 'verify', damaged)).matches, false);
  assert.equal(
    (await model(1, 'verify', join(node, 'weights.bin'), '--root', '0'.repeat(64))).expected,
    '0'.repeat(64),
  );
  await refuses(/damaged/, 'export', damaged, join(base, 'never'));
});

test('mistakes: nothing there, no weights, wrong preset, unknown shape, a running node', async () => {
  await refuses(/there is nothing at/, 'inspect', join(base, 'missing'));
  const empty = join(base, 'empty');
  await mkdir(empty);
  await refuses(/holds neither weights\.bin nor model\.safetensors/, 'verify', empty);
  await refuses(/presetHash is/, 'export', node, join(base, 'x'), '--preset', 'alice-tiny');
  await refuses(/unknown preset "alice-giant"/, 'export', node, join(base, 'x'), '--preset', 'alice-giant');
  await refuses(/not both/, 'export', node, join(base, 'x'), '--preset', 'alice-nano', '--network', 'x.json');
  await refuses(/64 lower-case hex/, 'verify', node, '--root', 'abc');
  await writeFile(join(base, 'text.bin'), 'x'.repeat(5000));
  await refuses(/is no tensor file/, 'inspect', join(base, 'text.bin'));
  await writeFile(join(base, 'text.safetensors'), 'x'.repeat(5000));
  await refuses(/a header of \d+ bytes/, 'inspect', join(base, 'text.safetensors'), '--preset', 'alice-nano');
  const own = CASES[0]!;
  await writeCase(join(base, 'own.bin'), own);
  await refuses(/not known here.*--network or --preset/, 'export', join(base, 'own.bin'), join(base, 'x'));
  await writeFile(join(base, 'own.json'), JSON.stringify(own));
  const exported = await model(
    0,
    'export',
    join(base, 'own.bin'),
    join(base, 'own'),
    '--preset',
    join(base, 'own.json'),
  );
  assert.equal(exported.files, ['config.json', 'model.safetensors'], 'no tokenizer of 29 tokens');
  await writeFile(join(node, 'node.lock'), '1');
  await refuses(/running node: stop it first/, 'import', join(base, 'own'), node, '--force');
});

test.run();
