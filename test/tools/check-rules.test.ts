/** Violations are planted in a checkout made for the purpose; each must be caught, with its line, and nothing else. */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isPermissive } from '../../tools/check/packages.ts';
import { checkRules } from '../../tools/check/rules.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));

function checkout(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'check-'));
  execFileSync('git', ['init', '--quiet', root]);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

/** Violations as `path:line rule`. */
const found = (files: Readonly<Record<string, string>>): string[] =>
  checkRules(checkout(files)).violations.map(({ path, line, rule }) => `${path}:${line} ${rule}`);

test('a checkout that keeps the rules has no violations', () => {
  assert.equal(
    found({
      'bin/alice.ts': "import { up } from '../bootstrap/up.ts';\nimport '../node/a.ts';\n",
      'bootstrap/up.ts': "export { a as up } from '../node/a.ts';\n",
      'roles/miner.ts': "import '../kernels/k.ts';\nimport '../corpus/c.ts';\nimport '../node/a.ts';\n",
      'node/a.ts':
        "import { readFile } from 'node:fs/promises';\nexport const a = () => [readFile, Date.now(), Math.random()];\n",
      'kernels/k.ts': 'export const k = 2 ** 0.5;\n',
      'corpus/c.ts': 'export const c = 1;\n',
      'test/a.test.ts': "import '../node/a.ts';\nimport '../roles/miner.ts';\nlet state = 0;\nstate += 1;\n",
      'README.md': 'Text.\n',
    }),
    [],
  );
});

test('imports that climb are caught in every form', () => {
  const climbing = [
    "import { m } from '../roles/m.ts';",
    "import type { M } from '../roles/m.ts';",
    "import { type M } from '../roles/m.ts';",
    "import '../roles/m.ts';",
    "export { m } from '../roles/m.ts';",
    "export * from '../roles/m.ts';",
    "export type { M } from '../roles/m.ts';",
    "export const m = () => import('../roles/m.ts');",
    "export type N = import('../roles/m.ts').M;",
    "export const u = new URL('../roles/m.ts', import.meta.url);",
    "import { m } from './../node/../roles/m.ts';",
  ];
  for (const line of climbing) {
    assert.equal(found({ 'node/a.ts': `export const a = 1;\n${line}\n` }), ['node/a.ts:2 layers'], line);
  }
});

test('each part may import just what is below it', () => {
  const forbidden: [string, string][] = [
    ['node', 'roles'],
    ['node', 'kernels'],
    ['node', 'corpus'],
    ['node', 'bootstrap'],
    ['node', 'bin'],
    ['kernels', 'node'],
    ['kernels', 'roles'],
    ['kernels', 'corpus'],
    ['corpus', 'node'],
    ['corpus', 'roles'],
    ['roles', 'bootstrap'],
    ['roles', 'bin'],
    ['bootstrap', 'bin'],
    ['node', 'test'],
    ['roles', 'tools'],
    ['bin', 'bench'],
  ];
  for (const [from, to] of forbidden) {
    assert.equal(
      found({ [`${from}/deep/a.ts`]: `import '../../${to}/b.ts';\n` }),
      [`${from}/deep/a.ts:1 layers`],
      `${from} -> ${to}`,
    );
  }
  assert.equal(found({ 'node/a.ts': "import '../../elsewhere/b.ts';\n" }), ['node/a.ts:1 layers']);
});

test('an import in a comment or a string is none', () => {
  const text =
    "// import '../roles/m.ts';\n/* import x from '../roles/m.ts' */\nexport const s = \"import '../roles/m.ts'\";\n";
  assert.equal(found({ 'node/a.ts': text }), []);
});

test('impurity is caught in the pure cores', () => {
  const impure = [
    'export const a = Date.now();',
    'export const a = new Date();',
    'export const a = { Date };',
    'export const a = () => Math.random();',
    "export const a = Math['random']();",
    'export const a = Math.exp(1) + 1;',
    'export const a = Math.pow(2, 3);',
    'export const { log } = Math;',
    'export const a = (x: number) => x ** 0.5;',
    'export const a = (x: number) => { x **= 2; return x; };',
    'setTimeout(() => {}, 1);',
    'export const a = performance.now();',
    'export const a = crypto.getRandomValues(new Uint8Array(1));',
    'export const a = process.env.HOME;',
    'export const a = globalThis;',
    'console.log(1);',
    "export const a = ['b'].sort((x, y) => x.localeCompare(y));",
    'export const a = (1.5).toLocaleString();',
    'export const a = new Intl.Collator();',
    "import { readFileSync } from 'node:fs';",
    "import { Worker } from 'node:worker_threads';",
    "import net from 'node:net';",
    "import { randomBytes } from 'node:crypto';",
    "import * as everything from 'node:crypto';",
    "import { open } from '../store/store.ts';",
    "export const a = import('../store/store.ts');",
  ];
  for (const line of impure) {
    assert.equal(found({ 'node/ledger/a.ts': `export {};\n${line}\n` }), ['node/ledger/a.ts:2 purity'], line);
  }
  assert.equal(found({ 'node/consensus/core/deep/a.ts': 'export const a = Date.now();\n' }).length, 1);
  assert.equal(found({ 'node/consensus/driver.ts': 'export const a = Date.now();\n' }), []);
});

test('purity says nothing about what only looks impure', () => {
  const pure = [
    "import type { Store } from '../store/store.ts';",
    "import { createHash } from 'node:crypto';",
    "import { parse } from '../chain/hash.ts';",
    'export const a = 2 ** 32;',
    'export const a = (x: bigint) => 10n ** x;',
    'export const a = Math.floor(1.5) + Math.max(1, 2) + Math.PI;',
    'export const a = { performance: 1, Date: 2 };',
    'export const a = (x: { process: number }) => x.process;',
    'export const a = (x: Date) => x;',
    '// Date.now() is not called here',
    "export const a = 'Math.random()';",
    'export class A { process() { return 1; } }',
  ];
  for (const line of pure) assert.equal(found({ 'node/ledger/a.ts': `${line}\n` }), [], line);
});

test('variables of a module are caught, those of a function or an entry are not', () => {
  assert.equal(found({ 'node/a.ts': 'export let a = 1;\nlet b = a;\nvar c = b;\nexport const d = () => c;\n' }), [
    ...['node/a.ts:1 module-state', 'node/a.ts:2 module-state', 'node/a.ts:3 module-state'],
  ]);
  assert.equal(found({ 'node/a.ts': 'export const f = () => { let a = 1; a += 1; return a; };\n' }), []);
  assert.equal(found({ 'kernels/worker.ts': 'let turn = 0;\nturn += 1;\n' }), []);
});

test('names that say nothing are caught, as files and as folders', () => {
  for (const path of ['node/utils.ts', 'node/Helpers.test.ts', 'node/misc/a.ts', 'common/a.md', 'kernels/util.d.ts']) {
    assert.equal(found({ [path]: 'text\n' }).filter((line) => line.endsWith('file-name')).length, 1, path);
  }
  assert.equal(found({ 'node/common-ancestor.ts': 'export {};\n' }), []);
});

test('marks of unfinished work, folders of one machine and registry hosts are caught in any text', () => {
  // Put together here, so that this file does not carry what it forbids.
  const mark = ['TO', 'DO'].join('');
  const other = ['FIX', 'ME'].join('');
  const folder = `/${'home'}/somebody/alice`;
  const host = ['registry', 'example', 'org'].join('.');
  assert.equal(found({ 'node/a.ts': `export {};\n// ${mark}: later\n`, 'docs/b.md': `${other}\n` }), [
    'docs/b.md:1 unfinished',
    'node/a.ts:2 unfinished',
  ]);
  assert.equal(found({ 'docs/a.md': `cd ${folder}\nsee https://${host}/x\n` }), [
    'docs/a.md:1 machine-path',
    'docs/a.md:2 registry',
  ]);
});

test('a file that cannot be parsed is a violation, not a crash', () => {
  assert.equal(found({ 'node/a.ts': 'export const = ;\n' }), ['node/a.ts:0 syntax']);
});

const locked = (changes: Readonly<Record<string, unknown>>) =>
  JSON.stringify({
    lockfileVersion: 3,
    packages: {
      '': { dependencies: { a: '1.0.0' } },
      'node_modules/a': { version: '1.0.0', integrity: 'sha512-x', license: 'MIT', ...changes },
    },
  });

test('the lock file: addresses, missing checksums, install scripts, licences, packages that are not locked', () => {
  const rules = (text: string) => found({ 'package-lock.json': text }).map((line) => line.split(' ')[1]);
  assert.equal(rules(locked({})), []);
  assert.equal(rules(locked({ resolved: 'https://example.org/a.tgz' })), ['lock-file']);
  assert.equal(rules(locked({ integrity: undefined })), ['lock-file']);
  assert.equal(rules(locked({ hasInstallScript: true })), ['install-script']);
  assert.equal(rules(locked({ license: 'GPL-3.0-only' })), ['licence']);
  assert.equal(rules(locked({ license: undefined })), ['licence']);
  assert.equal(rules(locked({ optionalDependencies: { 'a-win32': '1.0.0' } })), ['lock-file']);
});

test('an installed package that npm would compile is found', () => {
  const files = { 'package-lock.json': locked({}), 'node_modules/a/binding.gyp': '{}' };
  assert.ok(found(files).includes('package-lock.json:0 install-script'));
});

test('package.json: one exact version for each dependency', () => {
  const rules = (version: string) => found({ 'package.json': JSON.stringify({ dependencies: { a: version } }) });
  for (const version of ['1.2.3', '1.2.3-beta.1', 'npm:b@1.2.3']) assert.equal(rules(version), []);
  for (const version of ['^1.2.3', '~1.2.3', '1.x', '*', 'latest', '>=1.0.0', 'file:../a']) {
    assert.equal(rules(version), ['package.json:0 exact-version'], version);
  }
});

test('licences: any side of OR, every side of AND', () => {
  for (const expression of ['MIT', '(MIT OR GPL-3.0-only)', 'Apache-2.0 AND BSD-3-Clause'])
    assert.ok(isPermissive(expression));
  for (const expression of ['GPL-3.0-only', 'MIT AND GPL-3.0-only', 'UNLICENSED', ''])
    assert.not(isPermissive(expression));
});

const check = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(repository, 'tools/check.ts'), ...args], {
    encoding: 'utf8',
  });
  return { status, output: stdout + stderr };
};

test('npm run check: exit code and output for rules, types and format', () => {
  const config = '{"compilerOptions":{"strict":true,"noEmit":true,"types":[]},"include":["node"]}';
  const good = {
    'tsconfig.json': `${config}\n`,
    'biome.json': '{ "files": { "includes": ["node/**"] } }\n',
    'node/a.ts': 'export const a: number = 1;\n',
  };
  const steps = ['--step', 'rules', '--step', 'types', '--step', 'format'];
  const passing = check('--root', checkout(good), ...steps);
  assert.is(passing.status, 0, passing.output);

  const broken: [string, string, RegExp][] = [
    ['rules', "import '../roles/b.ts';\nexport const a: number = 1;\n", /FAIL rules.*\n.*node\/a\.ts:1 {2}\[layers\]/],
    ['types', 'export const a: number = "one";\n', /FAIL types.*\n.*node\/a\.ts.*TS2322/],
    ['format', 'export const a:number=1\n', /FAIL format/],
  ];
  for (const [step, text, says] of broken) {
    const failing = check('--root', checkout({ ...good, 'node/a.ts': text }), '--step', step);
    assert.is(failing.status, 1, failing.output);
    assert.match(failing.output, says);
  }
});

test('npm run check: an unknown step or flag is a usage error', () => {
  assert.is(check('--step', 'no-such-step').status, 2);
  assert.is(check('--no-such-flag').status, 2);
});

test.run();
