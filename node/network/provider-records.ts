/**
 * Which provider records a node keeps for others, when it cannot keep all. Anyone may announce anything, and identities are
 * free, so that neither the latest nor the most may push out the rest.
 *
 * - Of one content: known peers' records before strangers'; then, of strangers, one half for those who came first and stay
 *   (whoever floods a content after its author announced it comes too late), the other for those who came last; and of one
 *   address a few.
 * - Of all: known peers' records are counted apart; of strangers', one of the peer with the most goes first.
 */
import type { AddressGroup } from './address-group.ts';

/** Bounds, in records of about 300 B each. */
export const PROVIDER_BOUNDS = {
  /** Of one content. A lookup answers with all of them in one message, so this bounds that message too. */
  perContent: 128,
  /** Of one content by strangers of one address. */
  perContentAndAddress: 8,
  /** Of one stranger. */
  perPeer: 4_096,
  /** Of strangers of one address. */
  perAddress: 8_192,
  /** Of all strangers, and of all known peers. */
  strangers: 32_768,
  known: 32_768,
} as const;

/** Records looked at, from the oldest, when one has to go of the stranger that has most. */
const EVICTION_SAMPLE = 64;

/** Who a record is from. */
export interface RecordOrigin {
  readonly known: boolean;
  /** Undefined where addresses tell nothing. */
  readonly address: AddressGroup | undefined;
}

interface Entry extends RecordOrigin {
  readonly content: string;
  readonly peer: string;
}

/** Names of records in the order of their arrival, by something. A record that is renewed keeps its place. */
class Index {
  readonly #sets = new Map<string, Set<string>>();

  of(name: string): ReadonlySet<string> {
    return this.#sets.get(name) ?? NONE;
  }

  add(name: string, key: string): void {
    const set = this.#sets.get(name);
    if (set === undefined) this.#sets.set(name, new Set([key]));
    else set.add(key);
  }

  delete(name: string, key: string): void {
    const set = this.#sets.get(name);
    set?.delete(key);
    if (set?.size === 0) this.#sets.delete(name);
  }
}

const NONE: ReadonlySet<string> = new Set();

/** See the head of this file. Keeps account; the records themselves are elsewhere. */
export class ProviderRecords {
  readonly #entries = new Map<string, Entry>();
  readonly #byContent = new Index();
  readonly #byPeer = new Index();
  readonly #byAddress = new Index();
  /** In order of arrival. */
  readonly #strangers = new Set<string>();
  readonly #known = new Set<string>();

  /** Keys of a content's records. */
  ofContent(content: string): ReadonlySet<string> {
    return this.#byContent.of(content);
  }

  /** Keys of a peer's records. */
  ofPeer(peer: string): ReadonlySet<string> {
    return this.#byPeer.of(peer);
  }

  /** Notes a record that was written, and returns those that have to go for it, which may be itself. */
  write(key: string, content: string, peer: string, origin: RecordOrigin): string[] {
    const before = this.#entries.get(key);
    // A peer that became known, or is no longer: its record is counted anew.
    if (before !== undefined && before.known !== origin.known) this.delete(key);
    else if (before !== undefined) return [];
    const entry: Entry = { content, peer, ...origin };
    this.#entries.set(key, entry);
    this.#byContent.add(content, key);
    this.#byPeer.add(peer, key);
    if (!origin.known && origin.address !== undefined) this.#byAddress.add(origin.address, key);
    (origin.known ? this.#known : this.#strangers).add(key);
    const gone: string[] = [];
    for (const victim of [this.#surplusOfContent(entry), this.#surplusOfOrigin(entry), this.#surplusOfAll(entry)]) {
      if (victim === undefined || !this.#entries.has(victim)) continue;
      this.delete(victim);
      gone.push(victim);
    }
    return gone;
  }

  /** Forgets a record. */
  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#byContent.delete(entry.content, key);
    this.#byPeer.delete(entry.peer, key);
    if (entry.address !== undefined) this.#byAddress.delete(entry.address, key);
    this.#strangers.delete(key);
    this.#known.delete(key);
  }

  #surplusOfContent({ content, known, address }: Entry): string | undefined {
    const keys = [...this.#byContent.of(content)];
    const strangers = keys.filter((key) => this.#entries.get(key)?.known === false);
    if (!known && address !== undefined) {
      const same = strangers.filter((key) => this.#entries.get(key)?.address === address);
      // The latest is itself: whoever shares an address with a flood loses no record that it has.
      if (same.length > PROVIDER_BOUNDS.perContentAndAddress) return same.at(-1);
    }
    if (keys.length <= PROVIDER_BOUNDS.perContent) return undefined;
    if (strangers.length === 0) return keys[0];
    const first = Math.floor(PROVIDER_BOUNDS.perContent / 2);
    return strangers[Math.min(first, strangers.length - 1)];
  }

  #surplusOfOrigin({ peer, known, address }: Entry): string | undefined {
    if (known) return undefined;
    const own = this.#byPeer.of(peer);
    if (own.size > PROVIDER_BOUNDS.perPeer) return first(own);
    const same = address === undefined ? NONE : this.#byAddress.of(address);
    return same.size > PROVIDER_BOUNDS.perAddress ? first(same) : undefined;
  }

  #surplusOfAll({ known, peer }: Entry): string | undefined {
    if (known) return this.#known.size > PROVIDER_BOUNDS.known ? first(this.#known) : undefined;
    if (this.#strangers.size <= PROVIDER_BOUNDS.strangers) return undefined;
    // Whoever writes is the first suspect.
    const own = this.#byPeer.of(peer);
    let victim = first(own);
    let most = own.size;
    let looked = 0;
    for (const key of this.#strangers) {
      const count = this.#byPeer.of(this.#entries.get(key)?.peer ?? '').size;
      if (count > most) [victim, most] = [key, count];
      looked += 1;
      if (looked >= EVICTION_SAMPLE) break;
    }
    return victim;
  }
}

function first(keys: ReadonlySet<string>): string | undefined {
  for (const key of keys) return key;
  return undefined;
}
