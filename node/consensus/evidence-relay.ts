/** Evidence on its way between this node and its peers: what is found is told to all, what is heard is judged first. */
import { DecodeError } from '../chain/codec.ts';
import { decodeEvidence, type EquivocationEvidence, encodeEvidence } from '../chain/evidence.ts';
import { type Gossip, Ignore, Reject } from '../network/interface.ts';
import type { Clock } from './clock.ts';
import type { EvidencePool } from './evidence-pool.ts';
import type { Logger } from './logger.ts';

/** How often what still waits is told again: gossip forgets a message after a minute. */
const REPEAT_MS = 90_000;
/** Pieces told again at a time; a block settles them before all have had their turn. */
const MAX_REPEATED = 16;

export interface EvidenceRelayComponents {
  readonly pool: EvidencePool;
  readonly gossip: Gossip;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** See the head of this file. */
export class EvidenceRelay {
  readonly #components: EvidenceRelayComponents;
  #unsubscribe: (() => void) | undefined;
  #cancel: (() => void) | undefined;

  constructor(components: EvidenceRelayComponents) {
    this.#components = components;
  }

  start(): void {
    this.#unsubscribe = this.#components.gossip.subscribe('evidence', (data) => this.#receive(data));
    this.#repeat();
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#cancel?.();
  }

  /** Takes evidence of two votes with checked signatures. */
  found(evidence: EquivocationEvidence): void {
    if (this.#components.pool.add(evidence, true) === 'taken') this.#publish(evidence);
  }

  #receive(data: Uint8Array): void {
    let evidence: EquivocationEvidence;
    try {
      evidence = decodeEvidence(data);
    } catch (error) {
      if (error instanceof DecodeError) throw new Reject('malformed', error.message);
      throw error;
    }
    const outcome = this.#components.pool.add(evidence, false);
    if (outcome === 'wrong') throw new Reject('wrong-evidence');
    if (outcome !== 'taken') throw new Ignore(`evidence-${outcome}`);
  }

  #publish(evidence: EquivocationEvidence): void {
    const { gossip, logger } = this.#components;
    gossip
      .publish('evidence', encodeEvidence(evidence))
      .catch((error: unknown) => logger.debug({ error: String(error) }, 'gossip: evidence was not published'));
  }

  #repeat(): void {
    const { clock, pool } = this.#components;
    for (const evidence of pool.pending().slice(0, MAX_REPEATED)) this.#publish(evidence);
    this.#cancel = clock.schedule(REPEAT_MS, () => this.#repeat());
  }
}
