/**
 * What the network may tell the engine. Checks are ordered by cost: size and form, height, membership, whether the core
 * wants it at all, and only then the signature, which is so verified once for each message. Throws Ignore or Reject.
 *
 * Messages of the next height arrive while this node still finishes the present one. Its deciders are known, so they are
 * judged in the same way, and wait (next-height.ts).
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
import { NO_ROUND } from './core/state-machine.ts';
import { isWanted } from './core/vote-keeper.ts';
import type { Deciders } from './deciders.ts';
import type { Engine } from './engine.ts';
import { NextHeight } from './next-height.ts';

/** The topics of consensus. */
export type ConsensusTopic = 'proposals' | 'votes';

export interface IngressComponents {
  readonly engine: Pick<
    Engine,
    | 'height'
    | 'core'
    | 'late'
    | 'deciders'
    | 'nextDeciders'
    | 'isQueued'
    | 'wantsProposal'
    | 'submitVote'
    | 'submitProposal'
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
  readonly #next = new NextHeight();

  constructor(components: IngressComponents) {
    this.#components = components;
  }

  /** Takes a message of either topic. Returns when it was authentic and new; throws Ignore or Reject otherwise. */
  receive(topic: ConsensusTopic, data: Uint8Array, from: PeerIdText): void {
    if (topic === 'votes') this.#vote(data, from);
    else this.#proposal(data, from);
  }

  /** Call when a height has begun: hands the engine what waited for it. */
  releaseWaiting(): void {
    const { engine } = this.#components;
    const { votes, proposals } = this.#next.release(engine.height);
    for (const { proposal, block } of proposals)
      if (engine.wantsProposal(proposal.body.round, proposal.body.blockId)) engine.submitProposal(proposal, block);
    for (const vote of votes) if (this.#isWantedNow(vote)) engine.submitVote(vote);
  }

  /** Those who decide a height that this node can judge messages of. Throws Ignore for any other. */
  #decidersOf(height: number, from: PeerIdText): Deciders {
    const { engine, onAhead } = this.#components;
    if (height < engine.height) throw new Ignore('old-height');
    if (height === engine.height) return engine.deciders;
    if (height > engine.height + 1) {
      onAhead(from, height);
      throw new Ignore('future-height');
    }
    if (engine.nextDeciders === undefined) throw new Ignore('next-height');
    return engine.nextDeciders;
  }

  #isWantedNow(vote: Vote): boolean {
    const { engine } = this.#components;
    const { core } = engine;
    // What waits for its turn is not counted yet, and so still wanted by the core, but already here.
    return isWanted(core.votes, vote, core.machine.round) && !engine.isQueued(vote);
  }

  #vote(data: Uint8Array, from: PeerIdText): void {
    const { engine, networkId, verify } = this.#components;
    const vote: Vote = decoded(decodeVote, data);
    const { height, type } = vote.body;
    if (type >= VOTE_TYPES.length) throw new Reject('vote-type');
    if (height < engine.height) {
      this.#lateVote(vote);
      return;
    }
    const deciders = this.#decidersOf(height, from);
    const sessionKey = deciders.sessionKey(vote.validator);
    if (sessionKey === undefined) throw new Reject('not-a-validator');
    const now = height === engine.height;
    if (!(now ? this.#isWantedNow(vote) : this.#next.wantsVote(vote))) throw new Ignore('duplicate');
    if (!verify(sessionKey, voteSignBytes(networkId, vote.body), vote.signature)) throw new Reject('signature');
    if (now) engine.submitVote(vote);
    else this.#next.keepVote(vote);
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
    const deciders = this.#decidersOf(height, from);
    const now = height === engine.height;
    if (!(now ? engine.wantsProposal(round, id) : this.#next.wantsProposal(proposal))) throw new Ignore('duplicate');
    const proposer = deciders.proposerOf(round);
    if (proposer === undefined) throw new Ignore('proposer-unknown');
    if (proposal.proposer !== proposer) throw new Reject('not-the-proposer');
    const sessionKey = deciders.sessionKey(proposer);
    const message = proposalSignBytes(networkId, proposal.body);
    if (sessionKey === undefined || !verify(sessionKey, message, proposal.signature)) throw new Reject('signature');
    const block = this.#blockOf(proposal, deciders);
    if (now) engine.submitProposal(proposal, block);
    else this.#next.keepProposal(proposal, block);
  }

  /**
   * The block of a proposal, as far as it can be checked without executing it. What the proposer signed binds the header,
   * and the header each byte of the body: a body of another header is made up by who delivered it (each honest peer looks
   * before it passes a proposal on), and the true one is still wanted, from anyone. So whatever is wrong with a block that
   * comes through here is its proposer's own fault.
   */
  #blockOf(proposal: Proposal, deciders: Deciders): Block {
    const { networkId } = this.#components;
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
    for (let turn = last; turn >= first; turn--) if (deciders.proposerOf(turn) === block.header.proposer) return block;
    throw new Reject('block-proposer');
  }
}
