/**
 * Where ALICE can be, and the check that none appears or vanishes:
 * `sum(balances + bonded + unbonding + locked + registration bonds + pots) = total issuance <= cap`.
 *
 * The check after each block reads the records that the block touched, whatever code touched them. A module that holds
 * money in a record of its own adds a line here.
 */
import type { AccountId } from '../chain/account.ts';
import { type Amount, amount, SUPPLY_CAP } from '../chain/amount.ts';
import { ACCOUNT_PREFIX, accountRecord, SUPPLY, type Supply } from './accounts.ts';
import { type Draft, need, type StateReader, type StateRecord } from './draft.ts';
import { ConservationError } from './errors.ts';
import { REGISTRATION_BOND_PREFIX, registrationBondRecord } from './registration-bond.ts';
import { STAKE_PREFIX, stakeRecord } from './stakes.ts';
import { VESTING_PREFIX, vestingRecord } from './vesting.ts';

/** A kind of record that holds money: how its keys begin, where the rest of the key leads, and the parts it holds. */
interface Holder {
  readonly prefix: string;
  readonly record: (account: AccountId) => StateRecord<unknown>;
  readonly parts: (value: unknown) => readonly bigint[];
}

function holder<T>(
  prefix: string,
  record: (account: AccountId) => StateRecord<T>,
  parts: (value: T) => readonly bigint[],
): Holder {
  return { prefix, record: record as Holder['record'], parts: parts as Holder['parts'] };
}

const HOLDERS: readonly Holder[] = [
  holder(ACCOUNT_PREFIX, accountRecord, ({ balance }) => [balance]),
  holder(STAKE_PREFIX, stakeRecord, ({ bonded, unbonding }) => [bonded, ...unbonding.map((entry) => entry.amount)]),
  holder(VESTING_PREFIX, vestingRecord, (lots) => lots.map((lot) => lot.amount)),
  holder(REGISTRATION_BOND_PREFIX, registrationBondRecord, ({ free, lots }) => [
    free,
    ...lots.map((lot) => lot.amount),
  ]),
];

/** The record of a key that holds money, apart from the supply's own; undefined for all others. */
export function holderRecord(key: string): StateRecord<unknown> | undefined {
  const holder = HOLDERS.find(({ prefix }) => key.startsWith(prefix));
  return holder?.record(key.slice(holder.prefix.length) as AccountId);
}

/** Units in a record; 0 for records that hold no money. Throws {@link ConservationError} when a part is negative. */
export function unitsIn(key: string, value: unknown): bigint {
  if (value === undefined) return 0n;
  const holder = HOLDERS.find(({ prefix }) => key.startsWith(prefix));
  if (holder === undefined) return 0n;
  let sum = 0n;
  for (const part of holder.parts(value)) {
    if (part < 0n) throw new ConservationError(`${key} would have ${part} units`);
    sum += part;
  }
  return sum;
}

/**
 * Checks that holdings changed by exactly what was minted and burned, from the records that a block touched. With the
 * same at every block before, their sum is the total issuance. Throws {@link ConservationError}.
 */
export function assertConservation(before: StateReader, draft: Draft): void {
  const oldSupply: Supply = need(before, SUPPLY);
  const supply: Supply = need(draft, SUPPLY);
  if (supply.infrastructurePot < 0n) throw new ConservationError('the infrastructure pot would be negative');
  let difference = supply.infrastructurePot - oldSupply.infrastructurePot;
  for (const { record, value } of draft.touched()) {
    if (holderRecord(record.key) === undefined) continue;
    difference += unitsIn(record.key, value) - unitsIn(record.key, before.get(record));
  }
  const issued = supply.totalIssuance - oldSupply.totalIssuance;
  if (difference !== issued) {
    throw new ConservationError(`holdings grew by ${difference} units, the total issuance by ${issued}`);
  }
  const burned = supply.burned - oldSupply.burned;
  if (burned < 0n || issued + burned < 0n) throw new ConservationError('something was unminted or unburned');
  if (supply.totalIssuance < 0n || supply.totalIssuance + supply.burned > SUPPLY_CAP) {
    throw new ConservationError(
      `${supply.totalIssuance + supply.burned} units would have been minted, at most ${SUPPLY_CAP} may be`,
    );
  }
}

/** Units that have ever been minted. */
export function mintedUnits(supply: Supply): Amount {
  return amount(supply.totalIssuance + supply.burned);
}
