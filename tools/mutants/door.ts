/** Faults in who may make a node keep, check or execute what: messages that come early, and of one validator alone. */
import type { Mutant } from './mutant.ts';

const INGRESS = 'node/consensus/ingress.ts';
const NEXT = 'node/consensus/next-height.ts';
const KEEPER = 'node/consensus/core/vote-keeper.ts';
const ENGINE = 'node/consensus/engine.ts';

export const DOOR_MUTANTS: readonly Mutant[] = [
  {
    name: 'a peer that was silent is asked again at once',
    file: 'node/consensus/patience.ts',
    find: 'return (this.#peers.get(peer)?.untilMs ?? 0) > this.#clock.nowMs();',
    replace: 'return this.#clock.nowMs() < (this.#peers.get(peer)?.silences ?? 0) - 1e9;',
  },
  {
    name: 'peers that boast hold all the questions of a node',
    file: 'node/consensus/service.ts',
    find: 'const MAX_BOASTERS_ASKED = 2;',
    replace: 'const MAX_BOASTERS_ASKED = MAX_ASKED;',
  },
  {
    name: 'slow peers come before prompt ones',
    file: 'node/consensus/block-sync.ts',
    find: 'return [false, true].flatMap((slow) => {',
    replace: 'return [true, false].flatMap((slow) => {',
  },
  {
    name: 'what comes before its height is dropped',
    file: INGRESS,
    find: "if (engine.nextDeciders === undefined) throw new Ignore('next-height');",
    replace: "if (engine.nextDeciders !== undefined) throw new Ignore('next-height');",
  },
  {
    name: 'what waited for a height is not handed on',
    file: INGRESS,
    find: 'for (const vote of votes) if (this.#isWantedNow(vote)) engine.submitVote(vote);',
    replace: 'void votes;',
  },
  {
    name: 'early votes of one validator have no bound',
    file: NEXT,
    find: 'return ofStep.length < MAX_VOTES_PER_STEP && ofStep',
    replace: 'return ofStep',
  },
  {
    name: 'early messages are kept for any round',
    file: NEXT,
    find: 'if (round >= MAX_ROUNDS) return false;',
    replace: '',
  },
  {
    name: 'a validator that counts its rounds upwards is heard for ever',
    file: KEEPER,
    find: 'return round > rounds[0] && replaced < MAX_REPLACED_ROUNDS;',
    replace: 'return round > rounds[0];',
  },
  {
    name: 'a validator that was ahead once is never heard again',
    file: KEEPER,
    find: 'ahead.set(validator, { rounds: still, replaced: 0 });',
    replace: 'ahead.set(validator, { rounds: still, replaced: MAX_REPLACED_ROUNDS });',
  },
  {
    name: 'all blocks that a proposer signs for one round are executed',
    file: ENGINE,
    find: 'return underWay.length === 0 || (!underWay.includes(id) && hasSupport(this.#core.votes, round, id));',
    replace: 'return hasSupport !== undefined && !underWay.includes(id);',
  },
];
