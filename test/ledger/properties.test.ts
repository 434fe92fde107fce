/** Long random histories: money adds up, nothing throws, equal inputs give equal roots. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { amount, SUPPLY_CAP } from '../../node/chain/amount.ts';
import { approve, bond, transferFrom, unbond, unjail, voteParameters, withdraw } from '../../node/chain/calls.ts';
import { DecodeError } from '../../node/chain/codec.ts';
import type { Hash } from '../../node/chain/hash.ts';
import {
  type Call,
  decodeTransaction,
  encodeTransaction,
  type Transaction,
  transactionId,
  type Verdict,
} from '../../node/chain/transaction.ts';
import { accountRecord, credit, debit, SUPPLY } from '../../node/ledger/accounts.ts';
import { Draft } from '../../node/ledger/draft.ts';
import { ConservationError } from '../../node/ledger/errors.ts';
import { buildBlock, executeBlock, inclusionError } from '../../node/ledger/execute.ts';
import { assertConservation } from '../../node/ledger/holdings.ts';
import { targetIssuance } from '../../node/ledger/issuance.ts';
import { punishment, SHARE_SCALE } from '../../node/ledger/offences.ts';
import { verifyProof } from '../../node/ledger/proof.ts';
import { readStake, setStake } from '../../node/ledger/stakes.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import { vestingRecord } from '../../node/ledger/vesting.ts';
import {
  certificate,
  LedgerHarness,
  namedAccount,
  namedCid,
  namedHash,
  register,
  SALT,
  scored,
  testParameters,
  transferCall,
  withBalances,
} from './harness.ts';
import { Random } from './random.ts';

const YEAR_MS = 31_536_000_000;

/** A call that fits the moment most of the time, and is nonsense otherwise. */
function randomCall(random: Random, ledger: LedgerHarness, signer: AccountId, people: readonly AccountId[]): Call {
  const { phase, round } = ledger.state.round;
  const verdict = (): Verdict => {
    const kind = random.below(12);
    if (kind === 0) return { tag: 'unavailable', value: undefined };
    if (kind === 1) return { tag: 'malformed', value: undefined };
    return scored(random.below(30) - 5);
  };
  // Verdicts have to be the same at commit and reveal: they follow from the names.
  const fixed = (miner: AccountId) => scored((Number.parseInt(miner.slice(0, 2), 16) % 30) - 5);
  const nonsense: (() => Call)[] = [
    () => transferCall(random.pick(people), BigInt(random.below(2 ** 31)) ** BigInt(random.below(4))),
    () => transferCall(random.pick(people), ledger.state.account(signer).balance / BigInt(1 + random.below(3))),
    () => register('d'.repeat(random.below(70))),
    () => ({
      tag: 'commitSubmission',
      value: {
        round: random.below(4),
        attempt: 1 + random.below(2),
        slot: random.below(2),
        commitment: namedHash(`${random.below(9)}`),
      },
    }),
    () => ledger.revealCall(signer, namedCid(`${random.below(9)}`)),
    () => ({ tag: 'commitScores', value: { round, commitment: namedHash('x') } }),
    () => ({
      tag: 'revealScores',
      value: {
        round,
        salt: SALT,
        heldOutLoss: -1n,
        scores: people.map((miner) => ({ miner, slot: 0, verdict: verdict() })),
      },
    }),
    () => ({
      tag: 'attestModel',
      value: { round, modelRoot: namedHash(`${random.below(3)}`), checkpoint: random.pick(['', namedCid('c'), '!']) },
    }),
  ];
  if (random.chance(35)) return random.pick(nonsense)();
  switch (phase) {
    case 'train':
      return random.chance(30) ? register() : ledger.commitCall(signer);
    case 'reveal':
      return ledger.revealCall(signer);
    case 'score':
      return ledger.commitScoresCall(signer, fixed);
    case 'scoreReveal':
      return ledger.revealScoresCall(fixed);
    case 'aggregate':
      return ledger.attestCall();
  }
}

function checkMoney(state: LedgerState): void {
  assert.is(state.totalHoldings, state.supply.totalIssuance);
  assert.ok(state.supply.totalIssuance <= SUPPLY_CAP);
  assert.is(state.supply.totalIssuance, state.scheduledIssuance);
}

for (const seed of [11]) {
  test(`20,000 random calls across several halvings, seed ${seed}: conserved, capped, on schedule, never negative`, () => {
    const random = new Random(seed);
    const ledger = new LedgerHarness({
      miners: 6,
      powers: [30n, 20n, 25n, 25n],
      parameters: testParameters({ rounds: { idleRounds: 2 }, economics: { transactionsPerAccountPerBlock: 8 } }),
    });
    const people = [...ledger.miners, ...ledger.validators, ...['x', 'y', 'z'].map(namedAccount)];
    let calls = 0;
    let worked = 0;
    let epochs = 0;
    for (let block = 0; calls < 20_000; block++) {
      const batch: (readonly [AccountId, Call])[] = [];
      const counts = new Map<AccountId, number>();
      const crowd =
        ledger.state.round.phase === 'train' || ledger.state.round.phase === 'reveal' ? people : ledger.validators;
      for (let index = random.below(24); index > 0; index--) {
        const signer = random.chance(85) ? random.pick(crowd) : random.pick(people);
        const count = counts.get(signer) ?? 0;
        if (count >= 8) continue;
        counts.set(signer, count + 1);
        batch.push([signer, randomCall(random, ledger, signer, people)]);
      }
      calls += batch.length;
      const before = ledger.state;
      const receipts = ledger.block(
        batch,
        1 + (random.chance(2) ? random.below(1000) * (YEAR_MS / 4000) : random.below(5000)),
      );
      worked += receipts.filter(({ error }) => error === undefined).length;
      epochs += ledger.last!.events.filter(({ type }) => type === 'epochSettled').length;
      for (const person of people) {
        const account = ledger.state.account(person);
        assert.ok(account.balance >= 0n);
        const done = receipts.filter(({ signer, error }) => signer === person && error === undefined).length;
        assert.is(account.nonce, before.account(person).nonce + done);
      }
      checkMoney(ledger.state);
      for (const [key, value] of ledger.last!.changes)
        assert.not.equal(before.tree.get(key), value, `${key} did not change`);
      if (block % 50 === 0) {
        assert.is(LedgerState.fromEntries(random.shuffled([...ledger.state.tree.entries()])).root, ledger.state.root);
        const person = random.pick(people);
        const proof = ledger.state.prove(accountRecord(person));
        const value = verifyProof(ledger.state.root, accountRecord(person).key, proof);
        assert.equal(
          value === undefined ? { balance: 0n, nonce: 0 } : accountRecord(person).codec.dec(new Uint8Array(value)),
          ledger.state.account(person),
        );
      }
    }
    // The history has to have been worth its name.
    assert.ok(worked > 3000, `${worked} calls worked`);
    assert.ok(ledger.round > 30, `round ${ledger.round}`);
    assert.ok(epochs > 10, `${epochs} epochs`);
    assert.ok(ledger.state.epoch.startTimeMs - ledger.state.chain.genesisTimeMs > 2n * BigInt(YEAR_MS));
  });
}

test('however rounds cut time into epochs, what was minted is the integral of the schedule', () => {
  for (const epochMs of [1, 60_000, 86_400_000]) {
    const random = new Random(21);
    const ledger = new LedgerHarness({ parameters: testParameters({ economics: { epochMs } }) });
    ledger.start();
    for (let round = 0; round < 60; round++) {
      ledger.playRound(() => scored(1 + random.below(9)), 1 + random.below(YEAR_MS / 50));
      assert.is(ledger.state.supply.totalIssuance, ledger.state.scheduledIssuance);
    }
    ledger.playRound(() => scored(1), 86_400_000);
    assert.is(
      ledger.state.supply.totalIssuance,
      targetIssuance(ledger.state.timeMs - ledger.state.chain.genesisTimeMs),
    );
    assert.is(ledger.state.totalHoldings, ledger.state.supply.totalIssuance);
  }
});

test('equal blocks on equal states give equal roots, receipts and events', () => {
  const [a, b] = [new LedgerHarness(), new LedgerHarness()];
  for (const ledger of [a, b]) {
    ledger.start();
    for (let round = 0; round < 5; round++) ledger.playRound(undefined, 20_000);
  }
  assert.is(a.state.root, b.state.root);
  assert.equal(a.allEvents, b.allEvents);
});

test('a state is not changed by executing blocks on it', () => {
  const ledger = new LedgerHarness();
  ledger.start();
  const { state } = ledger;
  const root = state.root;
  const copy = new Map([...state.tree.entries()].map(([key, value]) => [key, value.slice()]));
  const round = structuredClone(state.round);
  for (let index = 0; index < 3; index++) ledger.playRound();
  assert.equal(new Map(state.tree.entries()), copy);
  assert.equal(state.round, round);
  assert.is(LedgerState.fromEntries(state.tree.entries()).root, root);
});

test('the check of conservation notices money from nowhere, and money that vanishes, wherever it is', () => {
  const thief = namedAccount('thief');
  const ledger = new LedgerHarness();
  ledger.state = withBalances(ledger.state, new Map([[thief, 100n]]));
  const { state } = ledger;
  const stake = readStake(state, thief);
  const unbonding = [{ amount: 5n, sinceHeight: 1, freeHeight: 2, freeTimeMs: 3n }];
  const lots = [{ unlockTimeMs: 1n, amount: 5n }];
  const faults: ((draft: Draft) => void)[] = [
    (draft) => credit(draft, thief, 5n),
    (draft) => debit(draft, thief, 5n),
    (draft) => draft.delete(accountRecord(thief)),
    (draft) => setStake(draft, thief, { ...stake, bonded: 5n }),
    (draft) => setStake(draft, thief, { ...stake, unbonding }),
    (draft) => draft.set(vestingRecord(thief), lots),
    (draft) => draft.set(SUPPLY, { ...state.supply, infrastructurePot: 5n }),
    (draft) => draft.set(SUPPLY, { ...state.supply, totalIssuance: 105n }),
    (draft) => draft.set(SUPPLY, { ...state.supply, totalIssuance: 95n, burned: 5n }),
    // Adds up, and yet: a debt, minting beyond the cap, and unburning.
    (draft) => {
      draft.set(accountRecord(thief), { balance: -5n, nonce: 0 });
      draft.set(accountRecord(namedAccount('x')), { balance: 105n, nonce: 0 });
    },
    (draft) => {
      credit(draft, thief, SUPPLY_CAP);
      draft.set(SUPPLY, { ...state.supply, totalIssuance: 100n + SUPPLY_CAP });
    },
    (draft) => {
      credit(draft, thief, 5n);
      draft.set(SUPPLY, { ...state.supply, totalIssuance: 105n, burned: -5n });
    },
  ];
  for (const fault of faults) {
    const draft = new Draft(state);
    fault(draft);
    assert.throws(
      () => assertConservation(state, draft),
      (error: unknown) => error instanceof ConservationError,
      String(fault),
    );
  }
  const sound = new Draft(state);
  debit(sound, thief, 15n);
  setStake(sound, thief, { ...stake, bonded: 5n, unbonding });
  sound.set(vestingRecord(thief), lots);
  assertConservation(state, sound);
});

test('splitting an identity into several gains nothing: rewards, power, punishment', () => {
  const whole = new LedgerHarness({
    miners: 2,
    powers: [30n, 30n],
    parameters: testParameters({ economics: { epochMs: 1 } }),
  });
  const parts = new LedgerHarness({
    miners: 4,
    powers: [30n, 10n, 10n, 10n],
    parameters: testParameters({ economics: { epochMs: 1 } }),
  });
  const [firstOfParts] = parts.miners;
  for (const [ledger, score] of [
    [whole, () => 30],
    [parts, (miner: AccountId) => (miner === firstOfParts ? 30 : 10)],
  ] as const) {
    ledger.block(ledger.miners.map((miner) => [miner, register()] as const));
    ledger.block([], 2500);
    for (let round = 0; round < 5; round++) ledger.playRound((miner) => scored(score(miner)), 10_000);
  }
  const sum = (ledger: LedgerHarness, accounts: readonly AccountId[]) =>
    accounts.reduce((total, account) => total + ledger.state.account(account).balance, 0n);
  // Largest remainders may move a unit for each epoch and account.
  const near = (a: bigint, b: bigint) => assert.ok(a - b <= 20n && b - a <= 20n, `${a} ${b}`);
  assert.is(whole.state.supply.totalIssuance, parts.state.supply.totalIssuance);
  near(sum(whole, whole.miners.slice(1)), sum(parts, parts.miners.slice(1)));
  near(sum(whole, whole.validators.slice(1)), sum(parts, parts.validators.slice(1)));
  // x/n counts power: three of 10 that offend together pay at the rate of one of 30.
  const rate = (powers: readonly bigint[], total: bigint) =>
    powers.reduce((share, power) => share + (power * SHARE_SCALE) / total, 0n);
  assert.is(punishment(3000n, rate([10n, 10n, 10n], 120n)), punishment(3000n, rate([30n], 120n)));
});

test('60,000 arbitrary byte strings as transactions: a decoded transaction or a DecodeError, nothing else', () => {
  const random = new Random(31);
  const ledger = new LedgerHarness();
  ledger.start();
  const samples = [
    ledger.commitCall(ledger.miners[0]),
    ledger.revealCall(ledger.miners[0]),
    register('device'),
    transferCall(namedAccount('a'), 12345n),
    approve(namedAccount('a'), amount(5n)),
    transferFrom(namedAccount('a'), namedAccount('b'), amount(5n)),
    bond(amount(5n)),
    unbond(amount(5n)),
    withdraw(),
    unjail(),
    certificate(ledger, ledger.miners[0], 1),
    voteParameters({ economics: { baseFee: 5 } }, 9),
    {
      tag: 'revealScores',
      value: {
        round: 1,
        salt: SALT,
        heldOutLoss: 1n,
        scores: ledger.miners.map((miner) => ({ miner, slot: 0, verdict: scored(1) })),
      },
    } as const,
    { tag: 'attestModel', value: { round: 1, modelRoot: namedHash('x') as Hash, checkpoint: namedCid('c') } } as const,
  ].map((call) =>
    encodeTransaction({
      body: { version: 1, signer: ledger.miners[0], nonce: 0, validUntil: 9, tip: 0, call },
      signature: new Uint8Array(64),
    }),
  );
  let decoded = 0;
  for (let index = 0; index < 60_000; index++) {
    let bytes: Uint8Array;
    if (random.chance(20)) bytes = random.bytes(random.below(200));
    else {
      bytes = new Uint8Array(random.pick(samples));
      for (let flips = random.below(4); flips > 0; flips--) bytes[random.below(bytes.length)] = random.below(256);
      if (random.chance(20)) bytes = bytes.slice(0, random.below(bytes.length));
      if (random.chance(10)) bytes = Uint8Array.from([...bytes, ...random.bytes(random.below(5))]);
    }
    let transaction: Transaction;
    try {
      transaction = decodeTransaction(bytes);
    } catch (error) {
      assert.instance(error, DecodeError);
      continue;
    }
    decoded += 1;
    assert.equal(encodeTransaction(transaction), bytes);
    const { nonce } = ledger.state.account(transaction.body.signer);
    const at = { height: ledger.state.height + 1, nonce, included: 0 };
    if (inclusionError(transaction, at, ledger.state.parameters) !== undefined) continue;
    const input = {
      height: at.height,
      timeMs: ledger.state.timeMs + 1n,
      beacon: namedHash('b'),
      proposer: ledger.validators[0],
    };
    const before = ledger.state.root;
    const transactions = [{ id: transactionId(transaction), transaction }];
    const built = buildBlock(ledger.state, { ...input, transactions });
    assert.is(built.receipts.length + built.unfit.length, 1);
    const { state } = executeBlock(ledger.state, { ...input, transactions: built.included });
    assert.is(state.root, built.state.root);
    assert.is(ledger.state.root, before);
    assert.is(state.totalHoldings, state.supply.totalIssuance);
  }
  assert.ok(decoded > 5000, `${decoded} decoded`);
});

test.run();
