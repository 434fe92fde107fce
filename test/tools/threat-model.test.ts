/** docs/threat-model.md names tests and attacks: each of them exists. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ATTACKS } from '../../tools/hostile/attack-list.ts';

const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));

test('every test and every attack that the threat model names is there', () => {
  const text = readFileSync(pathOf('../../docs/threat-model.md'), 'utf8');
  const attacks = new Set([...ATTACKS.map(({ name }) => name), 'flood']);
  const missing: string[] = [];
  let [tests, names] = [0, 0];
  for (const line of text.split('\n').filter((row) => row.startsWith('|'))) {
    const shown = line.split('|').at(-2) ?? '';
    // `hostile one`, `two`: the names after the first are attacks as well.
    let afterHostile = false;
    for (const [, quoted = ''] of shown.matchAll(/`([^`]+)`/g)) {
      const [file = '', ...rest] = quoted.split(': ');
      if (file.endsWith('.test.ts')) {
        afterHostile = false;
        tests += 1;
        const path = pathOf(`../${file}`);
        const name = rest.join(': ');
        if (!existsSync(path) || !readFileSync(path, 'utf8').replaceAll("\\'", "'").includes(name))
          missing.push(quoted);
      } else if (quoted.startsWith('hostile ') || afterHostile) {
        afterHostile = true;
        names += 1;
        if (!attacks.has(quoted.replace(/^hostile /, ''))) missing.push(quoted);
      }
    }
  }
  assert.equal(missing, []);
  assert.ok(tests > 30 && names > 20, `${tests} tests, ${names} attacks`);
});

test('every attack is in the threat model', () => {
  const text = readFileSync(pathOf('../../docs/threat-model.md'), 'utf8');
  assert.equal(
    ATTACKS.map(({ name }) => name).filter((name) => !text.includes(name)),
    [],
  );
});

test.run();
