/** kill -9 before each write of a block: what was final stays, what was not leaves no trace, the chain goes on. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { WRITE_POINTS } from '../../node/store/store.ts';
import { advance, chainGenesis, openChain } from '../blockchain/harness.ts';

const CHILD = fileURLToPath(new URL('./committing-child.ts', import.meta.url));

// In the first block of a new store, and in a later one.
for (const [point, skip] of WRITE_POINTS.flatMap((name) => [[name, 0] as const, [name, 2] as const])) {
  test(`killed before "${point}" of block ${skip + 1}`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'alice-crash-'));
    const path = join(folder, 'node.sqlite');
    try {
      const args = [CHILD, path, point, String(skip)];
      const child = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 });
      assert.is(child.signal, 'SIGKILL', child.stderr);
      const heights = child.stdout.trim().split('\n').filter(Boolean).map(Number);
      assert.is(heights.length, skip);
      const { chain, store } = openChain(path, chainGenesis());
      // Everything reported as committed is there, and nothing of the block that was being written.
      assert.is(chain.height, skip);
      if (skip > 0) assert.is(chain.state.root, chain.lastHeader?.stateRoot);
      assert.is((await chain.replay()).root, chain.state.root);
      assert.is(store.receiptsAt(skip + 1).length, 0);
      await advance(chain);
      assert.is(chain.height, skip + 1);
      store.close();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

test.run();
