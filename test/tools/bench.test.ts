import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { compare, NothingMeasuredError, ratioOf, summarize } from '../../bench/measure.ts';

const bench = fileURLToPath(new URL('../../bench/bench.ts', import.meta.url));

/** Runs the command on a folder with one good benchmark, one that fails and one that is none. */
function run(...args: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const files = {
    quick: `export const describe = 'a quick one';
      export const run = async ({ args, progress }) => { progress('measuring'); console.log('printed by the way');
        return { figures: { mb_per_s: 1234.5, missing: null, words: args }, notes: ['missing needs a GPU'] }; };`,
    failing: "export const describe = 'fails';\nexport const run = async () => { throw new Error('no such device'); };",
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, `${name}.ts`), text);
  const { status, stdout, stderr } = spawnSync(process.execPath, [bench, '--folder', folder, ...args], {
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

test('--json: the last line of standard output is one object', () => {
  const { status, stdout, stderr } = run('quick', '--json', 'one', 'two');
  assert.is(status, 0, stderr);
  const result = JSON.parse(stdout.trimEnd().split('\n').at(-1)!);
  assert.equal(Object.keys(result), ['bench', 'machine', 'figures', 'notes']);
  assert.is(result.bench, 'quick');
  assert.equal(result.figures, { mb_per_s: 1234.5, missing: null, words: ['one', 'two'] });
  assert.equal(result.notes, ['missing needs a GPU']);
  assert.ok(result.machine.cores >= 1);
  assert.match(stderr, /measuring/);
});

test('without --json a table for people, where a missing figure is named as such', () => {
  const { status, stdout } = run('quick');
  assert.is(status, 0);
  assert.match(stdout, /mb_per_s +1234\.5/);
  assert.match(stdout, /missing +not measured/);
  assert.match(stdout, /note: missing needs a GPU/);
});

test('an unknown name or none lists what there is; exit code 2', () => {
  for (const args of [['slow'], []]) {
    const { status, stderr } = run(...args);
    assert.is(status, 2);
    assert.match(stderr, /quick +a quick one/);
  }
  assert.is(run('quick', '--no-such-flag').status, 2);
});

test('a benchmark that fails ends with exit code 1', () => {
  const { status, stderr } = run('failing');
  assert.is(status, 1);
  assert.match(stderr, /no such device/);
});

test('summaries: median of odd and even counts, extremes, spread', () => {
  assert.equal(summarize([3, 1, 2]), { median: 2, min: 1, max: 3, spread: 1, count: 3 });
  assert.is(summarize([4, 1, 3, 2]).median, 2.5);
  assert.is(summarize([10, 9, 100]).median, 10);
  assert.throws(
    () => summarize([]),
    (error: unknown) => error instanceof NothingMeasuredError,
  );
  assert.throws(
    () => summarize([1, Number.NaN]),
    (error: unknown) => error instanceof NothingMeasuredError,
  );
});

test('variants take turns, warm up unmeasured, and none always goes first', async () => {
  const order: string[] = [];
  const variant = (name: string, value: number) => () => {
    order.push(name);
    return value;
  };
  const { samples } = await compare({ ours: variant('o', 3), baseline: variant('b', 1) }, { turns: 3, warmups: 1 });
  assert.equal(samples, { ours: [3, 3, 3], baseline: [1, 1, 1] });
  assert.is(order.join(''), 'obobboob');
});

test('a ratio is that of each turn, so that a slow turn does not move it', async () => {
  const slowdown = [1, 10, 1, 5, 1];
  const measured = (value: number) => {
    let turn = 0;
    return () => value * (slowdown[turn++] ?? 1);
  };
  const comparison = await compare({ ours: measured(2), baseline: measured(1) }, { turns: 5, warmups: 0 });
  assert.equal(ratioOf(comparison, 'ours', 'baseline'), { median: 2, min: 2, max: 2, spread: 0, count: 5 });
  assert.throws(() => ratioOf(comparison, 'ours', 'nobody'));
});

test('a comparison can be stopped', async () => {
  const signal = AbortSignal.abort(new Error('stopped'));
  try {
    await compare({ ours: () => 1 }, { signal });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /stopped/);
  }
});

test.run();
