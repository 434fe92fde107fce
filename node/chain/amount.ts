/**
 * Amounts of ALICE. One ALICE is 10^12 of its smallest unit; all arithmetic is in units, on `bigint`.
 */

/** Number of smallest units. Never negative. */
export type Amount = bigint & { readonly __brand: 'Amount' };

/** Smallest units in one ALICE (MISSION.md: 10^-12). */
export const UNITS_PER_ALICE = 1_000_000_000_000n;

/** Hard cap on total issuance, in units: 21,000,000 ALICE. */
export const SUPPLY_CAP = amount(21_000_000n * UNITS_PER_ALICE);

/** Thrown when text is not an amount, or a number of units is negative. */
export class InvalidAmountError extends Error {
  static readonly code = 'ERR_INVALID_AMOUNT';
  readonly code = InvalidAmountError.code;
  override readonly name = 'InvalidAmountError';
}

/** Brands a non-negative number of units. Throws {@link InvalidAmountError}. */
export function amount(units: bigint): Amount {
  if (units < 0n) throw new InvalidAmountError(`an amount cannot be negative: ${units}`);
  return units as Amount;
}

/** Reads "12.5" (ALICE, at most 12 decimals) as units. Throws {@link InvalidAmountError}. */
export function parseAmount(text: string): Amount {
  const match = /^(\d+)(?:\.(\d{1,12}))?$/.exec(text.trim());
  if (match === null) throw new InvalidAmountError(`not an amount of ALICE: "${text.slice(0, 80)}" (example: 12.5)`);
  return amount(BigInt(match[1]) * UNITS_PER_ALICE + BigInt((match[2] ?? '').padEnd(12, '0') || '0'));
}

/** Writes units as ALICE with the given number of decimals (0 to 12), truncated. */
export function formatAmount(units: bigint, decimals = 4): string {
  const fraction = (units % UNITS_PER_ALICE).toString().padStart(12, '0').slice(0, decimals);
  const whole = (units / UNITS_PER_ALICE).toString();
  return decimals === 0 ? whole : `${whole}.${fraction}`;
}
