// time-limit: 240 s
// test-time-limit: 220 s
/**
 * kill -9 at every write of log, guard and block, on real files (recovery.test.ts does the same, and loses what was not
 * synced, on simulated disks). One validator lives again and again in one folder; its n-th life ends at its n-th write.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const CHILD = fileURLToPath(new URL('./killed-validator.ts', import.meta.url));

/** Writes of a life: opening and repairing, then about twenty for a height. Two heights and more are covered. */
const LIVES = 40;

test('it never signs twice, never loses a final block, and goes on in every next life', () => {
  const folder = mkdtempSync(join(tmpdir(), 'alice-killed-'));
  const signed = new Map<string, string>();
  const final = new Map<number, string>();
  try {
    for (let life = 1; life <= LIVES; life++) {
      const { signal, stdout, stderr } = spawnSync(process.execPath, [CHILD, folder, String(life)], {
        encoding: 'utf8',
        timeout: 20_000,
        killSignal: 'SIGTERM',
      });
      assert.is(signal, 'SIGKILL', `life ${life}: ${stderr}`);
      for (const line of stdout.trim().split('\n')) {
        const [kind, what, value] = line.split(' ');
        if (kind === 'vote') {
          assert.is(signed.get(what) ?? value, value, `life ${life}: signed ${what} twice`);
          signed.set(what, value);
        } else {
          const height = Number(what);
          if (kind === 'start') assert.ok(height >= Math.max(0, ...final.keys()), `life ${life}: lost a block`);
          if (height > 0) assert.is(final.get(height) ?? value, value, `life ${life}: another block ${height}`);
          if (height > 0) final.set(height, value);
        }
      }
    }
    assert.ok(final.size >= LIVES / 4, `${final.size} blocks in ${LIVES} lives`);
    console.log(`${LIVES} lives, ${final.size} final blocks, ${signed.size} signed messages`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
