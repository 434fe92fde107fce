/**
 * Ledger values as JSON: amounts and other bigints as decimal strings, bytes as hex, accounts as addresses, absence as
 * null. Decimal strings, because numbers of JSON lose digits above 2^53.
 */
import { type AccountId, addressOf } from '../chain/account.ts';

/** A JSON value. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/** Fields that hold an account id. Hashes look the same, so only the name tells. */
const ACCOUNT_FIELDS: ReadonlySet<string> = new Set([
  'account',
  'from',
  'to',
  'owner',
  'spender',
  'signer',
  'proposer',
  'validator',
  'offender',
  'beneficiary',
]);

const ACCOUNT = /^[0-9a-f]{64}$/;

/** Makes JSON of a record of the ledger (no cycles, as none there has any). */
export function ledgerJson(value: unknown, name = ''): Json {
  switch (typeof value) {
    case 'bigint':
      return value.toString();
    case 'string':
      return ACCOUNT_FIELDS.has(name) && ACCOUNT.test(value) ? addressOf(value as AccountId) : value;
    case 'number':
    case 'boolean':
      return value;
    case 'object':
      break;
    default:
      return null;
  }
  if (value === null) return null;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  // Elements are named after their list: `accounts` is not in the set, and single accounts never stand in lists of text.
  if (Array.isArray(value)) return value.map((element) => ledgerJson(element, name));
  return Object.fromEntries(Object.entries(value).map(([field, inner]) => [field, ledgerJson(inner, field)]));
}
