/** Proposer priorities of the height that is being decided, from the validator sets that the application knows. */

import type { Application } from './application.ts';
import {
  nextPriorities,
  PROPOSER_ANCHOR_INTERVAL,
  type ProposerPriorities,
  proposerAnchor,
  startPriorities,
} from './core/proposer.ts';

/** Remembers the last height, so that going on by one costs one step. */
export class ProposerSchedule {
  readonly #application: Pick<Application, 'validators'>;
  #known: { readonly height: number; readonly priorities: ProposerPriorities } | undefined;

  constructor(application: Pick<Application, 'validators'>) {
    this.#application = application;
  }

  /**
   * Priorities at the first round of `height`. Undefined where the application does not know a validator set since the
   * last anchor (a node that began at a snapshot): such a node cannot tell whose turn it is until the next anchor.
   */
  at(height: number): ProposerPriorities | undefined {
    if (this.#known?.height === height) return this.#known.priorities;
    // Heights count from 1, so the first anchor is there.
    const anchor = Math.max(1, proposerAnchor(height));
    const goesOn = this.#known !== undefined && this.#known.height >= anchor && this.#known.height < height;
    let at = goesOn ? (this.#known?.height ?? anchor) : anchor;
    let priorities = goesOn ? this.#known?.priorities : undefined;
    if (priorities === undefined) {
      const first = this.#application.validators(anchor);
      if (first === undefined || first.length === 0) return undefined;
      priorities = startPriorities(first);
    }
    for (let steps = 0; at < height && steps < PROPOSER_ANCHOR_INTERVAL; steps++) {
      at += 1;
      const validators = this.#application.validators(at);
      if (validators === undefined || validators.length === 0) return undefined;
      priorities = nextPriorities(priorities, validators);
    }
    this.#known = { height, priorities };
    return priorities;
  }

  /** Priorities of the height after one; undefined where they or its validators are not known. */
  after(height: number): ProposerPriorities | undefined {
    const validators = this.#application.validators(height + 1);
    if (validators === undefined || validators.length === 0) return undefined;
    if (proposerAnchor(height + 1) === height + 1) return startPriorities(validators);
    const priorities = this.at(height);
    return priorities && nextPriorities(priorities, validators);
  }
}
