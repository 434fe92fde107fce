import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FramedLog, frame, InvalidRecordError, readFrames } from '../../node/consensus/framed-log.ts';
import { type AppendFile, diskDirectory } from '../../node/consensus/storage.ts';
import { seededRandom } from '../simulation/random.ts';

const MAX = 1000;
const record = (text: string) => new Uint8Array(Buffer.from(text));
const texts = (records: readonly Uint8Array[]) => records.map((bytes) => Buffer.from(bytes).toString());

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'alice-log-'));
  try {
    await run(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function open(folder: string) {
  return FramedLog.open(await diskDirectory(folder).open('log'), MAX);
}

test('records come back in order after sync, and not before', () =>
  inFolder(async (folder) => {
    const { log, records } = await open(folder);
    assert.equal(records, []);
    log.append(record('one'));
    log.append(record('two'));
    await log.sync();
    log.append(record('never synced'));
    await log.close();
    const again = await open(folder);
    assert.equal(texts(again.records), ['one', 'two']);
    again.log.append(record('three'));
    await again.log.sync();
    await again.log.close();
    const last = await open(folder);
    assert.equal(texts(last.records), ['one', 'two', 'three']);
    await last.log.close();
  }));

test('every possible torn end is cut off, and the log goes on behind it', () =>
  inFolder(async (folder) => {
    const whole = Buffer.concat(['first', 'second', 'third'].map((text) => frame(record(text))));
    const ends = [0, 13, 27, 40];
    for (let length = 0; length <= whole.length; length++) {
      writeFileSync(join(folder, 'log'), whole.subarray(0, length));
      const { log, records, cutBytes } = await open(folder);
      const complete = ends.filter((end) => end <= length).length - 1;
      assert.is(records.length, complete, `length ${length}`);
      assert.is(cutBytes, length - ends[complete]);
      log.append(record('new'));
      await log.sync();
      await log.close();
      assert.equal(texts(readFrames(readFileSync(join(folder, 'log')), MAX).records).at(-1), 'new');
    }
  }));

test('every flipped bit ends the log before its record', () => {
  const whole = Buffer.concat(['first', 'second', 'third'].map((text) => frame(record(text))));
  for (let at = 13 * 8; at < 27 * 8; at++) {
    const damaged = Buffer.from(whole);
    damaged[at >> 3] ^= 1 << (at & 7);
    const { records } = readFrames(damaged, MAX);
    assert.equal(texts(records), ['first'], `bit ${at}`);
  }
});

test('a torn end of zeros is no record', () => {
  const { records, validBytes } = readFrames(Buffer.concat([frame(record('one')), Buffer.alloc(64)]), MAX);
  assert.equal(texts(records), ['one']);
  assert.is(validBytes, 11);
});

test('any bytes are read without an error', () => {
  const random = seededRandom(1);
  for (let run = 0; run < 500; run++) {
    const bytes = Buffer.from(Array.from({ length: random.below(200) }, () => random.below(run % 2 === 0 ? 256 : 12)));
    const { records, validBytes } = readFrames(bytes, MAX);
    assert.ok(validBytes <= bytes.length);
    assert.is(
      records.reduce((sum, { length }) => sum + 8 + length, 0),
      validBytes,
    );
  }
});

test('records that are empty or too large are refused', () =>
  inFolder(async (folder) => {
    const { log } = await open(folder);
    assert.throws(
      () => log.append(new Uint8Array(0)),
      (error: unknown) => error instanceof InvalidRecordError,
    );
    assert.throws(
      () => log.append(new Uint8Array(MAX + 1)),
      (error: unknown) => error instanceof InvalidRecordError,
    );
    await log.close();
  }));

test('a failed write is repeated whole, not behind its own torn half', async () => {
  let content = Buffer.alloc(0);
  let fail = true;
  const file: AppendFile = {
    read: async () => content,
    append: async (bytes) => {
      if (!fail) {
        content = Buffer.concat([content, bytes]);
        return;
      }
      content = Buffer.concat([content, bytes.subarray(0, 5)]);
      fail = false;
      throw new Error('no space left');
    },
    sync: async () => {},
    truncate: async (length) => {
      content = content.subarray(0, length);
    },
    close: async () => {},
  };
  const { log } = await FramedLog.open(file, MAX);
  log.append(record('one'));
  let failed = false;
  await log.sync().catch(() => {
    failed = true;
  });
  assert.ok(failed);
  log.append(record('two'));
  await log.sync();
  assert.equal(texts(readFrames(content, MAX).records), ['one', 'two']);
});

test('an emptied log is empty, also for what waited', () =>
  inFolder(async (folder) => {
    const { log } = await open(folder);
    log.append(record('one'));
    await log.sync();
    log.append(record('waiting'));
    await log.reset();
    log.append(record('two'));
    await log.sync();
    await log.close();
    assert.equal(texts((await open(folder)).records), ['two']);
  }));

test('a file cut by someone else is read as far as it goes', () =>
  inFolder(async (folder) => {
    const { log } = await open(folder);
    for (const text of ['one', 'two']) log.append(record(text));
    await log.sync();
    await log.close();
    truncateSync(join(folder, 'log'), 12);
    assert.equal(texts((await open(folder)).records), ['one']);
  }));

test.run();
