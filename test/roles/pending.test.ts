import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { dropPending, loadPending, savePending } from '../../roles/miner/pending-submission.ts';
import { loadScores, saveScores } from '../../roles/validator/pending-scores.ts';

let dir = '';
test.before.each(async () => {
  dir = await mkdtemp(join(tmpdir(), 'alice-pending-'));
});
test.after.each(async () => {
  await rm(dir, { recursive: true, force: true });
});

const hex = (byte: string) => byte.repeat(32);

test('a committed submission survives a restart, until it is dropped', async () => {
  const pending = { round: 3, beacon: hex('ab'), cid: 'bafk1', sizeBytes: 77, salt: hex('cd') };
  assert.is(await loadPending(join(dir, 'new')), undefined);
  await savePending(join(dir, 'new'), pending);
  assert.equal(await loadPending(join(dir, 'new')), pending);
  await dropPending(join(dir, 'new'));
  assert.is(await loadPending(join(dir, 'new')), undefined);
});

test('a damaged file counts as none: the round is done again', async () => {
  await writeFile(join(dir, 'pending-submission.json'), '{"round": 3');
  assert.is(await loadPending(dir), undefined);
  await writeFile(join(dir, 'pending-scores.json'), '{"round": "x"}');
  assert.is(await loadScores(dir), undefined);
});

test('committed scores come back to the last digit, whatever their sign and kind', async () => {
  const miner = (byte: string) => hex(byte) as AccountId;
  const scores = {
    round: 9,
    drawBeacon: hex('01'),
    salt: new Uint8Array(32).fill(7),
    heldOutLoss: 8_341_123_456n,
    scores: [
      { miner: miner('0a'), slot: 0, verdict: { tag: 'scored' as const, value: -(2n ** 62n) } },
      { miner: miner('0b'), slot: 0, verdict: { tag: 'unavailable' as const, value: undefined } },
      { miner: miner('0c'), slot: 0, verdict: { tag: 'malformed' as const, value: undefined } },
      { miner: miner('0d'), slot: 0, verdict: { tag: 'scored' as const, value: 0n } },
    ],
  };
  await saveScores(dir, scores);
  assert.equal(await loadScores(dir), scores);
});

test.run();
