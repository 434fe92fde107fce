/** bin/launch.js in front of small programs: which Node runs them, and what is passed on to them and back. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const launcher = fileURLToPath(new URL('../../bin/launch.js', import.meta.url));
const runScript = fileURLToPath(new URL('../../tools/run.js', import.meta.url));

/** Where a machine may have a Node of its own; the tests that need an old one are skipped where there is none. */
const oldNode = ['/usr/bin/node', '/usr/local/bin/node'].find((path) => {
  if (!existsSync(path)) return false;
  return Number(/^v(\d+)/.exec(spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout)?.[1]) < 24;
});

const { ALICE_NODE: _, ...environment } = process.env;

function program(text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'launch-')), 'program.ts');
  writeFileSync(path, text);
  return path;
}

function run(node: string, args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(node, args, { encoding: 'utf8', env: { ...environment, ...env } });
  return { status, stdout, stderr };
}

const report = program(`
  import 'node:sqlite';
  const typed: string[] = process.argv.slice(1);
  process.emitWarning('shown', 'Warning');
  console.log(JSON.stringify({ argv: typed, major: parseInt(process.versions.node), launched: 'ALICE_LAUNCHED' in process.env }));
`);

test('a Node that can runs the file in its own process, without experimental warnings', () => {
  const { status, stdout, stderr } = run(process.execPath, [runScript, report, 'a', '--b=c d']);
  assert.is(status, 0, stderr);
  assert.equal(JSON.parse(stdout), {
    argv: [report, 'a', '--b=c d'],
    major: Number.parseInt(process.versions.node, 10),
    launched: false,
  });
  assert.not.match(stderr, /Experimental/);
  assert.match(stderr, /Warning: shown/);
});

const withOldNode = oldNode === undefined ? test.skip : test;

withOldNode('an old Node hands over to the Node that is installed with the project', () => {
  const { status, stdout, stderr } = run(oldNode!, [runScript, report, 'a', '--b=c d']);
  assert.is(status, 0, stderr);
  const { argv, major, launched } = JSON.parse(stdout);
  assert.equal(argv, [report, 'a', '--b=c d']);
  assert.ok(major >= 24);
  assert.is(launched, false);
  assert.not.match(stderr, /Experimental/);
});

withOldNode('an old Node passes standard input, exit codes and signals on', async () => {
  const echo = program(
    "process.stdin.on('data', (d: Buffer) => process.stdout.write(d)).on('end', () => process.exit(7));",
  );
  const echoed = spawnSync(oldNode!, [runScript, echo], { input: 'typed', encoding: 'utf8', env: environment });
  assert.is(echoed.stdout, 'typed');
  assert.is(echoed.status, 7);

  const waiting = program(`
    for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, () => process.exit(name.length));
    setInterval(() => {}, 1000);
    console.log(process.pid);
  `);
  const start = async (): Promise<{ child: ChildProcess; pid: number; end: Promise<unknown[]> }> => {
    const child = spawn(oldNode!, [runScript, waiting], { stdio: ['ignore', 'pipe', 'ignore'], env: environment });
    const end = once(child, 'exit');
    const [pid] = await once(child.stdout!, 'data');
    return { child, pid: Number(pid), end };
  };
  for (const [name, code] of [
    ['SIGTERM', 7],
    ['SIGINT', 6],
    ['SIGHUP', 6],
  ] as const) {
    const { child, end } = await start();
    child.kill(name);
    assert.equal(await end, [code, null], name);
  }
  const { pid, end } = await start();
  process.kill(pid, 'SIGKILL');
  assert.equal(await end, [137, null]);
});

withOldNode('an old Node without an installed one says in one line what to do', () => {
  const root = mkdtempSync(join(tmpdir(), 'bare-'));
  mkdirSync(join(root, 'bin'));
  writeFileSync(join(root, 'package.json'), '{"type":"module"}');
  writeFileSync(join(root, 'bin/alice.ts'), 'console.log(1 as number);');
  copyFileSync(launcher, join(root, 'bin/launch.js'));
  copyFileSync(join(launcher, '../alice.js'), join(root, 'bin/alice.js'));
  const { status, stdout, stderr } = run(oldNode!, [join(root, 'bin/alice.js')]);
  assert.is(status, 2);
  assert.is(stdout, '');
  assert.match(stderr, /^alice: this is Node v\d+.*Node 24 or newer.*npm ci.*ALICE_NODE.*\n$/);
  const chosen = run(oldNode!, [join(root, 'bin/alice.js')], { ALICE_NODE: process.execPath });
  assert.is(chosen.stdout, '1\n', chosen.stderr);
});

withOldNode('an old Node named by ALICE_NODE is refused, and does not start another', () => {
  const { status, stderr } = run(process.execPath, [runScript, report], { ALICE_NODE: oldNode! });
  assert.is(status, 2);
  assert.match(stderr, /^alice: this is Node v\d+.*\n$/);
});

test('an ALICE_NODE that is missing or no program is refused in one line', () => {
  const missing = run(process.execPath, [runScript, report], { ALICE_NODE: join(tmpdir(), 'no-such-node') });
  assert.is(missing.status, 2);
  assert.match(missing.stderr, /^alice: ALICE_NODE names .*no-such-node, which does not exist: .*\n$/);
  const noProgram = join(mkdtempSync(join(tmpdir(), 'launch-')), 'node');
  writeFileSync(noProgram, 'text');
  chmodSync(noProgram, 0o600);
  const refused = run(process.execPath, [runScript, report], { ALICE_NODE: noProgram });
  assert.is(refused.status, 2);
  assert.match(refused.stderr, /^alice: cannot start the Node binary .*\n$/);
});

test('tools/run.js without a file is a usage error', () => {
  assert.is(run(process.execPath, [runScript]).status, 2);
});

test.run();
