// time-limit: 300 s
/**
 * 100,000 random calls of every kind, with evidence, parameter changes and halvings among them: after every block the
 * money adds up, nothing is negative, and nothing more was minted than the schedule allows.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { amount, SUPPLY_CAP } from '../../node/chain/amount.ts';
import {
  approve,
  bond,
  type ParameterChange,
  registerMiner,
  transfer,
  transferFrom,
  unbond,
  unjail,
  voteParameters,
  withdraw,
} from '../../node/chain/calls.ts';
import type { EquivocationEvidence } from '../../node/chain/evidence.ts';
import { sessionProofBytes } from '../../node/chain/session-signature.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { sessionSigner } from '../../node/identity/signatures.ts';
import { executeBlock } from '../../node/ledger/execute.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import { buildFrom, LedgerHarness, namedAccount, namedHash, scored, testParameters } from './harness.ts';
import { Random } from './random.ts';

const YEAR_MS = 31_536_000_000;
const CALLS = 100_000;

const sessions = Array.from({ length: 48 }, (_, seed) => sessionSigner(new Uint8Array(32).fill(seed + 1)));

/** Part of what somebody has, too much of it, or next to nothing. */
function someOf(random: Random, units: bigint): bigint {
  const kind = random.below(10);
  if (kind === 0) return units + 1n;
  if (kind === 1) return units;
  if (kind === 2) return BigInt(random.below(3));
  return units / BigInt(1 + random.below(6));
}

const CHANGES: readonly ParameterChange[] = [
  { economics: { vestingMs: 0 } },
  { economics: { vestingMs: 3_600_000 } },
  { economics: { baseFee: 1, feePerByte: 0 } },
  { economics: { baseFee: 5000, feePerByte: 3 } },
  { economics: { feeBurnPpm: 500_000 }, staking: { slashBurnPpm: 0 } },
  { economics: { feeBurnPpm: 1_000_000 }, staking: { slashBurnPpm: 1_000_000 } },
  { economics: { existentialDeposit: 1 } },
  { economics: { minerSharePpm: 600_000, validatorSharePpm: 300_000, infrastructureSharePpm: 100_000 } },
  { staking: { unbondingBlocks: 20, unbondingMs: 10_000 } },
  { staking: { unbondingBlocks: 40, unbondingMs: 40_000 } },
];

function moneyCall(random: Random, ledger: LedgerHarness, signer: AccountId, people: readonly AccountId[]): Call {
  const { state } = ledger;
  const { balance } = state.account(signer);
  const stake = state.stake(signer);
  const someone = random.pick(people);
  switch (random.below(12)) {
    case 0:
    case 1:
      return transfer(someone, amount(someOf(random, balance)));
    case 2:
      return approve(someone, amount(someOf(random, balance)));
    case 3: {
      const allowed = state.allowance(someone, signer);
      return transferFrom(someone, random.pick(people), amount(someOf(random, allowed)));
    }
    case 4:
    case 5:
      return bond(amount(someOf(random, balance)));
    case 6:
      return unbond(amount(someOf(random, stake.bonded)));
    case 7:
    case 8:
      return withdraw();
    case 9: {
      const session = random.pick(sessions);
      const account = random.chance(90) ? signer : someone;
      const proof = session.sign(sessionProofBytes(state.chain.networkId, account, session.sessionKey));
      return { tag: 'certifySessionKey', value: { sessionKey: session.sessionKey, proof } };
    }
    case 10:
      return unjail();
    default:
      return voteParameters(CHANGES[state.height % CHANGES.length], 5 * (2 + Math.floor(state.height / 5)));
  }
}

/** What the round asks of an account. */
function dutyCall(random: Random, ledger: LedgerHarness, signer: AccountId): Call {
  // The same at commit and reveal: it follows from the name.
  const verdict = (miner: AccountId) => scored((Number.parseInt(miner.slice(0, 2), 16) % 30) - 5);
  const { phase, round } = ledger.state.round;
  // Now and then a validator is all but away for a round.
  const isAway = (Number.parseInt(signer.slice(0, 2), 16) + round) % 5 === 0 && random.chance(97);
  if (isAway && (phase === 'score' || phase === 'scoreReveal')) return unjail();
  switch (phase) {
    case 'train':
      return random.chance(30) ? registerMiner('device') : ledger.commitCall(signer);
    case 'reveal':
      return ledger.revealCall(signer);
    case 'score':
      return ledger.commitScoresCall(signer, verdict);
    case 'scoreReveal':
      return ledger.revealScoresCall(verdict);
    case 'aggregate':
      return ledger.attestCall();
  }
}

test(`${CALLS} random calls: conserved after every block, capped, on schedule, never negative`, () => {
  const random = new Random(41);
  const ledger = new LedgerHarness({
    miners: 6,
    powers: [30n, 20n, 25n, 25n],
    parameters: testParameters({
      rounds: { idleRounds: 2 },
      economics: { existentialDeposit: 1_000_000, vestingMs: 600_000, transactionsPerAccountPerBlock: 16 },
      staking: {
        maxValidators: 6,
        validatorSetIntervalBlocks: 3,
        genesisWeightFadeMs: YEAR_MS,
        absentRoundsToJail: 1,
        minimumBond: 1_000_000_000,
        unitsPerPower: 1_000_000_000_000,
      },
    }),
  });
  const people = [
    ...ledger.miners,
    ...ledger.validators,
    ...Array.from({ length: 14 }, (_, i) => namedAccount(`p${i}`)),
  ];
  const worked = new Map<string, number>();
  const happened = new Map<string, number>();
  const count = (counts: Map<string, number>, name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
  let calls = 0;
  let evidenceCommitted = 0;
  let refusedByFee = 0;
  const decided = new Map<number, LedgerState['nextValidators']>();
  for (let block = 0; calls < CALLS; block++) {
    const { state } = ledger;
    const height = state.height + 1;
    decided.set(height, state.nextValidators);
    // The set that decides is the one that was named two blocks earlier.
    const voters = state.nextValidators.map(({ account }) => account);
    const offered = Array.from({ length: 20 + random.below(60) }, () => {
      const { phase } = state.round;
      const duty = random.chance(45);
      const crowd = !duty || phase === 'train' || phase === 'reveal' ? people : voters;
      const signer = random.pick(crowd);
      const call = duty ? dutyCall(random, ledger, signer) : moneyCall(random, ledger, signer, people);
      return [signer, call] as const;
    });
    calls += offered.length;
    const evidence: EquivocationEvidence[] = [];
    if (random.chance(1) && state.height > 3) {
      const at = state.height - random.below(3);
      const { account, power } = random.pick(decided.get(at)!);
      const totalPower = decided.get(at)!.reduce((sum, validator) => sum + validator.power, 0n);
      evidence.push({ ...ledger.equivocation(account, at, power), power, totalPower });
    }
    const timeMs =
      state.timeMs + BigInt(1 + (random.chance(2) ? random.below(1000) * (YEAR_MS / 5000) : random.below(9000)));
    const input = { height, timeMs, beacon: namedHash(`beacon ${height}`), proposer: ledger.validators[0] };
    // As a proposer would make it; then as everyone else sees it.
    const { built, receipts } = buildFrom(state, { ...input, evidence }, offered);
    refusedByFee += receipts.filter(({ error }) => (error as string) === 'ERR_CANNOT_PAY_FEE').length;
    const executed = executeBlock(state, { ...input, transactions: built.included, evidence: built.evidence });
    assert.is(executed.state.root, built.state.root);
    evidenceCommitted += built.evidence.length;
    for (const { call, error } of executed.receipts) if (error === undefined) count(worked, call);
    for (const { type } of executed.events) count(happened, type);
    assert.equal(executed.state.nextValidators, state.afterNextValidators);
    assert.ok(executed.state.afterNextValidators.length >= 1 && executed.state.afterNextValidators.length <= 6);
    ledger.state = executed.state;

    const { supply } = ledger.state;
    // Reads the whole state, unlike the check within the ledger.
    assert.is(ledger.state.totalHoldings, supply.totalIssuance);
    assert.is(ledger.state.minted, ledger.state.scheduledIssuance);
    assert.ok(
      supply.totalIssuance + supply.burned <= SUPPLY_CAP && supply.burned >= 0n && supply.infrastructurePot >= 0n,
    );
    for (const person of people) {
      const { balance, locked, bonded, unbonding } = ledger.state.holdings(person);
      assert.ok(balance >= 0n && locked >= 0n && bonded >= 0n && unbonding >= 0n);
    }
    if (block % 200 === 0) {
      assert.is(LedgerState.fromEntries(random.shuffled([...ledger.state.tree.entries()])).root, ledger.state.root);
    }
  }
  // The history has to have been worth its name.
  const tags = ['transfer', 'approve', 'transferFrom', 'bond', 'unbond', 'withdraw', 'certifySessionKey', 'unjail'];
  for (const tag of [...tags, 'voteParameters', 'registerMiner', 'commitSubmission', 'revealScores', 'attestModel']) {
    assert.ok((worked.get(tag) ?? 0) >= 5, `${tag} worked ${worked.get(tag) ?? 0} times`);
  }
  for (const type of [
    'slashed',
    'jailed',
    'unjailed',
    'vested',
    'feePaid',
    'validatorsChanged',
    'parametersChanged',
    'epochSettled',
  ]) {
    assert.ok((happened.get(type) ?? 0) >= 3, `${type} happened ${happened.get(type) ?? 0} times`);
  }
  assert.ok(evidenceCommitted >= 3, `${evidenceCommitted} pieces of evidence`);
  assert.ok(refusedByFee > 0);
  assert.ok(ledger.state.supply.burned > 0n);
  assert.ok(ledger.state.epoch.startTimeMs - ledger.state.chain.genesisTimeMs > 2n * BigInt(YEAR_MS), 'no halving');
});

test.run();
