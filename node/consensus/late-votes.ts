/**
 * Votes of heights that are over, for one purpose: a second vote that comes late still contradicts the first. The votes
 * of the last heights are kept as they were when the height ended.
 */
import type { Vote } from '../chain/block.ts';
import type { ValidatorSet } from '../chain/validator-set.ts';
import { contradicted, type VoteKeeper } from './core/vote-keeper.ts';

/** Heights that are remembered: messages of a height travel for a few blocks after it. */
const REMEMBERED_HEIGHTS = 4;

/** See the head of this file. */
export class LateVotes {
  readonly #heights = new Map<number, { readonly votes: VoteKeeper; readonly validators: ValidatorSet }>();

  /** Keeps the votes of a height that is over. */
  remember(height: number, votes: VoteKeeper, validators: ValidatorSet): void {
    this.#heights.set(height, { votes, validators });
    this.#heights.delete(height - REMEMBERED_HEIGHTS);
  }

  /** The vote that this one contradicts, and who decided its height. The signature is still to be checked. */
  contradicted(vote: Vote): { readonly first: Vote; readonly validators: ValidatorSet } | undefined {
    const known = this.#heights.get(vote.body.height);
    const first = known && contradicted(known.votes, vote);
    return known && first && { first, validators: known.validators };
  }
}
