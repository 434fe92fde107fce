/**
 * Agreement as a service of a node: connects the engine to gossip and to peers.
 *
 * A node with a signer votes and proposes while it is in the validator set; one without follows proposals and votes and
 * decides by itself. Both fetch finalized blocks from peers when they are behind.
 */
import { EventEmitter } from 'node:events';
import type { EquivocationEvidence } from '../chain/evidence.ts';
import type { Parameters } from '../chain/parameters.ts';
import { verifySession } from '../identity/signatures.ts';
import {
  type Discovery,
  type Gossip,
  Ignore,
  type PeerIdText,
  Reject,
  type RequestResponse,
} from '../network/interface.ts';
import type { Application, FinalizedBlock } from './application.ts';
import { answerBlockSync, BLOCK_SYNC_LIMITS, BLOCK_SYNC_PROTOCOL, BlockSync } from './block-sync.ts';
import {
  answerCatchUp,
  CATCH_UP_LIMITS,
  CATCH_UP_PROTOCOL,
  catchUpRequest,
  decodeCatchUpResponse,
} from './catch-up.ts';
import { type Clock, systemClock } from './clock.ts';
import type { VerifySession } from './commit-verifier.ts';
import type { DriverState } from './core/driver.ts';
import { Engine } from './engine.ts';
import type { ConsensusSigner } from './engine-parts.ts';
import { EvidencePool } from './evidence-pool.ts';
import { EvidenceRelay } from './evidence-relay.ts';
import { type ConsensusTopic, Ingress } from './ingress.ts';
import type { Logger } from './logger.ts';
import { Patience } from './patience.ts';
import { type Directory, diskDirectory } from './storage.ts';

export interface ConsensusInit {
  /** 8-byte id of the genesis. */
  readonly networkId: Uint8Array;
  readonly parameters: Parameters['consensus'];
  /** Absent: an observer. */
  readonly signer?: ConsensusSigner | undefined;
  /** Folder of the write-ahead log and the signer guard: a path, or another storage in tests. Of this node alone. */
  readonly directory: string | Directory;
  /** Default: ed25519 by node:crypto. */
  readonly verify?: VerifySession | undefined;
}

export interface ConsensusComponents {
  readonly application: Application;
  readonly gossip: Gossip;
  readonly requests: RequestResponse;
  readonly discovery: Pick<Discovery, 'peers'>;
  readonly logger: Logger;
  /** Default: the machine's clock. */
  readonly clock?: Clock | undefined;
}

/** Events of {@link ConsensusService}, with their arguments. */
export interface ConsensusEvents {
  /** A block is final and durable, by consensus or by sync. In ascending order of height, each height once. */
  finalized: [FinalizedBlock];
  /** A validator signed two different votes of one type for one height and round; this node saw both. */
  evidence: [EquivocationEvidence];
}

/** Where a node stands. */
export interface ConsensusStatus {
  /** Last finalized height. */
  readonly height: number;
  /** Round and step of the height that is being decided; -1 before its first round. */
  readonly round: number;
  readonly step: string;
  /** Blocks are being fetched from peers. */
  readonly syncing: boolean;
  /** This node votes at the height that is being decided. */
  readonly voting: boolean;
}

/** Bounds on the time without progress after which a node asks a peer; in between, the prevote timeout decides. */
const MIN_PULSE_MS = 200;
const MAX_PULSE_MS = 3_000;
/** Peers that may be asked at the same time: one that does not answer must not keep this node from asking others. */
const MAX_ASKED = 8;
/**
 * Of these, those asked because they spoke of a height far ahead. Anyone can say that, and say it again when its silence
 * is over: the others are for peers that this node chooses.
 */
const MAX_BOASTERS_ASKED = 2;
/** How often a peer is asked how far it is while nothing happens. */
const IDLE_PULSE_MS = 2_000;
/** See the head of this file. Make one with {@link consensus}. */
export class ConsensusService extends EventEmitter<ConsensusEvents> {
  readonly #components: ConsensusComponents;
  readonly #clock: Clock;
  readonly #engine: Engine;
  readonly #ingress: Ingress;
  readonly #sync: BlockSync;
  readonly #pulseMs: number;
  readonly #init: ConsensusInit;
  readonly #directory: Directory;
  #evidence: { readonly pool: EvidencePool; readonly relay: EvidenceRelay } | undefined;
  readonly #abort = new AbortController();
  #unsubscribe: (() => void)[] = [];
  #cancelPulse: (() => void) | undefined;
  readonly #patience: Patience;
  readonly #asked = new Set<PeerIdText>();
  /** Of these, those that made this node ask. */
  readonly #boasters = new Set<PeerIdText>();
  #turn = 0;
  #running = false;

  constructor(init: ConsensusInit, components: ConsensusComponents) {
    super();
    const { application, logger, requests } = components;
    const { networkId, parameters, signer, verify = verifySession } = init;
    this.#init = init;
    this.#components = components;
    this.#clock = components.clock ?? systemClock;
    this.#patience = new Patience(this.#clock);
    this.#pulseMs = Math.min(MAX_PULSE_MS, Math.max(MIN_PULSE_MS, parameters.prevoteTimeoutMs));
    const directory = typeof init.directory === 'string' ? diskDirectory(init.directory) : init.directory;
    this.#directory = directory;
    this.#engine = new Engine(
      { networkId, parameters, signer, directory },
      {
        application,
        clock: this.#clock,
        logger,
        evidence: () => this.#evidence?.pool.pending() ?? [],
        publish: (topic, data) => this.#publish(topic, data),
      },
      {
        finalized: (finalized) => this.#onFinalized(finalized),
        evidence: (evidence) => this.#onEvidence(evidence),
        progress: () => this.#onProgress(),
      },
    );
    this.#ingress = new Ingress({
      engine: this.#engine,
      networkId,
      verify,
      wantsEvidence: (evidence) => this.#evidence?.pool.wants(evidence) ?? false,
      onEvidence: (evidence) => this.#onEvidence(evidence),
      onAhead: (peer) => this.#askBoaster(peer),
    });
    this.#sync = new BlockSync({
      application,
      engine: this.#engine,
      requests,
      clock: this.#clock,
      logger,
      networkId,
      verify,
    });
  }

  /** Joins: replays the log, serves peers, follows gossip. Throws when the files cannot be opened. */
  async start(): Promise<void> {
    const { application, gossip, logger, requests } = this.#components;
    const { networkId, verify = verifySession } = this.#init;
    this.#running = true;
    const pool = await EvidencePool.open(this.#directory, { application, logger, networkId, verify });
    const relay = new EvidenceRelay({ pool, gossip, clock: this.#clock, logger });
    this.#evidence = { pool, relay };
    await requests.handle(CATCH_UP_PROTOCOL, CATCH_UP_LIMITS, async (request) =>
      answerCatchUp(this.#engine, application.height, request),
    );
    await requests.handle(BLOCK_SYNC_PROTOCOL, BLOCK_SYNC_LIMITS, (request) => answerBlockSync(application, request));
    await this.#engine.start();
    for (const topic of ['proposals', 'votes'] as const)
      this.#unsubscribe.push(gossip.subscribe(topic, (data, from) => this.#receive(topic, data, from)));
    relay.start();
    this.#armPulse();
  }

  /** Leaves. Resolves when running work is over and the files are closed. */
  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#unsubscribe = [];
    this.#cancelPulse?.();
    this.#evidence?.relay.stop();
    this.#abort.abort();
    await this.#sync.stop();
    await this.#engine.stop();
    await this.#evidence?.pool.close();
  }

  /** What the core knows of the height that is being decided: for diagnosis and tests. */
  get core(): DriverState {
    return this.#engine.core;
  }

  get status(): ConsensusStatus {
    const { machine, self } = this.#engine.core;
    return {
      height: this.#components.application.height,
      round: machine.round,
      step: machine.step,
      syncing: this.#sync.active,
      voting: self !== undefined,
    };
  }

  #receive(topic: ConsensusTopic, data: Uint8Array, from: PeerIdText): void {
    if (!this.#running) throw new Ignore('stopped');
    try {
      this.#ingress.receive(topic, data, from);
    } catch (error) {
      if (error instanceof Ignore || error instanceof Reject) throw error;
      this.#components.logger.error({ error: String(error), topic }, 'consensus: a message could not be processed');
      throw new Ignore('internal');
    }
  }

  #publish(topic: ConsensusTopic, data: Uint8Array): void {
    this.#components.gossip
      .publish(topic, data)
      .catch((error: unknown) =>
        this.#components.logger.debug({ error: String(error), topic }, 'gossip: not published'),
      );
  }

  #onEvidence(evidence: EquivocationEvidence): void {
    const { body, validator } = evidence.first;
    const { height, round, type } = body;
    this.#components.logger.warn({ validator, height, round, type }, 'consensus: equivocation');
    this.#evidence?.relay.found(evidence);
    this.emit('evidence', evidence);
  }

  #onFinalized(finalized: FinalizedBlock): void {
    this.#evidence?.pool.settle();
    this.emit('finalized', finalized);
  }

  /** Height or round changed: peers are asked only when that stops happening. */
  #onProgress(): void {
    if (!this.#running) return;
    this.#armPulse();
    // Not at once: the engine is in the middle of entering the height.
    queueMicrotask(() => this.#ingress.releaseWaiting());
  }

  #armPulse(): void {
    this.#cancelPulse?.();
    if (!this.#running) return;
    const waiting = this.#engine.core.machine.round < 0;
    const delayMs = waiting ? Math.max(IDLE_PULSE_MS, this.#pulseMs) : this.#pulseMs;
    this.#cancelPulse = this.#clock.schedule(delayMs, () => {
      this.#engine.rebroadcast();
      this.#askSomebody();
      this.#armPulse();
    });
  }

  /** Asks another peer each time, first those that answer. */
  #askSomebody(): void {
    const peers = [...this.#components.discovery.peers()]
      .sort()
      .filter((peer) => !this.#sync.isDropped(peer) && !this.#asked.has(peer));
    const prompt = peers.filter((peer) => !this.#patience.isPassedOver(peer));
    const candidates = prompt.length > 0 ? prompt : peers;
    if (candidates.length > 0) this.#ask(candidates[this.#turn++ % candidates.length]);
  }

  /** Asks a peer that spoke of a height far ahead, unless it was silent a moment ago. */
  #askBoaster(peer: PeerIdText): void {
    if (this.#boasters.size >= MAX_BOASTERS_ASKED || this.#asked.has(peer) || this.#patience.isPassedOver(peer)) return;
    this.#ask(peer);
    if (this.#asked.has(peer)) this.#boasters.add(peer);
  }

  /** Asks a peer what this node lacks. */
  #ask(peer: PeerIdText): void {
    if (!this.#running || this.#asked.has(peer) || this.#asked.size >= MAX_ASKED || this.#sync.isDropped(peer)) return;
    this.#asked.add(peer);
    void this.#catchUp(peer)
      .catch((error: unknown) => {
        this.#components.logger.debug({ peer, error: String(error) }, 'consensus: a peer did not answer');
        this.#patience.silent(peer);
      })
      .finally(() => {
        this.#asked.delete(peer);
        this.#boasters.delete(peer);
      });
  }

  async #catchUp(peer: PeerIdText): Promise<void> {
    const bytes = await this.#components.requests.request(peer, CATCH_UP_PROTOCOL, catchUpRequest(this.#engine.core), {
      limits: CATCH_UP_LIMITS,
      signal: this.#abort.signal,
    });
    if (!this.#running) return;
    this.#patience.answered(peer);
    try {
      const { finalizedHeight, proposals, votes } = decodeCatchUpResponse(bytes);
      for (const data of proposals) this.#take('proposals', data, peer);
      for (const data of votes) this.#take('votes', data, peer);
      this.#sync.report(peer, finalizedHeight);
    } catch (error) {
      this.#sync.drop(peer, (error as Error).message);
    }
  }

  /** Like gossip, but only a forgery stops it. */
  #take(topic: ConsensusTopic, data: Uint8Array, peer: PeerIdText): void {
    try {
      this.#receive(topic, data, peer);
    } catch (error) {
      if (!(error instanceof Ignore)) throw error;
    }
  }
}

/** Makes the service; see {@link ConsensusInit} and {@link ConsensusComponents}. */
export function consensus(init: ConsensusInit): (components: ConsensusComponents) => ConsensusService {
  return (components) => new ConsensusService(init, components);
}
