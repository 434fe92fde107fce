/**
 * What libp2p remembers (addresses of peers, provider records, DHT values), in memory and bounded. Other peers decide
 * what goes in here, so without bounds they could fill the memory.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { NotFoundError } from '@libp2p/interface';
import type { Libp2pInit } from 'libp2p';
import { ProviderRecords, type RecordOrigin } from './provider-records.ts';

type Datastore = NonNullable<Libp2pInit['datastore']>;
type Key = Parameters<Datastore['put']>[0];
type Pair = { key: Key; value: Uint8Array };
type Query = Parameters<Datastore['query']>[0];
type KeyQuery = Parameters<Datastore['queryKeys']>[0];

/** Where kad-dht keeps provider records: `<prefix>/<content>/<peer>`. */
const PROVIDERS = '/dht/provider/';

/** Where libp2p keeps what it knows of a peer: `<prefix><CID of its id>`. */
const PEERS = '/peers/';

/** Bounds, with what they cost; those of provider records are in `provider-records.ts`. */
export const DATASTORE_BOUNDS = {
  /** Peers with their addresses: about 1 KiB each. Overfull, the oldest write of a peer that may go does. */
  maxPeers: 8_192,
  /**
   * Provider records of this peer itself, about 300 B each: the largest corpus (60,052 blobs) and what training adds. They
   * are taken back when they are not needed; this holds where something forgets to.
   */
  maxOwnProviderRecords: 65_536,
  /** DHT values. Nothing of ours uses them and none are taken from others. */
  maxOther: 256,
};

/** Peers looked at, from the oldest, for one that may go. */
const EVICTION_SAMPLE = 32;

/** Entries given out by a query between two turns of the event loop: the DHT walks over all provider records. */
const ENTRIES_PER_TURN = 200;

/** What the datastore cannot know by itself. */
export interface DatastoreOwner {
  /** True for keys of this peer's own records: others' never push them out. */
  isOwn(key: string): boolean;
  /** Of its own provider records the oldest went, because there were too many. */
  ownDropped(key: string): void;
  /** Where a peer's records come from. */
  origin(peer: string): RecordOrigin;
  /** The peer that a key below `/peers/` is about, and whether its addresses have to be kept. */
  describePeer(name: string): { readonly peer: string; readonly keep: boolean };
}

/** Keys in order of their last write, with a bound; says which key to drop. */
class Ring {
  readonly keys = new Set<string>();
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Notes a write; returns the key that has to go, if any: the oldest of which `mayGo` is true, or just the oldest. */
  write(key: string, mayGo: (key: string) => boolean = () => true): string | undefined {
    this.keys.delete(key);
    this.keys.add(key);
    if (this.keys.size <= this.#capacity) return undefined;
    let oldest: string | undefined;
    let looked = 0;
    for (const candidate of this.keys) {
      oldest ??= candidate;
      if (mayGo(candidate)) return candidate;
      looked += 1;
      if (looked >= EVICTION_SAMPLE) break;
    }
    return oldest;
  }
}

/** libp2p `Datastore` over a map, with the bounds of {@link DATASTORE_BOUNDS}. */
export class BoundedDatastore implements Datastore {
  readonly #pairs = new Map<string, Pair>();
  readonly #peers = new Ring(DATASTORE_BOUNDS.maxPeers);
  readonly #providers = new ProviderRecords();
  readonly #other = new Ring(DATASTORE_BOUNDS.maxOther);
  readonly #ownByContent = new Map<string, string>();
  readonly #own = new Ring(DATASTORE_BOUNDS.maxOwnProviderRecords);
  readonly #owner: DatastoreOwner;

  constructor(owner: DatastoreOwner) {
    this.#owner = owner;
  }

  get size(): number {
    return this.#pairs.size;
  }

  put(key: Key, value: Uint8Array): Key {
    const text = key.toString();
    this.#pairs.set(text, { key, value });
    if (this.#owner.isOwn(text)) {
      // Own provider records take part in lookups by content, but in no bound of others'.
      if (!text.startsWith(PROVIDERS)) return key;
      this.#ownByContent.set(parent(text), text);
      const oldest = this.#own.write(text);
      if (oldest !== undefined) {
        this.#remove(oldest);
        this.#owner.ownDropped(oldest);
      }
      return key;
    }
    if (text.startsWith(PROVIDERS)) {
      const peer = last(text);
      const gone = this.#providers.write(text, parent(text), peer, this.#owner.origin(peer));
      for (const victim of gone) this.#pairs.delete(victim);
    } else if (text.startsWith(PEERS)) {
      const victim = this.#peers.write(text, (other) => !this.#owner.describePeer(last(other)).keep);
      if (victim !== undefined) this.#forgetPeer(victim);
    } else {
      const victim = this.#other.write(text);
      if (victim !== undefined) this.#remove(victim);
    }
    return key;
  }

  get(key: Key): Uint8Array {
    const pair = this.#pairs.get(key.toString());
    if (pair === undefined) throw new NotFoundError();
    return pair.value;
  }

  has(key: Key): boolean {
    return this.#pairs.has(key.toString());
  }

  delete(key: Key): void {
    this.#remove(key.toString());
  }

  async *putMany(source: Iterable<Pair> | AsyncIterable<Pair>): AsyncGenerator<Key> {
    for await (const { key, value } of source) yield this.put(key, value);
  }

  async *getMany(source: Iterable<Key> | AsyncIterable<Key>): AsyncGenerator<Pair> {
    for await (const key of source) yield { key, value: this.get(key) };
  }

  async *deleteMany(source: Iterable<Key> | AsyncIterable<Key>): AsyncGenerator<Key> {
    for await (const key of source) {
      this.delete(key);
      yield key;
    }
  }

  batch(): ReturnType<Datastore['batch']> {
    const steps: (() => void)[] = [];
    return {
      put: (key, value) => steps.push(() => this.put(key, value)),
      delete: (key) => steps.push(() => this.delete(key)),
      commit: () => {
        for (const step of steps.splice(0)) step();
      },
    };
  }

  async *query(query: Query): AsyncGenerator<Pair> {
    let pairs = this.#matching(query.prefix).filter((pair) => (query.filters ?? []).every((keep) => keep(pair)));
    for (const order of query.orders ?? []) pairs = pairs.sort(order);
    let given = 0;
    for (const pair of slice(pairs, query)) {
      yield pair;
      given += 1;
      if (given % ENTRIES_PER_TURN === 0) await nextTurn();
    }
  }

  async *queryKeys(query: KeyQuery): AsyncGenerator<Key> {
    let keys = this.#matching(query.prefix)
      .map((pair) => pair.key)
      .filter((key) => (query.filters ?? []).every((keep) => keep(key)));
    for (const order of query.orders ?? []) keys = keys.sort(order);
    yield* slice(keys, query);
  }

  #matching(prefix = ''): Pair[] {
    // The one frequent query (providers of a content) goes by index instead of over everything.
    if (prefix.startsWith(PROVIDERS)) {
      const keys = [...this.#providers.ofContent(prefix), this.#ownByContent.get(prefix) ?? ''];
      return keys.flatMap((key) => this.#pairs.get(key) ?? []);
    }
    return [...this.#pairs].flatMap(([key, pair]) => (key.startsWith(prefix) ? [pair] : []));
  }

  /**
   * Without the addresses of a peer its provider records are of no use, and worse: libp2p fails the whole answer to a
   * lookup when it does not know one of the providers.
   */
  #forgetPeer(key: string): void {
    this.#remove(key);
    for (const record of [...this.#providers.ofPeer(this.#owner.describePeer(last(key)).peer)]) this.#remove(record);
  }

  #remove(key: string): void {
    this.#pairs.delete(key);
    this.#peers.keys.delete(key);
    this.#providers.delete(key);
    this.#other.keys.delete(key);
    this.#own.keys.delete(key);
    if (this.#ownByContent.get(parent(key)) === key) this.#ownByContent.delete(parent(key));
  }
}

function parent(key: string): string {
  return key.slice(0, key.lastIndexOf('/'));
}

function last(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1);
}

function slice<T>(items: readonly T[], query: { offset?: number; limit?: number }): readonly T[] {
  const start = query.offset ?? 0;
  return items.slice(start, query.limit === undefined ? undefined : start + query.limit);
}
