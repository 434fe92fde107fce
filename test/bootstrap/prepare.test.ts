import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { prepareLocalNetwork } from '../../bootstrap/local/prepare.ts';

let dir = '';
test.before.each(async () => {
  dir = await mkdtemp(join(tmpdir(), 'alice-prepare-'));
});
test.after.each(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function files(...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), name === 'network.json' ? '{"genesis": {}}' : '');
  }
}

/** Prepares with `--fresh` or without, given up before anything is built; returns the error's code. */
async function prepare(fresh: boolean): Promise<string | undefined> {
  const unset = {
    corpus: undefined,
    model: undefined,
    validators: undefined,
    seed: undefined,
    trainSeconds: undefined,
  };
  const compute = { device: 'cpu', backend: 'onnx', precision: 'fp32' } as const;
  const options = { dir, rounds: 1, miners: 1, ...compute, fresh, assumeYes: true, json: true, ...unset };
  try {
    await prepareLocalNetwork(options, { say: () => {}, signal: AbortSignal.abort() });
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

test('--fresh deletes what alice up made, and nothing that was beside it', async () => {
  const shard = `corpus/${'ab'.repeat(32)}.shard`;
  await files('local-network.json', 'network.json', 'corpus/manifest.json', shard, 'validator-1/keys/account.json');
  await files('miner-1/output.log', 'thesis.txt', 'miner-2/notes.txt', '.git/HEAD');
  await prepare(true);
  assert.not(existsSync(join(dir, shard)));
  const left = (await readdir(dir)).filter((name) => name !== 'corpus');
  assert.equal(left.sort(), ['.git', 'miner-2', 'thesis.txt']);
});

test('a folder of texts called "corpus" is no network: neither deleted nor written to', async () => {
  await files('corpus/book.txt', 'network.json.txt', 'bootstrap/bootstrap.css', 'miner-1/keys/account.json');
  assert.is(await prepare(true), 'ERR_LOCAL_FOLDER');
  assert.is(await prepare(false), 'ERR_LOCAL_FOLDER');
  assert.equal((await readdir(dir)).sort(), ['bootstrap', 'corpus', 'miner-1', 'network.json.txt']);
  assert.equal(await readdir(join(dir, 'corpus')), ['book.txt']);
});

test('a network of another version is named as such, with a way out', async () => {
  const made = { version: 1, model: 'alice-nano', corpus: 'default', validators: 4, seed: 1, trainSeconds: 5 };
  await files('network.json', 'corpus/manifest.json');
  await writeFile(join(dir, 'local-network.json'), JSON.stringify(made));
  assert.is(await prepare(false), 'ERR_OTHER_NETWORK');
});

test.run();
