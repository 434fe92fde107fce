/** Peers that did not answer, and for how long others are asked first. */
import { BoundedMap } from '../network/bounded-map.ts';
import type { PeerIdText } from '../network/interface.ts';
import type { Clock } from './clock.ts';

/** How long a peer is passed over at first; doubled with each silence in a row up to the longest. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** Peers remembered; the one heard of least recently is asked again. */
const MAX_PEERS = 512;

/** See the head of this file. Silence is most likely the network's fault, and so costs little. */
export class Patience {
  readonly #clock: Clock;
  readonly #peers = new BoundedMap<PeerIdText, { readonly silences: number; readonly untilMs: number }>(MAX_PEERS);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The peer answered, whatever it said. */
  answered(peer: PeerIdText): void {
    this.#peers.delete(peer);
  }

  /** The peer did not answer (in time). */
  silent(peer: PeerIdText): void {
    const silences = this.#peers.get(peer)?.silences ?? 0;
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(silences, 16));
    this.#peers.set(peer, { silences: silences + 1, untilMs: this.#clock.nowMs() + pauseMs });
  }

  /** True while others are to be asked first. */
  isPassedOver(peer: PeerIdText): boolean {
    return (this.#peers.get(peer)?.untilMs ?? 0) > this.#clock.nowMs();
  }
}
