/** A submission that nobody serves costs little time, less the second time, and none of the others. */
import { mock } from 'node:test';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlobStoreFullError, BlobTooLargeError } from '../../node/blobs/errors.ts';
import type { FetchOptions } from '../../node/blobs/exchange.ts';
import type { AccountId } from '../../node/chain/account.ts';
import type { SubmissionRecord } from '../../node/ledger/round-records.ts';
import { SILENT_LOGGER } from '../../node/log/logger.ts';
import { SubmissionFetcher } from '../../roles/validator/submission-fetcher.ts';

const LIMIT_MS = 1600;
const NOBODY: ReadonlySet<AccountId> = new Set();

const record = (name: string, sizeBytes = 10) =>
  ({ account: name, reveal: { cid: name, sizeBytes } }) as unknown as SubmissionRecord;

/** Blobs that come when the test says so; each is named as its author. */
class SlowBlobs {
  readonly running = new Map<string, { options: FetchOptions; done: (bytes: Uint8Array) => void }>();

  fetch(cid: string, options: FetchOptions): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.running.set(cid, { options, done: resolve });
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason), { once: true });
    });
  }

  deliver(cid: string): void {
    this.running.get(cid)?.done(Uint8Array.of(1));
  }

  progress(cid: string): void {
    this.running.get(cid)?.options.onProgress?.({} as Parameters<NonNullable<FetchOptions['onProgress']>>[0]);
  }

  isWaiting(cid: string): boolean {
    return this.running.get(cid)?.options.signal?.aborted === false;
  }
}

const names = (fetched: readonly ({ account: string } | undefined)[]) => fetched.map((each) => each?.account);

test('what does not come is given up soon, sooner the next time; who delivers is trusted again', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const blobs = new SlowBlobs();
    const fetcher = new SubmissionFetcher(blobs, SILENT_LOGGER, 100);
    const { signal } = new AbortController();
    const early = fetcher.fetchAll([record('absent')], { limitMs: LIMIT_MS, proven: NOBODY, early: true, signal });
    mock.timers.tick(LIMIT_MS / 4);
    assert.equal(names(await early), [undefined]);
    assert.is(fetcher.distrusted.size, 0, 'it may not have been ready');
    blobs.running.clear();
    const first = fetcher.fetchAll([record('honest'), record('absent'), record('huge', 101)], {
      limitMs: LIMIT_MS,
      proven: NOBODY,
      signal,
    });
    assert.equal([...blobs.running.keys()], ['honest', 'absent']);
    blobs.deliver('honest');
    mock.timers.tick(LIMIT_MS / 4 - 1);
    assert.ok(blobs.isWaiting('absent'));
    mock.timers.tick(1);
    assert.not(blobs.isWaiting('absent'));
    assert.equal(names(await first), ['honest', undefined, undefined]);
    assert.equal([...fetcher.distrusted], ['absent']);
    const second = fetcher.fetchAll([record('honest'), record('absent')], {
      limitMs: LIMIT_MS,
      proven: NOBODY,
      signal,
    });
    mock.timers.tick(LIMIT_MS / 16);
    assert.ok(blobs.isWaiting('honest'));
    assert.not(blobs.isWaiting('absent'));
    blobs.deliver('honest');
    assert.equal(names(await second), ['honest', undefined]);
    const third = fetcher.fetchAll([record('absent')], { limitMs: LIMIT_MS, proven: NOBODY, signal });
    blobs.deliver('absent');
    assert.equal(names(await third), ['absent']);
    assert.is(fetcher.distrusted.size, 0);
  } finally {
    mock.timers.reset();
  }
});

test('a stranger has less time to begin than one with accepted work, who has the same as ever', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const blobs = new SlowBlobs();
    const fetcher = new SubmissionFetcher(blobs, SILENT_LOGGER, 100);
    const { signal } = new AbortController();
    const proven = new Set(['known' as AccountId]);
    const submissions = [record('known'), record('stranger'), record('other')];
    const fetching = fetcher.fetchAll(submissions, { limitMs: LIMIT_MS, proven, signal });
    mock.timers.tick(LIMIT_MS / 16);
    blobs.progress('other');
    mock.timers.tick(LIMIT_MS / 8 - LIMIT_MS / 16);
    assert.not(blobs.isWaiting('stranger'));
    assert.ok(blobs.isWaiting('known') && blobs.isWaiting('other'));
    blobs.deliver('other');
    blobs.deliver('known');
    assert.equal(names(await fetching), ['known', undefined, 'other']);
  } finally {
    mock.timers.reset();
  }
});

test('what a stranger did not send ahead of scoring hardly delays the scores; the next round begins anew', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    let now = 0;
    const tick = (ms: number) => {
      now += ms;
      mock.timers.tick(ms);
    };
    const blobs = new SlowBlobs();
    const fetcher = new SubmissionFetcher(blobs, SILENT_LOGGER, 100, () => now);
    const { signal } = new AbortController();
    const options = { limitMs: LIMIT_MS, proven: new Set(['known' as AccountId]), signal };
    const early = fetcher.fetchAll([record('stranger')], { ...options, early: true });
    tick(LIMIT_MS / 8);
    assert.equal(names(await early), [undefined]);
    const scoring = fetcher.fetchAll([record('known'), record('stranger'), record('late')], options);
    tick(LIMIT_MS / 32);
    assert.not(blobs.isWaiting('stranger'), 'it had its time');
    assert.ok(blobs.isWaiting('known') && blobs.isWaiting('late'), 'the others have all of theirs');
    for (const name of ['known', 'late']) blobs.deliver(name);
    await scoring;
    const next = fetcher.fetchAll([record('other')], options);
    tick(LIMIT_MS / 16);
    assert.ok(blobs.isWaiting('other'));
    blobs.deliver('other');
    await next;
  } finally {
    mock.timers.reset();
  }
});

test('what comes piece by piece has the whole limit, and no more', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const blobs = new SlowBlobs();
    const fetcher = new SubmissionFetcher(blobs, SILENT_LOGGER, 100);
    const { signal } = new AbortController();
    const fetching = fetcher.fetchAll([record('steady'), record('endless')], {
      limitMs: LIMIT_MS,
      proven: NOBODY,
      signal,
    });
    for (let ms = 0; ms < LIMIT_MS - 300; ms += 300) {
      mock.timers.tick(300);
      for (const name of ['steady', 'endless']) blobs.progress(name);
    }
    assert.ok(blobs.isWaiting('steady') && blobs.isWaiting('endless'));
    blobs.deliver('steady');
    mock.timers.tick(300);
    blobs.progress('endless');
    mock.timers.tick(100);
    assert.equal(names(await fetching), ['steady', undefined]);
    assert.equal([...fetcher.distrusted], ['endless']);
    const stopping = fetcher.fetchAll([record('stopping')], { limitMs: LIMIT_MS, proven: NOBODY, signal });
    mock.timers.tick(300);
    blobs.progress('stopping');
    mock.timers.tick(399);
    assert.ok(blobs.isWaiting('stopping'));
    mock.timers.tick(1);
    assert.not(blobs.isWaiting('stopping'), 'it began and came to nothing');
    assert.equal(names(await stopping), [undefined]);
  } finally {
    mock.timers.reset();
  }
});

test('authors are not blamed for the trouble of who fetches', async () => {
  const { signal } = new AbortController();
  const full = {
    fetch: (cid: string) =>
      cid === 'honest' ? Promise.resolve(Uint8Array.of(1)) : Promise.reject(new BlobStoreFullError('no room')),
  };
  const fetcher = new SubmissionFetcher(full, SILENT_LOGGER, 100);
  await fetcher.fetchAll([record('honest'), record('other')], { limitMs: LIMIT_MS, proven: NOBODY, signal });
  assert.is(fetcher.distrusted.size, 0, 'our disk is full');
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const blobs = new SlowBlobs();
    const cutOff = new SubmissionFetcher(blobs, SILENT_LOGGER, 100);
    const fetching = cutOff.fetchAll([record('a'), record('b')], { limitMs: LIMIT_MS, proven: NOBODY, signal });
    mock.timers.tick(LIMIT_MS);
    assert.equal(names(await fetching), [undefined, undefined]);
    assert.is(cutOff.distrusted.size, 0, 'nothing came from anybody: our connection');
  } finally {
    mock.timers.reset();
  }
});

test('the end of the round ends it, and nobody is blamed; few are remembered', async () => {
  const blobs = new SlowBlobs();
  const fetcher = new SubmissionFetcher(blobs, SILENT_LOGGER, 100);
  const over = new AbortController();
  const reason = new Error('the round is over');
  const fetching = fetcher.fetchAll([record('late')], { limitMs: LIMIT_MS, proven: NOBODY, signal: over.signal });
  over.abort(reason);
  assert.is(await fetching.catch((error: unknown) => error), reason);
  assert.is(fetcher.distrusted.size, 0);
  const error = new BlobTooLargeError('larger than its author said');
  const larger = {
    fetch: (cid: string) => (cid === 'honest' ? Promise.resolve(Uint8Array.of(1)) : Promise.reject(error)),
  };
  const forgetful = new SubmissionFetcher(larger, SILENT_LOGGER, 100);
  const { signal } = new AbortController();
  const crowd = [record('honest'), ...Array.from({ length: 1030 }, (_, i) => record(`author ${i}`))];
  await forgetful.fetchAll(crowd, { limitMs: LIMIT_MS, proven: NOBODY, signal });
  assert.is(forgetful.distrusted.size, 1024);
  assert.not(forgetful.distrusted.has('author 0' as AccountId));
  assert.ok(forgetful.distrusted.has('author 1029' as AccountId));
});

test.run();
