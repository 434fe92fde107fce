/** Faults in how a change of the validator set reaches the parts of consensus. */
import type { Mutant } from './mutant.ts';

const SCHEDULE = 'node/consensus/proposer-schedule.ts';

export const SET_CHANGE_MUTANTS: readonly Mutant[] = [
  {
    name: 'the first set decides every height',
    file: 'node/consensus/engine.ts',
    find: 'this.#validators = application.validators(height) ?? [];',
    replace: 'this.#validators = application.validators(1) ?? [];',
  },
  {
    name: 'block sync verifies with the first set',
    file: 'node/consensus/block-sync.ts',
    find: 'const validators = application.validators(header.height);',
    replace: 'const validators = application.validators(1);',
  },
  {
    name: 'the wheel does not learn of changes',
    file: SCHEDULE,
    find: 'priorities = nextPriorities(priorities, validators);',
    replace: 'priorities = nextPriorities(priorities, priorities.validators);',
  },
  {
    name: 'the wheel of a node that starts anew begins at the present height',
    file: SCHEDULE,
    find: 'const anchor = Math.max(1, proposerAnchor(height));',
    replace: 'const anchor = height;',
  },
  {
    name: 'a change of the set acts one height early',
    file: 'node/ledger/validators.ts',
    find: 'draft.set(VALIDATORS, { next: afterNext, afterNext: elected });',
    replace: 'draft.set(VALIDATORS, { next: elected, afterNext: elected });',
  },
  {
    name: 'priorities grow apart without a bound',
    file: 'node/consensus/core/proposer.ts',
    find: 'if (spread > window) {',
    replace: 'if (spread < 0n) {',
  },
  {
    name: 'who left is still asked to vote',
    file: 'node/consensus/core/driver.ts',
    find: 'self: validators.some(({ account }) => account === self) ? self : undefined,',
    replace: 'self,',
  },
];
