/**
 * What libp2p remembers (addresses of peers, provider records, DHT values), in memory and bounded. Other peers decide
 * what goes in here, so without bounds they could fill the memory.
 */
import { NotFoundError } from '@libp2p/interface';
import type { Libp2pInit } from 'libp2p';

type Datastore = NonNullable<Libp2pInit['datastore']>;
type Key = Parameters<Datastore['put']>[0];
type Pair = { key: Key; value: Uint8Array };
type Query = Parameters<Datastore['query']>[0];
type KeyQuery = Parameters<Datastore['queryKeys']>[0];

/** Where kad-dht keeps provider records: `<prefix>/<content>/<peer>`. */
const PROVIDERS = '/dht/provider/';

/** Bounds, with what they cost. Overfull, the oldest write goes. */
export const DATASTORE_BOUNDS = {
  /** Peers with their addresses: about 1 KiB each. */
  maxPeers: 8_192,
  /** Provider records of all contents: about 300 B each. */
  maxProviderRecords: 65_536,
  /** Providers of one content. A lookup answers with all of them in one message, so this bounds that message too. */
  maxProvidersPerContent: 128,
  /** Provider records of one peer: keeps one peer from pushing out all others. */
  maxProviderRecordsPerPeer: 4_096,
  /**
   * Provider records of this peer itself, about 300 B each: the largest corpus (60,052 blobs) and what training adds. They
   * are taken back when they are not needed; this holds where something forgets to.
   */
  maxOwnProviderRecords: 65_536,
  /** DHT values (public keys; nothing of ours uses them). */
  maxOther: 1_024,
};

/** Keys in order of their last write, with a bound; says which key to drop. */
class Ring {
  readonly keys = new Set<string>();
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Notes a write; returns the key that has to go, if any. */
  write(key: string): string | undefined {
    this.keys.delete(key);
    this.keys.add(key);
    if (this.keys.size <= this.#capacity) return undefined;
    for (const oldest of this.keys) return oldest;
    return undefined;
  }
}

/** libp2p `Datastore` over a map, with the bounds of {@link DATASTORE_BOUNDS}. */
export class BoundedDatastore implements Datastore {
  readonly #pairs = new Map<string, Pair>();
  readonly #peers = new Ring(DATASTORE_BOUNDS.maxPeers);
  readonly #providers = new Ring(DATASTORE_BOUNDS.maxProviderRecords);
  readonly #other = new Ring(DATASTORE_BOUNDS.maxOther);
  readonly #byContent = new Map<string, Ring>();
  readonly #byPeer = new Map<string, Ring>();
  readonly #ownByContent = new Map<string, string>();
  readonly #own = new Ring(DATASTORE_BOUNDS.maxOwnProviderRecords);
  readonly #isOwn: (key: string) => boolean;
  readonly #onOwnDropped: (key: string) => void;

  /**
   * Keys for which `isOwn` is true are this peer's own records: others' never push them out. Of its own provider records
   * the oldest goes when there are too many, and `onOwnDropped` is told.
   */
  constructor(isOwn: (key: string) => boolean, onOwnDropped: (key: string) => void) {
    this.#isOwn = isOwn;
    this.#onOwnDropped = onOwnDropped;
  }

  get size(): number {
    return this.#pairs.size;
  }

  put(key: Key, value: Uint8Array): Key {
    const text = key.toString();
    this.#pairs.set(text, { key, value });
    if (this.#isOwn(text)) {
      // Own provider records take part in lookups by content, but in no bound of others'.
      if (!text.startsWith(PROVIDERS)) return key;
      this.#ownByContent.set(parent(text), text);
      const oldest = this.#own.write(text);
      if (oldest !== undefined) {
        this.#remove(oldest);
        this.#onOwnDropped(oldest);
      }
      return key;
    }
    const drop: (string | undefined)[] = [];
    if (text.startsWith(PROVIDERS)) {
      drop.push(
        ringOf(this.#byContent, parent(text), DATASTORE_BOUNDS.maxProvidersPerContent).write(text),
        ringOf(this.#byPeer, last(text), DATASTORE_BOUNDS.maxProviderRecordsPerPeer).write(text),
        this.#providers.write(text),
      );
    } else {
      drop.push((text.startsWith('/peers/') ? this.#peers : this.#other).write(text));
    }
    for (const victim of drop) if (victim !== undefined && victim !== text) this.#remove(victim);
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
    yield* slice(pairs, query);
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
      const keys = [...(this.#byContent.get(prefix)?.keys ?? []), this.#ownByContent.get(prefix) ?? ''];
      return keys.flatMap((key) => this.#pairs.get(key) ?? []);
    }
    return [...this.#pairs].flatMap(([key, pair]) => (key.startsWith(prefix) ? [pair] : []));
  }

  #remove(key: string): void {
    this.#pairs.delete(key);
    this.#peers.keys.delete(key);
    this.#providers.keys.delete(key);
    this.#other.keys.delete(key);
    this.#own.keys.delete(key);
    if (!key.startsWith(PROVIDERS)) return;
    if (this.#ownByContent.get(parent(key)) === key) this.#ownByContent.delete(parent(key));
    for (const [index, name] of [
      [this.#byContent, parent(key)],
      [this.#byPeer, last(key)],
    ] as const) {
      const ring = index.get(name);
      ring?.keys.delete(key);
      if (ring?.keys.size === 0) index.delete(name);
    }
  }
}

function ringOf(index: Map<string, Ring>, name: string, capacity: number): Ring {
  let ring = index.get(name);
  if (ring === undefined) {
    ring = new Ring(capacity);
    index.set(name, ring);
  }
  return ring;
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
