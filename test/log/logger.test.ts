import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createLogger, type LogLevel, type LogSettings, levelOf, SILENT_LOGGER } from '../../node/log/logger.ts';
import { RotatingFile } from '../../node/log/rotating-file.ts';

const settings = (changes: Partial<LogSettings> = {}): LogSettings => ({
  level: 'info',
  components: {},
  format: 'json',
  ...changes,
});

function capture(changes: Partial<LogSettings> = {}, isTTY = false) {
  const lines: string[] = [];
  const logger = createLogger(settings(changes), { stream: { write: (line) => lines.push(line), isTTY } });
  return { lines, logger, objects: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

test('a line is one JSON object with time, level name, component, fields and message', () => {
  const { logger, lines, objects } = capture();
  logger.child('network').warn({ peers: 3, amount: 12n, list: [1] }, 'few peers');
  assert.is(lines.length, 1);
  assert.ok(lines[0]?.endsWith('}\n'));
  const [line] = objects();
  assert.is(line?.level, 'warn');
  assert.is(line?.component, 'network');
  assert.is(line?.msg, 'few peers');
  assert.is(line?.peers, 3);
  assert.is(line?.amount, 12);
  assert.is(line?.pid, process.pid);
  assert.ok(Math.abs(Date.parse(String(line?.time)) - Date.now()) < 60_000);
});

test('each component has its own level, above or below the general one', () => {
  const { logger, objects } = capture({
    level: 'warn',
    components: { consensus: 'debug', 'consensus.vote': 'silent' },
  });
  logger.info({}, 'general info');
  logger.child('network').info({}, 'network info');
  logger.child('network').error({}, 'network error');
  logger.child('consensus').debug({}, 'consensus debug');
  logger.child('consensus').child('timer').debug({}, 'timer debug');
  logger.child('consensus').child('vote').error({}, 'vote error');
  assert.equal(
    objects().map(({ component, msg }) => [component, msg]),
    [
      ['network', 'network error'],
      ['consensus', 'consensus debug'],
      ['consensus.timer', 'timer debug'],
    ],
  );
});

test('levels are looked up from the innermost component outwards', () => {
  const components: Record<string, LogLevel> = { a: 'error', 'a.b': 'debug' };
  const level = (component: string) => levelOf(component, { level: 'info', components });
  assert.equal(['a', 'a.b', 'a.b.c', 'a.c', 'ab', '', 'constructor'].map(level), [
    ...['error', 'debug', 'debug', 'error', 'info', 'info', 'info'],
  ]);
});

test('auto is text for people on a terminal and JSON elsewhere', () => {
  const terminal = capture({ format: 'auto' }, true);
  terminal.logger.child('api').info({ port: 8080 }, 'listening');
  assert.throws(() => terminal.objects());
  assert.match(terminal.lines.join(''), /listening/);
  assert.match(terminal.lines.join(''), /8080/);
  const pipe = capture({ format: 'auto' }, false);
  pipe.logger.info({}, 'listening');
  assert.is(pipe.objects().length, 1);
});

test('pretty without a terminal has no colours', () => {
  const { logger, lines } = capture({ format: 'pretty' }, false);
  logger.error({}, 'broken');
  assert.match(lines[0]!, /ERROR.*broken/);
  assert.not.match(lines[0]!, new RegExp(String.fromCharCode(27)));
});

test('key material is never written, wherever it is in the fields', () => {
  const { logger, lines } = capture();
  const secret = 'bottom drive obey lake curtain smoke';
  logger.info(
    { mnemonic: secret, key: { secretKey: secret }, account: { pair: { privateKey: secret } } },
    'made a key',
  );
  logger.child('identity').error({ password: secret, seed: secret, token: secret }, 'cannot open');
  assert.is(lines.join('').includes(secret), false, lines.join(''));
  assert.match(lines.join(''), /\[redacted\]/);
});

test('errors are written with message, stack, code and cause', () => {
  const { logger, objects } = capture();
  const cause = Object.assign(new Error('the disk is gone'), { code: 'EIO' });
  logger.error({ error: new Error('cannot save', { cause }) }, 'failed');
  const error = objects()[0]?.error as { message: string; stack: string; cause: { message: string; code: string } };
  assert.match(error.message, /cannot save/);
  assert.match(error.stack, /logger\.test\.ts/);
  assert.is(error.cause.message, 'the disk is gone');
  assert.is(error.cause.code, 'EIO');
});

test('the file has JSON lines of its own, without a stream', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'log-')), 'deep', 'alice.log');
  const logger = createLogger(settings({ format: 'pretty' }), { stream: null, file, fields: { role: 'miner' } });
  logger.info({ n: 1 }, 'one');
  logger.child('engine').info({ n: 2 }, 'two');
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  assert.equal(
    lines.map((line) => JSON.parse(line).n),
    [1, 2],
  );
  assert.is(JSON.parse(lines[0]!).role, 'miner');
  assert.is(statSync(file).mode & 0o777, 0o600);
  logger.close();
  logger.info({ n: 3 }, 'three');
  assert.is(readFileSync(file, 'utf8').trimEnd().split('\n').length, 2);
});

test('a file is continued, and begun anew at its limit with one older file kept', () => {
  const path = join(mkdtempSync(join(tmpdir(), 'log-')), 'alice.log');
  for (const line of ['aaaa\n', 'bbbb\n']) {
    const file = new RotatingFile(path, 12);
    file.write(line);
    file.close();
  }
  assert.is(readFileSync(path, 'utf8'), 'aaaa\nbbbb\n');
  const file = new RotatingFile(path, 12);
  for (const line of ['cccc\n', Buffer.from('dddd\n'), 'eeee\n', 'a line longer than the limit\n', 'f\n'])
    file.write(line);
  file.close();
  assert.is(readFileSync(path, 'utf8'), 'f\n');
  assert.is(readFileSync(`${path}.1`, 'utf8'), 'a line longer than the limit\n');
});

test('what was logged before a crash is there after it', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'log-')), 'alice.log');
  const loggerUrl = new URL('../../node/log/logger.ts', import.meta.url).href;
  const script = `
    const { createLogger } = await import(${JSON.stringify(loggerUrl)});
    const logger = createLogger({ level: 'info', components: {}, format: 'pretty' }, { file: ${JSON.stringify(file)} });
    for (let n = 0; n < 1000; n++) logger.info({ n }, 'line');
    process.kill(process.pid, 'SIGKILL');`;
  const { stderr, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.is(signal, 'SIGKILL');
  assert.is(stderr.trimEnd().split('\n').length, 1000, stderr.slice(-500));
  assert.is(readFileSync(file, 'utf8').trimEnd().split('\n').length, 1000);
});

test('the silent logger says nothing and has silent children', () => {
  assert.is(SILENT_LOGGER.child('a').child('b'), SILENT_LOGGER);
  assert.not.throws(() => SILENT_LOGGER.error({}, 'nothing'));
});

test.run();
