/**
 * A set of accounts in the state, in 256 buckets by the first byte of the account, so that adding one rewrites a 256th
 * of the list.
 */
import type { AccountId } from '../chain/account.ts';
import { accountCodec } from '../chain/codec.ts';
import { type Draft, listCodec, type StateReader, type StateRecord } from './draft.ts';

const bucketCodec = listCodec(accountCodec);

/** See the file comment. `prefix` is that of the buckets' keys and ends with a slash. */
export class AccountIndex {
  readonly #buckets: readonly StateRecord<readonly AccountId[]>[];

  constructor(prefix: string) {
    this.#buckets = Array.from({ length: 256 }, (_, index) => ({
      key: `${prefix}${index.toString(16).padStart(2, '0')}`,
      codec: bucketCodec,
    }));
  }

  #bucketOf(account: AccountId): StateRecord<readonly AccountId[]> {
    return this.#buckets[Number.parseInt(account.slice(0, 2), 16)];
  }

  /** Every account of the set, ascending. */
  all(reader: StateReader): AccountId[] {
    const accounts: AccountId[] = [];
    for (const bucket of this.#buckets) accounts.push(...(reader.get(bucket) ?? []));
    return accounts;
  }

  has(reader: StateReader, account: AccountId): boolean {
    return reader.get(this.#bucketOf(account))?.includes(account) ?? false;
  }

  /** Puts an account in; does nothing when it is there. */
  add(draft: Draft, account: AccountId): void {
    const record = this.#bucketOf(account);
    const bucket = draft.get(record) ?? [];
    if (!bucket.includes(account)) draft.set(record, [...bucket, account].sort());
  }

  /** Takes an account out; does nothing when it is not there. */
  remove(draft: Draft, account: AccountId): void {
    const record = this.#bucketOf(account);
    const bucket = (draft.get(record) ?? []).filter((other) => other !== account);
    if (bucket.length === 0) draft.delete(record);
    else draft.set(record, bucket);
  }
}
