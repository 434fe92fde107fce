/** How many transactions each account has waiting, and who has most, without looking at all of them. */
import type { AccountId } from '../chain/account.ts';

/** See the file comment. Lengths are at most `maxLength`; finding the longest takes at most so many steps. */
export class LineLengths {
  readonly #lengths = new Map<AccountId, number>();
  readonly #byLength: readonly Set<AccountId>[];

  constructor(maxLength: number) {
    this.#byLength = Array.from({ length: maxLength + 1 }, () => new Set<AccountId>());
  }

  of(account: AccountId): number {
    return this.#lengths.get(account) ?? 0;
  }

  /** Makes an account's line longer or shorter. */
  change(account: AccountId, by: number): void {
    const before = this.of(account);
    const after = before + by;
    this.#byLength[before]?.delete(account);
    if (after === 0) {
      this.#lengths.delete(account);
      return;
    }
    this.#lengths.set(account, after);
    this.#byLength[after]?.add(account);
  }

  /** An account with the longest line; none when nothing waits. */
  longest(): { readonly account: AccountId | undefined; readonly length: number } {
    for (let length = this.#byLength.length - 1; length > 0; length--) {
      for (const account of this.#byLength[length]) return { account, length };
    }
    return { account: undefined, length: 0 };
  }
}
