/**
 * Who has what: provider records in the DHT, for contents and for membership of the network.
 */
import type { KadDHT, SingleKadDHT } from '@libp2p/kad-dht';
import type { Libp2p } from 'libp2p';
import type { CID } from 'multiformats/cid';
import { deadline, jittered, pause } from './deadline.ts';
import { NetworkStoppedError, NotProvidedError, RequestAbortedError } from './errors.ts';
import type { PeerIdText } from './interface.ts';
import { parseCid, rendezvousCid } from './names.ts';

/** Without a signal, announcing and looking up end after this time. */
const DEFAULT_TIMEOUT_MS = 30_000;

/** Pause between attempts to announce while nobody takes the record. */
const RETRY_MS = 150;

/** Membership is announced again after this time in any case. */
const MEMBERSHIP_REFRESH_MS = 5 * 60_000;

/** Provider records over the DHT. */
export class ContentDirectory {
  readonly #libp2p: Libp2p;
  readonly #dht: KadDHT & SingleKadDHT;
  readonly #rendezvous: CID;
  /** When membership was announced last, and who was connected then. Bounded by the number of connections. */
  #membership: { at: number; connected: Set<string> } | undefined;

  constructor(components: { libp2p: Libp2p; dht: KadDHT & SingleKadDHT; network: string }) {
    this.#libp2p = components.libp2p;
    this.#dht = components.dht;
    this.#rendezvous = rendezvousCid(components.network);
  }

  /**
   * Announces that this peer has the content, and resolves once at least one peer holds the record; the DHT renews it
   * from then on. Throws `ERR_NOT_PROVIDED` when nobody took it before the time was up.
   */
  async provide(cid: string, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const parsed = parseCid(cid);
    const limit = deadline(DEFAULT_TIMEOUT_MS, signal);
    try {
      for (let wait = RETRY_MS; ; wait = Math.min(2_000, wait * 1.5)) {
        if ((await this.#announce(parsed, limit.signal)) > 0) return;
        await pause(jittered(wait), limit.signal);
        if (signal?.aborted === true) throw new RequestAbortedError(`announcing ${cid}: aborted`);
        if (limit.expired()) throw new NotProvidedError(`no peer took the provider record of ${cid}`);
      }
    } finally {
      limit.clear();
    }
  }

  /** Stops renewing the record of a content. Records at other peers expire. */
  async withdraw(cid: string): Promise<void> {
    await this.#dht.cancelReprovide(parseCid(cid));
  }

  /** Peers that announced the content, as they are found; never this one. Ends when the DHT has been asked. */
  async *findProviders(cid: string, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<PeerIdText> {
    yield* this.#providers(parseCid(cid), signal);
  }

  /**
   * Announces this peer as a member of the network, unless all who are connected were so at the last time: a peer that
   * is new, or restarted and lost its records, gets to know us.
   */
  async announceMembership(signal: AbortSignal): Promise<void> {
    const connected = new Set(this.#libp2p.getPeers().map(String));
    const known = this.#membership;
    if (known !== undefined && performance.now() - known.at < MEMBERSHIP_REFRESH_MS) {
      if ([...connected].every((peer) => known.connected.has(peer))) return;
    }
    if ((await this.#announce(this.#rendezvous, signal)) > 0) this.#membership = { at: performance.now(), connected };
  }

  /** A peer is gone; when it comes back it may have lost its records. */
  forget(peer: string): void {
    this.#membership?.connected.delete(peer);
  }

  /** Members that announced themselves. */
  members(signal: AbortSignal): AsyncGenerator<PeerIdText> {
    return this.#providers(this.#rendezvous, signal);
  }

  /** Returns how many peers took the record. */
  async #announce(cid: CID, signal: AbortSignal): Promise<number> {
    let sent = 0;
    try {
      for await (const event of this.#dht.provide(cid, { signal })) {
        if (event.name === 'PEER_RESPONSE' && event.messageName === 'ADD_PROVIDER') sent += 1;
      }
    } catch (error) {
      if (!signal.aborted && this.#libp2p.status !== 'started') {
        throw new NetworkStoppedError('the network is not running', { cause: error });
      }
    }
    return sent;
  }

  async *#providers(cid: CID, signal?: AbortSignal): AsyncGenerator<PeerIdText> {
    const limit = deadline(DEFAULT_TIMEOUT_MS, signal);
    const seen = new Set<string>([this.#libp2p.peerId.toString()]);
    try {
      // Through libp2p rather than the DHT: this also stores the addresses, so that the peers can be dialled.
      for await (const provider of this.#libp2p.contentRouting.findProviders(cid, { signal: limit.signal })) {
        const peer = provider.id.toString();
        if (seen.has(peer)) continue;
        seen.add(peer);
        yield peer as PeerIdText;
      }
    } catch (error) {
      // Being cut short is not a failure: what was found has been given out.
      if (!limit.signal.aborted && this.#libp2p.status === 'started') throw error;
    } finally {
      limit.clear();
    }
  }
}
