import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  ConfigFileError,
  InvalidAssignmentError,
  InvalidSettingError,
  UnknownSettingError,
} from '../../node/config/errors.ts';
import { loadConfig, parseAssignments } from '../../node/config/load.ts';
import { describeConfig, renderConfig } from '../../node/config/render.ts';
import { type Setting, text } from '../../node/config/setting.ts';
import { environmentName, settingsByKey } from '../../node/config/settings.ts';

const emptyDir = (): string => mkdtempSync(join(tmpdir(), 'config-'));

/** A folder with this alice.json, and the environment that names the folder. */
function folderWith(content: unknown): { dir: string; file: string; env: Record<string, string> } {
  const dir = emptyDir();
  const file = join(dir, 'alice.json');
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return { dir, file, env: { ALICE_DIR: dir } };
}

function fails(expected: { code: string }, run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.is((error as { code?: string }).code, expected.code, String(error));
    const { message } = error as Error;
    assert.is(message.includes('\n'), false, 'one line');
    return message;
  }
  assert.unreachable(`should have thrown: ${run}`);
  return '';
}

test('without anything given, every setting has its default', () => {
  const { config, settings, file } = loadConfig({ env: { ALICE_DIR: emptyDir() } });
  assert.is(config.log.level, 'info');
  assert.equal(config.log.components, {});
  assert.is(config.api.host, '127.0.0.1');
  assert.is(config.api.port, 0);
  assert.is(file, undefined);
  assert.equal(
    settings.map(({ key }) => key),
    [...settingsByKey.keys()],
  );
  assert.ok(settings.filter(({ key }) => key !== 'dir').every(({ source }) => source === 'default'));
});

test('flags win over the environment, the environment over the file, the file over defaults', () => {
  const { env, file } = folderWith({
    log: { level: 'error', format: 'json' },
    api: { port: 1 },
    miner: { name: 'file' },
  });
  const loaded = loadConfig({
    env: { ...env, ALICE_API_PORT: '2', ALICE_MINER_NAME: 'environment' },
    flags: { 'miner.name': 'flag', 'log.level': undefined },
  });
  assert.is(loaded.config.log.level, 'error');
  assert.is(loaded.config.log.format, 'json');
  assert.is(loaded.config.api.port, 2);
  assert.is(loaded.config.miner.name, 'flag');
  assert.is(loaded.config.network.maxPeers, 300);
  assert.is(loaded.file, file);
  const sourceOf = (key: string) => loaded.settings.find((setting) => setting.key === key);
  assert.equal(
    ['log.level', 'api.port', 'miner.name', 'network.maxPeers'].map((key) => sourceOf(key)?.source),
    ['file', 'environment', 'flag', 'default'],
  );
  assert.is(sourceOf('log.level')?.origin, file);
  assert.is(sourceOf('api.port')?.origin, 'ALICE_API_PORT');
});

test('lists and component levels are read from text and from JSON', () => {
  const { env } = folderWith({
    network: { announce: ['/ip4/1.2.3.4/tcp/4001'] },
    log: { components: { api: 'warn' } },
  });
  const fromFile = loadConfig({ env }).config;
  assert.equal(fromFile.network.announce, ['/ip4/1.2.3.4/tcp/4001']);
  assert.equal(fromFile.log.components, { api: 'warn' });
  const fromText = loadConfig({
    env: {
      ...env,
      ALICE_NETWORK_LISTEN: '/ip4/127.0.0.1/tcp/4001, /ip6/::1/tcp/4001',
      ALICE_LOG_COMPONENTS: 'consensus=debug, network=warn',
    },
  }).config;
  assert.equal(fromText.network.listen, ['/ip4/127.0.0.1/tcp/4001', '/ip6/::1/tcp/4001']);
  assert.equal(fromText.log.components, { consensus: 'debug', network: 'warn' });
});

test('the file may be named by --config or ALICE_CONFIG, and must then exist', () => {
  const { file } = folderWith({ api: { port: 7 }, dir: 'elsewhere' });
  const byFlag = loadConfig({ file, env: {} });
  assert.is(byFlag.config.api.port, 7);
  assert.is(byFlag.config.dir, 'elsewhere');
  assert.is(loadConfig({ env: { ALICE_CONFIG: file } }).config.api.port, 7);
  const missing = join(emptyDir(), 'missing.json');
  assert.match(
    fails(ConfigFileError, () => loadConfig({ file: missing, env: {} })),
    /missing\.json: cannot read/,
  );
});

test('a file inside the folder cannot move the folder', () => {
  const { env } = folderWith({ dir: 'elsewhere' });
  assert.match(
    fails(InvalidSettingError, () => loadConfig({ env })),
    /--dir/,
  );
});

test('a misspelt key is refused wherever it stands, and the message names the source and the keys there are', () => {
  const { env, file } = folderWith({ log: { lvl: 'debug' } });
  const inFile = fails(UnknownSettingError, () => loadConfig({ env }));
  assert.ok(inFile.includes(file) && inFile.includes('log.lvl') && inFile.includes('log.level'), inFile);
  fails(UnknownSettingError, () => loadConfig(folderWith({ logs: {} })));
  fails(UnknownSettingError, () => loadConfig(folderWith('{"__proto__": {"level": "debug"}}')));
  const inEnvironment = fails(UnknownSettingError, () => loadConfig({ env: { ALICE_LOG_LEVLE: 'debug' } }));
  assert.match(inEnvironment, /ALICE_LOG_LEVLE.*ALICE_LOG_LEVEL/);
  assert.match(
    fails(UnknownSettingError, () => loadConfig({ env: {}, flags: { 'log.levle': 'debug' } })),
    /command line.*log\.levle/,
  );
});

test('variables of the launcher and the test runner are no settings, and empty ones are not set', () => {
  const env = {
    ALICE_DIR: emptyDir(),
    ALICE_NODE: 'node',
    ALICE_TEST_CHILD: '1',
    ALICE_LOG_LEVEL: '',
    ALICE_CONFIG: '',
  };
  assert.is(loadConfig({ env }).config.log.level, 'info');
});

test('a value that does not fit is refused with the source, the key, what is expected and what was given', () => {
  const message = fails(InvalidSettingError, () => loadConfig({ env: { ALICE_LOG_LEVEL: 'loud' } }));
  assert.is(message, 'ALICE_LOG_LEVEL: log.level: expected one of debug, info, warn, error, silent, not "loud"');
  const bad: [string, unknown][] = [
    ['api.port', '65536'],
    ['api.port', '-1'],
    ['api.port', '80.5'],
    ['api.port', '0x50'],
    ['api.port', ''],
    ['api.port', Number.NaN],
    ['api.host', 'localhost:80'],
    ['api.host', ''],
    ['network.maxPeers', '0'],
    ['network.listen', 'localhost:4001'],
    ['network.listen', ['/ip4/127.0.0.1/tcp/99999999']],
    ['network.announce', Array(257).fill('/ip4/1.2.3.4/tcp/1')],
    ['log.components', 'consensus'],
    ['log.components', 'consensus=loud'],
    ['log.components', 'Con sensus=debug'],
    ['log.format', 'xml'],
    ['engine.threads', 'many'],
    ['engine.memory', '6'],
    ['engine.memory', '6 gigabytes'],
    ['miner.name', 'two\nlines'],
    ['dir', ''],
  ];
  for (const [key, value] of bad) {
    const message = fails(InvalidSettingError, () => loadConfig({ env: {}, flags: { [key]: value } }));
    assert.ok(message.includes(key), message);
  }
});

test('in the file, types are those of JSON: a number in quotes is no number', () => {
  for (const content of [
    { api: { port: '80' } },
    { network: { listen: '/ip4/127.0.0.1/tcp/1' } },
    { log: { level: 1 } },
  ]) {
    fails(InvalidSettingError, () => loadConfig(folderWith(content)));
  }
});

test('a file that is not one JSON object is refused', () => {
  for (const content of ['', '{"log":', '[]', 'null', '3', '\u0000']) {
    assert.match(
      fails(ConfigFileError, () => loadConfig(folderWith(content))),
      /alice\.json: /,
    );
  }
  const dir = emptyDir();
  mkdirSync(join(dir, 'alice.json'));
  fails(ConfigFileError, () => loadConfig({ env: { ALICE_DIR: dir } }));
});

test('--set arguments become flags', () => {
  assert.equal(parseAssignments(['log.level=debug', 'log.components=a=warn,b=info']), {
    'log.level': 'debug',
    'log.components': 'a=warn,b=info',
  });
  fails(InvalidAssignmentError, () => parseAssignments(['log.level']));
  fails(InvalidAssignmentError, () => parseAssignments(['=debug']));
});

test('what is shown names every key, its value and where it comes from, and reads back as it was', () => {
  const env = { ALICE_DIR: emptyDir(), ALICE_LOG_COMPONENTS: 'api=warn,b.c=debug', ALICE_NETWORK_MAX_PEERS: '12' };
  const loaded = loadConfig({ env });
  const shown = renderConfig(loaded);
  for (const key of settingsByKey.keys()) assert.ok(shown.includes(`\n${key} `), key);
  assert.match(shown, /network\.maxPeers +12 connections +ALICE_NETWORK_MAX_PEERS/);
  const again: Record<string, string> = {};
  for (const { key, value } of loaded.settings) {
    const written = settingsByKey.get(key)!.toText(value);
    if (written !== '') again[environmentName(key)] = written;
  }
  assert.equal(loadConfig({ env: again }).config, loaded.config);
  const described = describeConfig(loaded)['network.maxPeers'];
  assert.is(described?.value, 12);
  assert.is(described?.source, 'environment');
  assert.is(described?.env, 'ALICE_NETWORK_MAX_PEERS');
});

test('the value of a secret is not shown, whether it is set is', () => {
  const secret = text({ description: 'a key that nobody may see', fallback: '', secret: true }) as Setting<unknown>;
  const show = (value: string) => {
    const settings = [{ key: 'api.token', value, source: 'flag' as const, origin: 'command line' }];
    return JSON.stringify(describeConfig({ ...loadConfig({ env: {} }), settings }, new Map([['api.token', secret]])));
  };
  assert.is(show('hunter2').includes('hunter2'), false);
  assert.match(show('hunter2'), /not shown/);
  assert.not.match(show(''), /not shown/);
});

test('every setting is described, and has an environment variable of its own', () => {
  const names = [...settingsByKey.keys()].map(environmentName);
  assert.is(new Set(names).size, names.length);
  assert.is(environmentName('network.maxPeers'), 'ALICE_NETWORK_MAX_PEERS');
  for (const { description } of settingsByKey.values()) assert.ok(description.length > 10);
});

test.run();
