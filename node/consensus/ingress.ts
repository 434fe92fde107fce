/**
 * What the network may tell the engine. Checks are ordered by cost: size and form, height, membership, whether the core
 * wants it at all, and only then the signature, which is so verified once for each message. Throws Ignore or Reject.
 *
 * Messages of the next height arrive while this node still finishes the present one; a bounded number waits here.
 */
import {
  type Block,
  blockId,
  decodeBlock,
  decodeProposal,
  decodeVote,
  type Proposal,
  proposalSignBytes,
  VOTE_TYPES,
  type Vote,
  voteSignBytes,
} from '../chain/block.ts';
import { bodyFault } from '../chain/block-body.ts';
import { DecodeError } from '../chain/codec.ts';
import { type EquivocationEvidence, equivocationEvidence } from '../chain/evidence.ts';
import { Ignore, type PeerIdText, Reject } from '../network/interface.ts';
import type { VerifySession } from './commit-verifier.ts';
import { isProposalWanted } from './core/driver.ts';
import { NO_ROUND } from './core/state-machine.ts';
import { isWanted } from './core/vote-keeper.ts';
import type { Engine } from './engine.ts';

/** The topics of consensus. */
export type ConsensusTopic = 'proposals' | 'votes';

/** Messages of the next height that wait, for each peer: two votes of each of 100 validators, with room. */
const MAX_WAITING_PER_PEER = 256;
/** Bytes of messages of the next height that wait, from all peers together. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;

export interface IngressComponents {
  readonly engine: Pick<
    Engine,
    'height' | 'core' | 'late' | 'validators' | 'proposerOf' | 'isQueued' | 'submitVote' | 'submitProposal'
  >;
  readonly networkId: Uint8Array;
  readonly verify: VerifySession;
  /** True when this evidence would be of use: worth the check of a signature. */
  wantsEvidence(evidence: EquivocationEvidence): boolean;
  /** A vote of a height that is over contradicts another; both signatures were checked. */
  onEvidence(evidence: EquivocationEvidence): void;
  /** A peer spoke of a height that this node cannot be at: it may be behind. */
  onAhead(peer: PeerIdText, height: number): void;
}

/** A message that came before its height. */
export interface WaitingMessage {
  readonly topic: ConsensusTopic;
  readonly data: Uint8Array;
  readonly from: PeerIdText;
}

function decoded<T>(decode: (data: Uint8Array) => T, data: Uint8Array): T {
  try {
    return decode(data);
  } catch (error) {
    if (error instanceof DecodeError) throw new Reject('malformed', error.message);
    throw error;
  }
}

/** See the head of this file. */
export class Ingress {
  readonly #components: IngressComponents;
  #waiting: WaitingMessage[] = [];
  #waitingBytes = 0;

  constructor(components: IngressComponents) {
    this.#components = components;
  }

  /** Takes a message of either topic. Returns when it was authentic and new; throws Ignore or Reject otherwise. */
  receive(topic: ConsensusTopic, data: Uint8Array, from: PeerIdText): void {
    if (topic === 'votes') this.#vote(data, from);
    else this.#proposal(data, from);
  }

  /** Call when a height begins: what waited for it, each to be given to {@link receive} again. */
  takeWaiting(): readonly WaitingMessage[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    return waiting;
  }

  #checkHeight(topic: ConsensusTopic, height: number, data: Uint8Array, from: PeerIdText): void {
    const { engine, onAhead } = this.#components;
    if (height < engine.height) throw new Ignore('old-height');
    if (height === engine.height) return;
    if (height > engine.height + 1) {
      onAhead(from, height);
      throw new Ignore('future-height');
    }
    const ofPeer = this.#waiting.reduce((count, waiting) => count + (waiting.from === from ? 1 : 0), 0);
    if (ofPeer >= MAX_WAITING_PER_PEER || this.#waitingBytes + data.length > MAX_WAITING_BYTES)
      throw new Ignore('future-height-full');
    this.#waiting.push({ topic, data, from });
    this.#waitingBytes += data.length;
    throw new Ignore('next-height');
  }

  #vote(data: Uint8Array, from: PeerIdText): void {
    const { engine, networkId, verify } = this.#components;
    const vote: Vote = decoded(decodeVote, data);
    if (vote.body.type >= VOTE_TYPES.length) throw new Reject('vote-type');
    if (vote.body.height < engine.height) {
      this.#lateVote(vote);
      return;
    }
    this.#checkHeight('votes', vote.body.height, data, from);
    const validator = engine.validators.find(({ account }) => account === vote.validator);
    if (validator === undefined) throw new Reject('not-a-validator');
    const core = engine.core;
    if (!isWanted(core.votes, vote, core.machine.round)) throw new Ignore('duplicate');
    // Not counted yet, and so still wanted, but already here.
    if (engine.isQueued(vote)) throw new Ignore('duplicate');
    if (!verify(validator.sessionKey, voteSignBytes(networkId, vote.body), vote.signature))
      throw new Reject('signature');
    engine.submitVote(vote);
  }

  /** A vote of a height that is over matters only when it contradicts another: then others are to see it as well. */
  #lateVote(vote: Vote): void {
    const { engine, networkId, verify, wantsEvidence, onEvidence } = this.#components;
    const known = engine.late.contradicted(vote);
    if (known === undefined) throw new Ignore('old-height');
    const evidence = equivocationEvidence(known.first, vote, known.validators);
    if (!wantsEvidence(evidence)) throw new Ignore('old-height');
    const validator = known.validators.find(({ account }) => account === vote.validator);
    if (validator === undefined) throw new Ignore('old-height');
    if (!verify(validator.sessionKey, voteSignBytes(networkId, vote.body), vote.signature))
      throw new Reject('signature');
    onEvidence(evidence);
  }

  #proposal(data: Uint8Array, from: PeerIdText): void {
    const { engine, networkId, verify } = this.#components;
    const proposal: Proposal = decoded(decodeProposal, data);
    const { height, round, validRound, blockId: id } = proposal.body;
    if (validRound < NO_ROUND || validRound >= round) throw new Reject('valid-round');
    this.#checkHeight('proposals', height, data, from);
    if (!isProposalWanted(engine.core, round, id)) throw new Ignore('duplicate');
    const proposer = engine.proposerOf(round);
    if (proposer === undefined) throw new Ignore('proposer-unknown');
    if (proposal.proposer !== proposer) throw new Reject('not-the-proposer');
    const validator = engine.validators.find(({ account }) => account === proposer);
    const message = proposalSignBytes(networkId, proposal.body);
    if (validator === undefined || !verify(validator.sessionKey, message, proposal.signature))
      throw new Reject('signature');
    engine.submitProposal(proposal, this.#blockOf(proposal));
  }

  /**
   * The block of a proposal, as far as it can be checked without executing it. What the proposer signed binds the header,
   * and the header each byte of the body: a body of another header is made up by who delivered it (each honest peer looks
   * before it passes a proposal on), and the true one is still wanted, from anyone. So whatever is wrong with a block that
   * comes through here is its proposer's own fault.
   */
  #blockOf(proposal: Proposal): Block {
    const { engine, networkId } = this.#components;
    const { height, round, validRound, blockId: id } = proposal.body;
    const block = decoded(decodeBlock, proposal.block);
    if (blockId(block.header) !== id) throw new Reject('block-id');
    if (block.header.height !== height) throw new Reject('block-height');
    if (Buffer.compare(block.header.network, networkId) !== 0) throw new Reject('block-network');
    const fault = bodyFault(block);
    if (fault !== undefined) throw new Reject('block-body', `not the ${fault} of its header`);
    // A new block is its proposer's own; one that comes again keeps the proposer of an earlier round.
    const last = validRound === NO_ROUND ? round : validRound;
    const first = validRound === NO_ROUND ? round : 0;
    for (let turn = last; turn >= first; turn--) if (engine.proposerOf(turn) === block.header.proposer) return block;
    throw new Reject('block-proposer');
  }
}
