/** Faults that a test or a simulated seed must catch: each takes one safeguard out of consensus. */
import type { Mutant } from './mutant.ts';

const MACHINE = 'node/consensus/core/state-machine.ts';
const KEEPER = 'node/consensus/core/vote-keeper.ts';
const DRIVER = 'node/consensus/core/driver.ts';
const PROPOSER = 'node/consensus/core/proposer.ts';
const ENGINE = 'node/consensus/engine.ts';
const GUARD = 'node/consensus/signer-guard.ts';
const LOG = 'node/consensus/framed-log.ts';
const INGRESS = 'node/consensus/ingress.ts';
const SYNC = 'node/consensus/block-sync.ts';
const COMMIT = 'node/consensus/commit-verifier.ts';
const REPLAY = 'node/consensus/replay.ts';

export const CONSENSUS_MUTANTS: readonly Mutant[] = [
  {
    name: 'L23: the lock is not looked at for a new proposal',
    file: MACHINE,
    find: 'const free = state.locked === undefined || state.locked.value === input.value; // L23',
    replace: 'const free = true;',
  },
  {
    name: 'L29: any earlier quorum frees from the lock',
    file: MACHINE,
    find: 'state.locked === undefined || state.locked.round <= input.validRound || state.locked.value === input.value; // L29',
    replace: 'true;',
  },
  {
    name: 'L29: a quorum of the round of the lock does not free from it',
    file: MACHINE,
    find: 'state.locked.round <= input.validRound',
    replace: 'state.locked.round < input.validRound',
  },
  {
    name: 'L28: the valid round may be the present one',
    file: MACHINE,
    find: 'input.validRound >= 0 && input.validRound < state.round',
    replace: 'input.validRound >= 0',
  },
  {
    name: 'L38: no lock',
    file: MACHINE,
    find: "state: { ...state, step: 'precommit', locked: here, valid: here }, // L38-L39, L41-L43",
    replace: "state: { ...state, step: 'precommit', valid: here },",
  },
  {
    name: 'L42: no valid value in the precommit step',
    file: MACHINE,
    find: "if (state.step === 'precommit') return unchanged({ ...state, valid: here }); // L42-L43",
    replace: '',
  },
  {
    name: 'L16: the valid value is not proposed again',
    file: MACHINE,
    find: 'if (state.valid === undefined) return',
    replace: 'return',
  },
  {
    name: 'L57: the propose timeout of another round counts',
    file: MACHINE,
    find: "if (input.round !== state.round || state.step === 'unstarted') return unchanged(state);",
    replace: '',
  },
  {
    name: 'L44: no precommit for nil without the timeout',
    file: MACHINE,
    find: "return state.step === 'prevote' ? precommitNil(state) : unchanged(state); // L44-L46",
    replace: 'return unchanged(state);',
  },
  {
    name: 'a quorum is half of the power',
    file: 'node/chain/validator-set.ts',
    find: 'return power * 3n > total * 2n;',
    replace: 'return power * 2n > total;',
  },
  {
    name: 'two thirds exactly are a quorum',
    file: 'node/chain/validator-set.ts',
    find: 'return power * 3n > total * 2n;',
    replace: 'return power * 3n >= total * 2n;',
  },
  {
    name: 'any validator alone moves others to its round',
    file: KEEPER,
    find: 'return power * 3n > total;',
    replace: 'return power > 0n;',
  },
  {
    name: 'an equivocator is counted for its last vote as well',
    file: KEEPER,
    find: 'const counted = countsAsFurther(keeper, tally, vote);',
    replace: 'const counted = false;',
  },
  {
    name: 'a second vote adds to those who voted',
    file: KEEPER,
    find: 'voted: first ? tally.voted + power : tally.voted,',
    replace: 'voted: tally.voted + power,',
  },
  {
    name: 'future rounds of a validator have no bound',
    file: KEEPER,
    find: 'export const MAX_FUTURE_ROUNDS_PER_VALIDATOR = 4;',
    replace: 'export const MAX_FUTURE_ROUNDS_PER_VALIDATOR = 1e9;',
  },
  {
    name: 'L49: only the present round decides',
    file: DRIVER,
    find: "if (valid && hasQuorum(votes, proposalRound, 'precommit', value))",
    replace: "if (valid && proposalRound === round && hasQuorum(votes, proposalRound, 'precommit', value))",
  },
  {
    name: 'L50: an invalid value is decided',
    file: DRIVER,
    find: "if (valid && hasQuorum(votes, proposalRound, 'precommit', value))",
    replace: "if (hasQuorum(votes, proposalRound, 'precommit', value))",
  },
  {
    name: 'L28: a proposal with a valid round needs no quorum',
    file: DRIVER,
    find: "if (validRound >= 0 && hasQuorum(votes, validRound, 'prevote', value))",
    replace: 'if (validRound >= 0)',
  },
  {
    name: 'L36: prevotes for the value are not counted, only prevotes',
    file: DRIVER,
    find: "if (valid && hasQuorum(votes, round, 'prevote', value)) return",
    replace: "if (valid && hasQuorumAny(votes, round, 'prevote')) return",
  },
  {
    name: 'L34: the prevote timeout is not armed',
    file: DRIVER,
    find: "if (!state.prevoteTimeoutArmed && hasQuorumAny(votes, round, 'prevote')) return { type: 'polkaAny' }; // L34",
    replace: '',
  },
  {
    name: 'L47: the precommit timeout is not armed',
    file: DRIVER,
    find: "if (!state.precommitTimeoutArmed && hasQuorumAny(votes, round, 'precommit')) return { type: 'precommitAny' }; // L47",
    replace: '',
  },
  {
    name: 'L55: no round is skipped',
    file: DRIVER,
    find: "if (target !== undefined) return { type: 'skipRound', round: target };",
    replace: '',
  },
  {
    name: 'the clock bound is not looked at',
    file: DRIVER,
    find: 'acceptable: proposal.valid && proposal.timely',
    replace: 'acceptable: proposal.valid',
  },
  {
    name: 'a newcomer starts at the front',
    file: PROPOSER,
    find: 'const joinerPriority = -(total + (total >> 3n));',
    replace: 'const joinerPriority = total;',
  },
  {
    name: 'own messages leave before the log is synced',
    file: ENGINE,
    find: "await this.#persistently('write-ahead log', async () => this.#wal?.sync());",
    replace: 'void this.#wal?.sync();',
  },
  {
    name: 'the guard is not persisted',
    file: ENGINE,
    find: "await this.#persistently('signer guard', async () => this.#guard?.persist());",
    replace: '',
  },
  {
    name: 'no file is ever synced',
    file: LOG,
    find: 'await this.#file.sync();\n    this.#failed = false;',
    replace: 'this.#failed = false;',
  },
  {
    name: 'a torn end is not cut off',
    file: LOG,
    find: 'await file.truncate(validBytes);',
    replace: '',
  },
  {
    name: 'the checksum is not compared',
    file: LOG,
    find: 'if (crc32(payload) !== bytes.readUInt32LE(at + 4)) break;',
    replace: '',
  },
  {
    name: 'the guard signs a second message for the same step',
    file: GUARD,
    find: 'if (order <= 0) {',
    replace: 'if (order < 0) {',
  },
  {
    name: 'the guard signs earlier steps',
    file: GUARD,
    find: 'if (order <= 0) {',
    replace: 'if (order === 0) {',
  },
  {
    name: 'a node votes although its log lacks what it signed',
    file: ENGINE,
    find: 'const covered = logCovers(records, this.#account, last);',
    replace: 'const covered = true;',
  },
  {
    name: 'the log is not replayed',
    file: ENGINE,
    find: 'if (current.length > 0) this.#replay(current);',
    replace: '',
  },
  {
    name: 'timeouts are forgotten over a restart',
    file: REPLAY,
    find: "return effect.type === 'scheduleTimeout' && effect.round === round;",
    replace: 'return false;',
  },
  {
    name: 'what was decided is forgotten over a restart',
    file: REPLAY,
    find: "if (effect.type === 'decide' || effect.type === 'vote' || effect.type === 'evidence') return true;",
    replace: "if (effect.type === 'vote' || effect.type === 'evidence') return true;",
  },
  {
    name: 'signatures of votes are not checked',
    file: INGRESS,
    find: "if (!verify(validator.sessionKey, voteSignBytes(networkId, vote.body), vote.signature))\n      throw new Reject('signature');\n    engine",
    replace: 'engine',
  },
  {
    name: 'messages of the next height are dropped, and no peer is asked',
    file: 'node/consensus/service.ts',
    find: 'if (peers.length > 0) this.#ask(peers[this.#turn++ % peers.length]);',
    replace: '',
  },
  {
    name: 'block sync does not verify commits',
    file: SYNC,
    find: 'verifyCommit({',
    replace: 'void ({',
  },
  {
    name: 'a lying peer is not dropped',
    file: SYNC,
    find: 'this.#remember(peer, { ...known, height: 0, lies: known.lies + 1, droppedUntilMs });',
    replace: '',
  },
  {
    name: 'commits: signatures are not checked',
    file: COMMIT,
    find: 'if (member === undefined || !verify(member.sessionKey, message, signature))',
    replace: 'if (member === undefined)',
  },
  {
    name: 'commits: one may sign twice',
    file: COMMIT,
    find: 'if (validator <= previous) throw',
    replace: 'if (validator < previous) throw',
  },
  {
    name: 'commits: prevotes will do',
    file: COMMIT,
    find: 'const PRECOMMIT = 1;',
    replace: 'const PRECOMMIT = 0;',
  },
];
