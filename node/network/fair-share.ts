/**
 * Shares out something of which there is so much: places for requests, bytes of answers. Identities are free, so that a
 * limit for each of them bounds nothing; hence also a limit for each address, a part that strangers never get, and a rule
 * by which nobody takes a second piece of what is getting scarce.
 */
import type { AddressGroup } from './address-group.ts';
import type { PeerIdText } from './interface.ts';

/** Who takes. */
export interface Claimant {
  readonly peer: PeerIdText;
  /** Undefined where addresses tell nothing. */
  readonly address: AddressGroup | undefined;
  /** More than a stranger: see `PeerStandings`. */
  readonly known: boolean;
}

/** In units of what is shared out. */
export interface ShareLimits {
  readonly total: number;
  /** Part of `total` that strangers never get. */
  readonly reserved: number;
  readonly perPeer: number;
  /** For all strangers of one address together. */
  readonly perAddress: number;
}

/** Keeps the account. Its maps hold who holds something, so they are bounded by `total`. */
export class FairShare {
  readonly #limits: ShareLimits;
  readonly #byPeer = new Map<string, number>();
  readonly #byAddress = new Map<string, number>();
  #used = 0;
  #usedByStrangers = 0;

  constructor(limits: ShareLimits) {
    this.#limits = limits;
  }

  /** What is taken. */
  get used(): number {
    return this.#used;
  }

  /** True when the peer holds anything. */
  holds(peer: PeerIdText): boolean {
    return this.#byPeer.has(peer);
  }

  /**
   * Takes `amount`; undefined when the claimant is not to have it now. Give it back by calling what is returned, with a
   * part of it or, without an argument, with all that is left.
   *
   * A stranger's first piece is refused only when there is no room at all or its address has its share. With more, it may
   * hold at most what is still free for strangers: N greedy peers end with an (N + 1)th of the whole each, and as much is
   * left for the next who comes (the rule of dynamic thresholds of shared-memory switches, Choudhury and Hahne 1998).
   */
  take(claimant: Claimant, amount: number): ((part?: number) => void) | undefined {
    const { total, reserved, perPeer, perAddress } = this.#limits;
    const { peer, known } = claimant;
    // Fixed at the start: what is given back goes to where it was taken from, whatever becomes of the peer meanwhile.
    const address = known ? undefined : claimant.address;
    const held = this.#byPeer.get(peer) ?? 0;
    if (this.#used + amount > total || held + amount > perPeer) return undefined;
    if (!known) {
      const room = total - reserved - this.#usedByStrangers;
      if (amount > room || (held > 0 && held + amount > room)) return undefined;
      if (address !== undefined && (this.#byAddress.get(address) ?? 0) + amount > perAddress) return undefined;
    }
    const add = (change: number) => {
      this.#used += change;
      if (!known) this.#usedByStrangers += change;
      addTo(this.#byPeer, peer, change);
      if (address !== undefined) addTo(this.#byAddress, address, change);
    };
    add(amount);
    let left = amount;
    return (part = left) => {
      const given = Math.min(part, left);
      left -= given;
      add(-given);
    };
  }
}

function addTo(map: Map<string, number>, key: string, change: number): void {
  const sum = (map.get(key) ?? 0) + change;
  if (sum <= 0) map.delete(key);
  else map.set(key, sum);
}
