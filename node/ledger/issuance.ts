/**
 * How much ALICE exists at a time: calendar halving, integrated exactly.
 *
 * Rule: in the k-th period of two years since genesis, ALICE is issued at 5,250,000 / 2^k a year, evenly. The target
 * at a time is the integral of that rate, rounded down to the unit. An epoch mints the target at its end minus what
 * was issued before, so however a stretch of time is cut into epochs, the sum is the same to the unit.
 */
import { type Amount, amount, SUPPLY_CAP, UNITS_PER_ALICE } from '../chain/amount.ts';

/** ALICE issued a year in the first two years, in units (MISSION.md: 5,250,000). */
export const FIRST_ANNUAL_BUDGET = amount(5_250_000n * UNITS_PER_ALICE);

/** A year of the schedule in milliseconds (MISSION.md: 31,536,000 s). */
export const YEAR_MS = 31_536_000_000n;

/** Time between halvings: two years. */
export const HALVING_MS = 2n * YEAR_MS;

/** After so many halvings less than 10^-19 units are left to issue for ever: the schedule ends. */
const LAST_PERIOD = 128n;

/**
 * Units that exist by schedule `elapsedMs` after genesis. Never falls, never passes the supply cap; 0 for times before
 * genesis.
 */
export function targetIssuance(elapsedMs: bigint): Amount {
  if (elapsedMs <= 0n) return amount(0n);
  const period = elapsedMs / HALVING_MS;
  if (period >= LAST_PERIOD) return amount(SUPPLY_CAP - 1n);
  // Whole periods before this one issued B * 2 * (1 + 1/2 + ... + 1/2^(k-1)) = 4 B (1 - 2^-k). Everything over the
  // common denominator YEAR_MS * 2^k, so that one division rounds once.
  const scale = 1n << period;
  const whole = 4n * FIRST_ANNUAL_BUDGET * (scale - 1n) * YEAR_MS;
  const part = FIRST_ANNUAL_BUDGET * (elapsedMs % HALVING_MS);
  const target = (whole + part) / (YEAR_MS * scale);
  return amount(target < SUPPLY_CAP ? target : SUPPLY_CAP);
}

/** Units issued a year at a time after genesis, by schedule (rounded down). */
export function annualBudget(elapsedMs: bigint): Amount {
  const period = elapsedMs <= 0n ? 0n : elapsedMs / HALVING_MS;
  return amount(period >= LAST_PERIOD ? 0n : FIRST_ANNUAL_BUDGET >> period);
}

/**
 * Splits a whole in proportion to weights by largest remainder: everyone gets the rounded-down share, and the units
 * left over go one each to the largest remainders, ties to the earlier index. The parts add up to the whole exactly.
 * At least one weight must be positive when the whole is; a weight of zero gets nothing.
 */
export function splitProportionally(whole: bigint, weights: readonly bigint[]): bigint[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0n);
  if (total === 0n) {
    if (whole !== 0n) throw new RangeError('nothing to split by: every weight is zero');
    return weights.map(() => 0n);
  }
  const parts = weights.map((weight) => (whole * weight) / total);
  let left = whole - parts.reduce((sum, part) => sum + part, 0n);
  const byRemainder = weights
    .map((weight, index) => ({ index, remainder: (whole * weight) % total }))
    .sort((a, b) => (a.remainder === b.remainder ? a.index - b.index : a.remainder > b.remainder ? -1 : 1));
  for (const { index } of byRemainder) {
    if (left === 0n) break;
    parts[index] += 1n;
    left -= 1n;
  }
  return parts;
}
