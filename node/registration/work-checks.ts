/** Checks of the work that registrations claim: each once, a few at a time, remembered. */
import type { Transaction } from '../chain/transaction.ts';
import { workHolds } from './work.ts';

/** Claims remembered as true: many times what waits and what a block takes. The oldest goes. */
const REMEMBERED = 4096;

/** Checks at a time: a few hundredths of a second of the thread pool, which files need as well; more are turned away. */
const MAX_CHECKS = 16;

/** Thrown when too many checks are going on. */
export class WorkChecksBusyError extends Error {
  static readonly code = 'ERR_WORK_CHECKS_BUSY';
  readonly code = WorkChecksBusyError.code;
  override readonly name = 'WorkChecksBusyError';
}

/** See the file comment. */
export class WorkChecks {
  readonly #networkId: Uint8Array;
  readonly #known = new Set<string>();
  #running = 0;

  constructor(networkId: Uint8Array) {
    this.#networkId = networkId;
  }

  /**
   * True when the transaction claims no work that was not done. Calls of other kinds claim none. `always`: for blocks,
   * which hold a few and cannot be put off. Throws {@link WorkChecksBusyError}.
   */
  async hold({ body }: Transaction, { always = false } = {}): Promise<boolean> {
    const { signer, call } = body;
    if (call.tag !== 'registerMiner' || call.value.work === 0n) return true;
    const { challenge, solution, work } = call.value;
    const key = `${signer} ${challenge} ${solution} ${work}`;
    if (this.#known.has(key)) return true;
    if (!always && this.#running >= MAX_CHECKS)
      throw new WorkChecksBusyError('too many registrations wait to be checked');
    this.#running += 1;
    try {
      if (!(await workHolds(this.#networkId, signer, call.value))) return false;
    } finally {
      this.#running -= 1;
    }
    if (this.#known.size >= REMEMBERED) {
      for (const oldest of this.#known) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.add(key);
    return true;
  }
}
