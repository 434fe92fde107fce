/**
 * A queue of accounts in the state, first come first served. Places are numbered in the order of arrival and kept in pages,
 * so that whatever its length, adding, removing or reading one rewrites or reads one page: nobody can make it dear to touch.
 */
import { type CodecType, Option, Struct, u32 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec } from '../chain/codec.ts';
import { type Draft, listCodec, type StateReader, type StateRecord } from './draft.ts';

/** Places in a page. */
const PAGE_SIZE = 64;

const boundsCodec = Struct({ first: u32, end: u32, length: u32 });
/** Places `[first, end)` are in use, except for `end - first - length` that were given up. */
export type QueueBounds = Readonly<CodecType<typeof boundsCodec>>;

/** `PAGE_SIZE` places; undefined are those that are free, given up, or not reached yet. */
const pageCodec = listCodec<AccountId | undefined>(Option(accountCodec));

const EMPTY: QueueBounds = { first: 0, end: 0, length: 0 };

/** See the file comment. `prefix` is that of the keys and ends with a slash. */
export class AccountQueue {
  readonly #prefix: string;
  readonly #bounds: StateRecord<QueueBounds>;

  constructor(prefix: string) {
    this.#prefix = prefix;
    this.#bounds = { key: `${prefix}bounds`, codec: boundsCodec };
  }

  #page(place: number): StateRecord<readonly (AccountId | undefined)[]> {
    return { key: `${this.#prefix}${Math.floor(place / PAGE_SIZE)}`, codec: pageCodec };
  }

  /** Where the queue begins and ends. */
  bounds(reader: StateReader): QueueBounds {
    return reader.get(this.#bounds) ?? EMPTY;
  }

  /** The account at a place; undefined where nobody is. */
  at(reader: StateReader, place: number): AccountId | undefined {
    return reader.get(this.#page(place))?.[place % PAGE_SIZE];
  }

  /** Puts an account at the end. Returns its place. */
  append(draft: Draft, account: AccountId): number {
    const bounds = this.bounds(draft);
    const place = bounds.end;
    const page = draft.get(this.#page(place)) ?? [];
    draft.set(this.#page(place), [...page, ...Array((place % PAGE_SIZE) - page.length).fill(undefined), account]);
    draft.set(this.#bounds, { ...bounds, end: place + 1, length: bounds.length + 1 });
    return place;
  }

  /** Takes whoever is at a place out; does nothing where nobody is. */
  remove(draft: Draft, place: number): void {
    if (this.at(draft, place) === undefined) return;
    const page = draft.get(this.#page(place)) ?? [];
    const left = page.map((account, index) => (index === place % PAGE_SIZE ? undefined : account));
    const { first, end, length } = this.bounds(draft);
    if (left.every((account) => account === undefined)) draft.delete(this.#page(place));
    else draft.set(this.#page(place), left);
    let next = first;
    while (next < end && this.at(draft, next) === undefined) {
      // A page that is gone is passed as a whole.
      next = draft.get(this.#page(next)) === undefined ? (Math.floor(next / PAGE_SIZE) + 1) * PAGE_SIZE : next + 1;
    }
    draft.set(this.#bounds, { first: Math.min(next, end), end, length: length - 1 });
  }
}
