import { peerIdFromString } from '@libp2p/peer-id';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BoundedDatastore, DATASTORE_BOUNDS } from '../../node/network/bounded-datastore.ts';
import { BoundedMap } from '../../node/network/bounded-map.ts';
import { deadline, pause, raceAbort } from '../../node/network/deadline.ts';
import { TokenBuckets } from '../../node/network/token-bucket.ts';
import { DROPPED, WorkQueue } from '../../node/network/work-queue.ts';

test('a bounded map forgets the least recently used', () => {
  const map = new BoundedMap<string, number>(2);
  map.set('a', 1);
  map.set('b', 2);
  assert.is(map.get('a'), 1);
  map.set('c', 3);
  assert.is(map.get('b'), undefined);
  assert.equal(
    [...map.entries()],
    [
      ['a', 1],
      ['c', 3],
    ],
  );
});

test('token buckets: a burst, then the rate, each peer for itself', () => {
  let now = 0;
  const buckets = new TokenBuckets(2, 3, () => now);
  assert.equal(
    [1, 2, 3, 4].map(() => buckets.take('a')),
    [true, true, true, false],
  );
  assert.ok(buckets.take('b'));
  now = 500;
  assert.equal([buckets.take('a'), buckets.take('a')], [true, false]);
  now = 1_000_000;
  assert.equal(
    [1, 2, 3, 4].map(() => buckets.take('a')),
    [true, true, true, false],
  );
});

test('token buckets stay bounded under many peers', () => {
  const buckets = new TokenBuckets(1, 1, () => 0);
  for (let index = 0; index < 10_000; index++) assert.ok(buckets.take(`peer ${index}`));
  assert.not.ok(buckets.take('peer 9999'), 'recent ones are remembered');
});

for (const [policy, expected] of [
  ['newest', ['0', '1', '2', 'dropped', 'dropped']],
  ['oldest', ['0', 'dropped', 'dropped', '3', '4']],
] as const) {
  test(`a full work queue drops the ${policy}`, async () => {
    const queue = new WorkQueue(1, 2, policy);
    const gate = Promise.withResolvers<void>();
    const order: string[] = [];
    const results = [0, 1, 2, 3, 4].map((index) =>
      queue.run(async () => {
        await gate.promise;
        order.push(String(index));
        return String(index);
      }),
    );
    gate.resolve();
    const settled = (await Promise.all(results)).map((result) => (result === DROPPED ? 'dropped' : result));
    assert.equal(settled, [...expected]);
    assert.equal(
      order,
      expected.filter((value) => value !== 'dropped'),
    );
  });
}

test('a failing task frees its place', async () => {
  const queue = new WorkQueue(1, 1, 'newest');
  const failing = queue.run(async () => {
    throw new Error('no');
  });
  const next = queue.run(async () => 'next');
  assert.is(await failing.catch((error) => error.message), 'no');
  assert.is(await next, 'next');
  assert.is(queue.waiting, 0);
});

test('clearing a queue drops what waits', async () => {
  const queue = new WorkQueue(1, 5, 'newest');
  const gate = Promise.withResolvers<string>();
  const running = queue.run(() => gate.promise);
  const waiting = queue.run(async () => 'never');
  queue.clear();
  assert.is(await waiting, DROPPED);
  gate.resolve('done');
  assert.is(await running, 'done');
});

test('deadlines tell who ended them', async () => {
  const parent = new AbortController();
  const late = deadline(60_000, parent.signal);
  parent.abort(new Error('parent'));
  assert.ok(late.signal.aborted && !late.expired());
  late.clear();
  const soon = deadline(1);
  await pause(60_000, soon.signal);
  assert.ok(soon.expired());
  assert.is(await raceAbort(new Promise(() => {}), parent.signal).catch((error) => error.message), 'parent');
});

/** The part of a datastore key that is used. */
const key = (text: string) => ({ toString: () => text }) as never;
const providerKey = (content: string, peer: string) => key(`/dht/provider/${content}/${peer}`);
const value = new Uint8Array(1);
const { maxPeers, maxProvidersPerContent, maxProviderRecordsPerPeer } = DATASTORE_BOUNDS;

async function keys(store: BoundedDatastore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const pair of store.query({ prefix })) found.push(pair.key.toString());
  return found;
}

test('the datastore bounds peers, and keeps what is written again', () => {
  const store = new BoundedDatastore((name) => name === '/peers/self', assert.unreachable);
  store.put(key('/peers/self'), value);
  store.put(key('/peers/first'), value);
  for (let index = 0; index < maxPeers - 1; index++) store.put(key(`/peers/${index}`), value);
  store.put(key('/peers/first'), value);
  store.put(key('/peers/last'), value);
  assert.is(store.size, maxPeers + 1);
  assert.ok(store.has(key('/peers/self')) && store.has(key('/peers/first')) && store.has(key('/peers/last')));
  assert.not.ok(store.has(key('/peers/0')));
  try {
    store.get(key('/peers/0'));
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).name, 'NotFoundError', 'libp2p goes by this name');
  }
});

test('the datastore bounds provider records by content and by peer, and never drops own ones', async () => {
  const self = peerIdFromString('12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5').toString();
  const store = new BoundedDatastore((name) => name.endsWith(`/${self}`), assert.unreachable);
  store.put(providerKey('popular', self), value);
  for (let index = 0; index < maxProvidersPerContent + 50; index++)
    store.put(providerKey('popular', `p${index}`), value);
  const popular = await keys(store, '/dht/provider/popular');
  assert.is(popular.length, maxProvidersPerContent + 1);
  assert.ok(popular.includes(`/dht/provider/popular/${self}`));
  for (let index = 0; index < maxProviderRecordsPerPeer + 50; index++)
    store.put(providerKey(`c${index}`, 'greedy'), value);
  const all = await keys(store, '/dht/provider');
  assert.is(all.filter((name) => name.endsWith('/greedy')).length, maxProviderRecordsPerPeer);
  assert.is((await keys(store, '/dht/provider/popular')).length, maxProvidersPerContent + 1, 'others keep theirs');
  store.delete(providerKey('popular', self));
  assert.not.ok((await keys(store, '/dht/provider/popular')).includes(`/dht/provider/popular/${self}`));
  assert.equal(await keys(store, '/dht/provider/unknown'), []);
});

test('own provider records have a bound too: the oldest goes, and it is told', async () => {
  const dropped: string[] = [];
  const store = new BoundedDatastore(
    (name) => name.endsWith('/self'),
    (name) => dropped.push(name),
  );
  const own = (i: number) => key(`/dht/provider/content-${i}/self`);
  const count = DATASTORE_BOUNDS.maxOwnProviderRecords;
  for (let i = 0; i < count; i++) store.put(own(i), new Uint8Array(8));
  // Renewed: now the second one is the oldest.
  store.put(own(0), new Uint8Array(8));
  assert.equal(dropped, []);
  store.put(key('/dht/provider/content-1/other'), new Uint8Array(8));
  store.put(own(count), new Uint8Array(8));
  assert.equal(dropped, ['/dht/provider/content-1/self']);
  assert.equal(await keys(store, '/dht/provider/content-1'), ['/dht/provider/content-1/other']);
  assert.equal(await keys(store, '/dht/provider/content-0'), ['/dht/provider/content-0/self']);
  // What was taken back makes room.
  store.delete(own(0));
  store.put(own(count + 1), new Uint8Array(8));
  assert.is(dropped.length, 1);
});

test.run();
