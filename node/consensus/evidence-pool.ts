/**
 * Evidence that waits for a block: found by this node, or heard of from peers. It survives a restart, leaves when the
 * state machine knows it or it has become too old, and is bounded: of one offender a few pieces, of all some hundred,
 * and more are not taken, because one piece is enough to put a key out.
 */
import { DecodeError } from '../chain/codec.ts';
import {
  decodeEvidence,
  type EquivocationEvidence,
  encodeEvidence,
  evidenceId,
  InvalidEvidenceError,
  MAX_EVIDENCE_BYTES,
  verifyEvidence,
} from '../chain/evidence.ts';
import type { Hash } from '../chain/hash.ts';
import type { Application, EvidenceStatus } from './application.ts';
import type { VerifySession } from './commit-verifier.ts';
import { FramedLog, frame } from './framed-log.ts';
import { Lane } from './lane.ts';
import type { Logger } from './logger.ts';
import type { Directory } from './storage.ts';

const FILE_NAME = 'evidence.log';

/** Pieces that wait, and how many of them may be of one offender. A set has at most 256 validators. */
export const MAX_PENDING_EVIDENCE = 512;
export const MAX_PENDING_PER_OFFENDER = 2;

/**
 * What became of a piece of evidence: taken, here already, no room, proves nothing, cannot be judged (this node does not
 * know the validators of that height), or what the state machine has against it.
 */
export type EvidenceOutcome = 'taken' | 'duplicate' | 'full' | 'wrong' | 'unprovable' | Exclude<EvidenceStatus, 'new'>;

export interface EvidencePoolComponents {
  readonly application: Pick<Application, 'evidenceStatus' | 'validators'>;
  readonly logger: Logger;
  readonly networkId: Uint8Array;
  readonly verify: VerifySession;
}

/** See the head of this file. */
export class EvidencePool {
  readonly #components: EvidencePoolComponents;
  readonly #directory: Directory;
  readonly #pending = new Map<Hash, EquivocationEvidence>();
  readonly #writes = new Lane();
  #log: FramedLog;

  private constructor(components: EvidencePoolComponents, directory: Directory, log: FramedLog) {
    this.#components = components;
    this.#directory = directory;
    this.#log = log;
  }

  /** Reads what waited before a restart. Throws when the file cannot be opened. */
  static async open(directory: Directory, components: EvidencePoolComponents): Promise<EvidencePool> {
    const { log, records } = await FramedLog.open(await directory.open(FILE_NAME), MAX_EVIDENCE_BYTES);
    const pool = new EvidencePool(components, directory, log);
    for (const bytes of records) {
      try {
        pool.#take(decodeEvidence(bytes), true);
      } catch (error) {
        // Written by another version; others hold the evidence as well.
        if (!(error instanceof DecodeError)) throw error;
      }
    }
    return pool;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** True when the evidence would be taken, were it proven. */
  wants(evidence: EquivocationEvidence): boolean {
    return this.#objection(evidence) === undefined;
  }

  /**
   * Takes evidence that is new, or will be with the next block. `proven`: its signatures were checked. It is on disk a
   * moment later.
   */
  add(evidence: EquivocationEvidence, proven: boolean): EvidenceOutcome {
    const outcome = this.#take(evidence, proven);
    if (outcome !== 'taken') return outcome;
    const offender = evidence.first.validator;
    this.#components.logger.warn(
      { offender, height: evidence.first.body.height },
      'consensus: evidence of a double signature',
    );
    this.#write(async () => {
      this.#log.append(encodeEvidence(evidence));
      await this.#log.sync();
    });
    return outcome;
  }

  /** What a proposer offers for its block: the oldest offences first. */
  pending(): EquivocationEvidence[] {
    return [...this.#pending.values()].sort((a, b) => a.first.body.height - b.first.body.height);
  }

  /** Lets go of what a block has settled or time has. Call after each block. */
  settle(): void {
    const before = this.#pending.size;
    for (const [id, evidence] of this.#pending) {
      const status = this.#components.application.evidenceStatus(evidence);
      if (status === 'known' || status === 'expired') this.#pending.delete(id);
    }
    if (this.#pending.size === before) return;
    this.#write(async () => {
      const content = Buffer.concat(this.pending().map((evidence) => frame(encodeEvidence(evidence))));
      // Closed first: Windows replaces no open file.
      await this.#log.close();
      try {
        await (await this.#directory.replace(FILE_NAME, content)).close();
      } finally {
        this.#log = (await FramedLog.open(await this.#directory.open(FILE_NAME), MAX_EVIDENCE_BYTES)).log;
      }
    });
  }

  /** Resolves when everything is on disk and the file is closed. */
  async close(): Promise<void> {
    await this.#writes.idle();
    await this.#log.close();
  }

  #take(evidence: EquivocationEvidence, proven: boolean): EvidenceOutcome {
    const objection = this.#objection(evidence);
    if (objection !== undefined) return objection;
    if (!proven && !this.#isProven(evidence)) return 'wrong';
    this.#pending.set(evidenceId(evidence), evidence);
    return 'taken';
  }

  #objection(evidence: EquivocationEvidence): EvidenceOutcome | undefined {
    const offender = evidence.first.validator;
    const known = [...this.#pending.values()].filter((other) => other.first.validator === offender);
    const height = evidence.first.body.height;
    if (known.length >= MAX_PENDING_PER_OFFENDER || known.some((other) => other.first.body.height === height))
      return 'duplicate';
    const { application } = this.#components;
    const isKnownHeight = application.validators(height) !== undefined;
    const status = application.evidenceStatus(evidence);
    // What was seen at the height that is being decided waits for the next one.
    const soon = status === 'early' && isKnownHeight;
    if (status !== 'new' && !soon) return status;
    // A node that began at a snapshot: others will bring it to a block.
    if (!isKnownHeight) return 'unprovable';
    return this.#pending.size >= MAX_PENDING_EVIDENCE ? 'full' : undefined;
  }

  #isProven(evidence: EquivocationEvidence): boolean {
    const { application, networkId, verify } = this.#components;
    const validators = application.validators(evidence.first.body.height);
    if (validators === undefined) return false;
    try {
      verifyEvidence(evidence, { networkId, validators, verify });
      return true;
    } catch (error) {
      if (error instanceof InvalidEvidenceError) return false;
      throw error;
    }
  }

  /** What cannot be written is still in memory, and with others. */
  #write(write: () => Promise<void>): void {
    this.#writes.run(write).catch((error: unknown) => {
      this.#components.logger.error({ error: String(error) }, 'consensus: evidence could not be written');
    });
  }
}
