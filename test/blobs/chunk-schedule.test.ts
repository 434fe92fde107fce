import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ChunkBitmap } from '../../node/blobs/chunk-bitmap.ts';
import { ChunkSchedule, SLOW_CHUNK_MS } from '../../node/blobs/chunk-schedule.ts';
import type { PeerIdText } from '../../node/network/interface.ts';

const [a, b, c] = ['a', 'b', 'c'] as PeerIdText[] as [PeerIdText, PeerIdText, PeerIdText];

test('every chunk is given out once, and again when its request failed', () => {
  const schedule = new ChunkSchedule([3, 5, 8]);
  const given = [schedule.next(a, undefined, 0), schedule.next(b, undefined, 0), schedule.next(a, undefined, 0)];
  assert.equal([...given].sort(), [3, 5, 8]);
  assert.is(schedule.next(a, undefined, 0), undefined);
  schedule.release(a, given[0]!);
  assert.is(schedule.next(b, undefined, 0), given[0], 'free again');
  schedule.done(given[1]!);
  schedule.release(b, given[1]!);
  assert.is(schedule.next(c, undefined, 0), undefined, 'done is done');
});

test('a provider is asked only for what it has', () => {
  const schedule = new ChunkSchedule([0, 1, 2]);
  const have = new ChunkBitmap(3);
  have.set(1);
  assert.is(schedule.next(a, have, 0), 1);
  assert.is(schedule.next(a, have, 0), undefined);
  assert.is(schedule.next(b, have, SLOW_CHUNK_MS - 1), undefined);
});

test('a slow chunk is asked of a second and, later, of a third provider; never twice of one', () => {
  const schedule = new ChunkSchedule([7]);
  assert.is(schedule.next(a, undefined, 0), 7);
  assert.is(schedule.next(b, undefined, SLOW_CHUNK_MS - 1), undefined);
  assert.is(schedule.next(a, undefined, SLOW_CHUNK_MS), undefined);
  assert.is(schedule.next(b, undefined, SLOW_CHUNK_MS), 7);
  assert.is(schedule.next(c, undefined, 2 * SLOW_CHUNK_MS - 1), undefined);
  assert.is(schedule.next(c, undefined, 2 * SLOW_CHUNK_MS), 7);
  schedule.release(a, 7);
  schedule.release(b, 7);
  assert.is(schedule.next(a, undefined, 0), undefined, 'still in flight at c');
  schedule.release(c, 7);
  assert.is(schedule.next(a, undefined, 0), 7);
});

test('a chunk that came unasked is not asked for', () => {
  const schedule = new ChunkSchedule([0]);
  schedule.done(0);
  assert.is(schedule.next(a, undefined, 0), undefined);
});

test.run();
