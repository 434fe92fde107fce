// time-limit: 180 s
// test-time-limit: 60 s

/** The runner is run on one fixture for each way in which a test file can be broken, and must fail each. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const runner = fileURLToPath(new URL('./run.ts', import.meta.url));
const fixture = (name: string): string => fileURLToPath(new URL(`./fixtures/${name}.fixture.ts`, import.meta.url));

interface Outcome {
  code: number | null;
  output: string;
  lastLine: string;
}

async function run(...args: string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [runner, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  const [code] = await once(child, 'close');
  return { code, output, lastLine: output.trimEnd().split('\n').at(-1) ?? '' };
}

/** Whether a process is alive; a zombie that nobody has waited for yet is not. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'Z';
  } catch {
    return false;
  }
}

test('a file whose tests hold passes, with its skipped tests counted and named', async () => {
  const { code, output, lastLine } = await run(fixture('passing'));
  assert.is(lastLine, '4 passed, 0 failed, 1 skipped', output);
  assert.is(code, 0);
  assert.match(output, /skipped: needs what this machine lacks/);
});

test('processes and threads started by a test do not run the runner', async () => {
  const { code, output, lastLine } = await run(fixture('forking'));
  assert.is(lastLine, '1 passed, 0 failed', output);
  assert.is(code, 0);
});

const broken: { name: string; lastLine: string; says: RegExp }[] = [
  { name: 'failing', lastLine: '2 passed, 1 failed', says: /failed: does not hold/ },
  {
    name: 'throwing-before',
    lastLine: '0 passed, 1 failed',
    says: /"before" hook failed: .*the before hook is broken/,
  },
  { name: 'throwing-after', lastLine: '1 passed, 1 failed', says: /"after" hook failed: .*the after hook is broken/ },
  { name: 'throwing-each', lastLine: '1 passed, 1 failed', says: /"after.each" hook failed/ },
  { name: 'thrown-string', lastLine: '1 passed, 1 failed', says: /not an Error: 'a string, no error'/ },
  { name: 'rejected-undefined', lastLine: '0 passed, 1 failed', says: /not an Error: undefined/ },
  { name: 'forgotten-run', lastLine: '0 passed, 1 failed', says: /1 of 1 tests never ran/ },
  { name: 'no-tests', lastLine: '0 passed, 1 failed', says: /no tests/ },
  { name: 'only', lastLine: '1 passed, 1 failed', says: /"only" leaves the other tests out/ },
  { name: 'unhandled-rejection', lastLine: '0 passed, 1 failed', says: /unhandled rejection: .*nobody looks at this/ },
  { name: 'late-rejection', lastLine: '1 passed, 1 failed', says: /unhandled rejection: .*rejected late/ },
  { name: 'uncaught-exception', lastLine: '0 passed, 1 failed', says: /uncaught exception: .*where nobody catches/ },
  { name: 'early-exit', lastLine: '0 passed, 1 failed', says: /before all tests had run while "ends the process/ },
  { name: 'exit-code', lastLine: '1 passed, 1 failed', says: /ended with exit code 7/ },
  { name: 'never-settling', lastLine: '0 passed, 1 failed', says: /a promise that never settles/ },
  { name: 'slow-test', lastLine: '1 passed, 1 failed', says: /longer than its limit of 1 s/ },
  { name: 'broken-import', lastLine: '0 passed, 1 failed', says: /no-such-module/ },
  { name: 'bad-directive', lastLine: '0 passed, 1 failed', says: /not a directive.*five minutes/ },
  { name: 'killed', lastLine: '0 passed, 1 failed', says: /ended by SIGKILL while "dies by a signal"/ },
  { name: 'deceiving-output', lastLine: '0 passed, 1 failed', says: /failed: prints what a passing run/ },
  { name: 'open-handle', lastLine: '1 passed, 1 failed', says: /kept the process alive: .*TCPServerWrap/ },
];

for (const { name, lastLine, says } of broken) {
  test(`fails: ${name}`, async () => {
    const outcome = await run(fixture(name));
    assert.is(outcome.lastLine, lastLine, outcome.output);
    assert.is(outcome.code, 1);
    assert.match(outcome.output, says);
  });
}

for (const [name, says] of [
  ['endless-loop', /killed at its time limit of 5 s while "blocks the event loop for ever/],
  ['left-process', /left a process running: \d+ /],
] as const) {
  test(`fails, and leaves no process behind: ${name}`, async () => {
    const { code, output } = await run(fixture(name));
    assert.is(code, 1);
    assert.match(output, says);
    const pid = Number(/child (\d+)/.exec(output)?.[1]);
    assert.ok(pid > 0, output);
    assert.is(isAlive(pid), false, 'the process that the test started must be gone');
  });
}

test('a failing file among passing ones fails the run, and the counts are added up', async () => {
  const { code, output, lastLine } = await run(fixture('passing'), fixture('failing'), fixture('forking'));
  assert.is(lastLine, '7 passed, 1 failed, 1 skipped', output);
  assert.is(code, 1);
});

test('a selection that matches nothing fails', async () => {
  const { code, lastLine } = await run('no-such-test-file');
  assert.is(lastLine, '0 passed, 1 failed');
  assert.is(code, 1);
});

test('words select files by a part of their path', async () => {
  const { code, output } = await run('--list', 'runner/runner.test');
  assert.is(output.trim(), 'test/runner/runner.test.ts');
  assert.is(code, 0);
});

test('an unknown flag is a usage error', async () => {
  const { code, output } = await run('--no-such-flag');
  assert.is(code, 2);
  assert.match(output, /--no-such-flag/);
});

test('an interrupted run ends its files, fails and says so', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const child = spawn(process.execPath, [runner, fixture('connecting')], {
    env: { ...process.env, FIXTURE_PORT: String(port) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
  const [socket] = (await once(server, 'connection')) as [Socket];
  const disconnected = once(socket.on('error', () => {}).resume(), 'close');
  const ended = once(child, 'close');
  child.kill('SIGTERM');
  const [code] = await ended;
  await disconnected;
  server.close();
  assert.is(code, 1);
  assert.match(output, /interrupted by SIGTERM/);
  assert.match(output, /0 passed, 1 failed\n$/);
});

test.run();
