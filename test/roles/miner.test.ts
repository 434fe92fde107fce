import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { TransactionRefusedError } from '../../node/mempool/errors.ts';
import { SILENT_LOG } from '../../node/network/log.ts';
import { Miner, type MinerComponents } from '../../roles/miner/miner.ts';

test('a miner keeps up with the weights while it waits for a seat; one that has missed too many registers again', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'alice-miner-'));
  const account = 'ab'.repeat(32) as AccountId;
  const listeners = new Set<() => void>();
  let enlisted = true;
  let phase = 'score';
  let weightsRound = 2;
  const caughtUp = Promise.withResolvers<void>();
  const block = () => {
    for (const listener of [...listeners]) listener();
  };
  const waiting = Promise.withResolvers<void>();
  const calls: string[] = [];
  const registered = Promise.withResolvers<void>();
  const miner = new Miner({ dir, device: 'test', context: 8, adversary: 'none' }, {
    account,
    log: SILENT_LOG,
    ledger: {
      get state() {
        return {
          get: () => (enlisted ? { proven: false, misses: 0, place: undefined } : undefined),
          aheadInLine: () => 5,
          registrationPrice: 0n,
          round: { round: 4, phase, seats: [], submissions: [], beacon: 'cd'.repeat(32) },
        };
      },
      onBlock(listener: () => void) {
        listeners.add(listener);
        waiting.resolve();
        return () => listeners.delete(listener);
      },
    },
    replica: {
      get round() {
        return weightsRound;
      },
      catchUp: async () => {
        calls.push('catchUp');
        weightsRound = 3;
        caughtUp.resolve();
      },
    },
    send: async ({ tag }: { tag: string }) => {
      calls.push(tag);
      enlisted = true;
      registered.resolve();
    },
  } as unknown as MinerComponents);
  try {
    miner.start();
    await waiting.promise;
    // What it shows follows its first look at the ledger.
    await Promise.resolve();
    assert.match(miner.activity.activity, /waiting for a seat \(at most 5 before it\)/);
    assert.equal(calls, []);
    phase = 'train';
    block();
    await caughtUp.promise;
    assert.equal(calls, ['catchUp'], 'it has no seat, and keeps up all the same');
    calls.length = 0;
    enlisted = false;
    block();
    await registered.promise;
    assert.equal(calls, ['catchUp', 'registerMiner']);
  } finally {
    await miner.stop();
    await rm(dir, { recursive: true, force: true });
  }
});

/** What a miner does that has to register, owns 70 + 40 units and would have `bond` held; `hasRoom`: blocks take it. */
async function registering(bond: bigint, hasRoom = true, registration: 'auto' | 'work' = 'auto'): Promise<string[]> {
  const dir = await mkdtemp(join(tmpdir(), 'alice-miner-'));
  const account = 'ab'.repeat(32) as AccountId;
  const steps: string[] = [];
  const done = Promise.withResolvers<void>();
  let enlisted = false;
  const state = {
    get: () => (enlisted ? { proven: false, misses: 0, place: undefined } : undefined),
    aheadInLine: () => 5,
    registrationPrice: 1n,
    registrationBondPrice: bond,
    holdings: () => ({ balance: 70n, locked: 40n }),
    get registration() {
      // Asked for by who is to prove work.
      steps.push('work');
      enlisted = true;
      done.resolve();
      return { challenges: [] };
    },
    round: { round: 4, phase: 'score', seats: [], submissions: [], beacon: 'cd'.repeat(32) },
  };
  const miner = new Miner({ dir, device: 'test', context: 8, adversary: 'none', registration }, {
    account,
    log: SILENT_LOG,
    ledger: { state, onBlock: () => () => {} },
    replica: { catchUp: async () => {} },
    send: async ({ tag }: { tag: string }, { signal }: { signal: AbortSignal }) => {
      steps.push(tag);
      signal.throwIfAborted();
      if (!hasRoom) throw new TransactionRefusedError('ERR_MEMPOOL_FULL');
      enlisted = true;
      done.resolve();
    },
  } as unknown as MinerComponents);
  miner.start();
  try {
    await done.promise;
  } finally {
    enlisted = true;
    await miner.stop();
    await rm(dir, { recursive: true, force: true });
  }
  return [...new Set(steps)];
}

test('a miner has a bond held where it owns enough, locked or not, and else proves work', async () => {
  assert.equal(await registering(110n), ['registerWithBond']);
  assert.equal(await registering(111n), ['work']);
  assert.equal(await registering(0n), ['work']);
  assert.equal(await registering(110n, false), ['registerWithBond', 'work']);
  assert.equal(await registering(110n, true, 'work'), ['work']);
});

test.run();
