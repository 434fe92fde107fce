/** What `npm run hostile -- flood` makes of a chain: the figures by which a flood is judged. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import type { ChainReading, RoundReading } from '../../tools/hostile/flood/chain-reading.ts';
import { figuresOf, newcomerSeats } from '../../tools/hostile/flood/figures.ts';
import { testParameters } from '../ledger/harness.ts';

const account = (index: number) => index.toString(16).padStart(64, '0') as AccountId;
const [MINER, NEWCOMER, VALIDATOR, FLOOD] = [account(1), account(2), account(3), account(4)];
const UNITS = 10n ** 12n;

/** Rounds from 1 on that open at these seconds, with these in their seats and these with accepted work. */
function rounds(
  specs: readonly {
    readonly at: number;
    readonly seats: readonly AccountId[];
    readonly accepted: readonly AccountId[];
  }[],
): RoundReading[] {
  return specs.map(({ at, seats, accepted }, index) => ({
    round: index + 1,
    openedHeight: 10 * index,
    openedTimeMs: at * 1000,
    openings: [{ opening: index + 1, seats, unassigned: 7 }],
    stateBytes: 1000 + 100 * index,
    aggregation: 'updated' as const,
    submissions: seats.map((seat) => ({
      account: seat,
      slot: 0,
      cid: '',
      provider: '',
      sizeBytes: 0,
      score: undefined,
      accepted: accepted.includes(seat),
      reason: accepted.includes(seat) ? ('accepted' as const) : ('notRevealed' as const),
    })),
  })) as unknown as RoundReading[];
}

const reward = (to: AccountId, units: bigint) => ({ account: to, role: 'miner' as const, credit: 1n, amount: units });

function reading(): ChainReading {
  const both = [MINER, FLOOD];
  return {
    rounds: rounds([
      { at: 0, seats: both, accepted: [MINER] },
      { at: 10, seats: both, accepted: [MINER] },
      { at: 20, seats: both, accepted: [MINER] },
      { at: 60, seats: [...both, NEWCOMER], accepted: [MINER, NEWCOMER] },
      { at: 70, seats: both, accepted: [] },
    ]),
    blocks: Array.from({ length: 45 }, (_, index) => ({
      height: index + 1,
      timeMs: 0,
      round: 1,
      bytes: 500,
      transactions: index === 15 ? [{ signer: FLOOD, call: 'registerMiner' as const, bytes: 150 }] : [],
    })),
    epochs: [
      { firstRound: 1, lastRound: 2, startTimeMs: 0n, endTimeMs: 20_000n, rewards: [reward(MINER, 99n * UNITS)] },
      {
        firstRound: 3,
        lastRound: 4,
        startTimeMs: 20_000n,
        endTimeMs: 70_000n,
        rewards: [reward(MINER, 6n * UNITS), reward(NEWCOMER, 3n * UNITS), reward(FLOOD, 1n * UNITS)],
      },
    ] as unknown as ChainReading['epochs'],
    registered: new Map([[NEWCOMER, { height: 15, round: 2, opening: 2, ahead: 5 }]]),
  };
}

const query = {
  parameters: testParameters(),
  trainingShards: 1000,
  miners: [MINER],
  newcomer: NEWCOMER,
  validators: [VALIDATOR],
  firstRound: 2,
  rounds: 3,
};

test('rates are of the measured rounds, in block time, with and without the slowest', () => {
  const figures = figuresOf(reading(), query)!;
  assert.equal(figures.roundSeconds, [10, 40, 10]);
  assert.is(figures.roundsPerMinute, 3);
  assert.is(figures.roundsPerMinuteWithoutSlowest, 6);
  assert.is(figures.roundsPerMinuteByMedian, 6);
  assert.is(figures.stateBytesPerRound, 100);
  assert.is(figures.blocks, 30);
  assert.is(figures.blockBytes, 500);
});

test('pay is of epochs whose rounds were measured, and what strangers take is missing', () => {
  const figures = figuresOf(reading(), query)!;
  assert.is(figures.paidRounds, 2);
  assert.is(figures.payPerRound, 4.5);
  assert.is(figures.payPerMinute!.toFixed(3), (9 / (50 / 60)).toFixed(3));
  assert.is(figures.honestShare, 0.9);
  assert.equal(figures.minerShares, [0.6]);
  assert.equal(figures.minerAccepted, [1]);
  assert.equal(figures.floodCalls, { registerMiner: 1 });
  assert.is(figures.floodBlockBytes, 150);
  assert.equal(figures.floodSeats, [1, 1, 1]);
});

test('a newcomer is seated and paid so many openings after its registration', () => {
  const { newcomer } = figuresOf(reading(), query)!;
  const half = Math.ceil(newcomerSeats(query.parameters, query.trainingShards, 1) / 2);
  assert.is(newcomer!.seatBound, Math.ceil(6 / half));
  assert.is(newcomer!.seatedAfter, 2);
  assert.is(newcomer!.acceptedAfter, 2);
  assert.is(newcomer!.earned, 3);
});

test('a run in which no measured round ended has no figures; one that was cut short has what there is', () => {
  assert.is(figuresOf(reading(), { ...query, firstRound: 5 }), undefined);
  assert.is(figuresOf(reading(), { ...query, firstRound: 4 })!.rounds, 1);
});

test.run();
