import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Announcer } from '../../node/blobs/announcer.ts';
import { SILENT_LOG } from '../../node/network/log.ts';

/** A network that takes records as the test says, and tells when `count` attempts were made. */
function network(takes: (cid: string, attempt: number) => boolean) {
  const attempts: string[] = [];
  const waiters: { count: number; resolve: () => void }[] = [];
  return {
    attempts,
    reached: (count: number) =>
      new Promise<void>((resolve) => {
        if (attempts.length >= count) resolve();
        else waiters.push({ count, resolve });
      }),
    async provide(cid: string): Promise<void> {
      attempts.push(cid);
      for (const { count, resolve } of waiters) if (attempts.length >= count) resolve();
      if (!takes(cid, attempts.length)) throw new Error('nobody takes it');
    },
    async withdraw(cid: string): Promise<void> {
      attempts.push(`-${cid}`);
    },
  };
}

test('announces in order, each once, and again what nobody took', async () => {
  const net = network((cid, attempt) => cid !== 'b' || attempt > 2);
  const announcer = new Announcer(net, SILENT_LOG);
  for (const cid of ['a', 'b', 'c', 'b', 'a']) announcer.announce(cid);
  await net.reached(5);
  await announcer.stop();
  // "a" was on its way when it was named again, so it goes out once more; the second "b" only waited already.
  assert.equal(net.attempts.slice(0, 5).sort(), ['a', 'a', 'b', 'b', 'c']);
  assert.equal(net.attempts.slice(0, 2), ['a', 'b']);
});

test('what is taken back is not announced any more, whether it waited or was on its way', async () => {
  const started = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  const log: string[] = [];
  const announcer = new Announcer(
    {
      async provide(cid) {
        log.push(cid);
        started.resolve();
        await go.promise;
        if (cid === 'a') throw new Error('nobody takes it');
      },
      async withdraw(cid) {
        log.push(`-${cid}`);
        if (log.includes('-a') && log.includes('-b')) done.resolve();
      },
    },
    SILENT_LOG,
  );
  announcer.announce('a');
  await started.promise;
  announcer.announce('b');
  announcer.withdraw('a');
  announcer.withdraw('b');
  go.resolve();
  await done.promise;
  await announcer.stop();
  // "a" failed and is not tried again; "b" was never told to anybody.
  assert.equal(log.sort(), ['-a', '-b', 'a']);
});

test('stops at once, and takes nothing after', async () => {
  const net = network(() => false);
  const announcer = new Announcer(net, SILENT_LOG);
  announcer.announce('a');
  await net.reached(1);
  await announcer.stop();
  announcer.announce('b');
  assert.equal(net.attempts, ['a']);
});

test.run();
