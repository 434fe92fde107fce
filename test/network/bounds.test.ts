import { peerIdFromString } from '@libp2p/peer-id';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AddressGroup } from '../../node/network/address-group.ts';
import { BoundedDatastore, DATASTORE_BOUNDS, type DatastoreOwner } from '../../node/network/bounded-datastore.ts';
import { BoundedMap } from '../../node/network/bounded-map.ts';
import { deadline, pause, raceAbort } from '../../node/network/deadline.ts';
import { PROVIDER_BOUNDS } from '../../node/network/provider-records.ts';
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
const { maxPeers } = DATASTORE_BOUNDS;

/** Knows peers by the first letter of their names: v is known, others are strangers; behind a dash stands the address. */
function owner(self = 'self', ownDropped: (name: string) => void = assert.unreachable): DatastoreOwner {
  return {
    isOwn: (name) => name.endsWith(`/${self}`),
    ownDropped,
    origin: (peer) => ({ known: peer.startsWith('v'), address: peer.split('-')[1] as AddressGroup | undefined }),
    describePeer: (name) => ({ peer: name, keep: name.startsWith('v') }),
  };
}

async function keys(store: BoundedDatastore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const pair of store.query({ prefix })) found.push(pair.key.toString());
  return found;
}

test('the datastore bounds peers, and keeps what is written again', () => {
  const store = new BoundedDatastore(owner());
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

test('what peers are known for goes with their addresses, and those of known peers stay', () => {
  const store = new BoundedDatastore(owner());
  store.put(key('/peers/validator'), value);
  store.put(key('/peers/stranger'), value);
  store.put(providerKey('content', 'stranger'), value);
  for (let index = 0; index < maxPeers; index++) store.put(key(`/peers/${index}`), value);
  assert.ok(store.has(key('/peers/validator')));
  assert.not.ok(store.has(key('/peers/stranger')));
  assert.not.ok(store.has(providerKey('content', 'stranger')), 'else a lookup of this content would fail');
});

test('a walk over all provider records lets others have their turns', async () => {
  const store = new BoundedDatastore(owner());
  for (let index = 0; index < 5_000; index++) store.put(providerKey(`c${index}`, `p${index % 50}`), value);
  let turns = 0;
  const ticking = setInterval(() => {
    turns += 1;
  }, 0);
  await keys(store, '/dht/provider');
  clearInterval(ticking);
  assert.ok(turns > 0, `${turns} turns`);
});

const { perContent, perContentAndAddress, perPeer, strangers: maxStrangers } = PROVIDER_BOUNDS;

test("an author's only record survives any number of identities that announce its content after it", async () => {
  const store = new BoundedDatastore(owner());
  store.put(providerKey('submission', 'author'), value);
  for (let index = 0; index < 10_000; index++) store.put(providerKey('submission', `s${index}`), value);
  const records = await keys(store, '/dht/provider/submission');
  assert.is(records.length, perContent);
  assert.ok(records.includes('/dht/provider/submission/author'));
  assert.ok(records.includes('/dht/provider/submission/s9999'), 'half of them are the latest');
});

test('records of known peers go before those of any number of strangers, whoever came first', async () => {
  const store = new BoundedDatastore(owner());
  for (let index = 0; index < 500; index++) store.put(providerKey('submission', `s${index}`), value);
  store.put(providerKey('submission', 'validator'), value);
  for (let index = 500; index < 1_000; index++) store.put(providerKey('submission', `s${index}`), value);
  const records = await keys(store, '/dht/provider/submission');
  assert.is(records.length, perContent);
  assert.ok(records.includes('/dht/provider/submission/validator'));
});

test('strangers of one address have a few records of a content, and lose none that they have', async () => {
  const store = new BoundedDatastore(owner());
  for (let index = 0; index < 500; index++) store.put(providerKey('submission', `s${index}-1.1.1.1`), value);
  store.put(providerKey('submission', 'author-2.2.2.2'), value);
  for (let index = 500; index < 900; index++) store.put(providerKey('submission', `s${index}-1.1.1.1`), value);
  const records = await keys(store, '/dht/provider/submission');
  assert.is(records.length, perContentAndAddress + 1);
  assert.ok(records.includes('/dht/provider/submission/s0-1.1.1.1'));
  assert.ok(records.includes('/dht/provider/submission/author-2.2.2.2'));
});

test('spam of contents pushes out its own sender first', async () => {
  const store = new BoundedDatastore(owner());
  for (let index = 0; index < 100; index++) store.put(providerKey(`honest ${index}`, `h${index}`), value);
  store.put(providerKey('theirs', 'validator'), value);
  for (let index = 0; index < 80_000; index++) store.put(providerKey(`c${index}`, `greedy${index % 15}`), value);
  const all = await keys(store, '/dht/provider');
  assert.is(all.length, maxStrangers + 1);
  assert.ok(all.filter((name) => name.endsWith('/greedy7')).length <= perPeer);
  assert.is(all.filter((name) => name.includes('honest')).length, 100);
  assert.ok(all.includes('/dht/provider/theirs/validator'));
});

test('own provider records are not pushed out by others, and gone once they are deleted', async () => {
  const self = peerIdFromString('12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5').toString();
  const store = new BoundedDatastore(owner(self));
  store.put(providerKey('popular', self), value);
  for (let index = 0; index < perContent + 50; index++) store.put(providerKey('popular', `p${index}`), value);
  const popular = await keys(store, '/dht/provider/popular');
  assert.is(popular.length, perContent + 1);
  assert.ok(popular.includes(`/dht/provider/popular/${self}`));
  store.delete(providerKey('popular', self));
  assert.not.ok((await keys(store, '/dht/provider/popular')).includes(`/dht/provider/popular/${self}`));
  assert.equal(await keys(store, '/dht/provider/unknown'), []);
});

test('own provider records have a bound too: the oldest goes, and it is told', async () => {
  const dropped: string[] = [];
  const store = new BoundedDatastore(owner('self', (name) => dropped.push(name)));
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
