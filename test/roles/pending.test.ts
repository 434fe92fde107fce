import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blobCid } from '../../node/blobs/manifest.ts';
import type { AccountId } from '../../node/chain/account.ts';
import { dropPending, loadPending, loadPendingBytes, savePending } from '../../roles/miner/pending-submission.ts';
import { loadScores, saveScores } from '../../roles/validator/pending-scores.ts';
import { sample } from '../blobs/sample.ts';

let dir = '';
test.before.each(async () => {
  dir = await mkdtemp(join(tmpdir(), 'alice-pending-'));
});
test.after.each(async () => {
  await rm(dir, { recursive: true, force: true });
});

const hex = (byte: string) => byte.repeat(32);

test('a committed submission survives a restart, until it is dropped', async () => {
  const bytes = sample(77, 1);
  const pending = { round: 3, beacon: hex('ab'), cid: blobCid(bytes), sizeBytes: 77, salt: hex('cd') };
  assert.is(await loadPending(join(dir, 'new')), undefined);
  await savePending(join(dir, 'new'), pending, bytes);
  assert.equal(await loadPending(join(dir, 'new')), pending);
  assert.equal([...((await loadPendingBytes(join(dir, 'new'), pending)) ?? [])], [...bytes]);
  for (const name of await readdir(join(dir, 'new'))) {
    assert.is((await stat(join(dir, 'new', name))).mode & 0o077, 0, `${name} is for the owner only`);
  }
  await dropPending(join(dir, 'new'));
  assert.is(await loadPending(join(dir, 'new')), undefined);
  assert.equal(await readdir(join(dir, 'new')), []);
});

test('bytes that are not what was committed to are none', async () => {
  const bytes = sample(50, 2);
  const pending = { round: 3, beacon: hex('ab'), cid: blobCid(bytes), sizeBytes: 50, salt: hex('cd') };
  await savePending(dir, pending, bytes);
  await writeFile(join(dir, 'pending-submission.bin'), sample(50, 3));
  assert.is(await loadPendingBytes(dir, pending), undefined);
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
