/** Traces of Malachite's Quint model, where the shared vectors are: see tools/vectors/consensus-itf.ts. */
import { existsSync, globSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { replayTrace } from '../../tools/vectors/consensus-itf.ts';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '../../../shared/vectors/consensus-itf');

if (!existsSync(folder)) {
  console.log('skipped: ../shared/vectors is not there');
  test.skip('traces of the Quint model', () => {});
} else {
  for (const path of globSync('**/*.itf.json*', { cwd: folder }).sort()) {
    test(`trace ${path}`, () => {
      const { steps, mismatches } = replayTrace(resolve(folder, path));
      assert.ok(steps > 0);
      assert.equal(mismatches.slice(0, 5), []);
    });
  }
}

test.run();
