// time-limit: 180 s
// test-time-limit: 60 s
/** Each mistake a person can make ends with exit code 2 and one line that says what to do. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { alice } from './alice-process.ts';

let base = '';
test.before(async () => {
  base = await mkdtemp(join(tmpdir(), 'alice-mistakes-'));
});
test.after(async () => {
  await rm(base, { recursive: true, force: true });
});

/** Runs a command that has to fail, and checks how it does. */
async function refuses(says: RegExp, ...args: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await alice(...args);
  const lines = stderr.trim().split('\n');
  const line = lines.find((text) => text.startsWith('alice: ')) ?? '';
  assert.is(code, 2, `${args.join(' ')}: ${stderr}`);
  assert.match(line, says);
  assert.not.match(stderr, /\n\s+at /, 'no stack');
  assert.is(stdout.includes('{'), false);
}

test('corpus: missing, empty, not UTF-8', async () => {
  await refuses(/missing\.txt/, 'up', '--dir', join(base, 'a'), '--corpus', join(base, 'missing.txt'));
  await writeFile(join(base, 'empty.txt'), '');
  await refuses(/empty\.txt/, 'up', '--dir', join(base, 'b'), '--corpus', join(base, 'empty.txt'));
  await writeFile(join(base, 'latin.txt'), Buffer.from([0x41, 0xe9, 0x42]));
  await refuses(/latin\.txt: not UTF-8 at byte 1/, 'up', '--dir', join(base, 'c'), '--corpus', join(base, 'latin.txt'));
});

test('unknown preset, flag, command and value', async () => {
  await refuses(
    /unknown preset "alice-huge"; known: alice-nano/,
    'up',
    '--model',
    'alice-huge',
    '--dir',
    join(base, 'd'),
  );
  assert.not(existsSync(join(base, 'd')), 'nothing was made');
  await writeFile(join(base, 'odd.json'), '{"name": "odd", "layers": "two"}');
  await refuses(/odd\.json: preset: layers: /, 'up', '--model', join(base, 'odd.json'), '--dir', join(base, 'd'));
  await refuses(/odd\.json: preset: layers: /, 'model', 'presets', join(base, 'odd.json'));
  assert.not(existsSync(join(base, 'd')), 'nothing was made');
  await refuses(/unknown device "gpu"; known: auto, cpu, cuda/, 'up', '--device', 'gpu', '--dir', join(base, 'd'));
  await refuses(
    /unknown precision "fp8"; known: auto, fp32, fp16/,
    'up',
    '--precision',
    'fp8',
    '--dir',
    join(base, 'd'),
  );
  await refuses(
    /unknown backend "torch"; known: auto, onnx, native/,
    'up',
    '--backend',
    'torch',
    '--dir',
    join(base, 'd'),
  );
  await refuses(/bf16.*--backend auto/, 'up', '--backend', 'onnx', '--precision', 'bf16', '--dir', join(base, 'd'));
  await refuses(/engine\.backend.*auto, onnx, native/, 'config', 'show', '--backend', 'torch');
  await refuses(/engine\.device.*auto, cpu, cuda/, 'miner', '--device', 'gpu', '--network', 'net.json');
  await refuses(
    /cpu computes in fp32.*--precision/i,
    'up',
    '--device',
    'cpu',
    '--precision',
    'fp16',
    '--dir',
    join(base, 'd'),
  );
  await refuses(/unknown option '--roundz'/, 'up', '--roundz', '3');
  await refuses(/unknown command 'upp'/, 'upp');
  await refuses(/whole number/, 'up', '--rounds', 'many');
  await refuses(/log\.level/, 'config', 'show', '--log-level', 'loud');
  await refuses(/not an Alice address/, 'balance', '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY');
});

test('doctor: what does not hold is exit code 1, and the report is whole all the same', async () => {
  const asked = ['--device', 'cpu', '--precision', 'fp16', '--threads', '1'];
  const { code, stdout } = await alice('doctor', '--json', '--dir', join(base, 'h'), ...asked);
  assert.is(code, 1);
  const report = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
  assert.is(report.ok, false);
  assert.equal(report.wrong, ['uses']);
  assert.is(report.device, null);
  assert.not(existsSync(join(base, 'h')), 'nothing was made');
  const cpu = report.devices.find(({ device }: { device: string }) => device === 'cpu');
  assert.ok(cpu.works && cpu.gflops > 0 && cpu.training_tokens_per_s > 0);
  assert.is(report.devices.length, 5);
});

test('folders: not writable, holding something else, no node in it', async () => {
  await writeFile(join(base, 'file'), 'x');
  await refuses(/choose another with --dir/, 'up', '--dir', join(base, 'file', 'inside'));
  await mkdir(join(base, 'photos'));
  await writeFile(join(base, 'photos', 'cat.jpg'), 'x');
  await refuses(/holds no local network/, 'up', '--fresh', '--dir', join(base, 'photos'));
  assert.ok(existsSync(join(base, 'photos', 'cat.jpg')), 'nothing was deleted');
  await refuses(/no node is running/, 'status', '--dir', base);
});

test('network file: missing, not JSON, wrong fields', async () => {
  const miner = (file: string) => ['miner', '--network', file, '--dir', join(base, 'm')];
  await refuses(/none\.json/, ...miner(join(base, 'none.json')));
  await writeFile(join(base, 'bad.json'), '{');
  await refuses(/bad\.json/, ...miner(join(base, 'bad.json')));
  await writeFile(join(base, 'wrong.json'), '{"genesis": {}, "bootstrap": []}');
  await refuses(/network file: genesis/, ...miner(join(base, 'wrong.json')));
});

test('another network, a taken port, a damaged state file, a second process', async () => {
  const dir = join(base, 'net');
  const made = await alice(
    'up',
    '--dir',
    dir,
    '--rounds',
    '1',
    '--miners',
    '1',
    '--validators',
    '1',
    '--train-seconds',
    '1',
  );
  assert.is(made.code, 0, made.stderr + made.stdout);
  const node = join(dir, 'miner-1');
  const network = join(dir, 'network.json');
  const run = (...more: string[]) => ['miner', '--network', network, '--dir', node, ...more];

  const other = JSON.parse(await readFile(network, 'utf8'));
  other.genesis.timeMs += 1;
  await writeFile(join(base, 'other.json'), JSON.stringify(other));
  await refuses(/network/, 'miner', '--network', join(base, 'other.json'), '--dir', node);
  await refuses(/network made with/, 'up', '--dir', dir, '--seed', '7', '--train-seconds', '1');

  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const address = taken.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  await refuses(/port|in use|taken/i, ...run('--listen', `/ip4/127.0.0.1/tcp/${port}`));
  await refuses(/--api-port/, ...run('--api-port', String(port)));
  await new Promise((resolve) => taken.close(resolve));

  await writeFile(join(node, 'node.lock'), `${process.ppid} `);
  await rm(join(node, 'node.lock'));
  await writeFile(join(node, 'chain.sqlite'), 'this is not a database, it is a note to myself that grew');
  await refuses(/chain\.sqlite|database/, ...run());
});

test('an old Node says what is needed', () => {
  // The launcher is plain JavaScript, so the file can be read by a Node that cannot run the rest.
  if (!existsSync('/usr/bin/node')) return;
  const version = spawnSync('/usr/bin/node', ['--version'], { encoding: 'utf8' }).stdout;
  if (Number(version.slice(1).split('.')[0]) >= 24) return;
  const entry = fileURLToPath(new URL('../../bin/alice.js', import.meta.url));
  const { status, stderr } = spawnSync('/usr/bin/node', [entry, '--version'], {
    encoding: 'utf8',
    env: { ...process.env, ALICE_NODE: '/nowhere/node' },
  });
  assert.is(status, 2);
  assert.match(stderr, /ALICE_NODE/);
});

test.run();
