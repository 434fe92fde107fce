/** What the engine is given, what it tells, and what it throws. */
import type { EquivocationEvidence } from '../chain/evidence.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { AccountSigner, SessionSigner } from '../identity/signatures.ts';
import type { Application, FinalizedBlock } from './application.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';
import type { Directory } from './storage.ts';

/** Keys of a validator. */
export interface ConsensusSigner {
  readonly account: AccountSigner;
  readonly session: SessionSigner;
}

export interface EngineInit {
  /** 8-byte id of the genesis. */
  readonly networkId: Uint8Array;
  readonly parameters: Parameters['consensus'];
  /** Absent: an observer, which follows and signs nothing. */
  readonly signer?: ConsensusSigner | undefined;
  /** Where log and signer guard live. Never share it between two running nodes. */
  readonly directory: Directory;
}

export interface EngineComponents {
  readonly application: Application;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Evidence that waits for a block of this node's. */
  evidence(): readonly EquivocationEvidence[];
  /** Sends to all peers; must not throw. */
  publish(topic: 'proposals' | 'votes', data: Uint8Array): void;
}

export interface EngineEvents {
  /** A block is final and durable. */
  finalized(finalized: FinalizedBlock): void;
  /** A validator of this height signed two different votes. */
  evidence(evidence: EquivocationEvidence): void;
  /** A new height or a new round. */
  progress(height: number, round: number): void;
}

/**
 * Thrown when the application refuses a block that a quorum signed: this node's state has gone astray, or more than a
 * third of the power is not honest.
 */
export class BlockRefusedError extends Error {
  static readonly code = 'ERR_BLOCK_REFUSED';
  readonly code = BlockRefusedError.code;
  override readonly name = 'BlockRefusedError';
}
