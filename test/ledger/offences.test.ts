/** Evidence of equivocation: what it is, and what it costs. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { amount } from '../../node/chain/amount.ts';
import { type Vote, voteSignBytes } from '../../node/chain/block.ts';
import { bond, unbond } from '../../node/chain/calls.ts';
import {
  decodeEvidence,
  type EquivocationEvidence,
  encodeEvidence,
  equivocationEvidence,
  evidenceId,
  InvalidEvidenceError,
  MAX_EVIDENCE_BYTES,
  verifyEvidence,
} from '../../node/chain/evidence.ts';
import { verifySession } from '../../node/chain/session-signature.ts';
import { sessionSigner } from '../../node/identity/signatures.ts';
import { InvalidBlockError } from '../../node/ledger/errors.ts';
import { buildBlock } from '../../node/ledger/execute.ts';
import { evidenceError, punishment, SHARE_SCALE } from '../../node/ledger/offences.ts';
import { alice, certificate, LedgerHarness, namedAccount, namedHash, testParameters, withBalances } from './harness.ts';

const networkId = new Uint8Array(8).fill(3);
const signers = [1, 2, 3].map((seed) => sessionSigner(new Uint8Array(32).fill(seed)));
const set = signers
  .map(({ sessionKey }, index) => ({
    account: namedAccount(`voter ${index}`),
    sessionKey,
    power: BigInt(index + 1),
    index,
  }))
  .sort((a, b) => (a.account < b.account ? -1 : 1));

function vote(member: (typeof set)[number], block: string | undefined, override: Partial<Vote['body']> = {}): Vote {
  const blockId = block === undefined ? undefined : namedHash(block);
  const body = { type: 0, height: 5, round: 2, blockId, ...override };
  return { body, validator: member.account, signature: signers[member.index].sign(voteSignBytes(networkId, body)) };
}

const at = { networkId, validators: set, verify: verifySession };

function fault(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof InvalidEvidenceError) return error.code;
    throw error;
  }
  return 'none';
}

test('two contradicting votes are evidence, in either order, also against a vote for nil', () => {
  const [member] = set;
  for (const [a, b] of [
    [vote(member, 'x'), vote(member, 'y')],
    [vote(member, 'x'), vote(member, undefined)],
  ]) {
    const evidence = equivocationEvidence(a, b, set);
    assert.equal(equivocationEvidence(b, a, set), evidence);
    assert.equal(decodeEvidence(encodeEvidence(evidence)), evidence);
    assert.ok(encodeEvidence(evidence).length <= MAX_EVIDENCE_BYTES);
    assert.equal(verifyEvidence(evidence, at), {
      offender: member.account,
      height: 5,
      power: member.power,
      totalPower: 6n,
    });
  }
});

test('the id is that of the offence, whatever the blocks', () => {
  const [member, second] = set;
  const id = (a: Vote, b: Vote) => evidenceId(equivocationEvidence(a, b, set));
  const first = id(vote(member, 'x'), vote(member, 'y'));
  assert.is(id(vote(member, 'x'), vote(member, 'z')), first);
  assert.is.not(id(vote(second, 'x'), vote(second, 'y')), first);
  for (const other of [{ type: 1 }, { height: 6 }, { round: 3 }]) {
    assert.is.not(id(vote(member, 'x', other), vote(member, 'y', other)), first);
  }
});

test('everything that proves nothing is told apart', () => {
  const [member, second] = set;
  const evidence = equivocationEvidence(vote(member, 'x'), vote(member, 'y'), set);
  const check = (change: Partial<EquivocationEvidence>) => fault(() => verifyEvidence({ ...evidence, ...change }, at));
  assert.is(check({}), 'none');
  assert.is(check({ second: { ...evidence.second, validator: second.account } }), 'ERR_VOTES_OF_TWO');
  for (const other of [{ type: 1 }, { height: 6 }, { round: 3 }]) {
    assert.is(check({ second: vote(member, 'y', other) }), 'ERR_VOTES_NOT_COMPARABLE');
  }
  assert.is(check({ second: evidence.first }), 'ERR_VOTES_AGREE');
  assert.is(check({ first: evidence.second, second: evidence.first }), 'ERR_VOTES_UNORDERED');
  assert.is(check({ power: evidence.power + 1n }), 'ERR_WRONG_POWER');
  assert.is(check({ totalPower: 7n }), 'ERR_WRONG_POWER');
  for (const side of ['first', 'second'] as const) {
    const forged = { ...evidence[side], signature: evidence[side === 'first' ? 'second' : 'first'].signature };
    assert.is(check({ [side]: forged }), 'ERR_BAD_VOTE_SIGNATURE');
  }
  const without = { ...at, validators: [second] };
  assert.is(
    fault(() => verifyEvidence(evidence, without)),
    'ERR_OFFENDER_NOT_IN_SET',
  );
  assert.is(
    fault(() => equivocationEvidence(vote(member, 'x'), vote(member, 'y'), [second])),
    'ERR_OFFENDER_NOT_IN_SET',
  );
  assert.is(
    fault(() => verifyEvidence(evidence, { ...at, networkId: new Uint8Array(8) })),
    'ERR_BAD_VOTE_SIGNATURE',
  );
});

test('the punishment: nine times the square of the share, everything from a third on, rounded up', () => {
  assert.is(punishment(1_000_000n, SHARE_SCALE / 10n), 90_000n);
  assert.is(punishment(1_000_000n, SHARE_SCALE / 4n), 562_500n);
  assert.is(punishment(1_000_000n, SHARE_SCALE / 3n + 1n), 1_000_000n);
  assert.is(punishment(1_000_000n, SHARE_SCALE), 1_000_000n);
  assert.is(punishment(1n, 1n), 1n);
  assert.is(punishment(0n, SHARE_SCALE), 0n);
});

const names = ['a', 'b', 'c'].map(namedAccount);

/** Three stakers of 10 each beside four founders of 10 each; the set of 70 decides from block 3 on. */
function staked(parameters = testParameters()): LedgerHarness {
  const ledger = new LedgerHarness({ parameters });
  ledger.state = withBalances(ledger.state, new Map(names.map((account) => [account, alice(20)])));
  ledger.block(
    names.flatMap((account, index) => [
      [account, bond(amount(alice(10)))] as const,
      [account, certificate(ledger, account, index + 1)] as const,
    ]),
  );
  for (let blocks = 0; blocks < 3; blocks++) ledger.block();
  return ledger;
}

/** Rounded up twice, as the ledger does: the share, then the punishment. */
function due(base: bigint, x: bigint, n: bigint, offenders = 1n): bigint {
  const each = (x * SHARE_SCALE + n - 1n) / n;
  return punishment(base, each * offenders);
}

test('one offender of seven loses (3/7)^2, its key and its vote; the loss is burned and remembered', () => {
  const ledger = staked();
  const [a] = names;
  const issued = ledger.state.supply.totalIssuance;
  ledger.block([], 100, [ledger.equivocation(a)]);
  const loss = due(alice(10), 10n, 70n);
  assert.is(ledger.state.stake(a).bonded, alice(10) - loss);
  assert.is(ledger.state.supply.burned, loss);
  assert.is(ledger.state.supply.totalIssuance, issued - loss);
  assert.equal(ledger.state.slashes(a), [
    { height: ledger.state.height, offenceHeight: ledger.state.height - 1, amount: loss },
  ]);
  assert.ok(ledger.state.stake(a).tombstoned);
  assert.not(ledger.state.afterNextValidators.some(({ account }) => account === a));
  assert.ok(ledger.state.nextValidators.some(({ account }) => account === a));
  assert.is(ledger.try(a, certificate(ledger, a, 9)), 'ERR_TOMBSTONED');
  // What is left can be taken out.
  assert.is(ledger.try(a, unbond(amount(alice(10) - loss))), undefined);
});

test('who offends together pays together, however the evidence comes in', () => {
  const ledger = staked();
  const [a, b, c] = names;
  const height = ledger.state.height;
  const evidence = [a, b, c].map((account) => ledger.equivocation(account, height));
  ledger.block([], 100, [evidence[0]]);
  assert.is(alice(10) - ledger.state.stake(a).bonded, due(alice(10), 10n, 70n));
  ledger.block([], 100, [evidence[1]]);
  for (const account of [a, b]) {
    assert.is(alice(10) - ledger.state.stake(account).bonded, due(alice(10), 10n, 70n, 2n));
  }
  ledger.block([], 100, [evidence[2]]);
  for (const account of names) assert.is(ledger.state.stake(account).bonded, 0n);
  const atOnce = staked();
  atOnce.block([], 100, evidence);
  for (const account of names) assert.is(atOnce.state.stake(account).bonded, 0n);
  assert.is(atOnce.state.supply.burned, ledger.state.supply.burned);
});

test('offences further apart than the window do not add up', () => {
  const ledger = staked(testParameters({ staking: { offenceWindowBlocks: 2, unbondingBlocks: 100 } }));
  const [a, b] = names;
  const first = ledger.state.height;
  const early = ledger.equivocation(a, first);
  for (let blocks = 0; blocks < 4; blocks++) ledger.block();
  ledger.block([], 100, [early]);
  const late = ledger.equivocation(b, first + 3);
  ledger.block([], 100, [late]);
  assert.is(alice(10) - ledger.state.stake(a).bonded, due(alice(10), 10n, 70n));
  assert.is(
    alice(10) - ledger.state.stake(b).bonded,
    punishment(alice(10), (late.power * SHARE_SCALE + late.totalPower - 1n) / late.totalPower),
  );
});

test('slashing reaches what is unbonding and had counted, and nothing that was out before', () => {
  const ledger = staked();
  const [a] = names;
  ledger.block([[a, unbond(amount(alice(4)))]]);
  const out = ledger.state.height;
  ledger.block([[a, unbond(amount(alice(6)))]]);
  for (let blocks = 0; blocks < 3; blocks++) ledger.block();
  // At `out + 1` the first part still counted; a set is decided two blocks ahead.
  const full = { power: 10n, totalPower: 30n };
  const early = { ...ledger.equivocation(a, out + 1), ...full };
  const late = { ...ledger.equivocation(a, out + 2), ...full };
  const unbonding = (evidence: EquivocationEvidence) => {
    const copy = staked();
    copy.state = ledger.state;
    const built = buildBlock(ledger.state, {
      height: ledger.state.height + 1,
      timeMs: ledger.state.timeMs + 1n,
      beacon: namedHash('b'),
      proposer: ledger.validators[0],
      transactions: [],
      evidence: [evidence],
    });
    return built.state.stake(a).unbonding.map((entry) => entry.amount);
  };
  assert.equal(unbonding(early), []);
  assert.equal(unbonding(late), [alice(4)]);
});

test('a founder loses its genesis weight', () => {
  const ledger = new LedgerHarness();
  const [liar] = ledger.validators;
  ledger.block();
  ledger.block([], 100, [ledger.equivocation(liar)]);
  assert.is(ledger.state.stake(liar).genesisWeight, 0n);
  assert.is(ledger.state.afterNextValidators.length, 3);
  assert.is(ledger.state.supply.burned, 0n);
});

test('evidence counts once, and neither from the future nor from too long ago', () => {
  const ledger = staked();
  const [a, b] = names;
  const evidence = ledger.equivocation(a);
  const next = () => ledger.state.height + 1;
  assert.is(evidenceError(ledger.state, evidence, next()), undefined);
  assert.is(evidenceError(ledger.state, ledger.equivocation(a, next()), next()), 'ERR_EVIDENCE_FROM_FUTURE');
  assert.is(evidenceError(ledger.state, { ...evidence, power: 0n }, next()), 'ERR_EVIDENCE_POWER');
  assert.is(evidenceError(ledger.state, { ...evidence, power: 71n }, next()), 'ERR_EVIDENCE_POWER');
  const isInvalid = (error: unknown) => error instanceof InvalidBlockError;
  assert.throws(() => ledger.block([], 100, [evidence, evidence]), isInvalid);
  ledger.block([], 100, [evidence]);
  assert.is(evidenceError(ledger.state, evidence, next()), 'ERR_ALREADY_PUNISHED');
  assert.throws(() => ledger.block([], 100, [evidence]), isInvalid);
  const old = ledger.equivocation(b);
  const oldHeight = old.first.body.height;
  assert.is(evidenceError(ledger.state, old, oldHeight + 19), undefined);
  assert.is(evidenceError(ledger.state, old, oldHeight + 20), 'ERR_EVIDENCE_TOO_OLD');
  const many = Array.from({ length: 33 }, () => old);
  assert.throws(() => ledger.block([], 100, many), isInvalid);
});

test('a proposer leaves out evidence that does not count', () => {
  const ledger = staked();
  const [a, b] = names.map((account) => ledger.equivocation(account));
  const built = buildBlock(ledger.state, {
    height: ledger.state.height + 1,
    timeMs: ledger.state.timeMs + 1n,
    beacon: namedHash('b'),
    proposer: ledger.validators[0],
    transactions: [],
    evidence: [a, a, { ...b, power: 0n }, b],
  });
  assert.equal(built.evidence, [a, b]);
});

test.run();
