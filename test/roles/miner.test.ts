import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { SILENT_LOG } from '../../node/network/log.ts';
import { Miner, type MinerComponents } from '../../roles/miner/miner.ts';

test('a miner that nobody waits for any more registers again', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'alice-miner-'));
  const account = 'ab'.repeat(32) as AccountId;
  const listeners = new Set<() => void>();
  let active = true;
  const block = () => {
    for (const listener of [...listeners]) listener();
  };
  const calls: string[] = [];
  const registered = Promise.withResolvers<void>();
  const miner = new Miner({ dir, device: 'test', context: 8, adversary: 'none' }, {
    account,
    log: SILENT_LOG,
    ledger: {
      get state() {
        return {
          get: () => (active ? [account] : []),
          round: { round: 4, phase: 'score', expected: [], submissions: [], beacon: 'cd'.repeat(32) },
        };
      },
      onBlock(listener: () => void) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    send: async ({ tag }: { tag: string }) => {
      calls.push(tag);
      active = true;
      registered.resolve();
    },
  } as unknown as MinerComponents);
  try {
    miner.start();
    // It missed its round; the next one opens without it.
    active = false;
    block();
    await registered.promise;
    assert.equal(calls, ['registerMiner']);
  } finally {
    await miner.stop();
    await rm(dir, { recursive: true, force: true });
  }
});

test.run();
