/**
 * Which peers are more than strangers, by the ledger: tells the network (`PeerStandings`), and tells others who we are.
 *
 * A validator proves that a peer is its own: its session key, which has a place in the set, signs the peer's id. It sends
 * that to whom it connects (`/alice/<network>/hello/1`), again as long as the other does not know it as a validator yet.
 * A peer with a record is one that an accepted submission of the last rounds names as its provider; so there nothing has to
 * be sent.
 */
import { Bytes, Struct } from 'scale-ts';
import { decodeStrict, hashCodec } from './chain/codec.ts';
import { hashBytes } from './chain/hash.ts';
import { verifySession } from './chain/session-signature.ts';
import type { SessionKey, ValidatorSet } from './chain/validator-set.ts';
import type { SessionSigner } from './identity/signatures.ts';
import type { LedgerState } from './ledger/state.ts';
import { pause } from './network/deadline.ts';
import type { PeerIdText, ProtocolLimits, RequestResponse } from './network/interface.ts';
import type { Log } from './network/log.ts';
import type { PeerStandings } from './network/peer-standings.ts';

/** Name of the protocol. */
export const HELLO_PROTOCOL = 'hello';

/** Bytes of a hello: session key and signature. */
const HELLO_BYTES = 96;

/**
 * A validator sends one to each peer, and then one every {@link AGAIN_MS}, or a second where it is busy. The rates are much
 * higher because strangers share one: whoever floods this protocol must not keep a validator's hello from being read. It
 * costs a look at the set.
 */
export const HELLO_LIMITS: ProtocolLimits = {
  maxRequestBytes: HELLO_BYTES,
  maxResponseBytes: 1,
  timeoutMs: 5_000,
  requestsPerSecond: 50,
  burst: 200,
  maxConcurrentPerPeer: 1,
  maxConcurrent: 32,
};

/** Answers: known as a validator from now on, or not (yet). */
const KNOWN = Uint8Array.of(1);
const UNKNOWN = Uint8Array.of(0);

/** Who did not take it is told again after this time: it may have been behind. */
const AGAIN_MS = 15_000;

/** Who did not answer is told again after this time, so often: a newcomer at a full node has a few seconds. */
const RETRY_MS = 1_000;
const RETRIES = 3;

/** Peers of one validator; it may be moving from one machine to another. The latest count. */
const PEERS_PER_VALIDATOR = 2;

/** Rounds whose accepted submissions give a peer a record. */
const RECORD_ROUNDS = 16;

const helloCodec = Struct({ sessionKey: hashCodec, signature: Bytes(64) });

/** What a session key signs to show that a peer is its validator's: of use on one network, and for that peer only. */
export function peerProofBytes(networkId: Uint8Array, sessionKey: SessionKey, peer: PeerIdText): Uint8Array {
  return Buffer.concat([Buffer.from('alice/peer-proof/1'), networkId, hashBytes(sessionKey), Buffer.from(peer)]);
}

/** What of the ledger decides here. */
export interface IntroductionLedger {
  /** Those who decide now and next. */
  validators(): ValidatorSet;
  /** Peers that accepted submissions of the last so many rounds name. */
  acceptedProviders(rounds: number): Iterable<PeerIdText>;
}

/** The chain, as far as introductions look at it. `Blockchain` has it. */
export interface IntroductionChain {
  readonly height: number;
  readonly state: Pick<LedgerState, 'round' | 'roundResult'>;
  validators(height: number): ValidatorSet | undefined;
}

/** What a chain says; results of rounds are read once for each round. */
export function introductionLedger(chain: IntroductionChain): IntroductionLedger {
  let found: { readonly round: number; readonly providers: ReadonlySet<PeerIdText> } | undefined;
  return {
    validators: () => [...(chain.validators(chain.height + 1) ?? []), ...(chain.validators(chain.height + 2) ?? [])],
    acceptedProviders: (rounds) => {
      const { round } = chain.state.round;
      if (found?.round !== round) {
        const results = Array.from({ length: rounds }, (_, back) => chain.state.roundResult(round - 1 - back));
        const accepted = results.flatMap((result) => result?.submissions.filter(({ accepted }) => accepted) ?? []);
        found = { round, providers: new Set(accepted.map(({ provider }) => provider as PeerIdText)) };
      }
      return found.providers;
    },
  };
}

/** The part of the network that introductions need. */
export interface IntroductionNetwork extends RequestResponse {
  readonly peerId: PeerIdText;
  readonly standings: PeerStandings;
  peers(): readonly PeerIdText[];
  onPeer(
    listener: (event: { readonly type: 'connected' | 'disconnected'; readonly peer: PeerIdText }) => void,
  ): () => void;
}

/** See the head of this file. */
export class PeerIntroduction {
  readonly #network: IntroductionNetwork;
  readonly #networkId: Uint8Array;
  readonly #ledger: IntroductionLedger;
  readonly #session: SessionSigner | undefined;
  readonly #log: Log;
  /** Proven peers by session key. Bounded: only keys of the sets that decide, each with its last peers. */
  readonly #proven = new Map<SessionKey, PeerIdText[]>();
  /** Connected peers that know us, or are being told. Bounded by the connections. */
  readonly #told = new Set<PeerIdText>();
  readonly #stopped = new AbortController();
  #unsubscribe: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;

  /** `session`: where this node is a validator. */
  constructor(parts: {
    network: IntroductionNetwork;
    networkId: Uint8Array;
    ledger: IntroductionLedger;
    session: SessionSigner | undefined;
    log: Log;
  }) {
    this.#network = parts.network;
    this.#networkId = parts.networkId;
    this.#ledger = parts.ledger;
    this.#session = parts.session;
    this.#log = parts.log;
  }

  /** Begins to listen to others and, as a validator, to tell them. */
  async start(): Promise<void> {
    this.refresh();
    await this.#network.handle(HELLO_PROTOCOL, HELLO_LIMITS, async (request, from) => this.#receive(request, from));
    if (this.#session === undefined) return;
    this.#unsubscribe = this.#network.onPeer(({ type, peer }) => {
      if (type === 'connected') void this.#tell(peer);
      else this.#told.delete(peer);
    });
    this.#tellAll();
    this.#timer = setInterval(() => this.#tellAll(), AGAIN_MS).unref();
  }

  /** Ends telling others. */
  stop(): void {
    this.#stopped.abort();
    this.#unsubscribe();
    clearInterval(this.#timer);
  }

  /** Looks at the ledger again. Call after each block: costs a walk over the validators and the last rounds. */
  refresh(): void {
    const keys = new Set(this.#ledger.validators().map(({ sessionKey }) => sessionKey));
    for (const key of this.#proven.keys()) if (!keys.has(key)) this.#proven.delete(key);
    this.#network.standings.setValidators([...this.#proven.values()].flat());
    this.#network.standings.setRecords(this.#ledger.acceptedProviders(RECORD_ROUNDS));
  }

  /** A stranger costs the decoding of 96 bytes; a signature is checked only for a key that decides. */
  #receive(request: Uint8Array, from: PeerIdText): Uint8Array {
    const { sessionKey, signature } = decodeStrict(helloCodec, request, HELLO_BYTES, 'hello');
    if (!this.#ledger.validators().some((validator) => validator.sessionKey === sessionKey)) return UNKNOWN;
    if (!verifySession(sessionKey, peerProofBytes(this.#networkId, sessionKey, from), signature)) return UNKNOWN;
    const others = (this.#proven.get(sessionKey) ?? []).filter((peer) => peer !== from);
    this.#proven.set(sessionKey, [...others, from].slice(-PEERS_PER_VALIDATOR));
    this.refresh();
    return KNOWN;
  }

  #tellAll(): void {
    for (const peer of this.#network.peers()) void this.#tell(peer);
  }

  async #tell(peer: PeerIdText): Promise<void> {
    const session = this.#session;
    if (session === undefined || this.#told.has(peer)) return;
    // Not in the set: nobody would take it.
    if (!this.#ledger.validators().some(({ sessionKey }) => sessionKey === session.sessionKey)) return;
    this.#told.add(peer);
    const signature = session.sign(peerProofBytes(this.#networkId, session.sessionKey, this.#network.peerId));
    const hello = helloCodec.enc({ sessionKey: session.sessionKey, signature });
    const { signal } = this.#stopped;
    for (let attempt = 0; attempt <= RETRIES && !signal.aborted && this.#told.has(peer); attempt++) {
      try {
        const answer = await this.#network.request(peer, HELLO_PROTOCOL, hello, { limits: HELLO_LIMITS, signal });
        if (answer[0] === KNOWN[0]) return;
        break;
      } catch (error) {
        this.#log.debug({ peer, error: String(error) }, 'a peer was not told that this is a validator');
      }
      await pause(RETRY_MS, signal);
    }
    this.#told.delete(peer);
  }
}
