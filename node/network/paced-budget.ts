/**
 * A budget for each peer that refills over time and may be overdrawn: whoever is in debt waits until it is paid. For what is
 * known to cost something only once it is there.
 */
import { BoundedMap } from './bounded-map.ts';

/** Peers whose budgets are remembered; the least recently used are forgotten, and then start anew. */
const MAX_PEERS = 4096;

/** See the file comment. */
export class PacedBudgets {
  readonly #balances = new BoundedMap<string, { left: number; at: number }>(MAX_PEERS);
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #now: () => number;

  /** `burst` at most, refilled at `perSecond`. `now` is in milliseconds. */
  constructor(perSecond: number, burst: number, now: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#now = now;
  }

  /** Takes an amount, whether or not it is there. */
  spend(peer: string, amount: number): void {
    this.#balance(peer).left -= amount;
  }

  /** Milliseconds until the peer is out of debt; 0 when it is. */
  waitMs(peer: string): number {
    const { left } = this.#balance(peer);
    return left >= 0 ? 0 : (-left / this.#perSecond) * 1000;
  }

  #balance(peer: string): { left: number; at: number } {
    const now = this.#now();
    const balance = this.#balances.get(peer) ?? { left: this.#burst, at: now };
    balance.left = Math.min(this.#burst, balance.left + ((now - balance.at) / 1000) * this.#perSecond);
    balance.at = now;
    this.#balances.set(peer, balance);
    return balance;
  }
}
