/**
 * What this node says at a height: signed by the guard, an input for itself, and kept for a while to be said again,
 * because gossip forgets and drops.
 */
import type { AccountId } from '../chain/account.ts';
import { encodeProposal, encodeVote, type Proposal, VOTE_TYPES, type Vote, type VoteType } from '../chain/block.ts';
import type { DriverEffect } from './core/driver.ts';
import type { EncodedBlock } from './height-blocks.ts';
import type { QueuedInput } from './input-queue.ts';
import type { Replay } from './replay.ts';
import type { SignerGuard } from './signer-guard.ts';

/** Messages kept for rebroadcast are those of the last rounds. */
const REBROADCAST_ROUNDS = 2;

/** What a validator says once in a round. */
export type OwnStep = 'proposal' | VoteType;

/** A message on its way to the network. */
export interface Outgoing {
  readonly topic: 'proposals' | 'votes';
  readonly round: number;
  readonly step: OwnStep;
  readonly data: Uint8Array;
}

/** A signed message, as an input of this node and as what others get once it is safe on disk. */
export interface OwnMessage {
  readonly queued: QueuedInput;
  readonly outgoing: Outgoing;
}

/** See the head of this file. */
export class OwnMessages {
  readonly #account: AccountId;
  readonly #guard: SignerGuard;
  #sent: Outgoing[] = [];

  constructor(account: AccountId, guard: SignerGuard) {
    this.#account = account;
    this.#guard = guard;
  }

  /** Signs a vote. Throws DoubleSignRefusedError. */
  vote(height: number, effect: Extract<DriverEffect, { type: 'vote' }>): OwnMessage {
    const { round, value: blockId } = effect;
    const body = { type: VOTE_TYPES.indexOf(effect.vote), height, round, blockId };
    const vote: Vote = { body, validator: this.#account, signature: this.#guard.signVote(body) };
    const data = encodeVote(vote);
    return {
      queued: { height, input: { type: 'vote', vote }, record: { tag: 'vote', value: data } },
      outgoing: { topic: 'votes', round, step: effect.vote, data },
    };
  }

  /** Signs a proposal of a block that this node found valid. Throws DoubleSignRefusedError. */
  proposal(
    height: number,
    effect: Extract<DriverEffect, { type: 'propose' }>,
    { encoded }: EncodedBlock,
  ): OwnMessage & { readonly proposal: Proposal } {
    const { round, value, validRound } = effect;
    const body = { height, round, validRound, blockId: value };
    const signature = this.#guard.signProposal(body);
    const proposal: Proposal = { body, proposer: this.#account, signature, block: encoded };
    const data = encodeProposal(proposal);
    const verdict = { valid: true, timely: true };
    return {
      proposal,
      queued: {
        height,
        input: { type: 'proposal', proposal: { round, value, validRound, ...verdict } },
        record: { tag: 'proposal', value: { bytes: data, ...verdict } },
      },
      outgoing: { topic: 'proposals', round, step: 'proposal', data },
    };
  }

  /** True when what was said in a step is on disk and has left this node: before that nobody may get it. */
  hasLeft(step: OwnStep, round: number): boolean {
    return this.#sent.some((message) => message.step === step && message.round === round);
  }

  /** Remembers what left this node. */
  sent(messages: readonly Outgoing[]): void {
    this.#sent.push(...messages);
  }

  /** Messages to send again in this round. */
  recent(round: number): readonly Outgoing[] {
    return this.#sent.filter((message) => message.round > round - REBROADCAST_ROUNDS);
  }

  /** Learns from the write-ahead log what was signed and sent before a restart. */
  restore(own: Replay['own']): void {
    for (const message of own) {
      if ('vote' in message) {
        const { body, signature } = message.vote;
        this.#guard.observe('vote', body, signature);
        const step = VOTE_TYPES[body.type];
        this.#sent.push({ topic: 'votes', round: body.round, step, data: encodeVote(message.vote) });
      } else {
        const { body, signature } = message.proposal;
        this.#guard.observe('proposal', body, signature);
        this.#sent.push({ topic: 'proposals', round: body.round, step: 'proposal', data: message.encoded });
      }
    }
  }

  /** Forgets the height. */
  clear(): void {
    this.#sent = [];
  }
}
