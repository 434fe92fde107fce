/**
 * How far votes may move the parameters: nobody who has power now can make it last for ever, or price others out.
 *
 * Bounds are relative to what genesis fixed, so that no sequence of votes leaves them, however small its steps. One value
 * moves one way only: genesis weight never fades later than it would already.
 */
import type { Parameters } from '../chain/parameters.ts';

/** Smallest and largest value that a vote may set. */
interface Bounds {
  readonly least: number;
  readonly most: number;
}

/** Bounds of one value, from the one of genesis and the one in force. */
type Rule = (genesis: number, now: number) => Bounds;

/** At least the genesis value divided by `down`, at most that times `up`; a value of genesis is always within. */
const within =
  (down: number, up: number): Rule =>
  (genesis) => ({ least: Math.ceil(genesis / down), most: Math.min(genesis * up, Number.MAX_SAFE_INTEGER) });

/** The same, with a largest value that holds whatever genesis says, unless that is larger. */
const upTo =
  (most: number, down = Number.MAX_SAFE_INTEGER): Rule =>
  (genesis) => ({ least: genesis === 0 ? 0 : Math.floor(genesis / down), most: Math.max(genesis, most) });

const anyShare: Rule = () => ({ least: 0, most: 1_000_000 });

/** 10^-12 ALICE are a unit. */
const UNITS_PER_MILLIALICE = 1_000_000_000;
const YEAR_MS = 31_536_000_000;

type Rules<Section extends keyof Parameters> = Readonly<Record<keyof Parameters[Section], Rule>>;

/** What votes may do to each value, and why no more. */
const RULES: { readonly economics: Rules<'economics'>; readonly staking: Rules<'staking'> } = {
  economics: {
    // Longer epochs keep newcomers from their first ALICE; shorter ones only cost work.
    epochMs: within(10, 4),
    // Validators vote on their own share: what miners train for stays most of what it was.
    minerSharePpm: (genesis) => ({ least: Math.floor((genesis * 3) / 4), most: 1_000_000 }),
    validatorSharePpm: within(4, 2),
    // No more than twice, or a tenth where there was little.
    infrastructureSharePpm: upTo(100_000, 1_000_000),
    // Fewer than four, and a validator's duties do not fit beside anything else.
    transactionsPerAccountPerBlock: (genesis) => ({ least: Math.min(genesis, 4), most: genesis * 4 }),
    // What one has to own to be paid at all: a hundredth of an ALICE at most.
    existentialDeposit: upTo(10 * UNITS_PER_MILLIALICE),
    // A fee that nobody can pay is a wall, and none at all makes blocks and state free: never below a hundredth of genesis.
    baseFee: upTo(10 * UNITS_PER_MILLIALICE, 100),
    feePerByte: upTo(UNITS_PER_MILLIALICE / 10, 100),
    // Burned or into the pot: neither is anybody's.
    feeBurnPpm: anyShare,
    // Locked rewards are what a cheat loses; nobody's are locked for ever.
    vestingMs: (genesis) => ({ least: Math.floor(genesis / 2), most: Math.max(genesis * 4, YEAR_MS) }),
  },
  staking: {
    // Fewer seats throw out the smaller half; more only cost work.
    maxValidators: (genesis) => ({ least: Math.ceil(genesis / 2), most: 256 }),
    // A set that is made anew once in a year is a set for ever.
    validatorSetIntervalBlocks: upTo(1000),
    // Founders fade no later than they would already.
    genesisWeightFadeMs: (_genesis, now) => ({ least: 1, most: now }),
    // More units for one power would make stake worth less beside genesis weight.
    unitsPerPower: (genesis) => ({ least: Math.max(1000, Math.ceil(genesis / 100)), most: genesis }),
    // Raised without limit, nobody could join; it may follow the value of ALICE down.
    minimumBond: within(1000, 2),
    // Light clients trust for less than this: it never shrinks, and stake is not held for ever.
    unbondingMs: within(1, 4),
    unbondingBlocks: within(1, 4),
    // How far apart equivocations count together: what a common offence costs stays about what it was.
    offenceWindowBlocks: within(2, 4),
    slashBurnPpm: anyShare,
    // Fewer absences would let those present throw out those who were away for a moment; 0 stays never.
    absentRoundsToJail: within(2, 10),
    // A jail for years is a ban.
    jailMs: within(10, 4),
  },
};

/** True when every governed value of `after` may follow `now` on a network that began with `genesis`. */
export function keepsBounds(genesis: Parameters, now: Parameters, after: Parameters): boolean {
  return sectionKeepsBounds('economics', genesis, now, after) && sectionKeepsBounds('staking', genesis, now, after);
}

function sectionKeepsBounds(
  section: 'economics' | 'staking',
  genesis: Parameters,
  now: Parameters,
  after: Parameters,
): boolean {
  const [rules, first, before, next]: Readonly<Record<string, unknown>>[] = [
    RULES[section],
    genesis[section],
    now[section],
    after[section],
  ];
  return Object.keys(next).every((name) => {
    if (next[name] === before[name]) return true;
    const { least, most } = (rules[name] as Rule)(first[name] as number, before[name] as number);
    const value = next[name] as number;
    return value >= least && value <= most;
  });
}
