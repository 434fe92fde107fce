/**
 * Three honest miners and an honest newcomer under a flood of registrations, on the ledger itself, in block time: rounds
 * keep their pace, who works keeps its seat, and the newcomer comes to work within its bound.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { LedgerHarness, namedAccount, register, scored, testParameters } from './harness.ts';

const BLOCK_MS = 500;
/** What the honest need for training, and validators for scoring: a fixed time, and more for each submission. */
const TRAIN_MS = 10_000;
const SCORE_MS = 2000;
const SCORE_EACH_MS = 100;

/** What the accounts of a flood do with their seats. */
type Conduct = 'nothing' | 'commit' | 'garbage';

interface Flood {
  /** Registrations at the opening of a round. */
  readonly registers: (round: number) => number;
  readonly conduct: (account: AccountId) => Conduct;
}

/** Runs a ledger for so many rounds; validators and honest miners act as soon as they can. */
function run(rounds: number, flood: Flood | undefined, newcomerAfterRound: number) {
  const parameters = testParameters({
    rounds: { trainDeadlineMs: 60_000, trainMinimumMs: 10_000, revealMinimumMs: 1000 },
    consensus: { maxTransactionsPerBlock: 2000 },
  });
  const ledger = new LedgerHarness({ parameters });
  const newcomer = namedAccount('honest newcomer');
  const honest = new Set<AccountId>(ledger.miners);
  ledger.block(ledger.miners.map((miner) => [miner, register()] as const));
  ledger.block([], 2500);
  let flooded = 0;
  let registered = 0;
  let ahead = 0;
  let joined: number | undefined;
  let seated: number | undefined;
  const missed: number[] = [];
  const durations: number[] = [];
  let opened = { opening: 0, timeMs: ledger.state.timeMs };
  while (ledger.round <= rounds) {
    const { state } = ledger;
    const { round } = state;
    const calls: (readonly [AccountId, Call])[] = [];
    const elapsedMs = Number(state.timeMs - round.phaseTimeMs);
    const done = new Set(round.submissions.map(({ account }) => account));
    const revealed = new Set(round.submissions.filter(({ reveal }) => reveal).map(({ account }) => account));
    const conductOf = (account: AccountId) => (honest.has(account) ? 'work' : (flood?.conduct(account) ?? 'nothing'));
    if (round.opening !== opened.opening) {
      if (opened.opening > 2) durations.push(Number(state.timeMs - opened.timeMs));
      opened = { opening: round.opening, timeMs: state.timeMs };
      if (round.round > 1 && !ledger.miners.every((miner) => ledger.seated.includes(miner))) missed.push(round.round);
      if (seated === undefined && ledger.seated.includes(newcomer)) seated = round.round;
      if (round.round === newcomerAfterRound) {
        calls.push([newcomer, register()]);
        honest.add(newcomer);
        joined = round.round;
        ahead = registered - flooded;
      }
      for (let count = flood?.registers(round.round) ?? 0; count > 0; count--) {
        calls.push([namedAccount(`flood ${registered++}`), register()]);
      }
      for (const { account, proven } of round.seats) if (!honest.has(account) && !proven) flooded += 1;
    } else if (round.phase === 'train') {
      for (const { account } of round.seats) {
        const conduct = conductOf(account);
        const ready = conduct === 'work' ? elapsedMs >= TRAIN_MS : conduct !== 'nothing';
        if (ready && !done.has(account)) calls.push([account, ledger.commitCall(account)]);
      }
    } else if (round.phase === 'reveal') {
      for (const account of done) {
        const reveals = conductOf(account) === 'work' || conductOf(account) === 'garbage';
        if (reveals && !revealed.has(account)) calls.push([account, ledger.revealCall(account)]);
      }
    } else {
      const verdict = (account: AccountId) => scored(honest.has(account) ? 10 : -3);
      for (const validator of ledger.validators) {
        if (round.phase === 'score') {
          const ready = elapsedMs >= SCORE_MS + SCORE_EACH_MS * revealed.size && !round.scorers.includes(validator);
          if (ready) calls.push([validator, ledger.commitScoresCall(validator, verdict)]);
        } else if (round.phase === 'scoreReveal') {
          calls.push([validator, ledger.revealScoresCall(verdict)]);
        } else {
          calls.push([validator, ledger.attestCall()]);
        }
      }
    }
    for (let index = 0; index < Math.max(1, calls.length); index += 1000) {
      ledger.block(calls.slice(index, index + 1000), BLOCK_MS);
    }
  }
  const average = durations.reduce((sum, ms) => sum + ms, 0) / durations.length;
  const paid = (account: AccountId) => ledger.state.miner(account)?.accepted ?? 0;
  return {
    ledger,
    average,
    missed,
    ahead,
    waited: (seated ?? Number.POSITIVE_INFINITY) - (joined ?? 0),
    newcomer,
    paid,
  };
}

const CONDUCTS: Readonly<Record<string, (account: AccountId) => Conduct>> = {
  nothing: () => 'nothing',
  'commits without reveals': () => 'commit',
  garbage: () => 'garbage',
  'all of it': (account) => (['nothing', 'commit', 'garbage'] as const)[Number.parseInt(account.slice(0, 2), 16) % 3],
};

for (const [name, conduct] of Object.entries(CONDUCTS)) {
  test(`hundreds of registrations in every round, which bring ${name}`, () => {
    const calm = run(20, undefined, 3);
    const { average, missed, ahead, waited, ledger, newcomer, paid } = run(
      26,
      // The newcomer registers in the next round, before all the others.
      { registers: (round) => (round === 1 ? 0 : round === 2 ? 40 : 300), conduct },
      3,
    );
    const pace = calm.average / average;
    console.log(`${name}: ${Math.round(average)} ms a round, ${Math.round(100 * pace)} % of the pace undisturbed`);
    assert.ok(pace >= 0.8, `${pace}`);
    assert.equal(missed, [], 'who is proven is seated');
    for (const miner of ledger.miners) assert.is(paid(miner), 26);
    // Two of the four seats for newcomers go to who has waited for longest; the flood that came before it is ahead of it.
    const bound = Math.ceil((ahead + 1) / 2) + 1;
    assert.ok(ahead >= 30 && waited <= bound, `waits ${waited} rounds, with ${ahead} ahead at most ${bound}`);
    assert.is(paid(newcomer), 26 - 3 - waited + 1, 'from then on it earns in every round');
  });
}

test('a newcomer that comes with the flood earns two rounds later', () => {
  const { waited, newcomer, paid } = run(
    12,
    { registers: (round) => (round === 1 ? 0 : 300), conduct: CONDUCTS['all of it']! },
    2,
  );
  assert.ok(waited <= 2, `${waited}`);
  assert.ok(paid(newcomer) >= 8, `${paid(newcomer)}`);
});

test.run();
