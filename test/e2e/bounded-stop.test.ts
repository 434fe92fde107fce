/** What a role's process gives to blobs, and how it ends. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blobCapacityBytes } from '../../bin/blob-capacity.ts';
import { stopsWithin } from '../../bin/bounded-stop.ts';
import { UsageError } from '../../bin/report-failure.ts';
import { presetRecord, presets } from '../../kernels/model/preset.ts';
import type { Genesis } from '../../node/chain/genesis.ts';

test('a stop that hangs ends with its time, one that is done or fails is told at once', async () => {
  assert.is(await stopsWithin(() => new Promise(() => {}), 10), false);
  assert.is(await stopsWithin(async () => {}, 2 ** 31 - 1), true);
  const failing = stopsWithin(() => Promise.reject(new Error('broken')), 2 ** 31 - 1);
  assert.is(await failing.catch((error: Error) => error.message), 'broken');
  // What fails later harms nobody.
  const late = Promise.withResolvers<void>();
  assert.is(await stopsWithin(() => late.promise, 10), false);
  late.reject(new Error('too late'));
  await new Promise((resolve) => setImmediate(resolve));
});

test('blobs have room for two checkpoints unless told otherwise, and never for less than one', () => {
  const genesisOf = (name: keyof typeof presets) => ({ preset: presetRecord(presets[name]) }) as Genesis;
  const gib = 2 ** 30;
  assert.ok(blobCapacityBytes('auto', genesisOf('alice-nano')) < 9 * gib);
  const large = blobCapacityBytes('auto', genesisOf('alice-7b'));
  assert.ok(large > 54 * gib && large < 55 * gib, `${large / gib}`);
  assert.is(blobCapacityBytes('40GiB', genesisOf('alice-7b')), 40 * gib);
  assert.throws(
    () => blobCapacityBytes('8GiB', genesisOf('alice-7b')),
    (error: unknown) => error instanceof UsageError && /23\.\d\d GiB/.test(error.message),
  );
});

test.run();
