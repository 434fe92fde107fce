// time-limit: 90 s
// test-time-limit: 60 s
/** The fuzzer finds planted faults, counts them, saves what did it, and replays it; and every target holds. */
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { InputSource } from '../../tools/fuzz/inputs.ts';
import type { FuzzTarget } from '../../tools/fuzz/target.ts';

const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const TARGETS = pathOf('../../tools/fuzz/targets');

function fuzz(...args: readonly string[]) {
  const tool = pathOf('../../tools/fuzz/fuzz.ts');
  return spawnSync(process.execPath, [tool, ...args], { encoding: 'utf8' });
}

test('planted faults are counted, saved and replayed; the run goes on behind each', async () => {
  const save = await mkdtemp(join(tmpdir(), 'alice-fuzz-'));
  try {
    const flags = ['--folder', pathOf('fuzz-targets'), '--save', save, '--json'];
    const found = fuzz('faulty', '--inputs', '150', '--seed', '6', '--hang-ms', '500', '--threads', '2', ...flags);
    assert.is(found.status, 1, found.stderr);
    const summary = JSON.parse(found.stdout) as Record<string, number>;
    assert.is(summary.inputs, 150);
    for (const kind of ['crashes', 'hangs', 'over_cap']) assert.ok(summary[kind]! > 0, `${kind}: ${found.stdout}`);
    const files = await readdir(save);
    const crash = files.find((file) => file.endsWith('crash.bin'))!;
    assert.is((await readFile(join(save, crash)))[0], 255);
    const replayed = fuzz('faulty', '--replay', join(save, crash), ...flags);
    assert.is(replayed.status, 1);
    assert.match(replayed.stderr, /a fault/);
  } finally {
    await rm(save, { recursive: true, force: true });
  }
});

test('wrong usage is told, with the targets there are', () => {
  const none = fuzz('nothing');
  assert.is(none.status, 2);
  assert.match(none.stderr, /submission/);
  assert.is(fuzz('submission', '--inputs', 'many').status, 2);
});

for (const file of globSync('*.ts', { cwd: TARGETS }).sort()) {
  test(`${basename(file, '.ts')}: every input ends in a typed refusal or a sound result, the same each time`, async () => {
    const target = (await import(pathToFileURL(join(TARGETS, file)).href)) as FuzzTarget;
    const source = new InputSource(target, 77);
    const outcomes = new Map<string, number>();
    for (let i = 0; i < 4000; i++) {
      const outcome = target.run(source.input(i));
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    for (const input of target.seeds()) target.run(input);
    assert.equal(source.input(1234), new InputSource(target, 77).input(1234));
    // A fuzzer whose inputs are all refused at the door tests nothing.
    assert.ok((outcomes.get('accepted') ?? 0) > 40, [...outcomes].join(' '));
    assert.ok(outcomes.size > 1);
  });
}

test.run();
