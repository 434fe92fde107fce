/**
 * Fetching the submissions of a round: all at once, none of them for so long that it takes from the time for scoring.
 *
 * What nobody serves shows by nothing coming. A download is given up when no chunk came for a share of the limit: a small
 * one for authors without accepted work while others have some, and a smaller one where the author's submission was given up
 * before. So an author who reveals what is not there costs everybody a short while once, and next to nothing afterwards,
 * and names that are always new cost no more than that short while.
 */
import type { EncodedSubmission } from '../../kernels/session/model-session.ts';
import { BlobTooLargeError, NotABlobError } from '../../node/blobs/errors.ts';
import type { BlobExchange } from '../../node/blobs/exchange.ts';
import type { AccountId } from '../../node/chain/account.ts';
import type { SubmissionRecord } from '../../node/ledger/round-records.ts';
import type { Logger } from '../../node/log/logger.ts';
import type { PeerIdText } from '../../node/network/interface.ts';

/** Bytes of a submission, with its author as the ledger names it. */
export type FetchedSubmission = EncodedSubmission & { readonly account: AccountId };

/** Share of the limit in which something has to come. */
const STALL_SHARE = 1 / 4;

/** The same for authors that are not known to do work. */
const STRANGER_STALL_SHARE = 1 / 8;

/** The same for authors whose last submission was given up. */
const DISTRUSTED_STALL_SHARE = 1 / 16;

/** Authors remembered; the one remembered for longest is forgotten. */
const MAX_DISTRUSTED = 1024;

export interface FetchAllOptions {
  /** Longest download of one. */
  readonly limitMs: number;
  /** Authors may not be ready yet: what does not come is not held against them. */
  readonly early?: boolean;
  /** Accounts with accepted work; while there are none, nobody is a stranger. */
  readonly proven: ReadonlySet<AccountId>;
  readonly signal: AbortSignal;
}

export class SubmissionFetcher {
  readonly #blobs: Pick<BlobExchange, 'fetch'>;
  readonly #log: Logger;
  readonly #maxBytes: number;
  readonly #distrusted = new Set<AccountId>();

  /** @param maxBytes - of a submission that is fetched at all */
  constructor(blobs: Pick<BlobExchange, 'fetch'>, log: Logger, maxBytes: number) {
    this.#blobs = blobs;
    this.#log = log;
    this.#maxBytes = maxBytes;
  }

  /** Authors whose last submission was given up. */
  get distrusted(): ReadonlySet<AccountId> {
    return this.#distrusted;
  }

  /**
   * Bytes of each revealed submission, or undefined where nobody delivered them in time. Rejects when the signal fires
   * first. Where none came at all, it is this peer that nobody reaches, and no author is held to blame.
   */
  async fetchAll(
    submissions: readonly SubmissionRecord[],
    options: FetchAllOptions,
  ): Promise<(FetchedSubmission | undefined)[]> {
    const failed: AccountId[] = [];
    const fetched = await Promise.all(submissions.map((submission) => this.#fetch(submission, options, failed)));
    if (options.early !== true && fetched.some((submission) => submission !== undefined)) {
      for (const account of failed) this.#distrust(account);
    }
    return fetched;
  }

  /** @param failed - takes the authors of what was not there to be had */
  async #fetch(
    { account, reveal }: SubmissionRecord,
    { limitMs, proven, signal }: FetchAllOptions,
    failed: AccountId[],
  ): Promise<FetchedSubmission | undefined> {
    if (reveal === undefined || reveal.sizeBytes > this.#maxBytes) return undefined;
    const { cid, sizeBytes, provider } = reveal;
    const given = new AbortController();
    const give = (what: string) => () => given.abort(new Error(what));
    const stallMs = limitMs * this.#stallShare(account, proven);
    const stalls = () => setTimeout(give('nobody sends it'), stallMs);
    let stall = stalls();
    const limit = setTimeout(give('it takes too long'), limitMs);
    try {
      const bytes = await this.#blobs.fetch(cid, {
        hints: [provider as PeerIdText],
        maxBytes: sizeBytes,
        signal: AbortSignal.any([signal, given.signal]),
        onProgress: () => {
          clearTimeout(stall);
          stall = stalls();
        },
      });
      this.#distrusted.delete(account);
      return { account, bytes };
    } catch (error) {
      if (signal.aborted) throw error;
      // What our own disk refuses is not the author's doing.
      if (given.signal.aborted || error instanceof NotABlobError || error instanceof BlobTooLargeError) {
        failed.push(account);
      }
      const reason = given.signal.aborted ? given.signal.reason : error;
      this.#log.warn({ account, cid, error: (reason as Error).message }, 'a submission cannot be fetched');
      return undefined;
    } finally {
      clearTimeout(stall);
      clearTimeout(limit);
    }
  }

  #stallShare(account: AccountId, proven: ReadonlySet<AccountId>): number {
    if (this.#distrusted.has(account)) return DISTRUSTED_STALL_SHARE;
    return proven.size === 0 || proven.has(account) ? STALL_SHARE : STRANGER_STALL_SHARE;
  }

  #distrust(account: AccountId): void {
    this.#distrusted.delete(account);
    this.#distrusted.add(account);
    if (this.#distrusted.size <= MAX_DISTRUSTED) return;
    for (const oldest of this.#distrusted) {
      this.#distrusted.delete(oldest);
      return;
    }
  }
}
