import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { amount } from '../../node/chain/amount.ts';
import { approve } from '../../node/chain/calls.ts';
import { type Call, transactionId } from '../../node/chain/transaction.ts';
import { InvalidBlockError } from '../../node/ledger/errors.ts';
import { type BlockInput, buildBlock, executeBlock, type SignedTransaction } from '../../node/ledger/execute.ts';
import type { LedgerState } from '../../node/ledger/state.ts';
import { LedgerHarness, namedAccount, namedHash, testParameters, transferCall, withBalances } from './harness.ts';

const validator = namedAccount('validator 0');
const miner = namedAccount('miner 0');

function transactions(calls: readonly (readonly [AccountId, number, Call])[], validUntil: number): SignedTransaction[] {
  return calls.map(([signer, nonce, call]) => {
    const body = { version: 1, signer, nonce, validUntil, tip: 0, call };
    const transaction = { body, signature: new Uint8Array(64) };
    return { id: transactionId(transaction), transaction };
  });
}

function nextBlock(state: LedgerState, calls: readonly (readonly [AccountId, number, Call])[]): BlockInput {
  return {
    height: state.height + 1,
    timeMs: state.timeMs + 100n,
    beacon: namedHash('next'),
    proposer: validator,
    transactions: transactions(calls, state.height + 10),
  };
}

/** What strangers may send for nothing and have refused. */
function refusedFreeCalls(state: LedgerState): [AccountId, number, Call][] {
  const stranger = namedAccount('stranger');
  const { round, attempt } = state.round;
  const salt = new Uint8Array(32);
  return [
    [stranger, 0, { tag: 'commitSubmission', value: { round, attempt, slot: 0, commitment: namedHash('x') } }],
    [
      stranger,
      0,
      { tag: 'revealSubmission', value: { round, slot: 0, cid: 'b'.repeat(50), sizeBytes: 1, salt, provider: 'p' } },
    ],
    [stranger, 0, { tag: 'commitScores', value: { round, commitment: namedHash('x') } }],
    [stranger, 0, { tag: 'revealScores', value: { round, salt, heldOutLoss: 1n, scores: [] } }],
    [stranger, 0, { tag: 'attestModel', value: { round, modelRoot: namedHash('x'), checkpoint: '' } }],
    // While no ALICE exists, everything is free.
    [stranger, 0, transferCall(miner, 1n)],
    [stranger, 0, approve(miner, amount(1n))],
  ];
}

test('a block that holds a free call which is refused is invalid; a proposer leaves it out and its nonce stays', () => {
  const { state } = new LedgerHarness({ powers: [10n], miners: 1 });
  for (const call of refusedFreeCalls(state)) {
    const input = nextBlock(state, [call]);
    assert.throws(
      () => executeBlock(state, input),
      (error: unknown) => error instanceof InvalidBlockError,
      call[2].tag,
    );
    const built = buildBlock(state, input);
    assert.equal(built.included, []);
    assert.is(built.state.account(call[0]).nonce, 0);
    assert.is(built.unfit.length, 1);
  }
});

test('three blocks of refused duties: nothing of the flood gets in, and the state does not grow', () => {
  const { state } = new LedgerHarness({ powers: [10n], miners: 1 });
  const scores = Array.from({ length: 40 }, () => ({
    miner,
    slot: 0,
    verdict: { tag: 'scored' as const, value: 1n },
  }));
  const salt = new Uint8Array(32);
  let before = state;
  for (let block = 0; block < 3; block++) {
    const flood = Array.from({ length: 500 }, (_, index): [AccountId, number, Call] => [
      namedAccount(`flood ${index}`),
      0,
      { tag: 'revealScores', value: { round: state.round.round, salt, heldOutLoss: 1n, scores } },
    ]);
    const built = buildBlock(before, nextBlock(before, flood));
    assert.is(built.included.length, 0);
    assert.is([...built.state.tree.entries()].length, [...state.tree.entries()].length);
    before = built.state;
  }
});

test('a call that pays is in a block whether or not it succeeds, and keeps its fee', () => {
  const ledger = new LedgerHarness({
    powers: [10n],
    miners: 1,
    parameters: testParameters({ economics: { baseFee: 7 } }),
  });
  const rich = namedAccount('rich');
  const state = withBalances(ledger.state, new Map([[rich, 100n]]));
  const executed = executeBlock(state, nextBlock(state, [[rich, 0, transferCall(miner, 1000n)]]));
  assert.is(executed.receipts[0].error, 'ERR_INSUFFICIENT_BALANCE');
  assert.is(executed.state.account(rich).balance, 93n);
  assert.is(executed.state.account(rich).nonce, 1);
});

test('a validator’s free call is in a block once, whatever it says', () => {
  const { state } = new LedgerHarness({ powers: [10n], miners: 1 });
  const vote = (baseFee: number): Call => ({
    tag: 'voteParameters',
    value: { change: `{"economics":{"vestingMs":${baseFee}}}`, height: 50 },
  });
  const built = buildBlock(
    state,
    nextBlock(state, [
      [validator, 0, vote(1)],
      [validator, 1, vote(2)],
    ]),
  );
  assert.is(built.included.length, 1);
});

test.run();
