/** Who decides a height, and whose turn each of its rounds is. */
import type { AccountId } from '../chain/account.ts';
import type { SessionKey, ValidatorSet } from '../chain/validator-set.ts';
import { type ProposerPriorities, proposersFrom } from './core/proposer.ts';

/** See the head of this file. */
export class Deciders {
  readonly height: number;
  readonly validators: ValidatorSet;
  readonly #keys: ReadonlyMap<AccountId, SessionKey>;
  /** Proposers of the first rounds, as far as somebody asked. */
  readonly #turns: AccountId[] = [];
  readonly #wheel: Iterator<AccountId, never> | undefined;

  /** `proposers`: priorities at the first round. Absent where this node cannot tell whose turn it is. */
  constructor(height: number, validators: ValidatorSet, proposers: ProposerPriorities | undefined) {
    this.height = height;
    this.validators = validators;
    this.#keys = new Map(validators.map(({ account, sessionKey }) => [account, sessionKey]));
    this.#wheel = proposers && proposersFrom(proposers);
  }

  /** The session key of a member. */
  sessionKey(account: AccountId): SessionKey | undefined {
    return this.#keys.get(account);
  }

  /**
   * Whose turn a round is; undefined where this node cannot know. Each round is worked out once, and remembered: bound
   * the round before asking.
   */
  proposerOf(round: number): AccountId | undefined {
    while (this.#wheel !== undefined && this.#turns.length <= round) this.#turns.push(this.#wheel.next().value);
    return this.#turns[round];
  }
}
