// time-limit: 420 s
// test-time-limit: 400 s
// alone
/** Validators and miners that stream their weights from disk agree with those that have them in memory. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { RunSummary } from '../../bootstrap/local/summary.ts';
import { nativeSupport } from '../../kernels/native/support.ts';
import { alice, lastJson } from './alice-process.ts';

interface LogLine {
  readonly msg: string;
  readonly mode?: string;
  readonly backend?: string;
}

async function logOf(dir: string, name: string): Promise<LogLine[]> {
  const text = await readFile(join(dir, name, 'alice.log'), 'utf8');
  return text.split('\n').flatMap((line): LogLine[] => (line === '' ? [] : [JSON.parse(line)]));
}

test('a network of which some stream goes on where it was, scores, and agrees on the roots', async () => {
  const base = await mkdtemp(join(tmpdir(), 'alice-streamed-'));
  const dir = join(base, 'net');
  const up = ['up', '--dir', dir, '--validators', '2', '--miners', '1', '--train-seconds', '1', '--json'];
  try {
    const first = await alice(...up, '--rounds', '1');
    assert.is(first.code, 0, first.stderr);
    for (const name of ['validator-2', 'miner-1'])
      await writeFile(join(dir, name, 'alice.json'), JSON.stringify({ engine: { memory: '250MiB' } }));
    const second = await alice(...up, '--rounds', '2');
    assert.is(second.code, 0, second.stderr);
    const { rounds, roots_agree } = lastJson<RunSummary>(second);
    assert.is(rounds, 2);
    assert.ok(roots_agree);
    const modes = async (name: string) => (await logOf(dir, name)).flatMap(({ mode }) => mode ?? []);
    assert.equal(await modes('validator-1'), ['whole', 'whole']);
    assert.equal(await modes('validator-2'), ['whole', 'streamed']);
    assert.equal(await modes('miner-1'), ['whole', 'streamed']);
    // Where the native backend is built, it streams as well.
    const streaming = (await logOf(dir, 'miner-1')).findLast(({ mode }) => mode !== undefined);
    assert.is(streaming?.backend, nativeSupport().usable ? 'native' : 'onnx');
    for (const name of ['validator-1', 'validator-2']) {
      const messages = (await logOf(dir, name)).map(({ msg }) => msg);
      assert.is(messages.filter((message) => message === 'scored the round').length, 3, name);
      assert.is(messages.filter((message) => message === 'weights updated').length, 3, name);
    }
  } finally {
    await rm(base, { recursive: true, force: true, maxRetries: 50, retryDelay: 200 });
  }
});

test.run();
