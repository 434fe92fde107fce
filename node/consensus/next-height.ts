/**
 * Messages of the next height, which others may reach a moment before this node: checked like those of the present one,
 * because the state names the deciders of both, and kept until this node is there. Strangers have no place here, and each
 * validator has its own: what it may say in the first rounds.
 */
import type { AccountId } from '../chain/account.ts';
import type { Block, Proposal, Vote } from '../chain/block.ts';

/** Rounds that are kept. A height whose rounds fail so often while this node lacks the last block is asked for. */
const MAX_ROUNDS = 4;
/** Different votes of one validator for one round and type: two are evidence, more say nothing new. */
const MAX_VOTES_PER_STEP = 2;

/** What waited; see {@link NextHeight.release}. */
export interface WaitingMessages {
  readonly votes: readonly Vote[];
  readonly proposals: readonly { readonly proposal: Proposal; readonly block: Block }[];
}

/**
 * See the head of this file. At most {@link MAX_ROUNDS} proposals, one of each round, and 16 votes of each validator:
 * 5 MiB with the largest blocks and 256 validators.
 */
export class NextHeight {
  #height = 0;
  /** By validator, round and type. */
  readonly #votes = new Map<AccountId, Vote[]>();
  /** By round. */
  readonly #proposals = new Map<number, { readonly proposal: Proposal; readonly block: Block }>();

  /** True when the vote would be kept: worth the check of its signature. */
  wantsVote(vote: Vote): boolean {
    const { height, round, type, blockId } = vote.body;
    if (round >= MAX_ROUNDS) return false;
    if (height !== this.#height) return true;
    const ofStep = (this.#votes.get(vote.validator) ?? []).filter(
      ({ body }) => body.round === round && body.type === type,
    );
    return ofStep.length < MAX_VOTES_PER_STEP && ofStep.every(({ body }) => body.blockId !== blockId);
  }

  /** True when the proposal would be kept. The first of a round is. */
  wantsProposal({ body: { height, round } }: Proposal): boolean {
    return round < MAX_ROUNDS && (height !== this.#height || !this.#proposals.has(round));
  }

  /** Keeps a vote that is wanted, by a member of the next height's deciders, with a checked signature. */
  keepVote(vote: Vote): void {
    this.#enter(vote.body.height);
    this.#votes.set(vote.validator, [...(this.#votes.get(vote.validator) ?? []), vote]);
  }

  /** Keeps an authentic proposal that is wanted, with its decoded block. */
  keepProposal(proposal: Proposal, block: Block): void {
    this.#enter(proposal.body.height);
    this.#proposals.set(proposal.body.round, { proposal, block });
  }

  /** What waited for a height, which has begun. What waited for an earlier one is gone. */
  release(height: number): WaitingMessages {
    if (this.#height > height) return { votes: [], proposals: [] };
    const due = this.#height === height;
    const waiting = {
      votes: due ? [...this.#votes.values()].flat() : [],
      proposals: due ? [...this.#proposals.values()] : [],
    };
    this.#votes.clear();
    this.#proposals.clear();
    return waiting;
  }

  #enter(height: number): void {
    if (this.#height === height) return;
    this.#height = height;
    this.#votes.clear();
    this.#proposals.clear();
  }
}
