/**
 * Who is more than a stranger. Identities on the network are free, so whatever is given out by identity is given to whom
 * a flood is given to; these few have something that is not free, and a share of everything is kept for them.
 */
import type { PeerIdText } from './interface.ts';

/**
 * `validator`: its session key, which has a place in the current set, signed its peer id. `record`: an account whose work
 * was accepted lately named it. `stranger`: anyone.
 */
export type Standing = 'validator' | 'record' | 'stranger';

/** Most peers of each kind; more than a set of validators or the seats of a round ever are. The last ones are left out. */
const MAX_PEERS = 1_024;

/** The standing of peers. Written by those who follow the ledger, read by all that shares something out. */
export class PeerStandings {
  #validators: ReadonlySet<PeerIdText> = new Set();
  #records: ReadonlySet<PeerIdText> = new Set();

  /** How a peer stands now. */
  of(peer: PeerIdText): Standing {
    if (this.#validators.has(peer)) return 'validator';
    return this.#records.has(peer) ? 'record' : 'stranger';
  }

  /** True when the peer is more than a stranger. */
  isKnown(peer: PeerIdText): boolean {
    return this.of(peer) !== 'stranger';
  }

  /** The validators' peers that are known by now. */
  validators(): ReadonlySet<PeerIdText> {
    return this.#validators;
  }

  /** From now on these, and no others, are validators' peers. */
  setValidators(peers: Iterable<PeerIdText>): void {
    this.#validators = bounded(peers);
  }

  /** From now on these, and no others, are peers with a record. */
  setRecords(peers: Iterable<PeerIdText>): void {
    this.#records = bounded(peers);
  }
}

function bounded(peers: Iterable<PeerIdText>): Set<PeerIdText> {
  const set = new Set<PeerIdText>();
  for (const peer of peers) {
    if (set.size >= MAX_PEERS) break;
    set.add(peer);
  }
  return set;
}
