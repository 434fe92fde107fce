/** Peers whose connections are refused for a time because of what they did, and addresses that keep sending new such peers. */
import type { AddressGroup } from './address-group.ts';
import { BoundedMap } from './bounded-map.ts';

/** First time of a peer; it doubles with each further one. */
const FIRST_BAN_MS = 60_000;
const LONGEST_BAN_MS = 60 * 60_000;

/** Peers and addresses that are remembered; the least recently used are forgotten. */
const MAX_REMEMBERED = 4096;

/** Peers of one address that are banned at a time before the address is: a household may hold a machine that is infected. */
const PEERS_BEFORE_ADDRESS = 4;

interface Ban {
  until: number;
  readonly times: number;
}

/** See the file comment. */
export class BanList {
  readonly #peers = new BoundedMap<string, Ban>(MAX_REMEMBERED);
  readonly #addresses = new BoundedMap<AddressGroup, { untils: readonly number[] }>(MAX_REMEMBERED);
  readonly #now: () => number;

  /** `now` is in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Bans a peer; `address` is where it came from, where that tells anything. */
  ban(peer: string, address: AddressGroup | undefined): void {
    const now = this.#now();
    const times = (this.#peers.get(peer)?.times ?? 0) + 1;
    const until = now + Math.min(LONGEST_BAN_MS, FIRST_BAN_MS * 2 ** (times - 1));
    this.#peers.set(peer, { until, times });
    if (address === undefined) return;
    const untils = (this.#addresses.get(address)?.untils ?? []).filter((other) => other > now);
    this.#addresses.set(address, { untils: [...untils, until].slice(-PEERS_BEFORE_ADDRESS) });
  }

  /** True while the peer is banned. */
  has(peer: string): boolean {
    return (this.#peers.get(peer)?.until ?? 0) > this.#now();
  }

  /** True while so many peers of the address are banned that no more are let in. */
  hasAddress(address: AddressGroup): boolean {
    const now = this.#now();
    const banned = this.#addresses.get(address)?.untils.filter((until) => until > now).length ?? 0;
    return banned >= PEERS_BEFORE_ADDRESS;
  }
}
