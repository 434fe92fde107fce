/** Faults in how evidence of equivocation is found, told, kept and judged. */
import type { Mutant } from './mutant.ts';

const POOL = 'node/consensus/evidence-pool.ts';
const RELAY = 'node/consensus/evidence-relay.ts';
const INGRESS = 'node/consensus/ingress.ts';
const BLOCK = 'node/blockchain/block-evidence.ts';

export const EVIDENCE_MUTANTS: readonly Mutant[] = [
  {
    name: 'two different votes of one validator are no evidence',
    file: 'node/consensus/core/driver.ts',
    find: "if (result.conflict !== undefined) effects.push({ type: 'evidence', ...result.conflict });",
    replace: '',
  },
  {
    name: 'a second vote after its height is over is not looked at',
    file: 'node/consensus/late-votes.ts',
    find: 'this.#heights.set(height, { votes, validators });',
    replace: '',
  },
  {
    name: 'a late vote accuses whoever it names, signed or not',
    file: INGRESS,
    find: "if (!verify(validator.sessionKey, voteSignBytes(networkId, vote.body), vote.signature))\n      throw new Reject('signature');\n    onEvidence",
    replace: 'onEvidence',
  },
  {
    name: 'evidence that was found is not told to others',
    file: RELAY,
    find: "if (this.#components.pool.add(evidence, true) === 'taken') this.#publish(evidence);",
    replace: 'this.#components.pool.add(evidence, true);',
  },
  {
    name: 'forged evidence costs its sender nothing',
    file: RELAY,
    find: "if (outcome === 'wrong') throw new Reject('wrong-evidence');",
    replace: '',
  },
  {
    name: 'evidence from gossip is not proven',
    file: POOL,
    find: "if (!proven && !this.#isProven(evidence)) return 'wrong';",
    replace: '',
  },
  {
    name: 'evidence is forgotten over a restart',
    file: POOL,
    find: 'this.#log.append(encodeEvidence(evidence));\n      await this.#log.sync();',
    replace: 'this.#log.append(encodeEvidence(evidence));',
  },
  {
    name: 'settled evidence waits for ever',
    file: POOL,
    find: "if (status === 'known' || status === 'expired') this.#pending.delete(id);",
    replace: '',
  },
  {
    name: 'evidence about the height that is being decided is dropped',
    file: POOL,
    find: "const soon = status === 'early' && isKnownHeight;",
    replace: 'const soon = false;',
  },
  {
    name: 'one offender may fill the pool',
    file: POOL,
    find: 'known.length >= MAX_PENDING_PER_OFFENDER || ',
    replace: '',
  },
  {
    name: 'the pool has no bound',
    file: POOL,
    find: "return this.#pending.size >= MAX_PENDING_EVIDENCE ? 'full' : undefined;",
    replace: 'return undefined;',
  },
  {
    name: 'a proposer keeps evidence to itself',
    file: 'node/consensus/block-work.ts',
    find: 'await execution.build(height, signer, evidence(), wanted);',
    replace: 'await execution.build(height, signer, evidence().slice(0, 0), wanted);',
  },
  {
    name: 'voters do not check the evidence of a block',
    file: BLOCK,
    find: 'verifyEvidence(item, { networkId, validators, verify: verifySession });',
    replace: 'void [verifyEvidence, networkId, verifySession];',
  },
  {
    name: 'a node that began at a snapshot does not know earlier validators',
    file: 'node/blockchain/blockchain.ts',
    find: 'if (hash === undefined) return this.#state.validatorsAt(height);',
    replace: 'if (hash === undefined) return undefined;',
  },
  {
    name: 'the state does not remember who decided',
    file: 'node/ledger/validators.ts',
    find: 'rememberValidators(draft, at.height, { decided: next, next: afterNext }, parameters.staking.unbondingBlocks);',
    replace: 'void rememberValidators;',
  },
  {
    name: 'a block may hold any amount of evidence',
    file: BLOCK,
    find: 'if (encoded.length > MAX_EVIDENCE_PER_BLOCK)',
    replace: 'if (encoded.length < 0)',
  },
  {
    name: 'a signature of one vote stands for both',
    file: 'node/chain/evidence.ts',
    find: 'for (const { body, signature } of [first, second]) {',
    replace: 'for (const { body, signature } of [first]) {',
  },
  {
    name: 'evidence counts more than once',
    file: 'node/ledger/offences.ts',
    find: "if (readStake(reader, evidence.first.validator).tombstoned) return 'ERR_ALREADY_PUNISHED';",
    replace: '',
  },
  {
    name: 'evidence never expires',
    file: 'node/ledger/offences.ts',
    find: "if (height - offenceHeight >= unbondingBlocks || isForgotten(reader, offenceHeight)) return 'ERR_EVIDENCE_TOO_OLD';",
    replace: '',
  },
];
